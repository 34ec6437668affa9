//! What is known of the functions of each database of each node. The first server that is opened there reads it before it
//! serves anybody. From then on servers that come back look, one at a time, whether it is still the same: nobody queues
//! for that, and no client waits for it. What could not be read, or was changed, counts as not known.

mod upkeep;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout_at;

use self::upkeep::{Look, Next, Outcome, Upkeep, Verdict};
use super::relay::functions::Current;
use crate::config::model::{Config, SessionState};
use crate::server::Server;
use crate::server::simple::SimpleError;
use crate::sql::catalog_load::{self, Fingerprint};
use crate::sql::deeds::Name;
use crate::telemetry::events::session as events;
use crate::types::Endpoint;
use crate::types::time::whole_micros;

/// The catalogs of all databases.
#[derive(Debug)]
pub struct Catalogs {
    all: Mutex<All>,
}

#[derive(Debug)]
struct All {
    by_place: HashMap<(Endpoint, Arc<str>), Arc<DatabaseCatalog>>,
    tracks: bool,
    refresh: Duration,
    trusted: Arc<[Name]>,
    /// Of what texts mean in any of them.
    definitions: Arc<AtomicU64>,
}

impl Catalogs {
    /// None yet.
    pub fn new(config: &Config) -> Self {
        let (tracks, refresh) = plan(config);
        let trusted = config.pooler.clean_functions.iter().map(|name| Name::from(name.as_bytes())).collect();
        Self {
            all: Mutex::new(All { by_place: HashMap::new(), tracks, refresh, trusted, definitions: Arc::default() }),
        }
    }

    /// Whether anybody wants to know.
    pub fn are_wanted(&self) -> bool {
        self.all.lock().tracks
    }

    /// The one of this database on this node.
    pub fn of(&self, node: &Endpoint, dbname: &Arc<str>) -> Arc<DatabaseCatalog> {
        let All { by_place, refresh, trusted, definitions, .. } = &mut *self.all.lock();
        let new = || {
            let current = Current::new(Arc::clone(definitions));
            Arc::new(DatabaseCatalog::new(format!("{dbname} at {node}"), *refresh, Arc::clone(trusted), current))
        };
        Arc::clone(by_place.entry((node.clone(), Arc::clone(dbname))).or_insert_with(new))
    }

    /// Has them kept as these settings have it. They are looked at soon: a database may be another now.
    pub fn apply(&self, config: &Config) {
        let mut all = self.all.lock();
        (all.tracks, all.refresh) = plan(config);
        let refresh = all.refresh;
        let now = Instant::now();
        all.by_place.values().for_each(|catalog| catalog.changes(now, |upkeep| upkeep.set_refresh(refresh, now)));
    }
}

fn plan(config: &Config) -> (bool, Duration) {
    (config.pooler.session_state == SessionState::Track, config.pooler.catalog_refresh)
}

/// The catalog of one database of one node.
#[derive(Debug)]
pub struct DatabaseCatalog {
    /// For people.
    name: Box<str>,
    /// `clean_functions`
    trusted: Arc<[Name]>,
    /// Where sessions find it.
    pub current: Current,
    born: Instant,
    /// From when on there is something to do for a server that comes back, in microseconds since then.
    due: AtomicU64,
    state: Mutex<State>,
    /// A look has ended.
    looked: Notify,
}

#[derive(Debug)]
struct State {
    upkeep: Upkeep,
    /// What texts mean there, as it was found last.
    definitions: Option<Fingerprint>,
    /// Why the last look failed, as it was told.
    told: Option<String>,
}

/// A look may take so long.
const LIMIT: Duration = Duration::from_secs(5);

/// What is to be done with a server that comes back before the next client has it.
#[derive(Debug)]
pub enum Care {
    /// It looks whether the catalog is still the same.
    Look(Looking),
    /// Another one does, and its client was served by what may be wrong.
    Wait(Arc<DatabaseCatalog>),
}

impl DatabaseCatalog {
    fn new(name: String, refresh: Duration, trusted: Arc<[Name]>, current: Current) -> Self {
        Self {
            name: name.into(),
            trusted,
            current,
            born: Instant::now(),
            due: AtomicU64::new(0),
            state: Mutex::new(State { upkeep: Upkeep::new(refresh), definitions: None, told: None }),
            looked: Notify::new(),
        }
    }

    /// A client changes it, and nobody knows when: nothing is known as long as this lives. Returns the generation that was
    /// until now, too.
    pub fn changing(self: &Arc<Self>) -> (Changing, u64) {
        let mut state = self.state.lock();
        state.upkeep.changes();
        self.note_due(&state.upkeep, Instant::now());
        (Changing { catalog: Arc::clone(self) }, self.current.forget())
    }

    /// A client has changed it, or not: it is looked at before what is known is relied on for another server, though not all
    /// the time.
    pub fn suspects(&self, now: Instant) {
        self.changes(now, Upkeep::suspects);
    }

    /// What is to be done with a server that comes back. `None`, mostly: nothing.
    #[inline]
    pub fn care(self: &Arc<Self>, now: Instant) -> Option<Care> {
        if whole_micros(now.saturating_duration_since(self.born)) < self.due.load(Ordering::Relaxed) {
            return None;
        }
        self.next(false, now)
    }

