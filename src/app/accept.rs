//! Takes clients from the listeners, and serves each in a task of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::watch;
use tokio::time::Instant;

use super::pooler::Pooler;
use crate::admin::console::{self, ConsoleUser};
use crate::net::listen::{Accepted as Connection, Listener};
use crate::net::{Address, Stream};
use crate::session::context::Counted;
use crate::session::login::{Accepted, ConsoleClient, login};
use crate::session::session::{LAST_WORDS, say, say_and_close};
use crate::telemetry::events::process as events;
use crate::wire::error::{ErrorReply, SqlState};

/// How often it is said that no client can be taken.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Takes clients until `open` says no more, then closes the listener.
pub async fn take_clients(pooler: Arc<Pooler>, listener: Arc<Listener>, mut open: watch::Receiver<bool>) {
    let mut complaints = Complaints::default();
    loop {
        let accepted = tokio::select! {
            biased;
            closed = open.wait_for(|open| !open) => {
                drop(closed);
                return;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Connection::Client(stream, peer) => {
                // Before anybody can see that there is nobody left to wait for.
                let mut counted = Counted::new(&pooler.context.clients);
                if pooler.context.draining.load(Ordering::Relaxed) {
                    counted.stand_apart(&pooler.context.clients);
                }
                tokio::spawn(serve(Arc::clone(&pooler), stream, peer, counted));
            }
            Connection::Starved(error) if complaints.is_due(Instant::now()) => {
                events::accept_starved(&*listener, &error)
            }
            Connection::Starved(_) => {}
        }
    }
}

/// A listener that is short of files tries ten times a second; a line in the log for each would bury the others.
#[derive(Debug, Default)]
struct Complaints {
    last: Option<Instant>,
}

impl Complaints {
    fn is_due(&mut self, now: Instant) -> bool {
        let due = self.last.is_none_or(|last| now.duration_since(last) >= COMPLAIN_EVERY);
        if due {
            self.last = Some(now);
        }
        due
    }
}

/// One client, from its first byte to its last. The login's state is boxed: an idle client should not carry it.
async fn serve(pooler: Arc<Pooler>, stream: Stream, peer: Address, counted: Counted) {
    let context = Arc::clone(&pooler.context);
    match Box::pin(login(&context, stream, peer, counted, Instant::now())).await {
        Accepted::Session(session) => {
            drop(pooler);
            session.run().await;
        }
        Accepted::Console(client) => Box::pin(serve_console(pooler, client)).await,
        Accepted::Done => {}
    }
}

async fn tell_killed(stream: &mut Stream) {
    let mut bytes = BytesMut::new();
    ErrorReply::fatal(SqlState::ADMIN_SHUTDOWN, "admin forced disconnect").encode(&mut bytes);
    let _ = tokio::time::timeout(LAST_WORDS, say_and_close(stream, bytes)).await;
}

async fn serve_console(pooler: Arc<Pooler>, client: Box<ConsoleClient>) {
    let ConsoleClient { mut stream, held, admin, preamble, key, counted } = *client;
    let who = ConsoleUser {
        label: Arc::clone(&key.label),
        admin,
        key_pid: key.pid,
        key_secret: Arc::clone(&key.secret),
        cancelled: Arc::clone(&key.cancelled),
        requests: key.requests.clone(),
    };
    if say(&mut stream, &preamble).await.is_ok() {
        tokio::select! {
            // The operator is gone, or the socket broke: there is nobody to tell.
            _ = console::serve(&mut stream, held, who, Arc::clone(&pooler.admin)) => {}
            () = key.killed.notified() => tell_killed(&mut stream).await,
        }
    }
    drop((key, counted));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::session::Session;

    /// Thousands of clients are idle at a time: what each of them keeps is looked at when it grows.
    #[test]
    fn a_client_keeps_little() {
        fn size<A, B, C, D, F>(_: impl Fn(A, B, C, D) -> F) -> usize {
            size_of::<F>()
        }
        let (task, session) = (size(serve), size_of::<Session>());
        assert!(task <= 256, "its task takes {task} bytes");
        // The allocator's next block below this one is of 448 bytes.
        assert!(session <= 512, "its session takes {session} bytes");
    }

    #[test]
    fn of_a_long_shortage_little_is_said() {
        let (mut complaints, begun) = (Complaints::default(), Instant::now());
        let due: Vec<_> = (0..250).filter(|n| complaints.is_due(begun + Duration::from_millis(100 * n))).collect();
        assert_eq!(due, [0, 100, 200]);
    }
}
