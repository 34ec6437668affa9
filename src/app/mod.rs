//! Builds everything, accepts, signals, reload, drain: the only place that knows the whole.

pub mod accept;
pub mod cli;
pub mod commands;
pub mod control;
pub mod demo;
pub mod dial;
pub mod logging;
pub mod pooler;
pub mod reload;
pub mod signals;
pub mod startup;
pub mod surroundings;
