//! Builds everything, accepts, signals, reload, drain: the only place that knows the whole.

pub mod cli;
pub mod commands;
