//! A client's life from the first byte to the last: handshake, login, relay.

pub mod auth;
pub mod cancel;
pub mod catalogs;
pub mod census;
pub mod context;
pub mod deadlines;
pub mod farewell;
pub mod handshake;
pub mod login;
pub mod notify;
pub mod registry;
pub mod relay;
#[expect(clippy::module_inception, reason = "the file is named for what it holds")]
pub mod session;
pub mod welcome;
