//! The relay: pure machines that decide what a client's and a server's bytes mean, and the one loop that moves them.

pub mod active;
mod alone;
pub mod backend;
pub mod channels;
pub mod ending;
pub mod exchange;
pub mod functions;
mod inquiry;
mod kinds;
pub mod leave;
pub mod loss;
pub mod machine;
mod misnamed;
pub mod numbers;
pub mod own;
pub mod pipeline;
pub mod portals;
mod prefix;
pub mod prepared;
pub mod pump;
mod query;
pub mod recurring;
mod reports;
mod requests;
pub mod settings;
mod skipping;
pub mod steps;
pub mod table;
pub mod tracking;
pub mod undo;
mod vetted;
pub mod words;

pub use backend::Heard;
pub use exchange::Exchange;
pub use machine::{Attached, Fed, Relay, Stop};
pub use steps::Steps;
