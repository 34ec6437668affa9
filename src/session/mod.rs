//! A client's life from the first byte to the last: handshake, login, relay.

pub mod registry;
pub mod relay;
