//! Dialogues: `>` the client's, `<` the server's, `!` the server is lost, `(` half of what comes next is not there yet.

use std::sync::Arc;

use super::super::recurring::Recurring;
use super::super::table::Table;
use super::super::{Attached, Exchange, Relay, Steps, Stop};
use super::Aftermath;
use crate::server::statements::Statements;
use crate::wire::error::ErrorFields;
use crate::wire::params::ParamSet;

/// A client, the server that it has, and what either has read.
struct Pair {
    relay: Relay,
    exchange: Option<Exchange>,
    params: ParamSet,
    matched: Option<ParamSet>,
    statements: Statements,
    held: Vec<u8>,
    sees: Vec<String>,
    /// What servers read that came after one was lost.
    runs: Vec<String>,
    losses: Vec<Option<Aftermath>>,
}

fn params(zone: &str) -> ParamSet {
    let mut params = ParamSet::default();
    params.set("TimeZone", zone.as_bytes());
    params
}

impl Pair {
    fn new(own_names: bool) -> Self {
        Self {
            relay: Relay::new(Arc::new(Table::default()), params("A"), 1 << 20, own_names),
            exchange: None,
            params: params("A"),
            matched: None,
            statements: Statements::new(9),
            held: Vec::new(),
            sees: Vec::new(),
            runs: Vec::new(),
            losses: Vec::new(),
        }
    }

    fn plays(mut self, dialogue: &str) -> Self {
        let mut front = None;
        for word in dialogue.split(' ') {
            let (kind, word) = word.split_at(1);
            match kind {
                "(" => front = Some(()),
                ">" => {
                    let bytes = client(word);
                    let size = if front.take().is_some() { bytes.len() / 2 } else { bytes.len() };
                    self.held.extend_from_slice(&bytes[..size]);
                    self.feed();
                }
                "<" => {
                    let bytes = server(word);
                    let size = if front.take().is_some() { bytes.len() / 2 } else { bytes.len() };
                    self.hear(&bytes[..size]);
                }
                _ => self.lose(),
            }
        }
        self
    }

    fn feed(&mut self) {
        loop {
            let mut steps = Steps::default();
            let (mut matched, mut assigned) = (self.matched.clone(), None);
            let server = self.exchange.as_mut().map(|exchange| Attached {
                exchange,
                params: &mut self.params,
                matched: &mut matched,
                assigned: &mut assigned,
                statements: &mut self.statements,
            });
            let fed = self.relay.from_client(server, &self.held, &mut steps);
            self.sees.extend(shown(&steps.to_client.concat(&self.held)));
            if !self.losses.is_empty() {
                self.runs.extend(shown(&steps.to_server.concat(&self.held)));
            }
            self.held.drain(..fed.consumed);
            if fed.stop != Stop::NeedServer {
                return assert!(!matches!(fed.stop, Stop::Violation(_)), "{fed:?}");
            }
            self.exchange = Some(Exchange::default());
        }
    }

