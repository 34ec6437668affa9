use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;

/// What a server makes of batches, and who listens as the dullest bookkeeping has it.
#[derive(Default)]
struct Model {
    there: BTreeSet<String>,
    sent: Option<String>,
    /// Each client's channels, and whether it has been told that they are in effect.
    claims: BTreeMap<(u64, String), bool>,
    to_tell: BTreeSet<u64>,
}

impl Model {
    /// Carries the batch out.
    fn answers(&mut self, board: &mut Board) {
        let Some(text) = self.sent.take() else { return };
        for statement in text.split("; ").filter(|statement| !statement.is_empty()) {
            let (verb, name) = statement.split_once(' ').expect("a verb and a name");
            let name = name[1..name.len() - 1].replace("\"\"", "\"");
            if verb == "LISTEN" {
                self.there.insert(name)
            } else {
                self.there.remove(&name)
            };
        }
        for (client, channel) in board.answered() {
            let channel = text_of(&channel);
            assert!(self.there.contains(&channel), "{channel} is not listened to");
            let told = self.claims.get_mut(&(client.0, channel)).expect("it wants that still");
            assert!(!std::mem::replace(told, true), "told twice");
        }
        self.tells_missing(board);
    }

    fn tells_missing(&mut self, board: &mut Board) {
        for client in board.missing() {
            assert!(self.to_tell.remove(&client.0), "{client:?} has missed nothing, or was told");
        }
    }

    fn leaves(&mut self, client: u64, channel: &str) {
        self.claims.remove(&(client, channel.to_owned()));
        self.gone(client);
    }

    fn gone(&mut self, client: u64) {
        if !self.claims.keys().any(|(known, _)| *known == client) {
            self.to_tell.remove(&client);
        }
    }

    fn loses(&mut self, board: &mut Board) {
        board.lost();
        self.sent = None;
        self.there.clear();
        self.to_tell.extend(self.claims.iter().filter(|(_, told)| **told).map(|((client, _), _)| *client));
    }

    fn holds(&self, board: &Board) {
        for channel in CHANNELS {
            let heard: BTreeSet<_> = board.listeners(channel.as_bytes()).map(|client| client.0).collect();
            let told = self.claims.iter().filter(|((_, known), told)| known == channel && **told);
            assert_eq!(heard, told.map(|((client, _), _)| *client).collect(), "{channel}");
        }
        assert_eq!(board.is_deserted(), self.claims.is_empty());
    }
}

fn text_of(channel: &Channel) -> String {
    String::from_utf8(channel.to_vec()).expect("ours are")
}

const CHANNELS: [&str; 4] = ["a", "B \"b\"", "c", "\u{e4}"];

fn random(seed: &mut u64, end: u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed % end
}

fn run(seed: u64) {
    let (mut dice, now) = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, Instant::now());
    let (mut board, mut model) = (Board::default(), Model::default());
    for _ in 0..120 {
        let client = random(&mut dice, 5);
        let channel = CHANNELS[usize::try_from(random(&mut dice, 4)).expect("small")];
        match random(&mut dice, 12) {
            0..4 => {
                let known = model.claims.entry((client, channel.to_owned())).or_default();
                assert_eq!(board.listens(ClientId(client), channel.as_bytes(), now), *known, "seed {seed}");
            }
            4..6 => {
                board.leaves(ClientId(client), channel.as_bytes());
                model.leaves(client, channel);
            }
            6 => {
                board.goes(ClientId(client));
                model.claims.retain(|(known, _), _| *known != client);
                model.gone(client);
            }
            7..9 => {
                if let Some(text) = board.batch() {
                    assert!(model.sent.is_none(), "two at once");
                    model.sent = Some(String::from_utf8(text).expect("ours are"));
                }
            }
            9..11 => model.answers(&mut board),
            _ => model.loses(&mut board),
        }
        model.holds(&board);
    }
    while model.sent.is_some() || {
        model.sent = board.batch().map(|text| String::from_utf8(text).expect("ours are"));
        model.sent.is_some()
    } {
        model.answers(&mut board);
    }
    model.tells_missing(&mut board);
    model.holds(&board);
    assert!(model.claims.values().all(|told| *told), "seed {seed}: a LISTEN without an answer");
    assert!(model.to_tell.is_empty(), "seed {seed}: {:?} does not know what it has missed", model.to_tell);
    let wanted: BTreeSet<_> = model.claims.keys().map(|(_, channel)| channel.clone()).collect();
    assert_eq!(model.there, wanted, "seed {seed}");
    assert_eq!(board.waits_since(), None);
}

#[test]
fn a_listen_is_answered_when_the_server_listens_and_nothing_is_left_there() {
    (1..3000).for_each(run);
}

#[test]
fn one_that_is_refused_takes_no_other_along() {
    let (mut board, now) = (Board::default(), Instant::now());
    for (client, channel) in [(1, "good"), (2, "bad"), (3, "bad")] {
        board.listens(ClientId(client), channel.as_bytes(), now);
    }
    let next = |board: &mut Board| board.batch().map(|text| String::from_utf8(text).expect("ours are"));
    assert_eq!(next(&mut board).as_deref(), Some("LISTEN \"good\"; LISTEN \"bad\"; "));
    assert_eq!(board.refused(), Failure::Unclear);
    assert_eq!(next(&mut board).as_deref(), Some("LISTEN \"good\"; "));
    assert_eq!(board.answered().len(), 1);
    assert_eq!(next(&mut board).as_deref(), Some("LISTEN \"bad\"; "));
    let bad: Channel = b"bad"[..].into();
    assert_eq!(board.refused(), Failure::Refused(vec![(ClientId(2), Arc::clone(&bad)), (ClientId(3), bad)]));
    assert_eq!((next(&mut board), board.listeners(b"good").count()), (None, 1));
    board.lost();
    assert_eq!(next(&mut board).as_deref(), Some("LISTEN \"good\"; "));
    assert_eq!(board.refused(), Failure::Useless);
}

#[test]
fn one_that_waits_too_long_is_given_up() {
    let (mut board, now, second) = (Board::default(), Instant::now(), Duration::from_secs(1));
    board.listens(ClientId(1), b"a", now);
    board.listens(ClientId(2), b"a", now + second);
    assert_eq!(board.waits_since(), Some(now));
    assert_eq!(board.give_up(now), [(ClientId(1), b"a"[..].into())]);
    assert_eq!(board.waits_since(), Some(now + second));
    board.batch();
    assert_eq!(board.answered(), [(ClientId(2), b"a"[..].into())]);
    assert_eq!(board.waits_since(), None);
    assert_eq!(board.give_up(now + 9 * second), []);
}

#[test]
fn nothing_is_kept_of_who_has_given_up_waiting() {
    let (mut board, now) = (Board::default(), Instant::now());
    board.listens(ClientId(1), b"a", now);
    for client in 2..100 {
        board.listens(ClientId(client), b"b", now);
        board.listens(ClientId(client), b"c", now);
        board.leaves(ClientId(client), b"b");
        board.goes(ClientId(client));
    }
    assert_eq!(board.waiting.len(), 1, "the first still waits");
    board.batch();
    board.answered();
    assert_eq!(board.waiting.len(), 0);
}
