//! What a client's bytes mean: which pass to the server, which are rewritten, which are answered here.
//! Pure; [`super::backend`] is its other half.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::alone::Alone;
use super::channels::Claims;
use super::exchange::{AfterRun, Exchange, Gate, Run, send_probe, send_sync};
use super::functions::Functions;
use super::own::Own;
use super::pipeline::{How, Owed, Status};
use super::prepared::{Guarded, Kept, Names, put_frame};
use super::recurring::Recurring;
use super::steps::Steps;
use super::table::Table;
use crate::config::model::Listen;
use crate::pool::Pinned;
use crate::server::statements::Statements;
use crate::sql::Dialect;
use crate::wire::frame::{self, FrameError, HEADER, Header};
use crate::wire::params::ParamSet;
use crate::wire::tag::{backend, frontend};

/// So many replies may be owed; a client that asks for more waits until some are given.
const OWED_MAX: usize = 4 * 1024;
/// Beyond so many bytes of our own for a server these are written before more of the client's are taken:
/// a Bind of a few bytes may need a Parse of megabytes before it.
const OWN_MAX: usize = 256 * 1024;
/// The same of answers for the client: in a failed block there are a hundred bytes of them for each of five.
const ANSWERS_MAX: usize = 64 * 1024;

/// What one client's session knows between and during transactions. An idle client's is small.
#[derive(Debug)]
pub struct Relay {
    /// The client's prepared statements.
    pub names: Names,
    /// The tracked settings, as the client knows them. Changed by `learns` alone.
    pub params: ParamSet,
    /// What they say of how the server reads the client's texts.
    pub(super) dialect: Dialect,
    /// `params` changed since the session last looked.
    pub params_changed: bool,
    /// The definition of the unnamed statement that the client may use in a later transaction.
    pub(super) unnamed: Kept,
    pub(super) run: Run,
    pub(super) table: Arc<Table>,
    max_packet: u32,
    /// Names of prepared statements are the client's own: transaction and statement pooling.
    pub(super) own_names: bool,
    /// Statement pooling: a transaction block ends the session.
    pub single_statements: bool,
    /// Names of statements that never may be cancelled, where names are the server's.
    pub(super) guarded: Guarded,
    pub(super) alone: Option<Box<Alone>>,
    /// What statements do to their session is followed.
    pub tracks: bool,
    /// Reported settings that it asked for in its startup packet.
    pub base: Option<ParamSet>,
    /// What they have done, once they have done anything.
    pub own: Option<Box<Own>>,
    /// It has asked for `lastval()` or its like.
    pub asks_numbers: bool,
    /// What would tie it to its server is refused.
    pub refuses_ties: bool,
    /// Servers begin with settings to which no RESET returns (`connect_query`).
    pub has_connect_query: bool,
    /// A client keeps its server on which nobody knows what it has left.
    pub keeps_unknown: bool,
    /// The unnamed statements that recur; `None`: each goes as it comes.
    pub recurring: Option<Arc<Recurring>>,
    /// When it was given its server, in microseconds of the sessions' clock.
    pub now: u64,
    /// What the client has said and is taken once more, before what it says behind that: the server has refused what was
    /// sent in its stead.
    pub(super) again: Option<Bytes>,
    /// Where those are counted that keep their server.
    pub pinned: Option<Arc<Pinned>>,
    /// How LISTEN is served, where statements are followed.
    pub listen: Listen,
    /// The channels that it has asked for.
    pub(super) claims: Option<Box<Claims>>,
    /// They may not be those that it listens to.
    pub(super) channels_moved: bool,
    /// What is known of functions that they call.
    pub functions: Functions,
}

/// The server that the client has, as far as the relay reads or changes it.
#[derive(Debug)]
pub struct Attached<'a> {
    /// The exchange with it.
    pub exchange: &'a mut Exchange,
    /// What it reported.
    pub params: &'a mut ParamSet,
    /// The client settings that it is known to have.
    pub matched: &'a mut Option<ParamSet>,
    /// The settings that nobody reports which it was given.
    pub assigned: &'a mut Option<ParamSet>,
    /// What is prepared there.
    pub statements: &'a mut Statements,
}

/// How far a client's bytes were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fed {
    /// Bytes taken; the rest is to be offered again, with more behind it or after what `stop` says.
    pub consumed: usize,
    /// Why it stopped.
    pub stop: Stop,
}