    /// Before a new server serves anybody: it reads the catalog, if nobody has. Returns whether the server is of use.
    pub async fn meet(self: &Arc<Self>, server: &mut Server, limit: Duration) -> bool {
        let until = Instant::now() + limit.min(LIMIT);
        loop {
            match self.next(true, Instant::now()) {
                None => return true,
                Some(Care::Look(looking)) => {
                    let left = until.saturating_duration_since(Instant::now());
                    return looking.run(server, left).await.is_ok();
                }
                Some(Care::Wait(_)) => {
                    if timeout_at(until.into(), self.settled()).await.is_err() {
                        return true;
                    }
                }
            }
        }
    }

    /// Ends when nobody looks.
    async fn settled(&self) {
        let looked = self.looked.notified();
        if self.state.lock().upkeep.is_busy() {
            looked.await;
        }
    }

    #[cold]
    fn next(self: &Arc<Self>, is_new: bool, now: Instant) -> Option<Care> {
        match self.changes(now, |upkeep| upkeep.next(is_new, now)) {
            Next::Nothing => None,
            Next::Wait => Some(Care::Wait(Arc::clone(self))),
            Next::Look(look) => {
                Some(Care::Look(Looking { catalog: Arc::clone(self), look, begun: Instant::now(), over: false }))
            }
        }
    }

    fn changes<T>(&self, now: Instant, change: impl FnOnce(&mut Upkeep) -> T) -> T {
        let mut state = self.state.lock();
        let changed = change(&mut state.upkeep);
        self.note_due(&state.upkeep, now);
        changed
    }

    fn note_due(&self, upkeep: &Upkeep, now: Instant) {
        let due = upkeep.due(now).map_or(u64::MAX, |due| whole_micros(due.saturating_duration_since(self.born)));
        self.due.store(due, Ordering::Relaxed);
    }

    fn ended(&self, look: &Look, outcome: Outcome, begun: Instant) {
        let now = Instant::now();
        let mut state = self.state.lock();
        match state.upkeep.ended(look, outcome, begun, now) {
            Verdict::AsBefore => {}
            Verdict::Unknown => drop(self.current.forget()),
            Verdict::Known { catalog, changed } => self.current.know(catalog, changed),
        }
        self.note_due(&state.upkeep, now);
        drop(state);
        self.looked.notify_waiters();
    }

    /// This is what texts mean there.
    fn finds(&self, definitions: Fingerprint) {
        let mut state = self.state.lock();
        if state.definitions.as_ref().is_some_and(|before| *before != definitions) {
            self.current.redefined();
        }
        state.definitions = Some(definitions);
    }

    fn succeeded(&self, outcome: &Outcome, begun: Instant) {
        self.state.lock().told = None;
        if let Outcome::Read(catalog, _) = outcome {
            let anything = !catalog.anything().is_none();
            events::catalog_loaded(&self.name, catalog.counts(), anything, begun.elapsed());
        }
    }

    fn failed(&self, why: String) {
        let mut state = self.state.lock();
        if state.told.as_ref() != Some(&why) {
            events::catalog_failed(&self.name, &why);
            state.told = Some(why);
        }
    }
}

impl Care {
    /// Does it. Returns whether the catalog is another one than that of this generation.
    ///
    /// # Errors
    /// The server is to be closed.
    pub async fn take(self, server: &mut Server, generation: u64) -> Result<bool, SimpleError> {
        let catalog = match self {
            Self::Look(looking) => {
                let catalog = Arc::clone(&looking.catalog);
                looking.run(server, LIMIT).await?;
                catalog
            }
            Self::Wait(catalog) => {
                catalog.settled().await;
                catalog
            }
        };
        Ok(catalog.current.generation() != generation)
    }
}

/// A client is about to change a catalog. When this is dropped it has, or has not.
#[derive(Debug)]
pub struct Changing {
    catalog: Arc<DatabaseCatalog>,
}

impl Drop for Changing {
    fn drop(&mut self) {
        self.catalog.changes(Instant::now(), Upkeep::changed);
    }
}

/// A look under way; dropping it gives it up.
#[derive(Debug)]
pub struct Looking {
    catalog: Arc<DatabaseCatalog>,
    look: Look,
    begun: Instant,
    over: bool,
}

impl Looking {
    async fn run(mut self, server: &mut Server, limit: Duration) -> Result<(), SimpleError> {
        let result = self.read(server, limit).await;
        self.over = true;
        let Self { catalog, look, begun, .. } = &self;
        match result {
            Ok(outcome) => {
                catalog.succeeded(&outcome, *begun);
                catalog.ended(look, outcome, *begun);
                Ok(())
            }
            Err(error) => {
                catalog.failed(error.to_string());
                catalog.ended(look, Outcome::Failed, *begun);
                if matches!(error, SimpleError::Refused(_)) { Ok(()) } else { Err(error) }
            }
        }
    }

    async fn read(&self, server: &mut Server, limit: Duration) -> Result<Outcome, SimpleError> {
        let begun = Instant::now();
        let (fingerprint, definitions) = catalog_load::fingerprint(server, limit).await?;
        self.catalog.finds(definitions);
        if self.look.fingerprint.as_ref() == Some(&fingerprint) {
            return Ok(Outcome::Same);
        }
        let left = limit.saturating_sub(begun.elapsed());
        let catalog = catalog_load::load(server, Arc::clone(&self.catalog.trusted), left).await?;
        Ok(Outcome::Read(Arc::new(catalog), fingerprint))
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        if !self.over {
            self.catalog.ended(&self.look, Outcome::GivenUp, self.begun);
        }
    }
}
