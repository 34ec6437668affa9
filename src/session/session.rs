//! One logged-in client, from ReadyForQuery to its end.

use std::borrow::Cow;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;

use super::census::Present;
use super::context::Counted;
use super::deadlines::{Due, Phase};
use super::farewell::{self, Leaving};
use super::notify::WAITING_MAX;
use super::registry::{Order, Registered, Shared};
use super::relay::pump::{End, Pump, redefined};
use crate::config::model::PoolMode;
use crate::net::Stream;
use crate::pool::{AcquireError, ClientPresence, CloseReason as ServerClosed};
use crate::telemetry::events::session as events;
use crate::telemetry::labels::CloseReason;
use crate::wire::error::{ClientError, ErrorReply, SqlState};

/// How long a client may take to read why its connection ends.
pub const LAST_WORDS: Duration = Duration::from_secs(2);

/// A logged-in client.
#[derive(Debug)]
pub struct Session {
    /// Its connection and what is under way.
    pub pump: Pump,
    /// Its place among the sessions.
    pub registered: Registered,
    /// Its place among the pool's clients.
    pub guard: ClientPresence,
    /// Its place among the clients of its database and user.
    pub present: Present,
    /// Its place among all clients.
    pub counted: Counted,
    /// How its pool works.
    pub mode: PoolMode,
    /// When it was accepted.
    pub accepted_at: Instant,
}

impl Session {
    /// Serves the client until it leaves or is made to. By its box: a future would have room for it twice.
    pub async fn run(mut self: Box<Self>) {
        let begun = std::future::poll_fn(|cx| Poll::Ready(self.pump.begin(cx))).await;
        let end = match begun {
            Ok(()) => std::future::poll_fn(|cx| self.pump.poll(cx)).await,
            Err(end) => end,
        };
        Box::pin((*self).finish(end)).await;
    }

    async fn finish(self, end: End) {
        let Self { mut pump, registered, guard, present, counted, mode, accepted_at } = self;
        // What was said in the middle of a message would be read as the rest of it.
        let half_told = pump.active.as_ref().is_some_and(|active| active.work.exchange.half_told());
        let mut server = None;
        pump.stop_listening();
        if matches!(end, End::ServerLost { .. })
            && let Some(mut lost) = pump.active.take()
        {
            server = Some(lost.lease.endpoint.to_string());
            redefined(&pump.relay, &mut lost.work, Instant::now());
            lost.lease.discard(ServerClosed::ServerLost, &mut lost.work.tally);
        }
        let reply = reply(&end, server).filter(|_| !half_told);
        let active = pump.active.take();
        registered.shared.enters(Phase::Gone, registered.shared.micros(Instant::now()));
        let unwritten = pump.take_unwritten();
        let (mut client, relay) = (pump.client, &mut pump.relay);
        // A client that does not read keeps no server, and a server that takes a while to come to rest no client's place.
        let parting = async {
            // Who has said good-bye over a plain connection listens no more: closing it is all that is left.
            if !matches!(end, End::Terminated) || client.is_tls() || !unwritten.is_empty() {
                let told = last_words(&mut client, &registered.shared, unwritten, reply);
                let _ = tokio::time::timeout(LAST_WORDS, told).await;
            }
            drop((client, guard, present, counted));
        };
        let giving_back = async {
            let Some(active) = active else { return };
            // A block that is refused is one more to be rolled back.
            relay.single_statements = false;
            let settings = registered.shared.pool.settings();
            let vanished = !matches!(end, End::Terminated);
            let leaving = Leaving {
                cancel: vanished && settings.cancel_on_disconnect,
                patient: matches!(end, End::Terminated | End::Vanished),
                limit: settings.cancel_wait_timeout,
                reset: mode == PoolMode::Session || settings.server_reset_query_always,
            };
            farewell::give_back(active, relay, leaving, &pump.context.canceller, &registered.shared).await;
        };
        tokio::join!(parting, giving_back);
        if matches!(end, End::Violation(_)) {
            events::violation_counted();
        }
        events::client_closed(&registered.shared, close_reason(&end), accepted_at.elapsed());
    }
}

async fn last_words(
    client: &mut Stream,
    shared: &Shared,
    mut bytes: BytesMut,
    reply: Option<ErrorReply>,
) -> std::io::Result<()> {
    if let Some(reply) = reply {
        events::error_sent(shared, reply.code.0, &reply.message);
        reply.encode(&mut bytes);
    }
    say_and_close(client, bytes).await
}

