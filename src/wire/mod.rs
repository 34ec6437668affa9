//! The PostgreSQL protocol, version 3: frames, messages, login exchanges. Pure: never waits, never panics on what a peer sends.

pub mod error;
pub mod frame;
pub mod md5;
pub mod message;
pub mod params;
pub mod scram;
pub mod startup;
pub mod tag;
