//! What a server reports of its settings: what of it the client reads, and what it has itself by the end of a transaction.

use super::backend::Take;
use super::machine::{Attached, Relay};
use super::pipeline::Status;
use super::settings::takes_a_role;
use super::steps::Steps;
use super::tracking::doubts;
use crate::sql::Dialect;
use crate::sql::deeds::Doubt;
use crate::wire::frame::{self, FrameError};
use crate::wire::message::backend::parameter_status;
use crate::wire::tag::backend;

impl Relay {
    /// The transaction is over: settings that went with it hold now, in the server's own spelling, unless it failed.
    pub(super) fn settle(&mut self, server: &mut Attached<'_>) {
        if server.exchange.pipeline.status != Status::Idle {
            return;
        }
        if self.tracks && server.exchange.portals.may_be_fetched() {
            doubts(server.exchange, Doubt::Code);
        }
        server.exchange.portals.clear();
        if std::mem::take(&mut server.exchange.rolled_back) {
            server.exchange.begun &= !server.exchange.carries();
            server.exchange.changes.clear();
        } else {
            self.keep_changes(server);
        }
        server.exchange.session.assigning = None;
        self.keep_assigned(server);
    }

    /// What the server's session has become it is until somebody sets something else.
    pub(super) fn keep_assigned(&self, server: &mut Attached<'_>) {
        if let Some(there) = server.exchange.session.there.take() {
            *server.assigned = there.kept();
            if self.tracks && server.assigned.as_ref().is_some_and(takes_a_role) {
                doubts(server.exchange, Doubt::Setting);
            }
        }
    }

    fn keep_changes(&mut self, server: &mut Attached<'_>) {
        // Mostly; and taking nothing out of its place is dear.
        if server.exchange.changes.is_empty() {
            return;
        }
        for change in std::mem::take(&mut server.exchange.changes) {
            if let Some(value) = server.params.get(&change.name) {
                self.learns(&change.name, value);
            }
        }
    }

    /// By ReadyForQuery it is known why a setting of ours is what the server had before: a rollback did it,
    /// or else the client. A rollback means for the client what it had itself.
    pub(super) fn settings_after(&mut self, server: &mut Attached<'_>, status: Status, steps: &mut Steps) {
        let committed = std::mem::take(&mut server.exchange.committed);
        server.exchange.savepoint &= status != Status::Idle;
        if server.exchange.changed {
            self.explain_changes(server, status, committed, steps);
        }
        if committed && status != Status::Idle {
            // Another transaction is chained to the one that has made them last, and can't undo them.
            self.keep_changes(server);
            server.exchange.savepoint = false;
            server.exchange.before.clear();
        }
    }

    fn explain_changes(&mut self, server: &mut Attached<'_>, status: Status, committed: bool, steps: &mut Steps) {
        let exchange = &mut *server.exchange;
        // Back to a savepoint is not back before our settings. (Nor is a chained transaction told from that, where
        // several statements in one text have done it.)
        let undone = exchange.rolled_back && !exchange.savepoint && !committed;
        for change in &exchange.changes {
            if server.params.get(&change.name) != Some(&*change.before) {
                continue;
            }
            let value = if undone { &change.wanted } else { &change.before };
            if self.tell(&change.name, value, steps) {
                *server.matched = None;
            }
        }
        if status == Status::InTransaction {
            exchange.rolled_back = false;
            if undone {
                // Another transaction is chained to the one that is undone.
                exchange.changes.clear();
                exchange.session.assigning = None;
                exchange.begun = false;
            }
        }
    }

    /// The client has this setting from now on. Returns whether that is news.
    pub(super) fn learns(&mut self, name: &str, value: &[u8]) -> bool {
        let news = self.params.set(name, value);
        if news {
            self.params_changed = true;
            self.dialect = Dialect::told(&self.params);
        }
        news
    }

    /// The client has this setting from now on, and reads so. Returns whether that is news.
    pub(super) fn tell(&mut self, name: &str, value: &[u8], steps: &mut Steps) -> bool {
        let news = self.learns(name, value);
        if news {
            steps.to_client.own(|out| parameter_status(out, name, value));
        }
        news
    }

    /// Notes what the server reports. The client reads of it what it did not know,
    /// but neither our settings taking effect nor their being rolled back; whether they were is known later.
    pub(super) fn parameter(&mut self, server: &mut Attached<'_>, body: &[u8]) -> Result<Take, FrameError> {
        let broken = FrameError::Body(backend::PARAMETER_STATUS);
        let (name, size) = frame::c_string(body).ok_or(broken)?;
        let (value, _) = frame::c_string(&body[size..]).ok_or(broken)?;
        let name = std::str::from_utf8(name).map_err(|_| broken)?;
        server.params.set(name, value);
        let Some(known) = self.params.get(name) else { return Ok(Take::Pass) };
        let exchange = &mut *server.exchange;
        if self.own.as_deref().is_some_and(|own| own.has_reset(name)) {
            *server.matched = None;
            return Ok(Take::Drop);
        }
        if let Some(change) = exchange.changes.iter().find(|change| change.name.eq_ignore_ascii_case(name))
            && (*change.before == *value || known == value)
        {
            *server.matched = None;
            return Ok(Take::Drop);
        }
        let before: Box<[u8]> = known.into();
        if self.learns(name, value) {
            *server.matched = None;
            exchange.notes_before(name, before);
        }
        Ok(Take::Pass)
    }
}