/// Why no more of a client's bytes were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// All whole frames are taken.
    Input,
    /// The next one needs a server.
    NeedServer,
    /// The next one waits for the server: for the end of a COPY, or of our settings.
    Hold,
    /// The next one waits until the channels are listened to that [`Relay::wanted_channels`] tells.
    Channels,
    /// What there is to write is much, and is to be written first.
    Full,
    /// The client said good-bye.
    Terminate,
    /// The next one can't be a message: the connection is to be closed with the error's reply.
    Violation(FrameError),
}

/// What becomes of a frame.
pub(super) enum Take {
    Forward,
    /// These many bytes at its front were replaced; the rest passes.
    Behind(usize),
    Drop,
    /// These many bytes, of several frames, are dealt with.
    Batch(usize),
    Stop(Stop),
}

impl Relay {
    /// For a client that has just logged in. `params` are the tracked settings that it was told.
    pub fn new(table: Arc<Table>, params: ParamSet, max_packet: usize, own_names: bool) -> Self {
        Self {
            names: Names::default(),
            dialect: Dialect::told(&params),
            params,
            params_changed: false,
            unnamed: Kept::default(),
            single_statements: false,
            run: Run::default(),
            table,
            max_packet: u32::try_from(max_packet.min(frame::TAKEN_MAX)).unwrap_or(u32::MAX),
            own_names,
            guarded: Guarded::default(),
            alone: None,
            tracks: false,
            refuses_ties: false,
            has_connect_query: false,
            keeps_unknown: false,
            recurring: None,
            now: 0,
            again: None,
            pinned: None,
            base: None,
            own: None,
            asks_numbers: false,
            listen: Listen::default(),
            claims: None,
            channels_moved: false,
            functions: Functions::default(),
        }
    }

    /// The server goes: what the client keeps of the exchange with it.
    pub fn part(&mut self, exchange: &Exchange) {
        if exchange.has_unnamed {
            self.unnamed.keep(&exchange.unnamed);
        }
    }

    /// Whether what the client has said before is to be taken once more.
    #[inline]
    pub fn has_again(&self) -> bool {
        self.again.is_some()
    }

    /// Whether a frame of the client's is half taken.
    pub fn mid_frame(&self) -> bool {
        self.run.left > 0
    }

    /// Whether a client that has no server is to be given one before its bytes are taken. Seen at a glance for what
    /// mostly comes; for all else [`Self::from_client`] tells.
    #[inline]
    pub fn asks_for_server(&self, input: &[u8]) -> bool {
        use frontend::{BIND, DESCRIBE, EXECUTE, FUNCTION_CALL, PARSE, QUERY};
        let Ok(Some(header)) = frame::header(input, self.max_packet as usize) else { return false };
        let asks = matches!(header.tag, QUERY | PARSE | BIND | DESCRIBE | EXECUTE | FUNCTION_CALL);
        asks && !self.is_awaited(header, input) && self.run.left == 0 && self.alone.is_none() && !self.may_listen(input)
    }

    /// Takes what the client sent. Whatever it stops at, what came before is in `steps` and is to be written.
    pub fn from_client(&mut self, mut server: Option<Attached<'_>>, input: &[u8], steps: &mut Steps) -> Fed {
        if self.again.is_some()
            && let Some(stop) = self.says_again(server.as_mut(), steps)
        {
            return Fed { consumed: 0, stop };
        }
        let mut at = if self.run.left > 0 { self.go_on(server.as_mut(), input.len(), steps) } else { 0 };
        let stop = loop {
            if self.run.left > 0 {
                break Stop::Input;
            }
            let much = steps.to_server.own_size() > OWN_MAX || steps.to_client.own_size() > ANSWERS_MAX;
            if much && at < input.len() {
                break Stop::Full;
            }
            let header = match frame::header(&input[at..], self.max_packet as usize) {
                Ok(Some(header)) => header,
                Ok(None) => break Stop::Input,
                Err(error) => break Stop::Violation(error),
            };
            let have = &input[at..input.len().min(at + header.total)];
            let (front, forward) = match self.frame(server.as_mut(), header, have, &input[at..], steps) {
                Ok(Take::Forward) => (0, true),
                Ok(Take::Behind(front)) => (front, true),
                Ok(Take::Drop) => (0, false),
                Ok(Take::Batch(size)) => {
                    at += size;
                    continue;
                }
                Ok(Take::Stop(stop)) => break stop,
                Err(error) => break Stop::Violation(error),
            };
            if forward {
                steps.to_server.pass(at + front..at + have.len());
            }
            at += have.len();
            self.run = Run::new(header.total - have.len(), forward);
        };
        if let Some(server) = server {
            server.exchange.half_sent = self.half_sent();
        }
        Fed { consumed: at, stop }
    }

