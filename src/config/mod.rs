//! Settings: one typed tree, its readers, and the resolved form that the program runs on.
//! Files are read in `load` and `users::Userlist::load` only; no other floor parses settings.

pub mod model;
pub mod users;
