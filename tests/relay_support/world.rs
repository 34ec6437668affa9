//! Clients that share few servers through relays, beside the same clients with a server of their own each.
//! All that is between them happens in random order and in pieces of random size.

use std::collections::BTreeSet;
use std::sync::Arc;

use pglifeguard::server::statements::Statements;
use pglifeguard::session::relay::prepared::server_name;
use pglifeguard::session::relay::recurring::Recurring;
use pglifeguard::session::relay::table::Table;
use pglifeguard::session::relay::{Attached, Exchange, Relay, Steps, Stop};
use pglifeguard::wire::params::ParamSet;

use super::losses::has;
use super::messages::{frame, show, whole};
use super::model_server::{Server, Settings, Tx};
use super::script::{DEFAULT, Random, Script};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub servers: usize,
    pub prepared_max: u32,
    /// Settings are reported when they change, as before PostgreSQL 14, and not by ReadyForQuery.
    pub reports_at_once: bool,
    /// Servers are lost now and then: one in so many steps.
    pub losses: Option<usize>,
}

pub(super) const NAMES: [&str; 2] = ["TimeZone", "application_name"];

pub(super) fn settings(values: [&str; 2]) -> Settings {
    NAMES.into_iter().zip(values).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn params(values: [&str; 2]) -> ParamSet {
    let mut set = ParamSet::default();
    for (name, value) in NAMES.into_iter().zip(values) {
        set.set(name, value.as_bytes());
    }
    set
}

/// What a server of its own tells the client.
pub(super) struct Expected {
    pub(super) frames: Vec<Vec<u8>>,
    /// How many of them after each burst.
    pub(super) after: Vec<usize>,
    pub(super) settings: Settings,
    pub(super) out_of_sync: bool,
}

fn expected(script: &Script, setup: Setup) -> Expected {
    let mut server = Server::new(settings(script.settings), setup.reports_at_once);
    let mut after = Vec::new();
    for burst in &script.bursts {
        burst.parts.iter().for_each(|part| server.feed(part));
        after.push(frames(&server.output, &mut settings(script.settings), false).len());
    }
    Expected {
        frames: frames(&server.output, &mut settings(script.settings), false),
        after,
        settings: server.settings().clone(),
        out_of_sync: server.out_of_sync,
    }
}

/// What is compared. A report counts by ReadyForQuery, if it then says something new. `lost` is of a client that has
/// lost a server: one error is as another.
/// A duplicate name behind the end of a failed block, in one batch, may be refused as in the block.
pub(super) fn frames(mut buf: &[u8], told: &mut Settings, lost: bool) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut reports = told.clone();
    while let Some(total) = whole(buf) {
        let message = &buf[..total];
        let has = |code: &[u8]| message.windows(6).any(|it| it == code);
        match message[0] {
            b'S' => {
                let mut parts =
                    message[5..].split(|&byte| byte == 0).map(|it| String::from_utf8_lossy(it).into_owned());
                reports.extend(parts.next().zip(parts.next()));
            }
            b'E' if lost || has(b"C42P05") || has(b"C25P02") => out.push(frame(b'E', &[b"refused"])),
            b'Z' => {
                for (name, value) in &reports {
                    if told.insert(name.clone(), value.clone()).as_ref() != Some(value) {
                        out.push(frame(b'S', &[name.as_bytes(), b"\0", value.as_bytes(), b"\0"]));
                    }
                }
                out.push(message.to_vec());
            }
            _ => out.push(message.to_vec()),
        }
        buf = &buf[total..];
    }
    out
}

impl Client {
    /// What it has received.
    fn frames(&self) -> Vec<Vec<u8>> {
        frames(&self.received, &mut settings(self.script.settings), self.lost)
    }
}

pub(super) struct Client {
    pub(super) relay: Relay,
    pub(super) script: Script,
    pub(super) expected: Expected,
    pub(super) sent_bursts: usize,
    /// On its way to the pooler.
    pub(super) wire: Vec<u8>,
    pub(super) sent: usize,
    /// Read by the pooler and not taken by the relay.
    pub(super) kept: Vec<u8>,
    pub(super) received: Vec<u8>,
    pub(super) server: Option<usize>,
    pub(super) gone: bool,
    /// Taken by the relay.
    pub(super) taken: usize,
    /// It has lost a server: of errors it only counts that there are some.
    pub(super) lost: bool,
    /// Blocks that its server had committed, and bytes that the client had received, when it got the server.
    pub(super) at_attach: (usize, usize),
}

