//! The relay between clients and a server both of which send anything, in pieces of any size: nothing panics, neither
//! side ever reads a frame that is none, nothing is done twice, and a server goes on only at rest.

use std::sync::Arc;

use pglifeguard::server::statements::Statements;
use pglifeguard::session::relay::leave::toward_rest;
use pglifeguard::session::relay::table::Table;
use pglifeguard::session::relay::{Attached, Exchange, Relay, Steps, Stop};
use pglifeguard::wire::params::ParamSet;

use super::input::{Input, whole_frames};

/// A setting and then events.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut world = World::new(input.byte());
    while !input.is_empty() {
        match input.byte() % 16 {
            0..=3 => world.client_sends(&common(CLIENT_FRAMES, &mut input), usize::MAX),
            4 => world.client_sends(&common(CLIENT_FRAMES, &mut input), usize::from(input.byte())),
            5 => world.client_sends(input.chunk(), usize::MAX),
            6..=10 => world.server_sends(&common(SERVER_FRAMES, &mut input), usize::MAX),
            11 => world.server_sends(&common(SERVER_FRAMES, &mut input), usize::from(input.byte())),
            12 => world.server_sends(input.chunk(), usize::MAX),
            13 if !world.has_server => world.relay.refuse_next(),
            13 => {}
            14 if world.has_server && input.byte() < 128 => world.server_is_lost(),
            14 => world.another_client(),
            _ => world.client_vanishes(),
        }
    }
}

/// Messages that mean something, so that not every one has to be found.
const CLIENT_FRAMES: &[(u8, &[u8])] = &[
    (b'Q', b"select 1\0"),
    (b'Q', b"begin\0"),
    (b'Q', b"commit\0"),
    (b'Q', b"rollback and chain\0"),
    (b'Q', b"copy t from stdin\0"),
    (b'Q', b"deallocate all\0"),
    (b'Q', b"discard all; vacuum\0"),
    (b'P', b"\0select 1\0\0\0"),
    (b'P', b"a\0select 1\0\0\0"),
    (b'P', b"b\0copy t from stdin\0\0\0"),
    (b'P', b"a\0deallocate all\0\0\0"),
    (b'B', b"\0\0\0\0\0\0\0\0"),
    (b'B', b"\0a\0\0\0\0\0\0\0"),
    (b'B', b"p\0b\0\0\0\0\0\0\0"),
    (b'D', b"Sa\0"),
    (b'D', b"P\0"),
    (b'E', b"\0\0\0\0\0"),
    (b'E', b"p\0\0\0\0\x01"),
    (b'C', b"Sa\0"),
    (b'C', b"Pp\0"),
    (b'S', b""),
    (b'H', b""),
    (b'F', b"\0\0\0\x01\0\0\0\0\0\0"),
    (b'd', b"data"),
    (b'c', b""),
    (b'f', b"no\0"),
    (b'X', b""),
];

const SERVER_FRAMES: &[(u8, &[u8])] = &[
    (b'Z', b"I"),
    (b'Z', b"T"),
    (b'Z', b"E"),
    (b'1', b""),
    (b'2', b""),
    (b'3', b""),
    (b'C', b"SELECT 1\0"),
    (b'C', b"ROLLBACK\0"),
    (b'C', b"SAVEPOINT\0"),
    (b'C', b"DEALLOCATE ALL\0"),
    (b'C', b"COPY 0\0"),
    (b'C', b"SET\0"),
    (b'D', b"\0\x01\0\0\0\x01x"),
    (b'T', b"\0\0"),
    (b'n', b""),
    (b't', b"\0\0"),
    (b'I', b""),
    (b's', b""),
    (b'G', b"\0\0\0"),
    (b'H', b"\0\0\0"),
    (b'W', b"\0\0\0"),
    (b'd', b"data"),
    (b'c', b""),
    (b'V', b"\xff\xff\xff\xff"),
    (b'S', b"TimeZone\0UTC\0"),
    (b'S', b"application_name\0x\0"),
    (b'E', b"SERROR\0VERROR\0C42601\0Mno\0\0"),
    (b'E', b"SERROR\0VERROR\0C26000\0Mprepared statement\0\0"),
    (b'E', b"SFATAL\0VFATAL\0C57P01\0Mend\0\0"),
    (b'N', b"SWARNING\0C01000\0Mhm\0\0"),
    (b'A', b"\0\0\0\x01c\0\0"),
];