    fn attached<R>(&mut self, act: impl FnOnce(&mut Relay, Attached<'_>, &mut Steps) -> R) -> (R, Steps) {
        let mut steps = Steps::default();
        let exchange = self.exchange.as_mut().expect("it has a server");
        let Self { relay, params, statements, .. } = self;
        let result =
            act(relay, Attached { exchange, params, matched: &mut None, assigned: &mut None, statements }, &mut steps);
        (result, steps)
    }

    fn hear(&mut self, bytes: &[u8]) {
        let (heard, steps) = self.attached(|relay, mut server, steps| relay.from_server(&mut server, bytes, steps));
        let heard = heard.expect("an answer");
        self.sees.extend(shown(&steps.to_client.concat(bytes)));
        if heard.fatal {
            return self.lose();
        }
        if self.exchange.as_ref().is_some_and(Exchange::settled) {
            self.exchange = None;
        }
        self.feed();
    }

    fn lose(&mut self) {
        let (loss, steps) = self.attached(|relay, mut server, steps| relay.lose(&mut server, "Lost.", steps));
        self.sees.push("!".to_owned());
        self.sees.extend(shown(&steps.to_client.concat(&[])));
        self.losses.push(loss);
        self.exchange = None;
        self.statements = Statements::new(9);
        if loss.is_some() {
            self.feed();
        }
    }
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short").to_be_bytes();
    [&[tag], &length[..], body].concat()
}

/// `X:text` for Parse, Bind and Execute, `Q:text`, `P:name:text`, `B:portal:statement`, `DS:name`, `DP:name`, `E:portal`, `CS:name`, `S`, … `_` is a blank.
fn client(word: &str) -> Vec<u8> {
    let word = word.replace('_', " ");
    let parts: Vec<&str> = word.split(':').collect();
    let text = match parts[..] {
        ["X", text] => return [client(&format!("P::{text}")), client("B::"), client("E:")].concat(),
        ["Q", text] => format!("{text}\0"),
        ["P", name, text] => format!("{name}\0{text}\0\0\0"),
        ["B", portal, statement] => format!("{portal}\0{statement}\0\0\0\0\0\0\0"),
        ["DS" | "CS", name] => format!("S{name}\0"),
        ["DP" | "CP", name] => format!("P{name}\0"),
        ["E", portal] => format!("{portal}\0\0\0\0\0"),
        ["d", data] => data.to_owned(),
        ["F"] => "\0\0\0\x01\0\0\0\0\0\0".to_owned(),
        _ => String::new(),
    };
    frame(word.as_bytes()[0], text.as_bytes())
}

/// `Z:T`, `C:TAG`, `X:TAG` for all that Parse, Bind and Execute bring, `E:SQLSTATE`, `F:SQLSTATE` for a FATAL error, `S:name:value`, and tags alone.
fn server(word: &str) -> Vec<u8> {
    let word = word.replace('_', " ");
    let parts: Vec<&str> = word.split(':').collect();
    match parts[..] {
        ["Z", status] => frame(b'Z', status.as_bytes()),
        ["X", tag] => [server("1"), server("2"), server(&format!("C:{tag}"))].concat(),
        ["C", tag] => frame(b'C', format!("{tag}\0").as_bytes()),
        ["E", code] => frame(b'E', format!("SERROR\0VERROR\0C{code}\0Mno\0\0").as_bytes()),
        ["F", code] => frame(b'E', format!("SFATAL\0VFATAL\0C{code}\0Mend\0\0").as_bytes()),
        ["S", name, value] => frame(b'S', format!("{name}\0{value}\0").as_bytes()),
        [tag] => frame(tag.as_bytes()[0], &[0; 9]),
        _ => panic!("{word}"),
    }
}

fn shown(mut bytes: &[u8]) -> Vec<String> {
    let mut out = Vec::new();
    while let [tag, a, b, c, d, rest @ ..] = bytes {
        let size = (u32::from_be_bytes([*a, *b, *c, *d]) as usize - 4).min(rest.len());
        let body = &rest[..size];
        let text = String::from_utf8_lossy(body).replace('\0', " ").trim().replace(' ', "_");
        out.push(match (tag, ErrorFields::parse(body).code) {
            (b'E', Some(code)) => code.as_str().to_owned(),
            (b'Z' | b'C' | b'Q' | b'P' | b'S', _) if !text.is_empty() => format!("{}:{text}", char::from(*tag)),
            _ => char::from(*tag).to_string(),
        });
        bytes = &rest[size..];
    }
    out
}

/// What the client sees in all, and what later servers are asked.
const LOSSES: &[(&str, &str, &str)] = &[
    // A statement of its own may have been carried out.
    (">Q:insert ! >Q:select", "! 08007 Z:I", "Q:select"),
    (">Q:insert <F:57P01", "! 08007 Z:I", ""),
    (">Q:insert <D !", "D ! 08007 Z:I", ""),
    (">Q:begin;x;commit !", "! 08007 Z:I", ""),
    (">Q:begin >Q:x >Q:commit !", "! 08007 Z:I 08007 Z:I 08007 Z:I", ""),
    (">F !", "! 08007 Z:I", ""),
    (">P::insert >B:: >E: >S ! >P::x >S", "! 08007 Z:I", "P:x S"),
    // Up to Sync, which is still to come, the client is not heard.
    (">P::insert >B:: >E: >H <1 ! >E: >Q:x >S >Q:y", "1 ! 08007 Z:I", "Q:y"),
    (">P::insert >B:: >E: >S >P::insert >B:: >E: >S <1 <2 <C:INSERT <Z:I !", "1 2 C:INSERT Z:I ! 08007 Z:I", ""),
    (">P::insert >B:: >E: >S >Q:insert >S !", "! 08007 Z:I 08007 Z:I Z:I", ""),
    // What was answered, and its Sync not yet: it was to be committed by that.
    (">P::insert >B:: >E: >S <1 <2 <C:INSERT !", "1 2 C:INSERT ! 08007 Z:I", ""),
    // All was answered, and its Sync not sent yet: it is undone, and the client is told when it asks for more.
    (">P::insert >B:: >E: >H <1 <2 <C:INSERT ! >S >Q:x", "1 2 C:INSERT ! 08006 Z:I", "Q:x"),
    (">P::insert >B:: >E: >H <1 <2 <C:INSERT ! >E: >S", "1 2 C:INSERT ! 08006 Z:I", ""),
    // Unless a part of it may have been committed: nothing says that it was not.
    (
        ">X:begin >X:insert >X:commit >H <X:BEGIN <X:INSERT <X:COMMIT ! >S >Q:x",
        "BEGIN INSERT COMMIT ! 08007 Z:I",
        "Q:x",
    ),
    (">X:insert >X:commit >H <X:INSERT <X:COMMIT ! >X:select >S >Q:x", "INSERT COMMIT ! 08007 Z:I", "Q:x"),
    (">X:call_p() >H <X:CALL ! >S", "CALL ! 08007 Z:I", ""),
    (">X:vacuum >H <X:VACUUM ! >Q:x", "VACUUM ! 08007 Z:I", ""),
    (">X:create_index >H <X:CREATE_INDEX ! >S", "CREATE_INDEX ! 08007 Z:I", ""),
    (">X:rollback_prepared_'x' >H <X:ROLLBACK_PREPARED ! >S", "ROLLBACK_PREPARED ! 08007 Z:I", ""),
    (">X:commit >S >X:insert >H <X:COMMIT <Z:I <X:INSERT_0_1 ! >S", "COMMIT Z:I INSERT_0_1 ! 08006 Z:I", ""),
    (">X:select >X:copy >H <X:SELECT_1 <X:COPY_1 ! >S", "SELECT_1 COPY_1 ! 08006 Z:I", ""),
    (">X:start >X:rollback >H <X:START_TRANSACTION <X:ROLLBACK ! >S", "START_TRANSACTION ROLLBACK ! 08006 Z:I", ""),
    // The same where another block was begun behind that, without a Sync between them.
    (">X:commit >X:begin >H <X:COMMIT <X:BEGIN ! >S >Q:x >Q:y", "COMMIT BEGIN ! Z:E 08007 Z:E 25P02 Z:E", ""),
    (">X:commit >X:begin >H <X:COMMIT <X:BEGIN ! >Q:commit >Q:y", "COMMIT BEGIN ! 08007 Z:I", "Q:y"),
    (">X:commit >X:begin >X:x >S <X:COMMIT <X:BEGIN !", "COMMIT BEGIN ! 08007 Z:E", ""),
    (">X:commit >X:begin >X:rollback >S <X:COMMIT <X:BEGIN !", "COMMIT BEGIN ! 08007 Z:I", ""),
    // Within a block only its own end does.
    (">Q:begin <C:BEGIN <Z:T >X:create >H <X:CREATE_TABLE ! >S >Q:x", "C:BEGIN Z:T CREATE_TABLE ! Z:E 08006 Z:E", ""),
    (">Q:begin <C:BEGIN <Z:T >X:commit >H <X:COMMIT ! >S", "C:BEGIN Z:T COMMIT ! 08007 Z:I", ""),
    // An error was read before: one is enough.
    (">P::x >B:: >E: >H <E:42601 ! >E: >S >Q:y", "42601 ! Z:I", "Q:y"),
    (">P::x >B:: >E: >S <E:42601 !", "42601 ! Z:I", ""),
    (">Q:x <E:42601 !", "42601 ! Z:I", ""),
    // In a block.
    (">Q:begin <C:BEGIN <Z:T >Q:x ! >Q:y >Q:rollback >Q:z", "C:BEGIN Z:T ! 08006 Z:E 25P02 Z:E C:ROLLBACK Z:I", "Q:z"),
    (">Q:begin <C:BEGIN <Z:T >Q:x <F:57P01 >Q:commit", "C:BEGIN Z:T ! 08006 Z:E C:ROLLBACK Z:I", ""),
    (">Q:begin <C:BEGIN <Z:T >Q:x >Q:y >P::z >S !", "C:BEGIN Z:T ! 08006 Z:E 25P02 Z:E 25P02 Z:E", ""),
    (">Q:begin <C:BEGIN !", "C:BEGIN ! 08007 Z:E", ""),
    (">Q:begin;x;commit <C:BEGIN <C:X ! >Q:y", "C:BEGIN C:X ! 08007 Z:E 25P02 Z:E", ""),
    (">P::begin >B:: >E: >P::x >B:: >E: >S <1 <2 <C:BEGIN !", "1 2 C:BEGIN ! 08006 Z:E", ""),
    // The end of it under way: a COMMIT may have happened, and so may what stands behind it.
    (">Q:begin <C:BEGIN <Z:T >Q:x >Q:commit >Q:y !", "C:BEGIN Z:T ! 08007 Z:E 08007 Z:I 08007 Z:I", ""),
    (">Q:begin <C:BEGIN <Z:T >Q:commit ! >Q:y", "C:BEGIN Z:T ! 08007 Z:I", "Q:y"),
    (">Q:begin <C:BEGIN <Z:T >P::commit >B:: >E: >S !", "C:BEGIN Z:T ! 08007 Z:I", ""),
    (">Q:begin <C:BEGIN <Z:T >Q:commit <C:COMMIT !", "C:BEGIN Z:T C:COMMIT ! Z:I", ""),
    (">Q:begin <C:BEGIN <Z:T >Q:commit_and_chain ! >Q:y", "C:BEGIN Z:T ! 08007 Z:E 25P02 Z:E", ""),
    (">Q:begin <C:BEGIN <Z:T >Q:x;_commit ! >Q:y", "C:BEGIN Z:T ! 08007 Z:E 25P02 Z:E", ""),
    (">Q:begin <C:BEGIN <Z:T >Q:rollback ! >Q:y", "C:BEGIN Z:T ! C:ROLLBACK Z:I", "Q:y"),
    (">Q:begin <C:BEGIN <Z:T >P::rollback >B:: >E: >S !", "C:BEGIN Z:T ! 08006 Z:I", ""),
    (">Q:begin <C:BEGIN <Z:T >Q:rollback_to_s ! >Q:y", "C:BEGIN Z:T ! 08006 Z:E 25P02 Z:E", ""),
    (">Q:begin <C:BEGIN <Z:T >Q:rollback_to_s <C:ROLLBACK ! >Q:y", "C:BEGIN Z:T C:ROLLBACK ! 08006 Z:E 25P02 Z:E", ""),
    (
        ">Q:begin <C:BEGIN <Z:T >Q:set <S:TimeZone:B <C:SET <Z:T >Q:commit_and_chain <C:COMMIT <Z:T >Q:x !",
        "C:BEGIN Z:T S:TimeZone_B C:SET Z:T C:COMMIT Z:T ! 08006 Z:E",
        "",
    ),
    (">Q:begin <C:BEGIN <Z:T >P::x >B:: >E: >H <1 ! >E: >S >Q:y", "C:BEGIN Z:T 1 ! 08006 Z:E 25P02 Z:E", ""),
    // What is executed counts, not what was bound or prepared last.
    (">Q:begin <C:BEGIN <Z:T >P::commit >B:p: >P::x >B:: >E:p >S !", "C:BEGIN Z:T ! 08007 Z:I", ""),
    (">Q:begin <C:BEGIN <Z:T >P::x >B:p: >P::commit >B:: >E:p >S ! >Q:y", "C:BEGIN Z:T ! 08006 Z:E 25P02 Z:E", ""),
    (
        ">Q:begin <C:BEGIN <Z:T >P:c:commit >B:p:c >S <1 <2 <Z:T >P::x >B:: >E: >E:p >S !",
        "C:BEGIN Z:T 1 2 Z:T ! 08007 Z:I",
        "",
    ),
    (">Q:begin <C:BEGIN <Z:T >P::commit >B:: >P::x >E: >S !", "C:BEGIN Z:T ! 08007 Z:I", ""),
    (">Q:begin <C:BEGIN <Z:T >P::x >B:: >P::commit >E: >S !", "C:BEGIN Z:T ! 08006 Z:E", ""),
    // Where a Bind may have failed, so that the portal is what it was: both count.
    (">Q:begin <C:BEGIN <Z:T >P:c:commit >P::x >B:p:c >B:p: >E:p >S !", "C:BEGIN Z:T ! 08007 Z:E", ""),
    (">Q:begin <C:BEGIN <Z:T >P:c:commit >P::x >B::c >B:: >E: >S !", "C:BEGIN Z:T ! 08007 Z:E", ""),
    // What the server skips after an error is not what was parsed, bound or executed last.
    (
        ">P:r:rollback_to_s >S <1 <Z:I >Q:begin <C:BEGIN <Z:T >P::commit >S <1 <Z:T >B::none >P::x >S <E:26000 <Z:E \
         >B:r:r >E:r >S <2 <C:ROLLBACK <Z:T >B:: >E: >S !",
        "1 Z:I C:BEGIN Z:T 1 Z:T 26000 Z:E 2 C:ROLLBACK Z:T ! 08007 Z:E",
        "",
    ),
    (
        ">P:r:rollback_to_s >P:c:commit >S <1 <1 <Z:I >Q:begin <C:BEGIN <Z:T >B::c >S <2 <Z:T >B:p:none >E: >B::r >S \
         <E:26000 <Z:E >B:r:r >E:r >S <2 <C:ROLLBACK <Z:T >E: >S !",
        "1 1 Z:I C:BEGIN Z:T 2 Z:T 26000 Z:E 2 C:ROLLBACK Z:T ! 08007 Z:E",
        "",
    ),
    // A block that had failed can't be committed.
    (">Q:begin <C:BEGIN <Z:T >Q:x <E:42601 <Z:E >Q:commit !", "C:BEGIN Z:T 42601 Z:E ! 08006 Z:I", ""),
    // Unless it was made whole again, or another was begun.
    (
        ">Q:begin <C:BEGIN <Z:T >Q:x <E:42601 <Z:E >X:rollback_to_s >X:commit >S <X:ROLLBACK !",
        "C:BEGIN Z:T 42601 Z:E ROLLBACK ! 08007 Z:I",
        "",
    ),
    (
        ">Q:begin <C:BEGIN <Z:T >Q:x <E:42601 <Z:E >X:rollback >X:begin >X:commit >S <X:ROLLBACK <X:BEGIN !",
        "C:BEGIN Z:T 42601 Z:E ROLLBACK BEGIN ! 08007 Z:I",
        "",
    ),
    (
        ">Q:begin <C:BEGIN <Z:T >Q:x <E:42601 <Z:E ! >Q:y >Q:commit",
        "C:BEGIN Z:T 42601 Z:E ! 25P02 Z:E C:ROLLBACK Z:I",
        "",
    ),
    // COPY.
    (">Q:copy <G ! >d:x >c >Q:y", "G ! 08007 Z:I", "Q:y"),
    (">Q:begin <C:BEGIN <Z:T >Q:copy <H <d ! >Q:y", "C:BEGIN Z:T H d ! 08006 Z:E 25P02 Z:E", ""),
    // The rest of a frame goes nowhere.
    ("( >Q:select_1_from_t ! ", "! 08007 Z:I", ""),
];

#[test]
fn what_is_owed_fails_and_nothing_else_runs() {
    for (dialogue, sees, runs) in LOSSES {
        let pair = Pair::new(true).plays(dialogue.trim());
        let seen =
            if dialogue.contains("<X:") { pair.sees.join(" ").replace("1 2 C:", "") } else { pair.sees.join(" ") };
        assert_eq!((seen.as_str(), pair.runs.join(" ").as_str()), (*sees, *runs), "{dialogue}");
    }
}

/// Behind the loss of a server in a block, where the client has asked for nothing.
const IDLE: &[(&str, &str, &str)] = &[
    ("", "", ""),
    (">Q:x >Q:y", "08006 Z:E 25P02 Z:E", ""),
    (">Q:rollback >Q:y", "C:ROLLBACK Z:I", "Q:y"),
    (">Q:commit >Q:y", "08006 Z:I", "Q:y"),
    (">Q:x >Q:commit", "08006 Z:E C:ROLLBACK Z:I", ""),
    (">Q:commit;select >Q:y", "08006 Z:I", "Q:y"),
    (">Q:rollback;select", "C:ROLLBACK", "Q:select"),
    (">Q:x >Q:commit;select", "08006 Z:E C:ROLLBACK", "Q:select"),
    (">Q: >Q:x", "I Z:E 08006 Z:E", ""),
    (">Q:rollback_to_s >Q:rollback_to_s", "08006 Z:E 25P02 Z:E", ""),
    (">Q:x >Q:rollback_and_chain >Q:rollback_prepared_'x'", "08006 Z:E 25P02 Z:E 25P02 Z:E", ""),
    (">S >H >F >d:x >c", "Z:E 08006 Z:E", ""),
    (">P::x >B:: >E: >S >P::y >S", "08006 Z:E 25P02 Z:E", ""),
    (">P::rollback >B:: >DP: >E: >S >Q:y", "1 2 n C:ROLLBACK Z:I", "Q:y"),
    (">P:s:rollback >DS:s >B:p:s >E:p >P::y >S", "1 t n 2 C:ROLLBACK", "P:y S"),
    (">P::commit >B:: >E: >P::x >S", "1 2 08006 Z:I", ""),
    (">P:s:x >S >P:s:commit >B::s >E: >S >P:s:commit >S", "08006 Z:E 1 2 C:ROLLBACK Z:I", "B S"),
    (">P::rollback >P:s:rollback >P:s:rollback >P::x >S", "1 1 08006 Z:E", ""),
    (">P::rollback;x >S", "08006 Z:E", ""),
    (">P:: >B:: >E: >CP: >E: >S", "1 2 I 3 08006 Z:E", ""),
    (">B::n >S >DS:n >S >E:n >S", "08006 Z:E 26000 Z:E 25P02 Z:E", ""),
    (">P:s:rollback >CS:s >B::s >S", "1 3 08006 Z:E", ""),
    ("( >Q:rollback_and_more", "", ""),
];

#[test]
fn a_lost_block_is_a_failed_one_until_the_client_ends_it() {
    for (dialogue, sees, runs) in IDLE {
        let pair = Pair::new(true).plays(format!(">Q:begin <C:BEGIN <Z:T ! {dialogue}").trim());
        let seen = pair.sees.join(" ");
        let seen = seen.strip_prefix("C:BEGIN Z:T !").expect("nothing is said unasked").trim();
        let runs_then: Vec<_> = pair.runs.iter().map(|run| run.replace("Q:_________", "Q:")).collect();
        let runs_then: Vec<_> = runs_then.iter().map(|run| run.replace(":_______", ":")).collect();
        assert_eq!((seen, runs_then.join(" ").as_str()), (*sees, *runs), "{dialogue}");
    }
}

#[test]
fn names_and_settings_are_those_before_the_lost_transaction() {
    let pair = Pair::new(true)
        .plays(">P:a:x >S <1 <Z:I >Q:begin <C:BEGIN <Z:T >CS:a >P:b:y >S <1 <S:TimeZone:B <Z:T >P:c:z >CS:b >S !");
    assert_eq!(pair.sees[pair.sees.len() - 4..].join(" "), "! S:TimeZone_A 08006 Z:E");
    assert_eq!(pair.relay.params, params("A"));
    let known = ["a", "b", "c"].map(|name| pair.relay.names.get(name.as_bytes()).is_some());
    // The Close of "a" was answered; the others were under way.
    assert_eq!(known, [false, true, false]);
}

#[test]
fn what_waits_for_settings_of_a_lost_server_goes_to_another() {
    let mut pair = Pair::new(true);
    pair.params = params("B");
    let pair = pair.plays(">Q:vacuum ! >Q:x");
    assert_eq!(pair.sees.join(" "), "!");
    assert_eq!(pair.losses, [Some(Aftermath::Unnoticed)]);
}

/// A statement that recurs, refused by a server that is lost then: what is under way once more is told, and what is not
/// goes to another server.
#[test]
fn what_was_refused_in_place_of_what_the_client_has_said_is_not_lost_with_its_server() {
    let batch = ["P::select", "B::", "E:", "S"].map(client).concat();
    let refused = server("E:0A000");
    let lost_at_once = [refused.clone(), server("F:57P01")].concat();
    for (then, sees, runs) in [(refused, "! 08007 Z:I", ""), (lost_at_once, "!", "P:select B E S")] {
        let mut pair = Pair::new(true);
        pair.matched = Some(pair.relay.params.clone());
        pair.relay.recurring = Some(Arc::new(Recurring::new(9)));
        for answer in ["<1 <2 <C:SELECT <Z:I", "<1 <2 <C:SELECT <Z:I", "<N"] {
            pair.held.extend_from_slice(&batch);
            pair.feed();
            pair = pair.plays(answer);
        }
        pair.sees.clear();
        pair.hear(&then);
        if pair.losses.is_empty() {
            pair.lose();
        }
        assert_eq!((pair.sees.join(" ").as_str(), pair.runs.join(" ").as_str()), (sees, runs));
    }
}

#[test]
fn who_can_not_go_on_is_told_apart() {
    for (own_names, dialogue, losses) in [
        (true, ">Q:x ( <D !", [None]),
        (true, ">P::copy >B:: >E: >S <1 <2 <G >d:x !", [None]),
        // What was meant for a block must not run without.
        (true, ">Q:begin !", [None]),
        (true, ">Q:begin >Q:x >Q:rollback >Q:begin >Q:y !", [None]),
        (true, ">Q:begin;x !", [None]),
        (true, ">X:begin >X:x >S !", [None]),
        (false, ">Q:x !", [None]),
        (true, ">Q:x !", [Some(Aftermath::Told)]),
        (true, ">Q:begin <C:BEGIN <Z:T !", [Some(Aftermath::Failed)]),
    ] {
        assert_eq!(Pair::new(own_names).plays(dialogue).losses, losses, "{dialogue}");
    }
}

#[test]
fn an_error_that_answers_nothing_is_no_answer() {
    for own_names in [true, false] {
        let mut pair = Pair::new(own_names).plays(">Q:begin <C:BEGIN <Z:T");
        let bytes = server("E:42601");
        let (heard, steps) = pair.attached(|relay, mut server, steps| relay.from_server(&mut server, &bytes, steps));
        assert!(heard.is_err() && steps.to_client.is_empty());
    }
}

#[test]
fn a_flood_of_requests_is_answered_piece_by_piece() {
    let mut pair = Pair::new(true).plays(">Q:begin <C:BEGIN <Z:T !");
    let flood = client("Q:x").repeat(40_000);
    let (mut at, mut turns) = (0, 0);
    while at < flood.len() {
        let mut steps = Steps::default();
        let fed = pair.relay.from_client(None, &flood[at..], &mut steps);
        assert!(steps.to_client.size() < 100_000, "{} bytes are owed at once", steps.to_client.size());
        at += fed.consumed;
        turns += 1;
        assert_eq!(fed.stop, if at < flood.len() { Stop::Full } else { Stop::Input });
    }
    assert!(turns > 10);
}