pub(super) struct Slot {
    pub(super) model: Server,
    pub(super) wire: Vec<u8>,
    pub(super) kept: Vec<u8>,
    pub(super) exchange: Exchange,
    pub(super) params: ParamSet,
    pub(super) matched: Option<ParamSet>,
    assigned: Option<ParamSet>,
    pub(super) statements: Statements,
    pub(super) taken: bool,
}

impl Slot {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            model: Server::new(settings(DEFAULT), setup.reports_at_once),
            wire: Vec::new(),
            kept: Vec::new(),
            exchange: Exchange::default(),
            params: params(DEFAULT),
            matched: None,
            assigned: None,
            statements: Statements::new(setup.prepared_max),
            taken: false,
        }
    }

    pub(super) fn attached(&mut self) -> Attached<'_> {
        Attached {
            exchange: &mut self.exchange,
            params: &mut self.params,
            matched: &mut self.matched,
            assigned: &mut self.assigned,
            statements: &mut self.statements,
        }
    }

    /// What must hold when it is given back.
    fn check_clean(&mut self) -> Result<(), String> {
        // Late CopyData may be on its way: it is read before the next client's bytes, and must mean nothing.
        self.model.feed(&std::mem::take(&mut self.wire));
        if !self.kept.is_empty() {
            return Err("given back with a part of a frame of its own".to_owned());
        }
        if let Some(why) = self.model.unclean() {
            return Err(format!("given back although {why}"));
        }
        let mut ours: Vec<_> =
            self.statements.iter().map(|id| String::from_utf8_lossy(&server_name(id)).into_owned()).collect();
        ours.sort();
        let theirs: Vec<_> = self.model.prepared().map(str::to_owned).collect();
        if ours != theirs {
            return Err(format!("we believe that {ours:?} are prepared, and it is {theirs:?}"));
        }
        let theirs: ParamSet = self.model.settings().iter().fold(ParamSet::default(), |mut set, (name, value)| {
            set.set(name, value.as_bytes());
            set
        });
        if theirs.iter().any(|(name, value)| self.params.get(name) != Some(value)) {
            return Err(format!("we believe {:?}, and it has {theirs:?}", self.params));
        }
        Ok(())
    }
}

pub(crate) struct World {
    pub(super) setup: Setup,
    pub(super) random: Random,
    pub(super) clients: Vec<Client>,
    pub(super) slots: Vec<Slot>,
    pub(super) steps: Steps,
    /// Microseconds.
    clock: u64,
    pub given_back: usize,
    pub lost: usize,
    /// With a block that they had committed, and nobody knew.
    pub committed: usize,
    /// What ran on servers that are lost.
    pub(super) ran: BTreeSet<String>,
}

/// What a run has come to.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub given_back: usize,
    pub lost: usize,
    pub committed: usize,
}

/// Whether a client has an unnamed statement is not seen from outside.
pub(super) const UNNAMED: &[u8] = b"unnamed prepared statement does not exist";

pub(super) type Moved = Result<bool, String>;

/// Runs to the end, or to what may not be.
pub(crate) fn run(scripts: &[Script], setup: Setup, seed: u64) -> Result<Done, String> {
    let table = Arc::new(Table::default());
    let recurring = Arc::new(Recurring::new(8));
    let relay = |script: &Script| {
        let mut relay = Relay::new(Arc::clone(&table), params(script.settings), 1 << 20, true);
        relay.recurring = Some(Arc::clone(&recurring));
        relay
    };
    let client = |script: &Script| Client {
        relay: relay(script),
        script: script.clone(),
        expected: expected(script, setup),
        sent_bursts: 0,
        wire: Vec::new(),
        sent: 0,
        kept: Vec::new(),
        received: Vec::new(),
        server: None,
        gone: false,
        taken: 0,
        lost: false,
        at_attach: (0, 0),
    };
    let clients: Vec<_> = scripts.iter().map(client).collect();
    // PostgreSQL ends a connection that speaks of other things in a COPY; we let these wait for the end of the COPY.
    if clients.iter().any(|client| client.expected.out_of_sync) {
        return Ok(Done::default());
    }
    let mut world = World {
        setup,
        random: Random::new(seed),
        clients,
        slots: (0..setup.servers).map(|_| Slot::new(setup)).collect(),
        steps: Steps::default(),
        clock: 0,
        given_back: 0,
        lost: 0,
        committed: 0,
        ran: BTreeSet::new(),
    };
    match world.run() {
        // Of an unnamed statement that was used in its own transaction, a later one may know nothing (but no other).
        Err(why) if why.contains("unnamed prepared statement does not ex") => return Ok(Done::default()),
        // As PostgreSQL ends the connection, unless the COPY fails before it has read what does not belong there.
        Err(why) if why.contains("requests were sent within a COPY") => return Ok(Done::default()),
        result => result?,
    }
    Ok(Done { given_back: world.given_back, lost: world.lost, committed: world.committed })
}

