//! What every session shares. Built once; what a reload changes is swapped inside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::auth::{Strangers, plain_verifier};
use super::cancel::Canceller;
use super::catalogs::Catalogs;
use super::census::Census;
use super::notify::Hubs;
use super::registry::Registry;
use super::relay::recurring::AllRecurring;
use super::relay::table::Table;
use crate::config::model::Config;
use crate::config::users::StoredSecret;
use crate::net::tls::{AcceptTls, TlsSlot};
use crate::pool::Pools;
use crate::types::Secret;
use crate::wire::params::{ALWAYS_TRACKED, ParamSet};
use crate::wire::scram::ScramVerifier;

/// What every session shares.
#[derive(Debug)]
pub struct Context {
    /// The settings in force. A session reads them at its login.
    pub config: Arc<ArcSwap<Config>>,
    /// The servers.
    pub pools: Arc<Pools>,
    /// The sessions.
    pub registry: Arc<Registry>,
    /// Clients by database and by user.
    pub census: Arc<Census>,
    /// What is known of the databases' functions.
    pub catalogs: Arc<Catalogs>,
    /// The prepared statements.
    pub statements: Arc<Table>,
    /// The unnamed ones that recur.
    pub recurring: AllRecurring,
    /// TLS towards clients.
    pub tls: TlsSlot<AcceptTls>,
    /// Sends cancel requests.
    pub canceller: Arc<Canceller>,
    /// Who listens for clients.
    pub hubs: Arc<Hubs>,
    /// Numbers of clients and servers.
    pub ids: Arc<AtomicU64>,
    /// Clients connected, logged in or not.
    pub clients: Clients,
    /// Equal settings of clients, one allocation each.
    pub settings: Interner,
    /// SCRAM verifiers of users whose plain password is stored.
    pub verifiers: Verifiers,
    /// Random, for as long as this process lives: strangers' salts come from it.
    pub process_secret: [u8; 32],
    /// No new clients are taken.
    pub draining: AtomicBool,
}

impl Context {
    /// The names of the settings that follow clients.
    pub fn tracked(config: &Config) -> impl Iterator<Item = &str> {
        ALWAYS_TRACKED.into_iter().chain(config.pooler.track_extra_parameters.iter().map(String::as_str))
    }

    /// How strangers are kept busy at login.
    pub fn strangers(&self, config: &Config) -> Strangers<'_> {
        Strangers {
            process_secret: &self.process_secret,
            iterations: config.pooler.scram_iterations,
            scram_users: (config.userlist.scram_users(), config.userlist.len()),
        }
    }
}

/// Derives SCRAM verifiers for the users of `config`, beside the traffic.
pub fn prepare_verifiers(context: &Arc<Context>, config: &Arc<Config>) {
    let (context, config) = (Arc::clone(context), Arc::clone(config));
    // Nobody waits for it: a login that comes first derives its own.
    drop(tokio::task::spawn_blocking(move || context.verifiers.prepare(&config, context.strangers(&config))));
}

/// How many clients are connected, from their first byte to their last.
#[derive(Debug, Default)]
pub struct Clients {
    /// Those for whom a shutdown that waits for clients waits, whether they have logged in yet or not.
    served: Arc<Group>,
    /// The others: consoles, and who came when the pooler was ending already.
    apart: Arc<Group>,
}

#[derive(Debug, Default)]
struct Group {
    count: AtomicU32,
    emptied: Notify,
}

impl Clients {
    /// How many there are.
    pub fn total(&self) -> u32 {
        self.served.count.load(Ordering::Relaxed) + self.apart.count.load(Ordering::Relaxed)
    }

    /// Ends when nobody is left but consoles, and those who came too late to be served.
    pub async fn left(&self) {
        loop {
            let emptied = self.served.emptied.notified();
            if self.served.count.load(Ordering::Relaxed) == 0 {
                return;
            }
            emptied.await;
        }
    }
}

/// A client's place among those connected.
#[derive(Debug)]
pub struct Counted(Arc<Group>);

impl Counted {
    /// Counts one more.
    pub fn new(clients: &Clients) -> Self {
        Self::among(&clients.served)
    }

    /// No shutdown is to wait for this one.
    pub fn stand_apart(&mut self, clients: &Clients) {
        *self = Self::among(&clients.apart);
    }

    /// Whether no shutdown waits for it.
    pub fn is_apart(&self, clients: &Clients) -> bool {
        Arc::ptr_eq(&self.0, &clients.apart)
    }

    fn among(group: &Arc<Group>) -> Self {
        group.count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(group))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.emptied.notify_waiters();
        }
    }
}

/// Makes equal settings one allocation, so that they compare by a glance and cost idle clients nothing.
#[derive(Debug, Default)]
pub struct Interner {
    known: Mutex<(HashSet<ParamSet, foldhash::fast::RandomState>, usize)>,
}

impl Interner {
    /// The one that equals `set`.
    pub fn intern(&self, set: ParamSet) -> ParamSet {
        let mut known = self.known.lock();
        let (sets, sweep_at) = &mut *known;
        if let Some(same) = sets.get(&set) {
            return same.clone();
        }
        if sets.len() >= *sweep_at {
            sets.retain(|set| !set.is_last());
            *sweep_at = 256.max(sets.len() * 2);
        }
        sets.insert(set.clone());
        set
    }
}

/// SCRAM verifiers derived from plain passwords: a derivation costs half a millisecond, and logins come in storms.
#[derive(Debug, Default)]
pub struct Verifiers {
    known: Mutex<HashMap<Box<str>, Derived>>,
}

/// Of which password, and what came of it.
type Derived = (Secret, Arc<ScramVerifier>);

impl Verifiers {
    /// The verifier of a user with this password.
    pub fn get(&self, user: &str, password: &Secret, strangers: Strangers<'_>) -> Arc<ScramVerifier> {
        if let Some((known, verifier)) = self.known.lock().get(user)
            && known == password
            && verifier.iterations() == strangers.iterations
        {
            return Arc::clone(verifier);
        }
        let verifier = Arc::new(plain_verifier(password, user, strangers));
        self.known.lock().insert(user.into(), (password.clone(), Arc::clone(&verifier)));
        verifier
    }

    /// Makes ready what the users of `config` need, so that logins find it: whoever has to wait for a derivation can be
    /// told from a stranger, who never does. Blocks for as long as that takes; forgets users that are no more.
    pub fn prepare(&self, config: &Config, strangers: Strangers<'_>) {
        self.known.lock().retain(|user, _| config.userlist.get(user).is_some());
        if !config.pooler.auth_type.is_scram() {
            return;
        }
        for (user, secret) in config.userlist.iter() {
            if let StoredSecret::Plain(password) = secret {
                self.get(user, password, strangers);
            }
        }
    }
}
