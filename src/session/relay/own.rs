//! What a client has made its session to be, beyond what servers report: its settings, which follow it from server to
//! server, and what only its server has, which ties it to that one. Both are undone with the transaction or savepoint
//! that made them, as PostgreSQL does it. The same is kept of a server's session, while somebody has it.

use std::sync::Arc;

use hashbrown::HashSet;

use super::savepoints::{Held, Savepoints, Step};
use crate::sql::deeds::{Deed, Name, What};
use crate::wire::params::ParamSet;

/// A client's session as its statements have made it.
#[derive(Debug, Default)]
pub struct Own {
    /// What it asked for in its startup packet: to this a RESET returns.
    base: ParamSet,
    now: Held,
    /// As the transaction under way found it, once that has changed something.
    before: Option<Held>,
    savepoints: Savepoints,
    /// What no rollback undoes.
    lasting: Vec<(What, Name)>,
    /// The transaction under way has failed.
    failed: bool,
    /// To listen it needs no server of its own.
    pub(super) shares_channels: bool,
}

/// What the pooler remembers of a client's settings, in bytes; as much again for the server that it has.
pub(super) const SETTINGS_MAX: usize = 1024 * 1024;

/// Names of channels.
pub type Channels = HashSet<Arc<[u8]>, foldhash::fast::RandomState>;

impl Own {
    /// For a client that asked for these settings in its startup packet.
    pub fn new(base: ParamSet) -> Self {
        let now = Held { settings: base.clone(), ..Held::default() };
        Self { base, now, ..Self::default() }
    }

    /// For a server that was given these settings.
    pub fn of_server(assigned: Option<&ParamSet>) -> Self {
        let settings = assigned.cloned().unwrap_or_default();
        Self { now: Held { settings, ..Held::default() }, ..Self::default() }
    }

    /// All its settings are these, within the transaction under way.
    pub fn becomes(&mut self, settings: &ParamSet) {
        self.becomes_all(settings.clone());
    }

    /// The settings that its server is to have. Names are in small letters.
    pub fn settings(&self) -> &ParamSet {
        &self.now.settings
    }