impl World {
    fn run(&mut self) -> Result<(), String> {
        let mut idle = 0;
        while idle < 40 {
            idle = if self.step()? { 0 } else { idle + 1 };
            if idle == 20 && self.sweep()? {
                idle = 0;
            }
        }
        if let Some(twice) = self.slots.iter().find_map(|slot| slot.model.ran.intersection(&self.ran).next()) {
            return Err(format!("{twice} ran on a server that is lost, and again on another"));
        }
        (0..self.clients.len()).try_for_each(|at| self.check_done(at))
    }

    /// Something random.
    fn step(&mut self) -> Moved {
        let client = self.random.below(self.clients.len());
        let size = 1 + self.random.below(1 << self.random.clone().below(11));
        if let (Some(steps), Some(server)) = (self.setup.losses, self.clients[client].server)
            // Blocks are few, and what matters most.
            && self.random.below(if self.slots[server].model.tx == Tx::Block { steps.div_ceil(10) } else { steps }) == 0
        {
            return self.lose(client);
        }
        match self.random.below(4) {
            0 => self.client_sends(client),
            1 => self.client_bytes(client, size),
            2 => Ok(self.server_works(client, size)),
            _ => self.server_bytes(client, size),
        }
    }

    /// Everything that can happen.
    fn sweep(&mut self) -> Moved {
        let mut moved = false;
        for client in 0..self.clients.len() {
            moved |= self.client_sends(client)?;
            moved |= self.client_bytes(client, usize::MAX)?;
            moved |= self.server_works(client, usize::MAX);
            moved |= self.server_bytes(client, usize::MAX)?;
        }
        Ok(moved)
    }

    fn client_sends(&mut self, at: usize) -> Moved {
        let client = &mut self.clients[at];
        if client.gone {
            return Ok(false);
        }
        if let Some(before) = client.sent_bursts.checked_sub(1)
            && client.script.bursts[before].wait
            && client.frames().len() < client.expected.after[before]
        {
            return Ok(false);
        }
        let Some(burst) = client.script.bursts.get(client.sent_bursts) else { return Ok(false) };
        client.sent_bursts += 1;
        burst.parts.iter().for_each(|part| client.wire.extend_from_slice(part));
        Ok(true)
    }

    fn client_bytes(&mut self, at: usize, size: usize) -> Moved {
        let client = &mut self.clients[at];
        if client.gone {
            return Ok(false);
        }
        let size = size.min(client.wire.len());
        client.kept.extend(client.wire.drain(..size));
        client.sent += size;
        if client.script.vanishes_after.is_some_and(|after| client.sent > after) {
            self.vanish(at);
            return Ok(true);
        }
        let moved = self.feed_client(at)?;
        Ok(moved || size > 0)
    }

    /// Offers the relay what there is of the client's.
    pub(super) fn feed_client(&mut self, at: usize) -> Moved {
        let client = &mut self.clients[at];
        let mut slot = client.server.map(|server| &mut self.slots[server]);
        self.steps.clear();
        let fed = client.relay.from_client(slot.as_mut().map(|slot| slot.attached()), &client.kept, &mut self.steps);
        if let Stop::Violation(error) = fed.stop {
            return Err(format!("client {at}: {error}"));
        }
        let to_server = self.steps.to_server.concat(&client.kept);
        client.received.extend(self.steps.to_client.concat(&[]));
        match slot {
            Some(slot) => slot.wire.extend(to_server),
            None if to_server.is_empty() => {}
            None => return Err(format!("client {at}: bytes for no server")),
        }
        client.kept.drain(..fed.consumed);
        client.taken += fed.consumed;
        let moved = fed.consumed > 0;
        self.check_received(at)?;
        self.give_back(at)?;
        if fed.stop == Stop::NeedServer && self.clients[at].server.is_none() {
            return Ok(self.attach(at)? || moved);
        }
        Ok(moved)
    }

