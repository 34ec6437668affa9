//! What goes before a client's first message to a server: settings that the client has and the server lacks.

use std::sync::Arc;

use super::exchange::{Exchange, Gate, send_sync};
use super::machine::{Attached, Relay};
use super::numbers::{DISCARD, discards};
use super::own::Own;
use super::pipeline::{Effect, How, Owed, Parses, Status};
use super::prepared::put_frame;
use super::settings::{Assignment, Change, assignments, differences, write_assignment, write_named, write_set};
use super::steps::Steps;
use super::tracking::same;
use crate::sql::deeds::Deeds;
use crate::wire::params::ParamSet;
use crate::wire::tag::frontend;

/// Name of the statement that sets a setting, where the unnamed one is not ours to take; and of its portal.
const SETTING: &[u8] = b"PGLIFEGUARD_SET";

/// What goes before a client's message.
enum Prefix<'a> {
    Change(&'a Change),
    Assignment(&'a Assignment),
    /// Others' numbers of sequences are discarded.
    Numbers,
}

impl Relay {
    /// Whether the server may lack settings of the client's.
    #[inline]
    pub(super) fn may_lack(&self, server: &Attached<'_>) -> bool {
        let matched = server.matched.as_ref().is_some_and(|matched| matched.same(&self.params));
        !(matched && same(self.own_settings(), there(server))) || server.exchange.session.numbers.to_discard()
    }

    /// Before the first message to a server: settings that it lacks. Returns whether the message may follow at once;
    /// `together` says that it may be in one transaction with them, and that nothing can end that before all of it is
    /// answered. Within a transaction block they are a part of that.
    pub(super) fn begin(&mut self, server: &mut Attached<'_>, together: bool, steps: &mut Steps) -> bool {
        self.begin_before(server, |_| together, steps)
    }

    /// The same, before a Query or a FunctionCall.
    pub(super) fn begin_query(&mut self, server: &mut Attached<'_>, together: bool, steps: &mut Steps) -> bool {
        self.begin_before(server, |server| together && ends_with_query(server), steps)
    }

    fn begin_before(
        &mut self,
        server: &mut Attached<'_>,
        together: impl FnOnce(&Attached<'_>) -> bool,
        steps: &mut Steps,
    ) -> bool {
        let exchange = &mut *server.exchange;
        if exchange.begun {
            return true;
        }
        // What was reset in a transaction block: it must not have failed, or it takes no settings.
        let in_block = match exchange.pipeline.status {
            Status::Idle => false,
            _ if exchange.pipeline.owes_ready() => return false,
            Status::InTransaction => true,
            Status::Failed => return true,
        };
        exchange.begun = true;
        if !self.may_lack(server) {
            return true;
        }
        let together = together(server);
        let (changes, own) = (differences(&self.params, server.params), self.own_settings());
        let assignments = assignments(own, there(server));
        let exchange = &mut *server.exchange;
        let numbers = exchange.session.numbers.to_discard().then_some(Prefix::Numbers);
        if changes.is_empty() && assignments.is_empty() && numbers.is_none() {
            *server.matched = Some(self.params.clone());
            if exchange.session.there.is_none() {
                *server.assigned = own.cloned();
            }
            return true;
        }
        if !assignments.is_empty() {
            self.leaves_settings(exchange);
            exchange.session.assigning = Some(own.cloned().unwrap_or_default());
            exchange.session.there.get_or_insert_with(|| Box::new(Own::of_server(server.assigned.as_ref())));
        }
        let together = together && may_follow_begin(&changes, &assignments);
        let reported = changes.iter().map(Prefix::Change);
        put(reported.chain(assignments.iter().map(Prefix::Assignment)).chain(numbers), self.own_names, exchange, steps);
        if std::mem::replace(&mut exchange.has_unnamed, false) {
            self.unnamed.keep(&exchange.unnamed);
        }
        *server.matched = None;
        if in_block {
            return true;
        }
        exchange.changes = changes;
        exchange.changed = false;
        if !together {
            settle_before(exchange, steps);
        }
        together
    }
}

/// Whether a Query or a FunctionCall ends the transaction that requests of the extended protocol before it have begun. From
/// PostgreSQL 18 on an Execute has begun a block by then, which only a Sync ends.
fn ends_with_query(server: &Attached<'_>) -> bool {
    let version = server.params.get("server_version").unwrap_or_default();
    let digits = version.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0_u32, |number, digit| number.saturating_mul(10).saturating_add(u32::from(digit - b'0'))) < 18
}

/// Before a Query or a FunctionCall that is the first of its transaction: what of ours was sent before it is to be over first,
/// if it `must`, or would not be one transaction with it. Returns whether it waits for that.
pub(super) fn settles_apart(server: &mut Attached<'_>, must: bool, steps: &mut Steps) -> bool {
    let waits = !server.exchange.pipeline.is_empty() && (must || !ends_with_query(server));
    if waits {
        settle_before(server.exchange, steps);
    }
    waits
}

/// What of ours was sent before the client's message is to be over before that.
pub(super) fn settle_before(exchange: &mut Exchange, steps: &mut Steps) {
    send_sync(exchange, How::Swallow, steps);
    exchange.gate = Gate::Settling;
}

/// Sends these; the client reads nothing of it. The unnamed statement is the client's where the server is (not `own_names`).
fn put<'a>(all: impl Iterator<Item = Prefix<'a>>, own_names: bool, exchange: &mut Exchange, steps: &mut Steps) {
    let name: &[u8] = if own_names { b"" } else { SETTING };
    for prefix in all {
        if !own_names {
            close(b'S', SETTING, exchange, steps);
        }
        let deeds = matches!(prefix, Prefix::Numbers).then(discards);
        steps.to_server.own(|out| match prefix {
            Prefix::Change(change) => write_set(name, &change.name, &change.wanted, out),
            Prefix::Assignment(assignment) => write_assignment(name, assignment, out),
            Prefix::Numbers => write_named(name, b"", DISCARD, &[], out),
        });
        owe(deeds, exchange);
    }
    // The client would find our portal where it expects none.
    close(b'P', b"", exchange, steps);
}

