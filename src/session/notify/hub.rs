//! One notification connection: opened when somebody listens, made again when it breaks, closed when nobody is left, and
//! while its pool is paused.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::sleep_until;

use super::Hubs;
use super::board::{Board, Channel, Failure};
use super::line::{Line, prepare};
use super::mailbox::Mailbox;
use super::speakers::{Begins, Speakers};
use crate::pool::{CloseReason, DialError, Guest, Pool, Standing};
use crate::session::registry::{Order, Shared};
use crate::telemetry::events::session as events;
use crate::types::ClientId;
use crate::wire::error::{ErrorReply, Severity, SqlState};
use crate::wire::frame::{self, HEADER};

/// The first pause after a connection that failed; doubles up to `server_login_retry`.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Who would notify waits at most so long until what another has notified has come.
const PATIENCE: Duration = Duration::from_millis(200);

/// One notification connection, and who listens there.
#[derive(Debug)]
pub(super) struct Hub {
    pool: Arc<Pool>,
    /// In which its clients read and write.
    encoding: Box<[u8]>,
    state: Mutex<State>,
    /// There is something to do.
    wake: Notify,
    /// Somebody waits to notify.
    held: Notify,
}

#[derive(Debug, Default)]
struct State {
    board: Board,
    boxes: HashMap<ClientId, Arc<Mailbox>, foldhash::fast::RandomState>,
    speakers: Speakers,
    /// Who would notify when what others have notified has come.
    waiting: Vec<Arc<Shared>>,
    /// Since when the first of them waits.
    waits_since: Option<Instant>,
    /// One of them has waited for too long, and nothing has been answered since: nobody waits.
    silent: bool,
    /// There is a connection that may listen.
    connected: bool,
}

impl Hub {
    pub(super) fn new(pool: Arc<Pool>, encoding: &[u8]) -> Self {
        Self { pool, encoding: encoding.into(), state: Mutex::default(), wake: Notify::new(), held: Notify::new() }
    }

