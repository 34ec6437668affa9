#![doc = include_str!("../docs/ARCHITECTURE.md")]

pub mod types;

pub mod telemetry;

pub mod wire;

pub mod net;

pub mod config;

pub mod server;

pub mod pool;

pub mod sql;

pub mod session;

pub mod admin;

pub mod app;
