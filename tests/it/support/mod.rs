//! What tests stand on: a PostgreSQL server shared by all, a database each, the pooler as a process, other programs.

pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod peers;
pub(crate) mod pki;
pub(crate) mod pooler;
pub(crate) mod programs;
pub(crate) mod random;
pub(crate) mod raw;
pub(crate) mod wait;

pub(crate) use client::{Row, Session};
pub(crate) use cluster::Database;
pub(crate) use pooler::PoolerConfig;
pub(crate) use wait::{eventually, wait_until};