    /// How many bytes its settings would take if these were set, with what savepoints have of them.
    pub fn bytes_with<'d>(&self, sets: impl Iterator<Item = (&'d [u8], &'d [u8])>) -> usize {
        let add = |(name, value): (&[u8], &[u8])| {
            let known = str::from_utf8(name).ok().and_then(|name| self.now.settings.get(name));
            value.len().saturating_sub(known.map_or(0, <[u8]>::len)) + name.len()
        };
        self.now.settings.bytes() + self.savepoints.bytes() + sets.map(add).sum::<usize>()
    }

    /// Its settings, for as long as nobody has the server; `None`: it has none.
    pub fn kept(self) -> Option<ParamSet> {
        Some(self.now.settings).filter(|settings| !settings.is_empty())
    }

    /// Why it must keep its server, if it must: what it has there, in the order in which it came.
    pub fn ties(&self) -> impl Iterator<Item = What> {
        let listens = !self.now.channels.is_empty() && !self.shares_channels;
        let all = self.lasting.iter().chain(self.now.things.iter()).map(|(what, _)| *what);
        all.chain(listens.then_some(What::Channel))
    }

    /// The channels that it listens to.
    pub fn channels(&self) -> &Channels {
        &self.now.channels
    }

    /// The names of what it has there of a kind.
    pub fn names_of(&self, what: What) -> impl Iterator<Item = &[u8]> {
        let all = self.lasting.iter().chain(self.now.things.iter());
        all.filter(move |(kind, _)| *kind == what).map(|(_, name)| &**name)
    }

    /// Whether it must keep its server.
    pub fn is_tied(&self) -> bool {
        self.ties().next().is_some()
    }

    /// Something of this kind is on its server, or nothing is any more: the server says so between two transactions.
    pub fn has(&mut self, what: What, there: bool) {
        if there {
            self.holds(what, b"")
        } else {
            self.lets(what, None)
        }
        self.before = None;
    }

    /// A setting has this value, or its default: the server says so between two transactions. Then it is as the client asked
    /// for it in its startup packet: code has RESET it.
    pub fn is_set(&mut self, name: &str, value: Option<&[u8]>) {
        let base = self.base.get(name).map(Box::<[u8]>::from);
        self.sets(name, value.or(base.as_deref()));
        self.before = None;
    }

    /// A reported setting was reset that it had asked for at its login.
    pub fn resets(&mut self, name: &str) {
        let name = Name::from(name.to_ascii_lowercase().as_bytes());
        if !self.now.reset.contains(&name) {
            self.changes_reset(|reset| reset.push(name));
        }
    }

    /// Whether it was reset, and that holds.
    pub fn has_reset(&self, name: &str) -> bool {
        self.now.reset.iter().any(|reset| reset.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// What was reset is as it asked for it again.
    pub fn restored(&mut self) {
        if !self.now.reset.is_empty() {
            let reset = std::mem::take(&mut self.now.reset);
            self.savepoints.note(Step::Reset(reset), &self.now);
        }
    }

    /// What it had on its server is gone.
    pub fn unties(&mut self) {
        self.lasting.clear();
        self.now.things = Arc::default();
        if !self.shares_channels {
            self.now.channels = Arc::default();
        }
    }

    /// A statement has come to its end that does this. What servers report, `reported` tells by name, is left to them.
    pub fn does(&mut self, deed: &Deed, reported: impl Fn(&str) -> bool) {
        match deed {
            Deed::Set(name, value) => self.set(name, Some(value), reported),
            Deed::Reset(name) => {
                let value = str::from_utf8(name).ok().and_then(|name| self.base.get(name)).map(Box::from);
                self.set(name, value.as_deref(), reported);
            }
            Deed::ResetAll => self.reset_all(),
            Deed::DiscardAll => {
                self.reset_all();
                [ROLE, AUTHORIZATION].into_iter().for_each(|name| self.put(name, None));
                let now = self.change();
                (now.things, now.channels) = Default::default();
                self.lasting.clear();
            }
            Deed::Savepoint(name) => {
                self.change();
                self.savepoints.add(name);
            }
            Deed::Release(name) => self.savepoints.release(name, &self.now),
            Deed::RollbackTo(name) => self.failed &= !self.savepoints.roll_back_to(name, &mut self.now),
            Deed::Holds(what, name) => self.holds(*what, name),
            Deed::Lets(what, name) => self.lets(*what, name.as_deref()),
            Deed::TakesNumber | Deed::AsksNumber | Deed::MayAskNumber | Deed::ForgetsNumbers | Deed::Notifies => {}
            Deed::Local(_) | Deed::SetConfig(_) | Deed::Unclear(_) => {}
            Deed::MayLet(_) | Deed::MayHold(_) | Deed::MaySet(_) | Deed::MayBeTemporary | Deed::Executes(_) => {}
            Deed::Defines | Deed::MayDefine => {}
        }
    }

    /// A request of the transaction under way has failed.
    pub fn fails(&mut self) {
        self.failed = true;
    }

    /// A COMMIT was carried out.
    pub fn commits(&mut self) {
        self.before = None;
        self.savepoints.clear();
        self.failed = false;
    }

    /// The transaction was rolled back.
    pub fn rolls_back(&mut self) {
        if let Some(before) = self.before.take() {
            self.now = before;
        }
        self.savepoints.clear();
        self.failed = false;
    }

    /// The server is ready: outside of a transaction block (`idle`) the transaction is over.
    pub fn ready(&mut self, idle: bool) {
        match (idle, self.failed) {
            (true, true) => self.rolls_back(),
            (true, false) => self.commits(),
            (false, _) => {}
        }
    }

    /// Where a change begins: what there was before it can be put back.
    fn change(&mut self) -> &mut Held {
        self.before.get_or_insert_with(|| self.now.clone());
        &mut self.now
    }

    /// A setting has this value, or none.
    fn put(&mut self, name: &str, value: Option<&[u8]>) {
        if let Some(change) = self.change().settings.change(name, value) {
            self.savepoints.note(Step::Setting(change), &self.now);
        }
    }

    fn becomes_all(&mut self, settings: ParamSet) {
        let before = std::mem::replace(&mut self.change().settings, settings);
        self.savepoints.note(Step::Settings(before), &self.now);
    }

    fn changes_reset(&mut self, change: impl FnOnce(&mut Vec<Name>)) {
        let before = Arc::clone(&self.now.reset);
        change(Arc::make_mut(&mut self.change().reset));
        self.savepoints.note(Step::Reset(before), &self.now);
    }

    fn set(&mut self, name: &[u8], value: Option<&[u8]>, reported: impl Fn(&str) -> bool) {
        // A name that is not UTF-8 is that of no setting.
        let Ok(name) = str::from_utf8(name) else { return };
        if reported(name) {
            if value.is_some() && self.has_reset(name) {
                self.changes_reset(|all| all.retain(|reset| !reset.eq_ignore_ascii_case(name.as_bytes())));
            }
            return;
        }
        self.sets(name, value);
    }

    fn sets(&mut self, name: &str, value: Option<&[u8]>) {
        if name == AUTHORIZATION {
            self.put(ROLE, None);
        }
        if says_who(name) || value.is_none() {
            // What it becomes comes behind what it has set before.
            self.put(name, None);
        }
        if value.is_some() {
            self.put(name, value);
        }
    }

    fn reset_all(&mut self) {
        let mut settings = self.base.clone();
        for name in [AUTHORIZATION, ROLE] {
            self.now.settings.get(name).iter().for_each(|value| _ = settings.set(name, value));
        }
        self.becomes_all(settings);
    }

    /// Something of this kind is on its server.
    pub(super) fn holds(&mut self, what: What, name: &[u8]) {
        if what == What::Channel {
            if !self.now.channels.contains(name) {
                let name = Arc::from(name);
                Arc::make_mut(&mut self.change().channels).insert(Arc::clone(&name));
                self.savepoints.note(Step::AddedChannel(name), &self.now);
            }
            return;
        }
        let thing = (what, Name::from(name));
        if outlasts_rollback(what) {
            if !self.lasting.contains(&thing) {
                self.lasting.push(thing);
            }
        } else if !self.now.things.contains(&thing) {
            Arc::make_mut(&mut self.change().things).push(thing);
            self.savepoints.note(Step::AddedThing, &self.now);
        }
    }

    /// It is there no more; without a name, nothing of its kind is.
    pub(super) fn lets(&mut self, what: What, name: Option<&[u8]>) {
        if what == What::Channel {
            match name {
                _ if self.now.channels.is_empty() => {}
                None => {
                    let before = std::mem::take(&mut self.change().channels);
                    self.savepoints.note(Step::Channels(before), &self.now);
                }
                Some(name) => {
                    if let Some(known) = self.now.channels.get(name).cloned() {
                        Arc::make_mut(&mut self.change().channels).remove(&known);
                        self.savepoints.note(Step::RemovedChannel(known), &self.now);
                    }
                }
            }
            return;
        }
        let stays = |(kind, known): &(What, Name)| *kind != what || name.is_some_and(|name| **known != *name);
        if outlasts_rollback(what) {
            self.lasting.retain(stays);
        } else {
            while let Some(at) = self.now.things.iter().rposition(|thing| !stays(thing)) {
                let thing = Arc::make_mut(&mut self.change().things).remove(at);
                self.savepoints.note(Step::RemovedThing(at, thing), &self.now);
            }
        }
    }
}

/// What PostgreSQL keeps although the transaction that made it is rolled back.
pub(super) fn outlasts_rollback(what: What) -> bool {
    match what {
        What::Statement | What::Lock | What::Number | What::Unknown => true,
        What::Temporary | What::Cursor | What::Channel => false,
        what => outlasts_reset(what),
    }
}

/// What only the end of the session undoes.
pub(super) fn outlasts_reset(what: What) -> bool {
    matches!(what, What::Library | What::Seed | What::Connection | What::Replication)
}

/// Whether a setting is one of the two that say who the session acts as.
pub(super) fn says_who(name: &str) -> bool {
    [AUTHORIZATION, ROLE].contains(&name)
}

/// SET ROLE, as a setting.
pub(super) const ROLE: &str = "role";
/// SET SESSION AUTHORIZATION, as a setting.
pub(super) const AUTHORIZATION: &str = "session_authorization";

#[cfg(test)]
mod tests;
