//! Settings: one typed tree, its readers, and the resolved form that the program runs on.
//! Files are read in [`load`] and [`users::Userlist::load`] only; no other floor parses settings.

pub mod complaint;
pub mod diff;
pub mod docs;
mod doubts;
mod load;
pub mod model;
pub mod resolve;
pub mod settings;
pub mod toml;
pub mod users;

pub use complaint::{Complaint, Place};
pub use diff::{Changes, changes};
pub use load::{Loaded, ReadFile, Reloaded, load, load_despite, reload};
pub use model::Config;
