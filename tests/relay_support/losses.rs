//! A client that loses its server: what it must have read of that by then, and what a server of its own would say to
//! all that follows if it stood where the client stands.

use std::collections::BTreeMap;

use bytes::BytesMut;
use pglifeguard::session::relay::loss::Aftermath;

use super::messages::{show, whole};
use super::model_server::{Lost, Server, Settings};
use super::world::{Client, Moved, NAMES, Slot, UNNAMED, World, frames, settings};

impl World {
    /// The server of this client is gone, wherever it is.
    pub(super) fn lose(&mut self, at: usize) -> Moved {
        let client = &mut self.clients[at];
        let Some(server) = client.server else { return Ok(false) };
        let setup = self.setup;
        let mut slot = std::mem::replace(&mut self.slots[server], Slot::new(setup));
        self.lost += 1;
        if self.random.chance(50) {
            // It has done all that it was sent, and nobody knows.
            slot.model.feed(&std::mem::take(&mut slot.wire));
        }
        self.ran.extend(std::mem::take(&mut slot.model.ran).into_iter().filter(|it| it.starts_with('c')));
        self.steps.clear();
        let Some(aftermath) = client.relay.lose(&mut slot.attached(), "Lost.", &mut self.steps) else {
            let front = client.received.len() - frames_end(&client.received);
            // A Sync within a COPY may have been read past.
            let copies = each(&client.received).any(|message| message[0] == b'G');
            let begins = begins_block(client);
            self.vanish(at);
            let ends = front > 0 || copies || begins;
            return if ends { Ok(true) } else { Err(format!("client {at} could have gone on")) };
        };
        client.server = None;
        let said = self.steps.to_client.concat(&[]);
        let before = client.received.len();
        client.received.extend_from_slice(&said);
        let committed = unseen_commit(client, &slot, before);
        self.committed += usize::from(committed && last_ready(&client.received[..before]).0 == b'T');
        check_said(client, committed, before, aftermath)
            .map_err(|why| format!("client {at}: {why}: {}", show(&said)))?;
        resume(client, setup.reports_at_once, before, aftermath)?;
        self.feed_client(at)?;
        Ok(true)
    }
}

fn frames_end(buf: &[u8]) -> usize {
    let mut end = 0;
    while let Some(total) = whole(&buf[end..]) {
        end += total;
    }
    end
}

fn each(mut buf: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (message, rest) = buf.split_at(whole(buf)?);
        buf = rest;
        Some(message)
    })
}

/// The status of the last ReadyForQuery, and what came behind it.
fn last_ready(received: &[u8]) -> (u8, &[u8]) {
    let (mut status, mut end, mut at) = (b'I', 0, 0);
    for message in each(received) {
        at += message.len();
        if message[0] == b'Z' {
            (status, end) = (message[5], at);
        }
    }
    (status, &received[end..])
}

pub(super) fn has(messages: &[u8], tag: u8, text: &[u8]) -> bool {
    let holds = |message: &[u8]| text.is_empty() || message.windows(text.len()).any(|it| it == text);
    each(messages).any(|message| message[0] == tag && holds(message))
}

/// What `lose` has said is no more than is certain, and no less than is owed.
fn check_said(client: &Client, committed: bool, before: usize, aftermath: Aftermath) -> Result<(), String> {
    let (earlier, said) = client.received.split_at(before);
    let (status, since) = last_ready(earlier);
    let in_block = status != b'I' || has(since, b'C', b"BEGIN");
    let statuses: Vec<u8> = each(said).filter(|message| message[0] == b'Z').map(|message| message[5]).collect();
    if !in_block && (statuses.contains(&b'E') || aftermath == Aftermath::Failed) {
        return Err("a block has failed where there was none".to_owned());
    }
    let unknown = has(said, b'E', b"C08007");
    let may_end =
        unknown || has(since, b'C', b"COMMIT") || has(said, b'C', b"ROLLBACK") || has(since, b'C', b"ROLLBACK");
    let ends = may_end || in_flight(client).any(|sent| ends_block(client, sent));
    if in_block && !ends && (statuses.contains(&b'I') || aftermath != Aftermath::Failed) {
        return Err("a lost block is forgotten".to_owned());
    }
    if committed && !unknown {
        return Err("what was committed is said to be not".to_owned());
    }
    let plain = !in_flight(client).any(|sent| sent.windows(4).any(|it| it == b"copy")) && !mixed(client);
    let owed = in_flight(client).filter(|sent| b"QFS".contains(&sent[0])).count();
    let answered = each(&client.received).filter(|message| message[0] == b'Z').count();
    if plain && owed != answered {
        return Err(format!("{answered} ReadyForQuery for {owed} requests"));
    }
    Ok(())
}