fn common(frames: &[(u8, &[u8])], input: &mut Input<'_>) -> Vec<u8> {
    let (tag, body) = frames[usize::from(input.byte()) % frames.len()];
    let length = u32::try_from(body.len() + 4).expect("short").to_be_bytes();
    [&[tag][..], &length, body].concat()
}

const FROM_CLIENTS: &[u8] = b"QPBDECSHFdcfX";
const FROM_SERVERS: &[u8] = b"Z123CDTntIsGHWdcVSENA";
const MESSAGE_MAX: usize = 1 << 16;
const KEPT_MAX: u32 = 1 << 20;

fn params(zone: &str, name: &str) -> ParamSet {
    let mut params = ParamSet::default();
    params.set("TimeZone", zone.as_bytes());
    params.set("application_name", name.as_bytes());
    params
}

struct Slot {
    exchange: Exchange,
    params: ParamSet,
    matched: Option<ParamSet>,
    assigned: Option<ParamSet>,
    statements: Statements,
    /// An incomplete frame of the server's.
    kept: Vec<u8>,
    /// The end of what the server was sent: a frame that is not whole yet.
    sent: Vec<u8>,
}

impl Slot {
    fn new(prepared_max: u32) -> Self {
        Self {
            exchange: Exchange::default(),
            params: params("GMT", ""),
            matched: None,
            assigned: None,
            statements: Statements::new(prepared_max),
            kept: Vec::new(),
            sent: Vec::new(),
        }
    }

    fn attached(&mut self) -> Attached<'_> {
        Attached {
            exchange: &mut self.exchange,
            params: &mut self.params,
            matched: &mut self.matched,
            assigned: &mut self.assigned,
            statements: &mut self.statements,
        }
    }

    fn is_sent(&mut self, bytes: &[u8]) {
        self.sent.extend_from_slice(bytes);
        self.sent = whole_frames(&self.sent, FROM_CLIENTS).to_vec();
    }

    /// What is kept of the server's is short when it is whole, or an error, which need not be whole.
    fn will_not_grow(&self) {
        if let [tag, a, b, c, d, ..] = *self.kept {
            assert!(tag == b'E' || u32::from_be_bytes([a, b, c, d]) < KEPT_MAX, "{:?} is kept", char::from(tag));
        }
    }

    fn at_rest(&self) -> bool {
        let at_rest = self.exchange.settled() && self.kept.is_empty();
        assert!(!at_rest || self.sent.is_empty(), "at rest in the middle of a frame");
        at_rest
    }
}

struct World {
    table: Arc<Table>,
    own_names: bool,
    prepared_max: u32,
    relay: Relay,
    slot: Slot,
    /// The client has the server.
    has_server: bool,
    /// The client is gone, and its server on the way to rest.
    leaving: bool,
    /// What the client sent and the relay did not take.
    kept: Vec<u8>,
    /// The end of what the client was sent.
    told: Vec<u8>,
    steps: Steps,
}

impl World {
    fn new(setting: u8) -> Self {
        let table = Arc::new(Table::default());
        let own_names = setting & 1 == 0;
        let prepared_max = u32::from(setting >> 1 & 3);
        Self {
            relay: Relay::new(table.clone(), params("UTC", "x"), MESSAGE_MAX, own_names),
            table,
            own_names,
            prepared_max,
            slot: Slot::new(prepared_max),
            has_server: false,
            leaving: false,
            kept: Vec::new(),
            told: Vec::new(),
            steps: Steps::default(),
        }
    }

    fn client_sends(&mut self, bytes: &[u8], most: usize) {
        if self.leaving {
            return;
        }
        self.kept.extend_from_slice(&bytes[..most.min(bytes.len())]);
        self.feed();
    }

    /// Offers the relay what the client sent, until it takes no more.
    fn feed(&mut self) {
        loop {
            let server = self.has_server.then(|| self.slot.attached());
            self.steps.clear();
            let fed = self.relay.from_client(server, &self.kept, &mut self.steps);
            self.write();
            self.kept.drain(..fed.consumed);
            match fed.stop {
                Stop::Terminate | Stop::Violation(_) => return self.client_vanishes(),
                Stop::NeedServer => {
                    assert!(!self.has_server, "it has one");
                    self.has_server = true;
                }
                Stop::Full => {}
                Stop::Input | Stop::Hold | Stop::Channels => break,
            }
        }
        self.nothing_more();
        self.give_back_at_rest();
    }