    /// Whether it is for clients of this pool that use this encoding.
    pub(super) fn serves(&self, pool: &Arc<Pool>, encoding: &[u8]) -> bool {
        // PostgreSQL reads these names so: "utf-8" is UTF8.
        let letters = |name: &'_ [u8]| {
            name.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect::<Vec<_>>()
        };
        Arc::ptr_eq(&self.pool, pool) && letters(&self.encoding) == letters(encoding)
    }

    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    pub(super) fn joins(&self, client: ClientId, mailbox: &Arc<Mailbox>) {
        self.state.lock().boxes.insert(client, Arc::clone(mailbox));
    }

    /// Whether nobody has a place here.
    pub(super) fn is_deserted(&self) -> bool {
        self.state.lock().boxes.is_empty()
    }

    pub(super) fn listens(&self, client: ClientId, channel: &[u8], now: Instant) -> bool {
        let already = self.state.lock().board.listens(client, channel, now);
        if !already {
            self.wake.notify_one();
        }
        already
    }

    pub(super) fn leaves(&self, client: ClientId, channel: &[u8]) {
        self.state.lock().board.leaves(client, channel);
        self.wake.notify_one();
    }

    pub(super) fn goes(&self, client: ClientId, pid: u32) {
        let mut state = self.state.lock();
        state.board.goes(client);
        state.boxes.remove(&client);
        state.speakers.goes(pid);
        drop(state);
        self.wake.notify_one();
    }

    pub(super) fn speaks(&self, server: u32, client: &Arc<Shared>, listens: bool) -> Begins {
        let mut state = self.state.lock();
        let patient = !state.silent;
        let begins = state.speakers.begins(server, client.pid, listens, patient);
        if begins == Begins::Later {
            if !state.waiting.iter().any(|known| Arc::ptr_eq(known, client)) {
                state.waiting.push(Arc::clone(client));
            }
            if state.waits_since.is_none() {
                state.waits_since = Some(Instant::now());
                self.held.notify_one();
            }
        }
        begins
    }

    pub(super) fn spoke(&self, server: u32, client: u32) {
        let mut state = self.state.lock();
        state.speakers.ends(server, client);
        if !state.connected {
            state.pass_all();
        }
        let waits = state.speakers.wait();
        drop(state);
        if waits {
            self.wake.notify_one();
        }
    }

    /// Lets those go on who have waited too long to notify, whatever the connection does.
    async fn lets_go(&self) {
        loop {
            let since = self.state.lock().waits_since;
            let Some(since) = since else {
                self.held.notified().await;
                continue;
            };
            sleep_until((since + PATIENCE).into()).await;
            let mut state = self.state.lock();
            if state.waits_since == Some(since) {
                state.silent = true;
                state.go_on();
            }
        }
    }

    /// Ends when there is something to do.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Whether nobody listens or wants to.
    pub(super) fn is_idle(&self) -> bool {
        self.state.lock().board.is_deserted()
    }

    /// What is to be asked next, and what its answer means to the speakers. Something is, if it `must`.
    pub(super) fn question(&self, must: bool) -> Option<(Vec<u8>, u64)> {
        let mut state = self.state.lock();
        let text = state.board.batch();
        let text = text.or_else(|| (must || state.speakers.wait()).then(Vec::new))?;
        Some((text, state.speakers.asks()))
    }

    pub(super) fn answered(&self, asked: u64) {
        let mut state = self.state.lock();
        state.pass(asked);
        for (client, channel) in state.board.answered() {
            state.answer(client, channel, Ok(()));
        }
        let missing: Vec<_> = state.board.missing().collect();
        for client in missing {
            state.boxes.get(&client).into_iter().for_each(|mailbox| mailbox.put_gap());
        }
    }

    /// The batch is refused. An error means that the connection is of no use.
    pub(super) fn refused(&self, reply: &ErrorReply) -> Result<(), Lost> {
        let mut state = self.state.lock();
        match state.board.refused() {
            Failure::Unclear => {}
            Failure::Refused(refused) => {
                for (client, channel) in refused {
                    state.answer(client, channel, Err(Box::new(reply.clone())));
                }
            }
            Failure::Useless => return Err(Lost::Broken(format!("LISTEN is refused: {}", reply.message))),
        }
        Ok(())
    }

    /// Tells whoever listens. `message` is whole.
    pub(super) fn notify(&self, message: &[u8]) -> Result<(), Lost> {
        let malformed = || Lost::Broken("a malformed notification".into());
        let body = message.get(HEADER..).and_then(|body| body.split_at_checked(4)).ok_or_else(malformed)?;
        let pid = body.0.try_into().map(u32::from_be_bytes).map_err(|_| malformed())?;
        let (name, _) = frame::c_string(body.1).ok_or_else(malformed)?;
        let state = self.state.lock();
        let Some(channel) = state.board.name(name) else { return Ok(()) };
        let speaker = state.speakers.of(pid);
        // One for all who wait for it, and nothing of what came with it.
        let message = Bytes::copy_from_slice(message);
        for client in state.board.listeners(name) {
            if let Some(mailbox) = state.boxes.get(&client) {
                mailbox.put(Arc::clone(&channel), &message, pid, speaker);
            }
        }
        Ok(())
    }

    /// LISTENs that have waited too long are refused. Returns when the next one will have.
    pub(super) fn give_up(&self, now: Instant, why: Option<&str>) -> Option<Instant> {
        let limit = self.pool.settings().query_wait_timeout?;
        let mut state = self.state.lock();
        for (client, channel) in now.checked_sub(limit).map(|since| state.board.give_up(since)).unwrap_or_default() {
            state.answer(client, channel, Err(Box::new(too_late(limit, why))));
        }
        state.board.waits_since().map(|since| since + limit)
    }

    /// All LISTENs that wait are refused.
    fn refuse_all(&self, now: Instant, reply: &ErrorReply) {
        let mut state = self.state.lock();
        for (client, channel) in state.board.give_up(now) {
            state.answer(client, channel, Err(Box::new(reply.clone())));
        }
    }

    /// Its pool is over: who listens here would hear nothing any more.
    fn abandon(&self) {
        for mailbox in self.state.lock().boxes.values() {
            mailbox.order(Order::DATABASE_GONE);
        }
    }
}

impl State {
    /// What was committed before these turns had ended has come, or never will.
    fn pass(&mut self, ended: u64) {
        self.speakers.pass(ended);
        self.silent = false;
        self.go_on();
    }

    /// Nothing of before will come any more.
    fn pass_all(&mut self) {
        self.pass(self.speakers.asks());
    }

    /// Those who would notify ask again whether they may.
    fn go_on(&mut self) {
        self.waits_since = None;
        self.waiting.drain(..).for_each(|session| session.order(Order::NOTIFIED));
    }

    fn answer(&self, client: ClientId, channel: Channel, answer: Result<(), Box<ErrorReply>>) {
        if let Some(mailbox) = self.boxes.get(&client) {
            mailbox.answer(channel, answer);
        }
    }
}

fn too_late(waited: Duration, why: Option<&str>) -> ErrorReply {
    let why = why.unwrap_or("It did not answer in time.");
    ErrorReply::error(SqlState::QUERY_CANCELED, "query_wait_timeout").detail(format!(
        "The client waited {:.1} s for the connection that listens for all clients. {why}",
        waited.as_secs_f64()
    ))
}

