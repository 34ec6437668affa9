//! How many clients each database and each user has, by the names they logged in with, for the limits on them. A place
//! is checked and taken in one step, so that a storm of logins can't pass a limit.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

/// Clients by database and by user.
#[derive(Debug, Default)]
pub struct Census {
    counts: Mutex<Counts>,
}

type ByName = HashMap<Arc<str>, u32>;

#[derive(Debug, Default)]
struct Counts {
    databases: ByName,
    users: ByName,
}

/// The most clients; `None`: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Most {
    /// `max_db_client_connections`.
    pub database: Option<u32>,
    /// `max_user_client_connections`.
    pub user: Option<u32>,
}

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// `max_db_client_connections`.
    Database,
    /// `max_user_client_connections`.
    User,
}

impl Census {
    /// Counts one more client, until the guard is dropped.
    ///
    /// # Errors
    /// The limit that is reached; nothing was counted.
    pub fn enter(self: &Arc<Self>, database: &Arc<str>, user: &Arc<str>, most: Most) -> Result<Present, Full> {
        let mut counts = self.counts.lock();
        let full = |counts: &ByName, name, most: Option<u32>| {
            most.is_some_and(|most| counts.get(name).copied().unwrap_or(0) >= most)
        };
        if full(&counts.databases, database, most.database) {
            return Err(Full::Database);
        }
        if full(&counts.users, user, most.user) {
            return Err(Full::User);
        }
        *counts.databases.entry(Arc::clone(database)).or_insert(0) += 1;
        *counts.users.entry(Arc::clone(user)).or_insert(0) += 1;
        drop(counts);
        Ok(Present { census: Arc::clone(self), database: Arc::clone(database), user: Arc::clone(user) })
    }

    /// Clients by user; those without any are missing.
    pub fn users(&self) -> HashMap<Arc<str>, u32> {
        self.counts.lock().users.clone()
    }
}

/// A client's place in the census; it is free when this is dropped.
#[derive(Debug)]
pub struct Present {
    census: Arc<Census>,
    database: Arc<str>,
    user: Arc<str>,
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut counts = self.census.counts.lock();
        leave(&mut counts.databases, &self.database);
        leave(&mut counts.users, &self.user);
    }
}

/// Entries of zero are dropped, so that the maps do not grow with names that came and went.
fn leave(counts: &mut ByName, name: &str) {
    if let Some(count) = counts.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            counts.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_only_below_both_limits_and_is_free_again_when_left() {
        let census = Arc::new(Census::default());
        let (app, other): (Arc<str>, Arc<str>) = ("app".into(), "other".into());
        let (alice, bob): (Arc<str>, Arc<str>) = ("alice".into(), "bob".into());
        let most = Most { database: Some(2), user: Some(2) };
        let first = census.enter(&app, &alice, most).expect("room");
        let _second = census.enter(&app, &bob, most).expect("room");
        assert_eq!(census.enter(&app, &alice, most).err(), Some(Full::Database));
        let _third = census.enter(&other, &alice, most).expect("room");
        assert_eq!(census.enter(&other, &alice, most).err(), Some(Full::User));
        assert_eq!(census.users()["alice"], 2, "who was refused does not count");
        drop(first);
        assert!(census.enter(&app, &alice, most).is_ok());
        assert!(census.enter(&app, &alice, Most::default()).is_ok(), "no limit");
    }

    #[test]
    fn names_that_nobody_has_are_forgotten() {
        let census = Arc::new(Census::default());
        drop(census.enter(&"app".into(), &"alice".into(), Most::default()));
        assert!(census.users().is_empty() && census.counts.lock().databases.is_empty());
    }
}