    /// Offered the same again, the relay does nothing.
    fn nothing_more(&mut self) {
        if self.relay.mid_frame() {
            assert!(self.kept.is_empty());
            return;
        }
        let server = self.has_server.then(|| self.slot.attached());
        self.steps.clear();
        let fed = self.relay.from_client(server, &self.kept, &mut self.steps);
        assert_eq!(fed.consumed, 0);
        assert!(self.steps.to_server.is_empty() && self.steps.to_client.is_empty());
    }

    fn write(&mut self) {
        let to_server = self.steps.to_server.concat(&self.kept);
        assert!(self.has_server || to_server.is_empty(), "bytes for no server");
        self.slot.is_sent(&to_server);
        let to_client = self.steps.to_client.concat(&self.kept);
        self.tell(&to_client);
    }

    fn tell(&mut self, bytes: &[u8]) {
        self.told.extend_from_slice(bytes);
        self.told = whole_frames(&self.told, FROM_SERVERS).to_vec();
    }

    fn server_sends(&mut self, bytes: &[u8], most: usize) {
        if !self.has_server {
            return;
        }
        self.slot.kept.extend_from_slice(&bytes[..most.min(bytes.len())]);
        let kept = std::mem::take(&mut self.slot.kept);
        self.steps.clear();
        let heard = self.relay.from_server(&mut self.slot.attached(), &kept, &mut self.steps);
        let Ok(heard) = heard else {
            self.tell(&self.steps.to_client.concat(&kept));
            return self.server_is_lost();
        };
        self.slot.kept = kept[heard.consumed..].to_vec();
        self.slot.will_not_grow();
        self.slot.is_sent(&self.steps.to_server.concat(&kept));
        self.tell(&self.steps.to_client.concat(&kept));
        match (heard.fatal, self.leaving) {
            (true, _) => self.server_is_lost(),
            (false, true) => self.go_to_rest(),
            (false, false) => self.feed(),
        }
    }

    fn give_back_at_rest(&mut self) {
        if self.has_server && self.slot.at_rest() {
            assert!(self.told.is_empty(), "the client has the front of an answer");
            self.relay.part(&self.slot.exchange);
            self.slot.exchange.reset();
            self.has_server = false;
        }
    }

    /// The client goes on without it where it can.
    fn server_is_lost(&mut self) {
        self.steps.clear();
        let aftermath = (!self.leaving).then(|| self.relay.lose(&mut self.slot.attached(), "Lost.", &mut self.steps));
        let to_client = self.steps.to_client.concat(&[]);
        assert!(self.steps.to_server.is_empty(), "bytes for a server that is lost");
        self.slot = Slot::new(self.prepared_max);
        if !matches!(aftermath, Some(Some(_))) {
            return self.another_client();
        }
        assert!(self.told.is_empty(), "the client has the front of an answer");
        self.tell(&to_client);
        self.has_server = false;
        self.feed();
    }

    /// The server is brought to rest, or closed where the client left in the middle of a message.
    fn client_vanishes(&mut self) {
        if !self.has_server || self.leaving || self.relay.mid_frame() {
            return self.another_client();
        }
        self.leaving = true;
        self.go_to_rest();
    }

    fn go_to_rest(&mut self) {
        loop {
            self.steps.clear();
            if toward_rest(&mut self.slot.exchange, &mut self.steps) && self.slot.kept.is_empty() {
                assert!(self.slot.at_rest());
                return self.another_client();
            }
            let to_server = self.steps.to_server.concat(&[]);
            if to_server.is_empty() {
                return;
            }
            self.slot.is_sent(&to_server);
            assert!(self.slot.sent.is_empty(), "ours are whole");
        }
    }

    fn another_client(&mut self) {
        if self.has_server && !self.slot.at_rest() {
            self.slot = Slot::new(self.prepared_max);
        }
        self.slot.exchange.reset();
        (self.has_server, self.leaving) = (false, false);
        self.relay = Relay::new(self.table.clone(), params("GMT", "y"), MESSAGE_MAX, self.own_names);
        self.kept.clear();
        self.told.clear();
    }
}
