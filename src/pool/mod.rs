//! Servers at rest: who may have one, who waits, when one is opened or closed.
//!
//! Locks: the registry's, one per pool, one for the limits that pools share, one for what is known of nodes, one per
//! waiting client. Each is short, none is held over an await, and no two are ever held together.

pub mod acquire;
mod attempts;
pub mod commands;
pub mod complaints;
pub mod connector;
mod credential;
pub mod error;
pub mod failure;
pub mod gate;
pub mod guest;
pub mod health;
mod janitor;
mod keeper;
pub mod lease;
pub mod limits;
pub mod nodes;
mod pausing;
mod permits;
mod pinned;
pub mod places;
#[expect(clippy::module_inception, reason = "the pool's file is named for what it holds")]
pub mod pool;
pub mod registry;
pub mod room;
mod settled;
pub mod state;
pub mod stats;
#[cfg(test)]
mod testing;
pub mod upkeep;

pub use crate::server::login::Credential;
pub use acquire::Acquire;
pub use commands::CommandError;
pub use connector::{Dial, DialError, DialRequest, Dialing};
pub use credential::stored_credential;
pub use error::AcquireError;
pub use failure::Fault;
pub use guest::{Guest, Standing};
pub use lease::Lease;
pub use pinned::{PinPlace, Pinned};
pub use pool::{CancelPresence, ClientPresence, Pool};
pub use registry::Pools;
pub use state::Purpose;
pub use stats::Tally;

pub use crate::telemetry::events::pool::CloseReason;

/// The time, as the runtime counts it, so that a test can pause it.
fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}
