//! Plays a dialogue: clients and servers say what is written, the relay between them does what it does, and all that
//! comes of it is written down.

use std::collections::BTreeMap;
use std::sync::Arc;

use pglifeguard::server::statements::Statements;
use pglifeguard::session::relay::leave::toward_rest;
use pglifeguard::session::relay::table::Table;
use pglifeguard::session::relay::{Attached, Exchange, Relay, Steps, Stop};
use pglifeguard::wire::params::ParamSet;

use super::notation::{From, read, show};

struct Client {
    relay: Relay,
    /// Said and not taken by the relay.
    kept: Vec<u8>,
    /// Heard of a message that is not whole.
    heard: Vec<u8>,
    server: Option<usize>,
    /// What is kept waits for the server, not for more of it.
    stalled: bool,
}

struct Slot {
    exchange: Exchange,
    params: ParamSet,
    matched: Option<ParamSet>,
    assigned: Option<ParamSet>,
    statements: Statements,
    kept: Vec<u8>,
    heard: Vec<u8>,
}

impl Slot {
    fn attached(&mut self) -> Attached<'_> {
        Attached {
            exchange: &mut self.exchange,
            params: &mut self.params,
            matched: &mut self.matched,
            assigned: &mut self.assigned,
            statements: &mut self.statements,
        }
    }
}

/// Between which dialogue lines are played.
pub(crate) struct Stage {
    table: Arc<Table>,
    session: bool,
    prepared_max: u32,
    clients: BTreeMap<String, Client>,
    client: String,
    slots: BTreeMap<usize, Slot>,
    server: usize,
    /// Bytes that a client, and a server, says at once.
    pieces: (usize, usize),
    steps: Steps,
    out: Vec<String>,
}

const MESSAGE_MAX: usize = 1 << 20;
const SETTINGS: [(&str, &str); 2] = [("TimeZone", "UTC"), ("application_name", "x")];

fn params() -> ParamSet {
    let mut params = ParamSet::default();
    SETTINGS.into_iter().for_each(|(name, value)| _ = params.set(name, value.as_bytes()));
    params
}

/// The lines of a dialogue, with what comes of each behind it, indented. Clients' and servers' bytes come
/// in pieces of these sizes.
pub(crate) fn play(lines: &[&str], pieces: (usize, usize)) -> Vec<String> {
    let mut stage = Stage {
        table: Arc::new(Table::default()),
        session: false,
        prepared_max: 10,
        clients: BTreeMap::new(),
        client: "a".to_owned(),
        slots: BTreeMap::new(),
        server: 1,
        pieces,
        steps: Steps::default(),
        out: Vec::new(),
    };
    let mut played = Vec::new();
    for line in lines {
        stage.line(line);
        played.push((*line).to_owned());
        played.extend(std::mem::take(&mut stage.out).into_iter().map(|it| format!("    {it}")));
    }
    played
}

impl Stage {
    fn line(&mut self, line: &str) {
        match line.split_once(' ') {
            Some((">", messages)) => {
                for piece in read(From::Client, messages).chunks(self.pieces.0) {
                    self.me().kept.extend_from_slice(piece);
                    self.feed();
                }
            }
            Some(("<", messages)) => {
                for piece in read(From::Server, messages).chunks(self.pieces.1) {
                    self.server_says(piece);
                }
            }
            Some((":", order)) => self.obey(order),
            _ => panic!("not a line of a dialogue: {line}"),
        }
    }

    fn obey(&mut self, order: &str) {
        let (word, rest) = order.split_once(' ').unwrap_or((order, ""));
        match word {
            "session" => self.session = true,
            "prepared" => self.prepared_max = rest.parse().expect("a number"),
            "client" => self.client = rest.to_owned(),
            "server" => self.server = rest.parse().expect("a number"),
            "has" => {
                let (name, value) = rest.split_once('=').expect("name=value");
                self.me().relay.params.set(name, value.as_bytes());
            }
            "reports" => {
                let (name, value) = rest.split_once('=').expect("name=value");
                self.slot(self.server).params.set(name, value.as_bytes());
            }
            "knows" => {
                let params = &self.me().relay.params;
                let pairs = params.iter().map(|(name, value)| format!("{name}={}", value.escape_ascii()));
                let pairs = pairs.collect::<Vec<_>>().join(", ");
                self.out.push(pairs);
            }
            "refused" => {
                self.me().relay.refuse_next();
                self.feed();
            }
            "leaves" => self.leave(),
            _ => panic!("no such order: {order}"),
        }
    }

    fn me(&mut self) -> &mut Client {
        let (table, session) = (&self.table, self.session);
        self.clients.entry(self.client.clone()).or_insert_with(|| Client {
            relay: Relay::new(Arc::clone(table), params(), MESSAGE_MAX, !session),
            kept: Vec::new(),
            heard: Vec::new(),
            server: None,
            stalled: false,
        })
    }

