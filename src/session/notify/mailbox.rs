//! What a notification connection has for one client, until the client's session takes it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;

use super::board::Channel;
use crate::session::registry::{Order, Shared};
use crate::wire::error::{ErrorReply, SqlState};
use crate::wire::frame::HEADER;

/// So many bytes of notifications may wait for a client; it is disconnected when there are more.
pub const WAITING_MAX: usize = 8 * 1024 * 1024;

/// What waits for a client.
#[derive(Debug)]
pub struct Mailbox {
    shared: Arc<Shared>,
    /// Something may be there.
    filled: AtomicBool,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    answers: Vec<Answer>,
    notes: VecDeque<Note>,
    /// Bytes of `notes`.
    size: usize,
    /// It was too much.
    full: bool,
}

/// A LISTEN is in effect, or is refused.
pub type Answer = (Channel, Result<(), Box<ErrorReply>>);

/// What a client is to read.
#[derive(Debug)]
enum Note {
    /// A notification: its channel, its message, the process id that goes into that.
    Heard(Channel, Bytes, u32),
    /// Something may be missing here.
    Gap,
}

impl Mailbox {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, filled: AtomicBool::new(false), held: Mutex::default() }
    }

    /// Has the session look at its LISTENs again.
    pub fn wake(&self) {
        self.shared.order(Order::NOTIFIED);
    }

    pub(super) fn answer(&self, channel: Channel, answer: Result<(), Box<ErrorReply>>) {
        self.held.lock().answers.push((channel, answer));
        self.shared.order(Order::NOTIFIED);
    }

    /// `server` is the process id in the message; it becomes the client's own where the client itself has notified.
    pub(super) fn put(&self, channel: Channel, message: &Bytes, server: u32, speaker: Option<u32>) {
        let own = self.shared.pid;
        let pid = match speaker {
            Some(speaker) if speaker == own => own,
            // A server's may be the one that this client knows as its own.
            _ if server == own => 0,
            _ => server,
        };
        self.add(Note::Heard(channel, message.clone(), pid), message.len());
    }

    pub(super) fn order(&self, order: Order) {
        self.shared.order(order);
    }

    pub(super) fn put_gap(&self) {
        self.add(Note::Gap, 0);
    }

    fn add(&self, note: Note, size: usize) {
        let mut held = self.held.lock();
        if held.full {
            return;
        }
        held.size += size;
        held.full = held.size > WAITING_MAX;
        if held.full {
            (held.notes, held.size) = (VecDeque::new(), 0);
        } else {
            held.notes.push_back(note);
        }
        let full = held.full;
        let known = self.filled.swap(true, Ordering::Release);
        drop(held);
        if full {
            self.shared.order(Order::LAGS_BEHIND);
        } else if !known {
            self.shared.order(Order::NOTIFIED);
        }
    }

    /// Whether there may be something to read.
    pub fn is_filled(&self) -> bool {
        self.filled.load(Ordering::Acquire)
    }

    /// The answers to LISTENs so far.
    pub fn take_answers(&self) -> Vec<Answer> {
        std::mem::take(&mut self.held.lock().answers)
    }

    /// Appends what there is to read, or so many bytes of it. Returns how many notifications that were.
    pub fn take(&self, most: usize, out: &mut BytesMut) -> u64 {
        let mut held = self.held.lock();
        let mut count = 0;
        while out.len() < most
            && let Some(note) = held.notes.pop_front()
        {
            match note {
                Note::Gap => gap().encode(out),
                Note::Heard(_, message, pid) => {
                    held.size -= message.len();
                    out.put_slice(&message[..HEADER]);
                    out.put_u32(pid);
                    out.put_slice(&message[HEADER + 4..]);
                    count += 1;
                }
            }
        }
        if held.notes.is_empty() {
            self.filled.store(false, Ordering::Release);
            held.notes = VecDeque::new();
        }
        count
    }

    /// What has come from a channel is nothing to the client any more.
    pub fn forget(&self, channel: &[u8]) {
        let mut held = self.held.lock();
        let Held { notes, size, .. } = &mut *held;
        notes.retain(|note| match note {
            Note::Heard(from, message, _) if **from == *channel => {
                *size -= message.len();
                false
            }
            _ => true,
        });
    }
}

fn gap() -> ErrorReply {
    ErrorReply { code: SqlState::WARNING, ..ErrorReply::notice("notifications may be missing") }
        .detail("The connection that listens for this client was lost and made again.")
        .hint("What was notified meanwhile is not known. Look for what it would have told.")
}