    /// Whether the server has the front of a frame only: nothing of ours may go out now.
    pub(super) fn half_sent(&self) -> bool {
        self.run.left > 0 && self.run.forward
    }

    /// Passes on, or drops, what follows of a frame under way; returns how many bytes.
    fn go_on(&mut self, server: Option<&mut Attached<'_>>, have: usize, steps: &mut Steps) -> usize {
        let taken = self.run.take(have);
        if self.run.forward {
            steps.to_server.pass(0..taken);
        }
        if let Some(server) = server
            && self.run.left == 0
        {
            server.exchange.half_sent = false;
            match std::mem::take(&mut server.exchange.after_run) {
                AfterRun::Nothing => {}
                AfterRun::Sync => send_sync(server.exchange, How::Reply, steps),
                AfterRun::Probe => send_probe(server.exchange, steps),
            }
        }
        taken
    }

    pub(super) fn frame(
        &mut self,
        server: Option<&mut Attached<'_>>,
        header: Header,
        have: &[u8],
        rest: &[u8],
        steps: &mut Steps,
    ) -> Result<Take, FrameError> {
        let Some(server) = server else { return self.frame_alone(header, have, steps) };
        match waits(server.exchange, header.tag) {
            Some(Waits::Hold) => return Ok(Take::Stop(Stop::Hold)),
            Some(Waits::Skip) => return Ok(skip(server.exchange, header.tag, steps)),
            Some(Waits::Fail) => {
                fail_copy(server.exchange, header.tag, steps);
                if server.exchange.gate == Gate::Failing {
                    return Ok(Take::Stop(Stop::Hold));
                }
            }
            None => {}
        }
        if let Some(take) = relieve(server.exchange, header.tag, steps)? {
            return Ok(take);
        }
        if !server.exchange.begun {
            server.exchange.vetted = self.own_names && self.may_lack(server) && self.is_vetted(server.exchange, rest);
        }
        if header.tag == frontend::PARSE
            && let Some(size) = self.recurs(server, rest, steps)
        {
            return Ok(Take::Batch(size));
        }
        match header.tag {
            frontend::QUERY => Ok(self.query(server, header, have, steps)),
            frontend::FUNCTION_CALL if have.len() < header.total.min(HEADER + 4) => Ok(Take::Stop(Stop::Input)),
            frontend::FUNCTION_CALL => Ok(self.function_call(server, have, steps)),
            frontend::PARSE => self.parse(server, header, have, steps),
            frontend::BIND => self.bind(server, header, have, steps),
            frontend::DESCRIBE => self.describe(server, header, have, steps),
            frontend::EXECUTE => self.execute(server, header, have, steps),
            frontend::CLOSE => self.close(server, header, have, steps),
            // The server's error for it would answer nothing that is owed, and behind a Flush it would skip up to a Sync.
            frontend::SYNC | frontend::FLUSH if header.total > HEADER => Err(FrameError::Body(header.tag)),
            frontend::SYNC => Ok(sync(server.exchange, steps)),
            frontend::FLUSH if server.exchange.pipeline.is_empty() => Ok(Take::Drop),
            frontend::FLUSH => Ok(Take::Forward),
            frontend::COPY_DATA | frontend::COPY_DONE | frontend::COPY_FAIL => Ok(copy(server.exchange, header.tag)),
            frontend::TERMINATE => Ok(Take::Stop(Stop::Terminate)),
            tag => Err(FrameError::Tag(tag)),
        }
    }

    /// The longest message, in bytes.
    pub(super) fn max_packet(&self) -> usize {
        self.max_packet as usize
    }
}

/// What keeps a client's message from its server.
enum Waits {
    Hold,
    Skip,
    /// It ends a COPY that it should not stand in.
    Fail,
}