/// Discards others' numbers of sequences while the client is at work, whose portals and unnamed statement stay.
pub(super) fn put_discard(exchange: &mut Exchange, steps: &mut Steps) {
    close(b'S', SETTING, exchange, steps);
    steps.to_server.own(|out| write_named(SETTING, SETTING, DISCARD, &[], out));
    owe(Some(discards()), exchange);
    close(b'P', SETTING, exchange, steps);
    close(b'S', SETTING, exchange, steps);
}

/// Closes a statement or a portal of ours.
fn close(kind: u8, name: &[u8], exchange: &mut Exchange, steps: &mut Steps) {
    steps.to_server.own(|out| put_frame(out, frontend::CLOSE, &[&[kind], name, b"\0"]));
    exchange.pipeline.push(Owed::Close { how: How::Swallow, what: None });
}

/// Parse, Bind and Execute of ours.
fn owe(deeds: Option<Arc<Deeds>>, exchange: &mut Exchange) {
    exchange.pipeline.push(Owed::Parse { how: How::Swallow, what: Parses::Setting });
    exchange.pipeline.push(Owed::Bind(How::Swallow));
    exchange.pipeline.push(Owed::Execute { how: How::Swallow, effect: Effect::Plain, deeds });
}

/// The settings that a server has and does not report.
#[inline]
fn there<'a>(server: &'a Attached<'_>) -> Option<&'a ParamSet> {
    let there = server.exchange.session.there.as_deref();
    there.map_or(server.assigned.as_ref(), |there| Some(there.settings()))
}

/// Whether these have an effect on a transaction that has begun.
fn may_follow_begin(changes: &[Change], assignments: &[Assignment]) -> bool {
    let at_begin = |name: &str| name.starts_with("default_transaction_") || name == "transaction_timeout";
    !changes.iter().any(|change| at_begin(&change.name)) && !assignments.iter().any(|(name, _)| at_begin(name))
}
