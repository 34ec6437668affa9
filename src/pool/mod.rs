//! Servers at rest: who may have one, who waits, when one is opened or closed.

pub mod stats;
