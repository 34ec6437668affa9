//! What every session shares. Built once; what a reload changes is swapped inside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

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
    pub verifiers: Arc<Verifiers>,
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

/// Derives SCRAM verifiers for the users of `config`, beside the traffic, so that logins find them: whoever has to wait for
/// a derivation can be told from a stranger, who never does. Forgets those of users that are no more.
pub fn prepare_verifiers(context: &Arc<Context>, config: &Arc<Config>) {
    let (context, config) = (Arc::clone(context), Arc::clone(config));
    // Nobody waits for it: a login that comes first asks for its own.
    drop(tokio::spawn(async move {
        context.verifiers.known.lock().retain(|user, _| config.userlist.get(user).is_some());
        let wanted = config.userlist.iter().filter(|_| config.pooler.auth_type.is_scram());
        for (user, secret) in wanted {
            if !Arc::ptr_eq(&context.config.load(), &config) {
                return; // Another reload has begun its own.
            }
            if let StoredSecret::Plain(password) = secret {
                context.verifiers.get(user, password, context.strangers(&config)).await;
            }
        }
    }));
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

/// SCRAM verifiers derived from plain passwords: a derivation costs half a millisecond, or seconds with many
/// iterations, and logins come in storms.
#[derive(Debug)]
pub struct Verifiers {
    known: Mutex<HashMap<Box<str>, Derived>>,
    /// Whose turn it is to derive. One at a time, so that the traffic never lacks more than one CPU.
    turn: Arc<Semaphore>,
}

impl Default for Verifiers {
    fn default() -> Self {
        Self { known: Mutex::default(), turn: Arc::new(Semaphore::new(1)) }
    }
}

/// Of which password, and what came of it.
type Derived = (Secret, Arc<ScramVerifier>);

impl Verifiers {
    /// The verifier of a user with this password; derived beside the traffic, if it is not known. `None`: the runtime ends.
    pub async fn get(
        self: &Arc<Self>,
        user: &str,
        password: &Secret,
        strangers: Strangers<'_>,
    ) -> Option<Arc<ScramVerifier>> {
        if let Some(verifier) = self.known(user, password, strangers.iterations) {
            return Some(verifier);
        }
        let turn = Arc::clone(&self.turn).acquire_owned().await.ok()?;
        // Somebody else may have waited for the same.
        if let Some(verifier) = self.known(user, password, strangers.iterations) {
            return Some(verifier);
        }
        let (verifiers, user, password) = (Arc::clone(self), Box::<str>::from(user), password.clone());
        let secret: Box<[u8]> = strangers.process_secret.into();
        let (iterations, scram_users) = (strangers.iterations, strangers.scram_users);
        let derivation = tokio::task::spawn_blocking(move || {
            // It ends with the derivation, whether the login is still there or not.
            let _turn = turn;
            let strangers = Strangers { process_secret: &secret, iterations, scram_users };
            let verifier = Arc::new(plain_verifier(&password, &user, strangers));
            verifiers.known.lock().insert(user, (password, Arc::clone(&verifier)));
            verifier
        });
        derivation.await.ok()
    }

    fn known(&self, user: &str, password: &Secret, iterations: u32) -> Option<Arc<ScramVerifier>> {
        let known = self.known.lock();
        let (of, verifier) = known.get(user)?;
        (of == password && verifier.iterations() == iterations).then(|| Arc::clone(verifier))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    const STRANGERS: Strangers<'static> = Strangers { process_secret: &[7; 32], iterations: 2, scram_users: (0, 0) };

    #[tokio::test]
    async fn verifiers_are_derived_beside_the_workers_and_one_at_a_time() {
        let verifiers = Arc::new(Verifiers::default());
        let password = Secret::new("p");
        let turn = Arc::clone(&verifiers.turn).try_acquire_owned().expect("nobody derives");
        let mut logins = [(); 3].map(|()| Box::pin(verifiers.get("u", &password, STRANGERS)));
        for login in &mut logins {
            let waits = poll_fn(|cx| Poll::Ready(login.as_mut().poll(cx).is_pending())).await;
            assert!(waits, "another derives");
        }
        drop(turn);
        let [gone, first, second] = logins;
        let mut gone = gone;
        // Its turn has come, and the client is gone before it ends, or not.
        let _ = poll_fn(|cx| Poll::Ready(gone.as_mut().poll(cx).is_pending())).await;
        drop(gone);
        let first = first.await.expect("a verifier");
        let second = second.await.expect("a verifier");
        assert!(Arc::ptr_eq(&first, &second), "once for all");
        let more = Strangers { iterations: 3, ..STRANGERS };
        for (password, strangers) in [(Secret::new("q"), STRANGERS), (password.clone(), more)] {
            let again = verifiers.get("u", &password, strangers).await.expect("a verifier");
            assert!(!Arc::ptr_eq(&again, &first), "it is another");
            assert_eq!(again.iterations(), strangers.iterations);
        }
    }
}
