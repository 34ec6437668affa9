//! Whose NOTIFY a notification is. It carries the process id of the server that the client had; the client itself is to
//! read the id that it was told at its login, by which drivers know their own.
//!
//! Noted are clients that listen while a statement of theirs notifies, from before that is sent until what was committed
//! then has surely come. So long another client waits that would notify on the same server: what one takes for its own
//! it may ignore. If that takes too long it waits no more, and until all of theirs has come nobody's is known as its own.

use hashbrown::HashMap;
use smallvec::SmallVec;

/// Who notifies on which server.
#[derive(Debug, Default)]
pub struct Speakers {
    servers: HashMap<u32, SmallVec<[Turn; 2]>, foldhash::fast::RandomState>,
    /// How many turns have ended.
    ended: u64,
    /// What was asked for after so many had ended is answered.
    passed: u64,
}

/// Whether a client may notify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// It may; it hears nothing of it.
    Unheard,
    /// It may. If it listens it gets it back as its own, unless that is in doubt.
    Noted,
    /// Not before what another has notified there has come.
    Later,
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    client: u32,
    /// The number of its end.
    ended: Option<u64>,
}

impl Speakers {
    /// A client would notify on a server; both are known by their process ids. It waits for others if it is `patient`.
    pub fn begins(&mut self, server: u32, client: u32, listens: bool, patient: bool) -> Begins {
        let turns = self.servers.get(&server).map_or(&[][..], |turns| turns);
        let in_doubt = turns.iter().any(|turn| turn.client != client && turn.ended.is_some());
        match (in_doubt, listens) {
            (true, _) if patient => return Begins::Later,
            (false, false) => return Begins::Unheard,
            _ => {}
        }
        if !turns.iter().any(|turn| turn.client == client && turn.ended.is_none()) {
            self.servers.entry(server).or_default().push(Turn { client, ended: None });
        }
        Begins::Noted
    }

    /// It gives the server back, if it was noted there.
    pub fn ends(&mut self, server: u32, client: u32) {
        let Some(turns) = self.servers.get_mut(&server) else { return };
        for turn in turns.iter_mut().filter(|turn| turn.client == client && turn.ended.is_none()) {
            self.ended += 1;
            turn.ended = Some(self.ended);
        }
    }

    /// It is gone: nothing is its own any more.
    pub fn goes(&mut self, client: u32) {
        self.retain(|turn| turn.client != client);
    }

    /// Whether something is to be asked for, so that turns that have ended may be forgotten.
    pub fn wait(&self) -> bool {
        self.ended > self.passed && !self.servers.is_empty()
    }

    /// Something is asked for: what to call [`Self::pass`] with when it is answered.
    pub fn asks(&self) -> u64 {
        self.ended
    }

    /// All that was committed before these turns had ended has come.
    pub fn pass(&mut self, ended: u64) {
        self.passed = self.passed.max(ended);
        let passed = self.passed;
        self.retain(|turn| turn.ended.is_none_or(|ended| ended > passed));
    }

    fn retain(&mut self, stays: impl Fn(&Turn) -> bool) {
        self.servers.retain(|_, turns| {
            turns.retain(|turn| stays(turn));
            !turns.is_empty()
        });
    }

    /// The client whose a notification from this server is, if that is certain.
    pub fn of(&self, server: u32) -> Option<u32> {
        let turns = self.servers.get(&server)?;
        let first = turns.first()?.client;
        turns.iter().all(|turn| turn.client == first).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_is_its_clients_own_until_what_it_committed_has_come() {
        let mut speakers = Speakers::default();
        assert_eq!(speakers.begins(7, 1, false, true), Begins::Unheard, "who does not listen hears nothing");
        assert_eq!(speakers.begins(7, 1, true, true), Begins::Noted);
        assert_eq!((speakers.of(7), speakers.of(8)), (Some(1), None));
        let asked = speakers.asks();
        speakers.ends(7, 1);
        assert!(speakers.wait());
        speakers.pass(asked);
        assert_eq!(speakers.of(7), Some(1), "it was asked before the end");
        speakers.pass(speakers.asks());
        assert_eq!((speakers.of(7), speakers.wait()), (None, false));
    }

    #[test]
    fn another_waits_until_that_has_come() {
        for listens in [false, true] {
            let mut speakers = Speakers::default();
            speakers.begins(7, 1, true, true);
            speakers.ends(7, 1);
            assert_eq!(speakers.begins(7, 1, true, true), Begins::Noted, "not for itself");
            speakers.ends(7, 1);
            assert_eq!(
                [speakers.begins(7, 2, listens, true), speakers.begins(8, 2, false, true)],
                [Begins::Later, Begins::Unheard]
            );
            assert_eq!(speakers.of(7), Some(1));
            speakers.pass(speakers.asks());
            assert_eq!(speakers.begins(7, 2, listens, true), if listens { Begins::Noted } else { Begins::Unheard });
            speakers.goes(2);
            assert_eq!((speakers.of(7), speakers.wait()), (None, false));
        }
    }

    #[test]
    fn who_waits_no_more_takes_nothing_away_and_has_nothing_of_its_own_until_all_has_come() {
        for listens in [false, true] {
            let mut speakers = Speakers::default();
            speakers.begins(7, 1, true, true);
            speakers.ends(7, 1);
            let asked = speakers.asks();
            assert_eq!(speakers.begins(7, 2, listens, true), Begins::Later);
            assert_eq!(speakers.begins(7, 2, listens, false), Begins::Noted);
            assert_eq!(speakers.of(7), None, "either may have said it");
            speakers.ends(7, 2);
            assert_eq!(speakers.begins(7, 1, true, false), Begins::Noted);
            assert_eq!(speakers.of(7), None);
            speakers.pass(asked);
            assert_eq!(speakers.of(7), None, "the second's may be still to come");
            speakers.pass(speakers.asks());
            assert_eq!(speakers.of(7), Some(1));
        }
    }
}