/// Writes.
///
/// # Errors
/// The socket's.
pub async fn say(stream: &mut Stream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Writes, and closes the sending side.
///
/// # Errors
/// The socket's.
pub async fn say_and_close(stream: &mut Stream, bytes: BytesMut) -> std::io::Result<()> {
    say(stream, &bytes).await?;
    stream.shutdown().await
}

/// What the client reads of its end. SQLSTATEs stay in the classes that drivers map as they do PgBouncer's.
fn reply(end: &End, server: Option<String>) -> Option<ErrorReply> {
    let fatal = |code, text: &'static str| Some(ErrorReply::fatal(code, text));
    match end {
        End::Terminated | End::Vanished | End::ServerLost { told: true, .. } => None,
        End::Violation(error) => Some(error.reply()),
        End::NoServer(error) => Some(error.reply()),
        End::ServerLost { cause, .. } => Some(server_lost(cause, server)),
        End::SettingRefused => fatal(SqlState::INVALID_PARAMETER_VALUE, "invalid server parameter"),
        End::TimedOut(Due::Query) => fatal(SqlState::QUERY_CANCELED, "query timeout"),
        End::TimedOut(Due::QueryInQueue) => fatal(SqlState::QUERY_CANCELED, "query_timeout"),
        End::TimedOut(Due::IdlePinned) => fatal(SqlState::IDLE_SESSION_TIMEOUT, "pin_idle_timeout"),
        End::TimedOut(Due::IdleTransaction) => fatal(SqlState::PROTOCOL_VIOLATION, "idle transaction timeout"),
        End::TimedOut(Due::Transaction) => fatal(SqlState::PROTOCOL_VIOLATION, "transaction timeout"),
        End::TimedOut(Due::Idle | Due::Numbers | Due::WaitNotice) => {
            fatal(SqlState::IDLE_SESSION_TIMEOUT, "client_idle_timeout")
        }
        End::Ordered(orders) if orders.has(Order::KILL) => fatal(SqlState::ADMIN_SHUTDOWN, "admin forced disconnect"),
        End::Ordered(orders) if orders.has(Order::DATABASE_GONE) => fatal(SqlState::ADMIN_SHUTDOWN, "database removed"),
        End::Ordered(_) => fatal(SqlState::ADMIN_SHUTDOWN, "server shutting down"),
        End::LagsBehind => {
            let text = format!("More than {} MiB had come that the client had not read.", WAITING_MAX >> 20);
            Some(
                ErrorReply::fatal(SqlState::LIMIT_EXCEEDED, "too many notifications wait for this client").detail(text),
            )
        }
        End::ServerObsolete => fatal(SqlState::ADMIN_SHUTDOWN, "database configuration changed"),
        End::TransactionInStatementMode => {
            let text = "transaction blocks not allowed in statement pooling mode";
            Some(ErrorReply::fatal(SqlState::PROTOCOL_VIOLATION, text))
        }
    }
}

fn server_lost(cause: &str, server: Option<String>) -> ErrorReply {
    let at: Cow<'_, str> = server.map_or(Cow::Borrowed("the server"), |address| format!("server {address}").into());
    ErrorReply::fatal(SqlState::CONNECTION_FAILURE, "server conn crashed?")
        .detail(format!("The connection to {at} was lost: {cause}."))
        .hint("What had not been committed is rolled back. A COMMIT that was under way may have taken effect.")
}

fn close_reason(end: &End) -> CloseReason {
    match end {
        End::Terminated => CloseReason::ClientLeft,
        End::Vanished => CloseReason::ClientVanished,
        End::Violation(_) | End::TransactionInStatementMode => CloseReason::ProtocolViolation,
        End::SettingRefused => CloseReason::ServerRefused,
        End::NoServer(AcquireError::TimedOut { .. }) => CloseReason::QueryWaitTimeout,
        End::NoServer(AcquireError::Refused(_) | AcquireError::LoginFailing { .. }) => CloseReason::ServerRefused,
        End::NoServer(AcquireError::ShuttingDown) => CloseReason::Shutdown,
        End::NoServer(AcquireError::Killed) => CloseReason::Killed,
        End::NoServer(_) => CloseReason::DatabaseChanged,
        End::ServerLost { .. } => CloseReason::ServerLost,
        End::LagsBehind => CloseReason::NotificationsUnread,
        End::TimedOut(Due::Query | Due::QueryInQueue) => CloseReason::QueryTimeout,
        End::TimedOut(Due::IdlePinned) => CloseReason::PinIdleTimeout,
        End::TimedOut(Due::IdleTransaction) => CloseReason::IdleTransactionTimeout,
        End::TimedOut(Due::Transaction) => CloseReason::TransactionTimeout,
        End::TimedOut(Due::Idle | Due::Numbers | Due::WaitNotice) => CloseReason::ClientIdleTimeout,
        End::Ordered(orders) if orders.has(Order::SHUTDOWN) => CloseReason::Shutdown,
        End::Ordered(orders) if orders.has(Order::KILL) || orders.has(Order::BY_OPERATOR) => CloseReason::Killed,
        End::Ordered(_) | End::ServerObsolete => CloseReason::DatabaseChanged,
    }
}
