//! `userlist.txt` as PgBouncer writes it.

/// Users and their secrets.
#[derive(Debug, Default)]
pub struct Userlist {}