/// Why a connection is of no use any more.
#[derive(Debug)]
pub(super) enum Lost {
    /// It is to be closed.
    Closed(CloseReason),
    /// It broke.
    Broken(String),
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// Keeps a connection for as long as somebody has a place at it.
pub(super) async fn keep(hub: Arc<Hub>, hubs: Arc<Hubs>) {
    tokio::select! {
        () = keep_connected(&hub, &hubs) => {}
        () = hub.lets_go() => {}
    }
}

async fn keep_connected(hub: &Arc<Hub>, hubs: &Hubs) {
    let mut changes = hub.pool.changes();
    let mut pause = FIRST_PAUSE;
    let mut retry_at: Option<Instant> = None;
    let mut why: Option<String> = None;
    while !hubs.retires(hub) {
        let expires = hub.give_up(Instant::now(), why.as_deref());
        let standing = hub.pool.standing();
        let pauses = retry_at.is_some_and(|at| at > Instant::now());
        match standing {
            Standing::Ended | Standing::ShuttingDown | Standing::Paused => {
                if standing == Standing::Ended {
                    hub.abandon();
                }
                why = Some("Its pool has no connections.".into());
                retry_at = None;
                rest(hub, &mut changes, expires).await;
                continue;
            }
            Standing::Open { .. } if pauses || hub.is_idle() => {
                rest(hub, &mut changes, [expires, retry_at.filter(|_| pauses)].into_iter().flatten().min()).await;
                continue;
            }
            Standing::Open { .. } => {}
        }
        let lost = match dial(hub, hubs, &mut changes, why.as_deref()).await {
            None => continue,
            Some(Err(error)) => {
                let failed = Instant::now();
                why = Some(refusal(hub, error, failed));
                (pause, retry_at) = next_pause(hub, pause, failed);
                continue;
            }
            Some(Ok(guest)) => serve(hub, guest, &mut changes, &mut pause).await,
        };
        if let Lost::Broken(cause) = lost {
            why = Some(cause);
            (pause, retry_at) = next_pause(hub, pause, Instant::now());
        }
    }
}

/// The pause that is next, and until when the present one is.
fn next_pause(hub: &Hub, pause: Duration, now: Instant) -> (Duration, Option<Instant>) {
    let longest = hub.pool.settings().server_login_retry;
    ((pause * 2).min(longest), Some(now + pause.min(longest)))
}

/// Tells those who wait what the server says to the login, unless it may say something else soon.
fn refusal(hub: &Hub, error: DialError, now: Instant) -> String {
    match error {
        DialError::Unreachable { text, .. } => text,
        DialError::Refused { reply, retry, .. } => {
            let reply = ErrorReply { severity: Severity::Error, ..*reply };
            if !retry {
                hub.refuse_all(now, &reply);
            }
            reply.message.into_owned()
        }
    }
}

/// Ends when there may be something to do.
async fn rest(hub: &Hub, changes: &mut watch::Receiver<()>, until: Option<Instant>) {
    tokio::select! {
        // Its sender lives as long as the pool.
        _ = changes.changed() => {}
        () = hub.wake.notified() => {}
        () = sleep(until) => {}
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Opens the connection. `None`: it is not wanted any more, or the pool has changed.
async fn dial(
    hub: &Hub,
    hubs: &Hubs,
    changes: &mut watch::Receiver<()>,
    why: Option<&str>,
) -> Option<Result<Guest, DialError>> {
    let mut dialing = std::pin::pin!(hubs.pools.dial_beside(&hub.pool));
    loop {
        let expires = hub.give_up(Instant::now(), why);
        tokio::select! {
            dialed = &mut dialing => return Some(dialed),
            _ = changes.changed() => return None,
            () = sleep(expires) => {}
        }
    }
}

/// Serves those who listen by one connection, until that is of no use any more. The pause after a failure begins anew
/// once it has served somebody.
async fn serve(hub: &Hub, mut guest: Guest, changes: &mut watch::Receiver<()>, pause: &mut Duration) -> Lost {
    let key = hub.pool.key();
    events::notifications_begin(key);
    let generation = guest.generation();
    let lost = match guest.server() {
        Some(server) => {
            let served = async {
                prepare(server, &hub.encoding).await?;
                hub.state.lock().connected = true;
                Line::new(hub, server).run(generation, changes, pause).await
            };
            served.await.err().unwrap_or(Lost::Closed(CloseReason::IdleTimeout))
        }
        None => Lost::Closed(CloseReason::Dropped),
    };
    let (cause, reason) = match &lost {
        Lost::Broken(cause) => (&**cause, CloseReason::ServerLost),
        Lost::Closed(reason) => (reason.as_str(), *reason),
    };
    let listening = {
        let mut state = hub.state.lock();
        state.board.lost();
        state.connected = false;
        state.pass_all();
        state.board.clients()
    };
    events::notifications_end(key, cause, listening);
    guest.close(reason);
    lost
}