    fn slot(&mut self, server: usize) -> &mut Slot {
        let prepared_max = self.prepared_max;
        self.slots.entry(server).or_insert_with(|| Slot {
            exchange: Exchange::default(),
            params: params(),
            matched: None,
            assigned: None,
            statements: Statements::new(prepared_max),
            kept: Vec::new(),
            heard: Vec::new(),
        })
    }

    /// Offers the relay what the client said, as long as it takes it.
    fn feed(&mut self) {
        loop {
            self.me();
            let client = self.clients.get_mut(&self.client).expect("it is there");
            let slot = client.server.and_then(|server| self.slots.get_mut(&server));
            self.steps.clear();
            let fed = client.relay.from_client(slot.map(Slot::attached), &client.kept, &mut self.steps);
            let input = client.kept.clone();
            client.kept.drain(..fed.consumed);
            self.write(&input);
            self.me().stalled = fed.stop == Stop::Hold;
            match fed.stop {
                Stop::Input => {}
                Stop::NeedServer => {
                    let server = self.server;
                    self.slot(server);
                    self.me().server = Some(server);
                    self.note(format!("takes server {server}"));
                    continue;
                }
                Stop::Hold | Stop::Channels => self.note("waits".to_owned()),
                Stop::Full => continue,
                Stop::Terminate => self.note("good-bye".to_owned()),
                Stop::Violation(error) => self.note(format!("violation: {error}")),
            }
            return self.give_back();
        }
    }

    fn give_back(&mut self) {
        let session = self.session;
        let Some(server) = self.me().server else { return };
        let slot = self.slot(server);
        if session || !slot.exchange.settled() || !slot.kept.is_empty() {
            return;
        }
        let slot = self.slots.get_mut(&server).expect("it is there");
        let client = self.clients.get_mut(&self.client).expect("it is there");
        client.relay.part(&slot.exchange);
        slot.exchange.reset();
        client.server = None;
        self.note("gives it back".to_owned());
    }

    fn server_says(&mut self, bytes: &[u8]) {
        let Some(server) = self.me().server else {
            return self.note("nobody hears the server".to_owned());
        };
        let slot = self.slots.get_mut(&server).expect("it is there");
        let client = self.clients.get_mut(&self.client).expect("it is there");
        slot.kept.extend_from_slice(bytes);
        let input = std::mem::take(&mut slot.kept);
        self.steps.clear();
        let heard = client.relay.from_server(&mut slot.attached(), &input, &mut self.steps);
        match heard {
            Ok(heard) => {
                slot.kept = input[heard.consumed..].to_vec();
                self.write(&input);
                if heard.fatal {
                    self.lose("the server ends".to_owned());
                } else {
                    self.give_back();
                    if self.me().stalled {
                        self.feed();
                    }
                }
            }
            Err(error) => {
                self.write(&input);
                self.lose(format!("the server is lost: {error}"));
            }
        }
    }

    /// The client goes on without its server, where it can.
    fn lose(&mut self, note: String) {
        self.note(note);
        let Some(server) = self.me().server else { return };
        let mut slot = self.slots.remove(&server).expect("it is there");
        let client = self.clients.get_mut(&self.client).expect("it is there");
        self.steps.clear();
        let goes_on = client.relay.lose(&mut slot.attached(), "Lost.", &mut self.steps).is_some();
        client.server = None;
        self.write(&[]);
        if goes_on {
            self.feed();
        } else {
            self.note("the client is disconnected".to_owned());
        }
    }

    fn leave(&mut self) {
        let Some(slot) = self.me().server.and_then(|server| self.slots.get_mut(&server)) else { return };
        self.steps.clear();
        let at_rest = toward_rest(&mut slot.exchange, &mut self.steps);
        self.write(&[]);
        self.note(if at_rest { "at rest" } else { "not at rest" }.to_owned());
    }

    /// Writes down what is written to both sides.
    fn write(&mut self, input: &[u8]) {
        let client = self.clients.get_mut(&self.client).expect("it is there");
        client.heard.extend(self.steps.to_client.concat(input));
        let (words, size) = show(From::Server, &client.heard);
        client.heard.drain(..size);
        let to_client = format!("client: {words}");
        let to_server = self.steps.to_server.concat(input);
        if let Some(server) = client.server {
            let slot = self.slots.get_mut(&server).expect("it is there");
            slot.heard.extend(to_server);
            let (words, size) = show(From::Client, &slot.heard);
            slot.heard.drain(..size);
            self.note(format!("server: {words}"));
        } else {
            assert!(to_server.is_empty(), "bytes for no server");
        }
        self.note(to_client);
    }

    /// Joins what goes the same way, and says nothing twice.
    fn note(&mut self, note: String) {
        let of = |note: &str| note.split_once(": ").map(|(side, _)| side.to_owned());
        if note.ends_with(": ") || self.out.last() == Some(&note) && !note.contains(": ") {
            return;
        }
        match self.out.last_mut() {
            Some(last) if of(last).is_some_and(|side| Some(side) == of(&note)) => {
                last.push_str(&note[note.find(": ").map_or(0, |at| at + 1)..]);
            }
            _ => self.out.push(note),
        }
    }
}
