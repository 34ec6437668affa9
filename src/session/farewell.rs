//! Brings the server of a client that is gone back to rest: what runs is cancelled or runs to its end,
//! the transaction is rolled back, and the server goes to the next client, or is closed where that is not sure.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::cancel::Canceller;
use super::registry::Shared;
use super::relay::active::Active;
use super::relay::leave::toward_rest;
use super::relay::{Relay, Steps};
use crate::pool::CloseReason;

/// How a client left.
#[derive(Debug, Clone, Copy)]
pub struct Leaving {
    /// Cancel what runs, where that costs nothing but the statement.
    pub cancel: bool,
    /// The server is closed if it is not at rest by then; `None`: what runs may run to its end.
    pub limit: Option<Duration>,
    /// It leaves session pooling: the server is reset before the next client has it.
    pub reset: bool,
}

/// Gives the server back, or closes it.
pub async fn give_back(
    mut active: Active,
    relay: &mut Relay,
    leaving: Leaving,
    canceller: &Arc<Canceller>,
    shared: &Shared,
) {
    let exchange = &active.work.exchange;
    let may_cancel = leaving.cancel && exchange.may_cancel && !exchange.pipeline.is_empty();
    if relay.mid_frame() {
        return active.lease.discard(CloseReason::ClientGone, &mut active.work.tally);
    }
    if may_cancel {
        canceller.send_one(&active.lease, &mut active.work.cancel);
    }
    let rested = match leaving.limit {
        Some(limit) => tokio::time::timeout(limit, rest(&mut active, relay))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        None => rest(&mut active, relay).await,
    };
    let now = Instant::now();
    active.work.xact_ends(shared.micros(now));
    let Active { lease, mut work } = active;
    match (rested, work.cancel.take()) {
        (Err(_), _) => lease.discard(CloseReason::ClientGone, &mut work.tally),
        (Ok(()), Some(cancel)) => {
            let landed = async move { cancel.await.unwrap_or(false) };
            lease.quarantine(landed, leaving.reset, now, &mut work.tally);
        }
        (Ok(()), None) if leaving.reset => lease.release_after_reset(now, &mut work.tally),
        (Ok(()), None) => lease.release(now, &mut work.tally),
    }
}

/// Hears the server out, without anybody to tell, until it is at rest.
async fn rest(active: &mut Active, relay: &mut Relay) -> io::Result<()> {
    let mut steps = Steps::default();
    let mut held = std::mem::take(&mut active.work.held);
    let mut pending = std::mem::take(&mut active.work.to_server);
    loop {
        active.lease.stream.write_all_buf(&mut pending).await?;
        active.lease.stream.flush().await?;
        steps.clear();
        if toward_rest(&mut active.work.exchange, &mut steps) && held.is_empty() {
            return Ok(());
        }
        if !steps.to_server.is_empty() {
            pending.extend_from_slice(&steps.to_server.concat(&[]));
            continue;
        }
        if active.lease.stream.read_buf(&mut held).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hear(active, relay, &mut held, &mut pending, &mut steps)?;
    }
}

fn hear(
    active: &mut Active,
    relay: &mut Relay,
    held: &mut BytesMut,
    pending: &mut BytesMut,
    steps: &mut Steps,
) -> io::Result<()> {
    steps.clear();
    let heard = relay.from_server(&mut active.attached(), held, steps).map_err(io::Error::other)?;
    pending.extend_from_slice(&steps.to_server.concat(held));
    held.advance(heard.consumed);
    if heard.fatal { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
}
