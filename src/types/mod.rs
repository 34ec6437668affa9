//! Plain values that every floor shares: identifiers, durations, sizes, secrets. No I/O, no clock.

pub mod ids;
pub mod secret;
pub mod size;
pub mod time;

pub use ids::{ClientId, Endpoint, Host, PoolKey, ServerId};
pub use secret::Secret;
pub use size::{ByteSize, parse_size};
pub use time::parse_duration;