/// Whether the server has committed a block and the client had not read so `before` it was lost.
fn unseen_commit(client: &Client, slot: &Slot, before: usize) -> bool {
    let (commits, received) = client.at_attach;
    let told = each(&client.received[received..before]).filter(|it| has(it, b'C', b"COMMIT")).count();
    slot.model.commits - commits > told
}

/// All that the relay has taken so far, whole or in part.
fn in_flight(client: &Client) -> impl Iterator<Item = &[u8]> {
    let mut left = client.taken;
    let parts = client.script.bursts.iter().flat_map(|burst| &burst.parts).map(Vec::as_slice);
    parts.take_while(move |part| {
        let taken = left > 0;
        left = left.saturating_sub(part.len());
        taken
    })
}

/// Whether it may have sent a BEGIN that it has not read the answer of: by its text, or that of a statement that it may mean.
fn begins_block(client: &Client) -> bool {
    let asked = in_flight(client).filter(|sent| b"QBE".contains(&sent[0]));
    let answered = each(&client.received).filter(|message| message[0] == b'C').count();
    let begun = each(&client.received).filter(|message| message.windows(5).any(|it| it == b"BEGIN")).count();
    let begins = |sent: &&[u8]| sent[0] == b'E' || sent.windows(5).any(|it| it == b"begin");
    asked.filter(begins).count() > begun.min(answered)
}

/// By its own text, or that of a statement that it may mean.
fn ends_block(client: &Client, sent: &[u8]) -> bool {
    let ends =
        |sent: &[u8]| [&b"commit"[..], b"rollback"].iter().any(|text| sent.windows(text.len()).any(|it| it == *text));
    match sent[0] {
        b'E' => in_flight(client).any(|other| other[0] == b'P' && ends(other)),
        _ => ends(sent),
    }
}

/// A Query behind messages of the extended protocol without Sync is skipped with them after an error.
fn mixed(client: &Client) -> bool {
    let mut open = false;
    in_flight(client).any(|sent| match sent[0] {
        b'P' | b'B' | b'D' | b'E' | b'C' => {
            open = true;
            false
        }
        b'Q' | b'F' => open,
        b'S' => {
            open = false;
            false
        }
        _ => false,
    })
}

/// From here on the client is compared with a server of its own that stands where it stands.
fn resume(client: &mut Client, reports_at_once: bool, before: usize, aftermath: Aftermath) -> Result<(), String> {
    client.lost = true;
    let start = settings(client.script.settings);
    let mut told = start.clone();
    let received = frames(&client.received, &mut told, true);
    let (status, since) = last_ready(&client.received);
    let errs = has(since, b'E', b"");
    let open = in_flight(client).fold(false, |open, sent| match sent[0] {
        b'P' | b'B' | b'D' | b'E' | b'C' => true,
        b'Q' | b'F' if !open => false,
        b'S' => false,
        _ => open,
    });
    let skips = open && errs;
    let silent = client.received.len() == before || !has(&client.received[before..], b'E', b"");
    let lost = match aftermath {
        Aftermath::Failed if status == b'E' || errs => Some(Lost::Told),
        Aftermath::Failed => Some(Lost::Untold),
        Aftermath::Told if silent && !skips && !has(&client.received[before..], b'Z', b"") => Some(Lost::Refuses),
        _ => None,
    };
    let mut model = Server::new(start, reports_at_once);
    model.resumed(statements(client), [known(client), told.clone()], lost, skips);
    let boundary = in_flight(client).map(<[u8]>::len).sum::<usize>();
    let (mut at, mut after) = (0, Vec::new());
    for burst in &client.script.bursts {
        for part in &burst.parts {
            if at >= boundary {
                model.feed(part);
            }
            at += part.len();
        }
        after.push(received.len() + frames(&model.output, &mut told.clone(), true).len());
    }
    let rest = frames(&model.output, &mut told, true);
    client.expected.frames = [received, rest].concat();
    client.expected.after = after;
    client.expected.settings = model.settings().clone();
    if model.out_of_sync || has(&model.output, b'E', UNNAMED) {
        return Err(String::from_utf8_lossy(UNNAMED).into_owned());
    }
    Ok(())
}

fn known(client: &Client) -> Settings {
    let value = |name: &str| String::from_utf8_lossy(client.relay.params.get(name).expect("it is known")).into_owned();
    NAMES.into_iter().map(|name| (name.to_owned(), value(name))).collect()
}

fn statements(client: &Client) -> BTreeMap<String, String> {
    let text = |name: &str| {
        let mut parse = BytesMut::new();
        client.relay.names.get(name.as_bytes())?.write_parse(&mut parse);
        let text = parse[5..].split(|&byte| byte == 0).nth(1).expect("a text");
        Some((name.to_owned(), String::from_utf8_lossy(text).into_owned()))
    };
    ["a", "b", "c"].into_iter().filter_map(text).collect()
}
