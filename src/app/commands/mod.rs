//! What the command line can start, one file per command.

pub mod check;
pub mod demo;
