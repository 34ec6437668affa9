//! One connection to PostgreSQL. Knows no pool, no client.

pub mod cancel;
pub mod connect;
mod encrypt;
pub mod login;
#[expect(clippy::module_inception, reason = "the file is named for what it holds")]
pub mod server;
pub mod simple;
pub mod statements;

pub use server::{NumbersOf, Server, ServerShared};
