//! Names to addresses, remembered for a while. The system's resolver answers (`/etc/hosts`, DNS, whatever is
//! configured there), and it is asked once at a time for a name.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::time::Instant;

/// How long answers are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DnsTtl {
    /// Addresses (`dns_max_ttl`).
    pub found: Duration,
    /// Failures (`dns_nxdomain_ttl`).
    pub failed: Duration,
}

/// A handle to the cache. Clones share it.
#[derive(Clone)]
pub struct Dns(Arc<Shared>);

/// Why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{name}\" has no address: {cause}")]
pub struct DnsError {
    /// The name.
    pub name: Arc<str>,
    /// The resolver's words.
    pub cause: Arc<str>,
}

/// How much is in the cache, for SHOW LISTS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DnsCounts {
    /// Names that were asked for.
    pub names: usize,
    /// Questions that the resolver has not answered yet.
    pub pending: usize,
}

type Answer = Result<Arc<[IpAddr]>, DnsError>;
type Lookup = Box<dyn Fn(Arc<str>) -> LookupFuture + Send + Sync>;
type LookupFuture = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

struct Shared {
    ttl: Mutex<DnsTtl>,
    names: Mutex<HashMap<Arc<str>, Arc<Name>>>,
    lookup: Lookup,
}

/// One name. Whoever holds `turn` asks; the others wait for it and find the answer. If the one who asks gives
/// up, the next asks: nobody waits for an answer that nobody fetches.
#[derive(Default)]
struct Name {
    turn: tokio::sync::Mutex<()>,
    known: Mutex<Option<Known>>,
}

struct Known {
    answer: Answer,
    until: Instant,
}

impl Dns {
    /// A cache over the system's resolver.
    pub fn new(ttl: DnsTtl) -> Self {
        Self::with_lookup(ttl, Box::new(|name| Box::pin(ask_system(name))))
    }

    fn with_lookup(ttl: DnsTtl, lookup: Lookup) -> Self {
        Self(Arc::new(Shared { ttl: Mutex::new(ttl), names: Mutex::default(), lookup }))
    }

    /// Changes how long later answers are believed, and forgets what is too old already.
    pub fn set_ttl(&self, ttl: DnsTtl) {
        self.set_ttl_at(ttl, Instant::now());
    }

    fn set_ttl_at(&self, ttl: DnsTtl, now: Instant) {
        *self.0.ttl.lock() = ttl;
        self.0.names.lock().retain(|_, name| Arc::strong_count(name) > 1 || name.known_at(now).is_some());
    }

    /// The addresses of `name`, in the resolver's order; never empty. A literal address is its own.
    /// Has no deadline of its own; dropping the future is harmless.
    ///
    /// # Errors
    /// The resolver's answer, which is remembered too.
    pub async fn resolve(&self, name: &str) -> Result<Arc<[IpAddr]>, DnsError> {
        self.resolve_at(name, Instant::now()).await
    }

    async fn resolve_at(&self, name: &str, now: Instant) -> Answer {
        if let Ok(literal) = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Ok(Arc::from([literal]));
        }
        let (name, entry) = self.entry(name);
        if let Some(answer) = entry.known_at(now) {
            return answer;
        }
        let _turn = entry.turn.lock().await;
        if let Some(answer) = entry.known_at(now) {
            return answer; // of the one whose turn it was before
        }
        let answer = self.ask(&name).await;
        let ttl = *self.0.ttl.lock();
        let ttl = if answer.is_ok() { ttl.found } else { ttl.failed };
        *entry.known.lock() = Some(Known { answer: answer.clone(), until: now + ttl });
        answer
    }

    /// How much is in the cache.
    pub fn counts(&self) -> DnsCounts {
        let names = self.0.names.lock();
        let pending = names.values().filter(|name| name.turn.try_lock().is_err()).count();
        DnsCounts { names: names.len(), pending }
    }

    fn entry(&self, name: &str) -> (Arc<str>, Arc<Name>) {
        let mut names = self.0.names.lock();
        if let Some((name, entry)) = names.get_key_value(name) {
            return (name.clone(), entry.clone());
        }
        let (name, entry) = (Arc::<str>::from(name), Arc::<Name>::default());
        names.insert(name.clone(), entry.clone());
        (name, entry)
    }

    async fn ask(&self, name: &Arc<str>) -> Answer {
        let failed = |cause: &str| DnsError { name: name.clone(), cause: cause.into() };
        match (self.0.lookup)(name.clone()).await {
            Ok(found) if found.is_empty() => Err(failed("the resolver knows the name, but no address")),
            Ok(found) => Ok(found.into()),
            Err(e) => {
                let words = e.to_string();
                Err(failed(words.strip_prefix(GAI_PREFIX).unwrap_or(&words)))
            }
        }
    }
}

impl Name {
    fn known_at(&self, now: Instant) -> Option<Answer> {
        self.known.lock().as_ref().filter(|known| now < known.until).map(|known| known.answer.clone())
    }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

async fn ask_system(name: Arc<str>) -> io::Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    for address in tokio::net::lookup_host((&*name, 0)).await? {
        if !found.contains(&address.ip()) {
            found.push(address.ip());
        }
    }
    Ok(found)
}

/// What the standard library puts before the resolver's own words.
const GAI_PREFIX: &str = "failed to lookup address information: ";

#[cfg(test)]
mod tests;
