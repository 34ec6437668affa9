//! One connection to PostgreSQL. Knows no pool, no client.

pub mod server;
pub mod statements;

pub use server::{Server, ServerShared};
