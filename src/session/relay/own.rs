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

    /// A setting has this value, or none of the client's own: the server says so between two transactions.
    pub fn is_set(&mut self, name: &str, value: Option<&[u8]>) {
        self.sets(name, value);
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
mod tests {
    use super::*;
    use crate::sql::{Catalog, Dialect, Script, Source, deeds};

    /// Runs texts one by one; `!` fails the transaction, `;` alone is ReadyForQuery outside of a block.
    fn run(own: &mut Own, texts: &[&str]) -> String {
        for text in texts {
            match *text {
                "!" => own.fails(),
                ";" => own.ready(true),
                "begin" => own.ready(false),
                "commit" => own.commits(),
                "rollback" => own.rolls_back(),
                text => {
                    let source = Source::new(text.as_bytes(), Dialect::default());
                    let script = Script::of(source.text, source.dialect);
                    for deed in deeds::of_script(&script, source, Some(&Catalog::default()))
                        .unwrap_or_default()
                        .iter()
                        .flatten()
                    {
                        own.does(deed, |name| name == "timezone");
                    }
                }
            }
        }
        let settings = own.settings().iter().map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)));
        let ties = own.ties().map(|what| format!("{what:?}"));
        settings.chain(ties).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_set_is_undone_with_its_transaction_or_savepoint() {
        for (texts, then) in [
            (&["set a.b = 1", ";"][..], "a.b=1"),
            (&["set a.b = 1", "!", ";"], ""),
            (&["begin", "set a.b = 1", "rollback", ";"], ""),
            (&["begin", "set a.b = 1", "commit", "set a.b = 2", "!", ";"], "a.b=1"),
            (&["begin", "set a.b = 1", "savepoint s", "set a.b = 2", "rollback to s", "commit", ";"], "a.b=1"),
            (&["begin", "savepoint s", "set a.b = 2", "!", "rollback to s", "set a.b = 3", "commit", ";"], "a.b=3"),
            (&["begin", "savepoint s", "set a.b = 2", "release s", "rollback to s", "commit", ";"], "a.b=2"),
            (
                &["begin", "savepoint s", "set a.b = 1", "savepoint s", "set a.b = 2", "rollback to s", "release s"],
                "a.b=1",
            ),
            (&["begin", "savepoint s", "set a.b = 1", "savepoint t", "rollback to s", "commit"], ""),
            (&["set timezone = 'UTC'", ";"], ""),
            (&["set local a.b = 1", ";"], ""),
            (&["create temp table t (n int)", ";"], "Temporary"),
            (&["create temp table t (n int)", "!", ";"], ""),
            (&["select pg_advisory_lock(1)", "!", ";"], "Lock"),
            (&["listen c", "listen c", ";", "listen d", ";", "unlisten c", ";"], "Channel"),
            (&["listen c", ";", "unlisten c", "!", ";"], "Channel"),
            (&["listen c", ";", "unlisten *", ";"], ""),
            (&["prepare p as select 1", "prepare q as select 1", "deallocate p", ";"], "Statement"),
            (&["prepare p as select 1", "deallocate all", ";"], ""),
            (&["create temp table t (n int)", "prepare p as select 1", ";", "discard all", ";"], ""),
        ] {
            assert_eq!(run(&mut Own::default(), texts), then, "{texts:?}");
        }
    }

    /// Against copies of everything at each savepoint.
    #[test]
    fn random_savepoints_take_back_what_came_behind_them() {
        let name = |kind: &str, number: u64| Name::from(format!("{kind}{number}").as_bytes());
        for seed in 1..=300_u64 {
            let (mut own, mut copies) = (Own::default(), Vec::<(Name, Held)>::new());
            let mut random = seed;
            let mut roll = |sides: u64| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 33) % sides
            };
            for _ in 0..200 {
                let (kind, number) = (roll(16), roll(4));
                let deed = match kind {
                    0..=2 => Deed::Savepoint(name("s", number)),
                    3 => Deed::Release(name("s", number)),
                    4 | 5 => Deed::RollbackTo(name("s", number)),
                    6..=8 => Deed::Set(name("a.b", number), Box::from([b'0' + roll(3) as u8])),
                    9 => Deed::Reset(name("a.b", number)),
                    10 => Deed::Set([AUTHORIZATION, ROLE][number as usize % 2].as_bytes().into(), (*b"x").into()),
                    11 => [Deed::ResetAll, Deed::Lets(What::Cursor, None)][number as usize % 2].clone(),
                    12 => Deed::Holds(What::Cursor, name("c", number)),
                    13 => Deed::Lets(What::Cursor, Some(name("c", number))),
                    14 => Deed::Holds(What::Channel, name("c", number)),
                    _ => Deed::Lets(What::Channel, (number > 0).then(|| name("c", number))),
                };
                own.does(&deed, |_| false);
                let known = |name: &Name| copies.iter().rposition(|(known, _)| known == name);
                match &deed {
                    Deed::Savepoint(name) => copies.push((name.clone(), own.now.clone())),
                    Deed::Release(name) => copies.truncate(known(name).unwrap_or(copies.len())),
                    Deed::RollbackTo(name) => {
                        copies.truncate(known(name).map_or(copies.len(), |at| at + 1));
                        if let Some((_, copy)) = copies.last().filter(|(known, _)| known == name) {
                            assert_eq!(own.now, *copy, "seed {seed}");
                        }
                    }
                    _ => {}
                }
            }
            own.rolls_back();
            assert_eq!(own.now, Held::default(), "seed {seed}");
        }
    }

    #[test]
    fn what_savepoints_remember_is_what_was_changed() {
        let (mut own, text) = (Own::default(), |at: u32| Box::<[u8]>::from(at.to_string().as_bytes()));
        let set = |name: String, value| Deed::Set(name.as_bytes().into(), value);
        let mut does = |deed| {
            own.does(&deed, |_| false);
            own.savepoints.steps()
        };
        (0..50).for_each(|at| _ = does(set(format!("a.c{at}"), text(0))));
        does(Deed::Savepoint((*b"first").into()));
        for at in 0..2000 {
            does(set("a.c7".into(), text(at)));
            does(Deed::Savepoint(text(at)));
            assert!(does(set(format!("a.b{at}"), text(at))) <= 4000);
        }
        does(Deed::RollbackTo(text(1000)));
        for at in 0..20_000 {
            assert!(does(set("a.c7".into(), text(at))) <= 2002 + 2 * 1050 + 16, "a copy, where many are changed");
        }
        does(Deed::Release(text(0)));
        for at in 0..20_000 {
            does(Deed::Savepoint(text(at)));
            does(set("a.c8".into(), text(at)));
            assert!(does(Deed::Release(text(at))) <= 2 * 1050 + 16);
        }
        assert_eq!((own.settings().get("a.b999"), own.settings().get("a.b1000")), (Some(&b"999"[..]), None));
        own.does(&Deed::RollbackTo((*b"first").into()), |_| false);
        assert!(own.settings().iter().all(|(_, value)| value == b"0") && own.settings().len() == 50);
    }

    #[test]
    fn channels_that_are_shared_tie_nobody_and_outlast_the_server() {
        for (texts, then) in [
            (&["listen c", ";"][..], "c"),
            (&["listen c", "!", ";"], ""),
            (&["begin", "listen c", "savepoint s", "listen d", "rollback to s", "commit", ";"], "c"),
            (&["listen c", ";", "begin", "unlisten *", "rollback", ";"], "c"),
            (&["listen c", "listen d", ";", "create temp table t (n int)", ";", "unlisten d", ";"], "c"),
        ] {
            let mut own = Own { shares_channels: true, ..Own::default() };
            run(&mut own, texts);
            assert_eq!(own.ties().filter(|what| *what == What::Channel).count(), 0);
            own.unties();
            assert!(!own.is_tied(), "{texts:?}");
            let channels: Vec<_> = own.channels().iter().map(|name| String::from_utf8_lossy(name)).collect();
            assert_eq!(channels.join(" "), then, "{texts:?}");
        }
    }

    #[test]
    fn a_reset_returns_to_what_the_client_asked_for_at_its_login() {
        let mut base = ParamSet::default();
        base.set("search_path", b"app");
        for (texts, then) in [
            (&["set search_path = x", "reset search_path", ";"][..], "search_path=app"),
            (&["set search_path = x", "set a.b = 1", "reset all", ";"], "search_path=app"),
            (&["set search_path = x", ";", "reset all", "!", ";"], "search_path=x"),
            (&["set role bob", "reset all", ";"], "search_path=app role=bob"),
            (&["set role bob", "discard all", ";"], "search_path=app"),
            (&["set role bob", "set session authorization al", ";"], "search_path=app session_authorization=al"),
            (&["set role bob", "reset role", ";"], "search_path=app"),
            (&["set search_path = default", ";"], "search_path=app"),
        ] {
            assert_eq!(run(&mut Own::new(base.clone()), texts), then, "{texts:?}");
        }
    }
}
