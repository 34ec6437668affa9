//! The console (database `pgbouncer`), its SHOW and its commands, and the listener for metrics and health.
//!
//! Changes nothing itself: every effect goes through [`Control`], which knows pools, sessions and process.

pub mod act;
pub mod averages;
pub mod command;
pub mod console;
pub mod control;
pub mod error;
pub mod http;
pub mod metrics;
pub mod show;
pub mod table;

#[cfg(test)]
mod fake;

pub use act::AdminContext;
pub use control::Control;
