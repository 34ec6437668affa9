//! What a client has made its session to be, beyond what servers report: its settings, which follow it from server to
//! server, and what only its server has, which ties it to that one. Both are undone with the transaction or savepoint
//! that made them, as PostgreSQL does it. The same is kept of a server's session, while somebody has it.

use std::sync::Arc;

use hashbrown::HashSet;

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
    savepoints: Vec<(Name, Held)>,
    /// How many settings and other things savepoints have had copied at most.
    copied: usize,
    /// What no rollback undoes.
    lasting: Vec<(What, Name)>,
    /// The transaction under way has failed.
    failed: bool,
    /// To listen it needs no server of its own.
    pub(super) shares_channels: bool,
}

/// Names of channels.
pub type Channels = HashSet<Arc<[u8]>, foldhash::fast::RandomState>;

/// What a rollback puts back. A copy costs nothing.
#[derive(Debug, Clone, Default)]
struct Held {
    settings: ParamSet,
    things: Arc<Vec<(What, Name)>>,
    /// Apart from the others, of which nobody has thousands.
    channels: Arc<Channels>,
    /// Reported settings that were reset, and that its server is to have as it asked for them at its login.
    reset: Arc<Vec<Name>>,
}

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
        self.change().settings = settings.clone();
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

    /// A reported setting was reset that it had asked for at its login.
    pub fn resets(&mut self, name: &str) {
        let name = Name::from(name.to_ascii_lowercase().as_bytes());
        if !self.now.reset.contains(&name) {
            Arc::make_mut(&mut self.change().reset).push(name);
        }
    }

    /// Whether it was reset, and that holds.
    pub fn has_reset(&self, name: &str) -> bool {
        self.now.reset.iter().any(|reset| reset.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// What was reset is as it asked for it again.
    pub fn restored(&mut self) {
        if !self.now.reset.is_empty() {
            self.now.reset = Arc::default();
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
                for name in [ROLE, AUTHORIZATION] {
                    self.change().settings.remove(name);
                }
                let now = self.change();
                (now.things, now.channels) = Default::default();
                self.lasting.clear();
            }
            Deed::Savepoint(name) => {
                let held = self.change().clone();
                if !self.is_overdrawn() {
                    self.savepoints.push((name.clone(), held));
                }
            }
            Deed::Release(name) => {
                if let Some(at) = self.savepoint(name) {
                    self.savepoints.truncate(at);
                }
            }
            Deed::RollbackTo(name) => self.rolls_back_to(name),
            Deed::Holds(what, name) => self.holds(*what, name),
            Deed::Lets(what, name) => self.lets(*what, name.as_deref()),
            Deed::TakesNumber | Deed::AsksNumber | Deed::MayAskNumber | Deed::ForgetsNumbers | Deed::Notifies => {}
            Deed::Local(_) | Deed::SetConfig(_) | Deed::Unclear(_) => {}
            Deed::MayLet(_) | Deed::MayBeTemporary | Deed::Executes(_) => {}
            Deed::Defines | Deed::MayDefine => {}
        }
    }

    /// The transaction has so many settings and savepoints that the latter are not remembered any more: what is set once it is
    /// over is not known.
    pub fn is_overdrawn(&self) -> bool {
        self.copied > COPIED_MAX
    }

    /// A request of the transaction under way has failed.
    pub fn fails(&mut self) {
        self.failed = true;
    }

    /// A COMMIT was carried out.
    pub fn commits(&mut self) {
        self.before = None;
        self.savepoints.clear();
        self.copied = 0;
        self.failed = false;
    }

    /// The transaction was rolled back.
    pub fn rolls_back(&mut self) {
        if let Some(before) = self.before.take() {
            self.now = before;
        }
        self.savepoints.clear();
        self.copied = 0;
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

    /// So many things of a kind are about to be copied, if savepoints have them, too.
    fn copies(&mut self, count: usize) {
        if !self.savepoints.is_empty() {
            self.copied += count;
            if self.is_overdrawn() {
                self.savepoints = Vec::new();
            }
        }
    }

    fn set(&mut self, name: &[u8], value: Option<&[u8]>, reported: impl Fn(&str) -> bool) {
        // A name that is not UTF-8 is that of no setting.
        let Ok(name) = str::from_utf8(name) else { return };
        if reported(name) {
            if value.is_some() && self.has_reset(name) {
                Arc::make_mut(&mut self.change().reset).retain(|reset| !reset.eq_ignore_ascii_case(name.as_bytes()));
            }
            return;
        }
        self.copies(self.now.settings.len());
        let settings = &mut self.change().settings;
        if name == AUTHORIZATION {
            settings.remove(ROLE);
        }
        if says_who(name) || value.is_none() {
            // What it becomes comes behind what it has set before.
            settings.remove(name);
        }
        value.iter().for_each(|value| _ = settings.set(name, value));
    }

    fn reset_all(&mut self) {
        let base = self.base.clone();
        let settings = &mut self.change().settings;
        let kept = [AUTHORIZATION, ROLE].map(|name| (name, settings.get(name).map(Box::<[u8]>::from)));
        *settings = base;
        for (name, value) in kept {
            value.iter().for_each(|value| _ = settings.set(name, value));
        }
    }

    fn rolls_back_to(&mut self, name: &[u8]) {
        if let Some(at) = self.savepoint(name) {
            self.savepoints.truncate(at + 1);
            self.now = self.savepoints[at].1.clone();
            self.failed = false;
        }
    }

    fn savepoint(&self, name: &[u8]) -> Option<usize> {
        self.savepoints.iter().rposition(|(known, _)| **known == *name)
    }

    /// Something of this kind is on its server.
    pub(super) fn holds(&mut self, what: What, name: &[u8]) {
        if what == What::Channel {
            if !self.now.channels.contains(name) {
                self.copies(self.now.channels.len());
                Arc::make_mut(&mut self.change().channels).insert(name.into());
            }
            return;
        }
        let thing = (what, Name::from(name));
        if outlasts_rollback(what) {
            if !self.lasting.contains(&thing) {
                self.lasting.push(thing);
            }
        } else if !self.now.things.contains(&thing) {
            self.copies(self.now.things.len());
            Arc::make_mut(&mut self.change().things).push(thing);
        }
    }

    /// It is there no more; without a name, nothing of its kind is.
    pub(super) fn lets(&mut self, what: What, name: Option<&[u8]>) {
        if what == What::Channel {
            match name {
                _ if self.now.channels.is_empty() => {}
                None => self.change().channels = Arc::default(),
                Some(name) if self.now.channels.contains(name) => {
                    Arc::make_mut(&mut self.change().channels).remove(name);
                }
                Some(_) => {}
            }
            return;
        }
        let stays = |(kind, known): &(What, Name)| *kind != what || name.is_some_and(|name| **known != *name);
        if outlasts_rollback(what) {
            self.lasting.retain(stays);
        } else if !self.now.things.iter().all(stays) {
            Arc::make_mut(&mut self.change().things).retain(stays);
        }
    }
}

/// Some 4 MB of them.
const COPIED_MAX: usize = 100_000;

/// What PostgreSQL keeps although the transaction that made it is rolled back.
pub(super) fn outlasts_rollback(what: What) -> bool {
    match what {
        What::Statement | What::Lock | What::Number => true,
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

    #[test]
    fn savepoints_beyond_measure_are_not_remembered() {
        let mut own = Own::default();
        run(&mut own, &["begin", "set a.z = 1", "commit"]);
        for at in 0..1000 {
            own.does(&Deed::Savepoint(format!("s{at}").as_bytes().into()), |_| false);
            own.does(&Deed::Set(format!("a.b{at}").as_bytes().into(), (*b"1").into()), |_| false);
        }
        assert!(own.is_overdrawn() && own.savepoints.is_empty());
        assert_eq!(run(&mut own, &["rollback"]), "a.z=1");
        assert!(!own.is_overdrawn());
        assert_eq!(run(&mut own, &["begin", "savepoint s", "set a.b = 2", "rollback to s", "commit"]), "a.z=1");
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
