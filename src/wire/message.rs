//! The messages that we write or read ourselves: at login, in the console, around cancel requests.
//! Written by pgwire's message layer where that takes what we have; read by our own, from the body of one whole frame.

pub mod backend;
pub mod frontend;
pub mod read;

use bytes::{BufMut, BytesMut};
use pgwire::messages::Message;

/// What ReadyForQuery says of the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TxStatus {
    /// Not in a transaction block.
    Idle,
    /// In one.
    InTransaction,
    /// In one that failed: everything is refused until it ends.
    Failed,
}

impl TxStatus {
    /// As the protocol spells it.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'I' => Some(Self::Idle),
            b'T' => Some(Self::InTransaction),
            b'E' => Some(Self::Failed),
            _ => None,
        }
    }

    /// As the protocol spells it.
    pub fn as_byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }
}

/// Appends a message through pgwire. It refuses only what is longer than PostgreSQL takes (10,000 bytes and more for
/// what we write so); then nothing is appended rather than half a message.
fn put(out: &mut BytesMut, message: &impl Message) {
    let start = out.len();
    if message.encode(out).is_err() {
        out.truncate(start);
    }
}

/// Appends a message whose body pgwire can't take, because it is bytes and not text.
fn put_by_hand(out: &mut BytesMut, tag: Option<u8>, body: impl FnOnce(&mut BytesMut)) {
    if let Some(tag) = tag {
        out.put_u8(tag);
    }
    let start = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len() - start).expect("no message of ours reaches 4 GiB");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn put_string(out: &mut BytesMut, text: &[u8]) {
    out.put_slice(text);
    out.put_u8(0);
}

#[cfg(test)]
mod tests;