    fn attach(&mut self, at: usize) -> Moved {
        let free: Vec<usize> = (0..self.slots.len()).filter(|&slot| !self.slots[slot].taken).collect();
        if free.is_empty() {
            return Ok(false);
        }
        let slot = free[self.random.below(free.len())];
        self.slots[slot].taken = true;
        self.clients[at].server = Some(slot);
        self.clock += self.random.below(400_000) as u64;
        self.clients[at].relay.now = self.clock;
        self.clients[at].at_attach = (self.slots[slot].model.commits, self.clients[at].received.len());
        self.feed_client(at)?;
        Ok(true)
    }

    fn give_back(&mut self, at: usize) -> Result<(), String> {
        let Some(server) = self.clients[at].server else { return Ok(()) };
        let slot = &mut self.slots[server];
        if !slot.exchange.settled() {
            return Ok(());
        }
        slot.check_clean().map_err(|why| format!("server of client {at} {why}"))?;
        // Keeping it must do no harm either.
        if self.random.chance(20) && !self.clients[at].kept.is_empty() {
            return Ok(());
        }
        let slot = &mut self.slots[server];
        self.clients[at].relay.part(&slot.exchange);
        slot.exchange.reset();
        slot.taken = false;
        self.clients[at].server = None;
        self.given_back += 1;
        Ok(())
    }

    fn server_works(&mut self, at: usize, size: usize) -> bool {
        let Some(server) = self.clients[at].server else { return false };
        let slot = &mut self.slots[server];
        let size = size.min(slot.wire.len());
        let bytes: Vec<u8> = slot.wire.drain(..size).collect();
        slot.model.feed(&bytes);
        size > 0
    }

    fn server_bytes(&mut self, at: usize, size: usize) -> Moved {
        let client = &mut self.clients[at];
        let Some(server) = client.server else { return Ok(false) };
        let slot = &mut self.slots[server];
        let size = size.min(slot.model.output.len());
        if size == 0 {
            return Ok(false);
        }
        slot.kept.extend(slot.model.output.drain(..size));
        self.steps.clear();
        let kept = std::mem::take(&mut slot.kept);
        let heard = client
            .relay
            .from_server(&mut slot.attached(), &kept, &mut self.steps)
            .map_err(|error| format!("server of client {at}: {error} in {}", show(&kept)))?;
        slot.kept = kept[heard.consumed..].to_vec();
        slot.wire.extend(self.steps.to_server.concat(&[]));
        client.received.extend(self.steps.to_client.concat(&kept));
        self.check_received(at)?;
        if heard.fatal {
            return self.lose(at);
        }
        self.give_back(at)?;
        self.feed_client(at)?;
        Ok(true)
    }

    /// The session discards a server whose client is gone, unless it is settled.
    pub(super) fn vanish(&mut self, at: usize) {
        let client = &mut self.clients[at];
        client.gone = true;
        if let Some(server) = client.server.take() {
            self.slots[server] = Slot::new(self.setup);
        }
    }

    fn check_received(&self, at: usize) -> Result<(), String> {
        let client = &self.clients[at];
        let received = client.frames();
        let same = received.iter().zip(&client.expected.frames).take_while(|(a, b)| a == b).count();
        if same < received.len() {
            if has(&client.received, b'E', UNNAMED) {
                return Err(String::from_utf8_lossy(UNNAMED).into_owned());
            }
            let expected = client.expected.frames.get(same).map(|frame| show(frame));
            let before = show(&received[same.saturating_sub(4)..same].concat());
            return Err(format!("client {at}: after {before}: got {}, expected {expected:?}", show(&received[same])));
        }
        Ok(())
    }

    fn check_done(&self, at: usize) -> Result<(), String> {
        let client = &self.clients[at];
        if client.gone {
            return Ok(());
        }
        let received = client.frames().len();
        if received < client.expected.frames.len() {
            let missing = show(&client.expected.frames[received]);
            return Err(format!("client {at} is stuck, waits for {missing}"));
        }
        if !client.kept.is_empty() || client.server.is_some() {
            return Err(format!("client {at} has not come to its end"));
        }
        for (name, value) in &client.expected.settings {
            if client.relay.params.get(name) != Some(value.as_bytes()) {
                return Err(format!("client {at} has {:?}, expected {name}={value}", client.relay.params));
            }
        }
        Ok(())
    }
}