fn waits(exchange: &Exchange, tag: u8) -> Option<Waits> {
    use frontend::{COPY_DATA, COPY_DONE, COPY_FAIL, FLUSH, SYNC, TERMINATE};
    match exchange.gate {
        _ if tag == TERMINATE => None,
        _ if exchange.pipeline.inquires() || exchange.session.rerun.is_due() => Some(Waits::Hold),
        Gate::Settling | Gate::SettlingFailed { .. } | Gate::Failing => Some(Waits::Hold),
        // What is left of the COPY means nothing to the server any more.
        Gate::Doubting { .. } => match tag {
            COPY_DATA | COPY_DONE | COPY_FAIL => Some(Waits::Skip),
            _ => Some(Waits::Hold),
        },
        Gate::Refusing => Some(Waits::Skip),
        Gate::Open if exchange.pipeline.skipping && tag != SYNC => Some(Waits::Skip),
        // A server in copy mode dies of any other message: "protocol synchronization was lost".
        Gate::Open if exchange.pipeline.copying_in => match tag {
            // It reads past a Sync without a word, unless the COPY has failed meanwhile.
            COPY_DATA | COPY_DONE | COPY_FAIL | SYNC => None,
            FLUSH => Some(Waits::Skip),
            _ => Some(Waits::Fail),
        },
        // Settings went out in the transaction that ends with what is owed; should it fail, they are to be sent again
        // before anything else runs.
        Gate::Open if exchange.carries() && exchange.pipeline.ends_transaction() => match tag {
            COPY_DATA | COPY_DONE | COPY_FAIL => None,
            _ => Some(Waits::Hold),
        },
        Gate::Open => None,
    }
}

/// Where too much is owed to take on more, what becomes of the message instead: it waits until some is answered.
fn relieve(exchange: &mut Exchange, tag: u8, steps: &mut Steps) -> Result<Option<Take>, FrameError> {
    if exchange.pipeline.len() < OWED_MAX {
        exchange.pressed = false;
        return Ok(None);
    }
    let pipeline = &exchange.pipeline;
    match tag {
        frontend::TERMINATE | frontend::COPY_DATA => return Ok(None),
        frontend::COPY_DONE | frontend::COPY_FAIL if pipeline.copying_in => return Ok(None),
        // A server in copy mode reads past them for ever.
        frontend::SYNC if pipeline.copying_in => return Err(FrameError::TooMany(tag)),
        _ if pipeline.owes_ready() => {}
        frontend::SYNC | frontend::FLUSH => return Ok(None),
        // Nothing that was sent has the server give its answers away.
        _ if std::mem::replace(&mut exchange.pressed, true) => {}
        _ => steps.to_server.own(|out| put_frame(out, frontend::FLUSH, &[])),
    }
    Ok(Some(Take::Stop(Stop::Hold)))
}

/// Drops a message that the server would skip.
fn skip(exchange: &mut Exchange, tag: u8, steps: &mut Steps) -> Take {
    if exchange.gate == Gate::Refusing {
        exchange.gate = Gate::Open;
        match tag {
            // The settings' error was this query's answer; what is missing of it is ReadyForQuery.
            frontend::QUERY | frontend::FUNCTION_CALL | frontend::SYNC => send_sync(exchange, How::Reply, steps),
            _ => exchange.pipeline.skipping = true,
        }
    }
    Take::Drop
}

fn sync(exchange: &mut Exchange, steps: &mut Steps) -> Take {
    if exchange.settled() {
        put_ready(Status::Idle, steps);
        return Take::Drop;
    }
    exchange.asks(|_| true);
    let pipeline = &mut exchange.pipeline;
    pipeline.skipping = false;
    pipeline.push(if pipeline.copying_in { Owed::DoubtfulSync } else { Owed::Sync(How::Reply) });
    Take::Forward
}

/// PostgreSQL drops a connection on which anything else comes while it copies in. Here the COPY fails, and the message
/// is the next request.
fn fail_copy(exchange: &mut Exchange, tag: u8, steps: &mut Steps) {
    exchange.pipeline.copying_in = false;
    if exchange.pipeline.in_doubt() {
        exchange.gate = Gate::Failing;
    }
    let reason = format!("unexpected message type 0x{tag:02X} during COPY from stdin\0");
    steps.to_server.own(|out| put_frame(out, frontend::COPY_FAIL, &[reason.as_bytes()]));
}

fn copy(exchange: &mut Exchange, tag: u8) -> Take {
    if exchange.pipeline.is_empty() {
        return Take::Drop;
    }
    if tag != frontend::COPY_DATA && !std::mem::take(&mut exchange.pipeline.copying_in) {
        exchange.pipeline.push(Owed::CopyEnd);
    }
    Take::Forward
}

pub(super) fn put_empty(tag: u8, steps: &mut Steps) {
    steps.to_client.own_bytes(&[tag, 0, 0, 0, 4]);
}

pub(super) fn put_complete(tag: &[u8], steps: &mut Steps) {
    steps.to_client.own(|out| put_frame(out, backend::COMMAND_COMPLETE, &[tag, b"\0"]));
}

pub(super) fn put_ready(status: Status, steps: &mut Steps) {
    steps.to_client.own(|out: &mut BytesMut| put_frame(out, backend::READY, &[&[status.as_byte()]]));
}
