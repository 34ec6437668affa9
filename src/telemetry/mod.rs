//! What operators see of a running pooler: log lines and metrics. Never decides anything.
//!
//! Code that has news calls one function of [`events`]; that function logs and counts, so the two agree.

pub mod events;
pub mod labels;
pub mod log;
pub mod names;
pub mod stamp;

pub use names::describe_all;
