//! Parameters that servers report (ParameterStatus) and that follow a client from server to server.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

/// The parameters that follow every client, in the order in which they are set on a server.
/// PgBouncer's list; `track_extra_parameters` comes after.
pub const ALWAYS_TRACKED: [&str; 5] =
    ["client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings", "application_name"];

/// Names and values in the order of first report; names compare without case, as PostgreSQL's do.
///
/// Cloning is cheap, and equal sets are usually the same allocation: [`ParamSet::same`] tells so at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ParamSet(Arc<Params>);

type Param = (Arc<str>, Arc<[u8]>);

#[derive(Debug, Default)]
struct Params {
    all: Vec<Param>,
    /// Says nothing but what `all` says.
    key: OnceLock<Box<[u8]>>,
}

/// So much a parameter takes beside its name and value.
const PARAM_BYTES: usize = 64;

/// What was changed, so that it can be undone.
#[derive(Debug)]
pub enum Change {
    /// At this place was this value.
    Replaced(usize, Arc<[u8]>),
    /// One more came.
    Added,
    /// At this place was this one.
    Removed(usize, (Arc<str>, Arc<[u8]>)),
}

impl Change {
    /// How many bytes it takes, about.
    pub fn bytes(&self) -> usize {
        PARAM_BYTES
            + match self {
                Self::Replaced(_, value) => value.len(),
                Self::Added => 0,
                Self::Removed(_, (name, value)) => name.len() + value.len(),
            }
    }
}

impl Clone for Params {
    /// For whoever changes it.
    fn clone(&self) -> Self {
        Self { all: self.all.clone(), key: OnceLock::new() }
    }
}

impl PartialEq for Params {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl Eq for Params {}

impl Hash for Params {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.all.hash(state);
    }
}

/// Settings that neither the meaning of a text nor any plan depends on, or that a server never changes.
const MEANINGLESS: [&str; 13] = [
    "application_name",
    "client_min_messages",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "in_hot_standby",
    "integer_datetimes",
    "is_superuser",
    "lock_timeout",
    "scram_iterations",
    "server_encoding",
    "server_version",
    "statement_timeout",
    "transaction_timeout",
];

impl ParamSet {
    /// The value last reported.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.all.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// Notes a value. Returns whether it changed anything.
    pub fn set(&mut self, name: &str, value: &[u8]) -> bool {
        self.change(name, Some(value)).is_some()
    }

    /// Forgets a name. Returns whether it was known.
    pub fn remove(&mut self, name: &str) -> bool {
        self.change(name, None).is_some()
    }

    /// Notes a value, or forgets it. `None`: nothing was changed by that.
    pub fn change(&mut self, name: &str, value: Option<&[u8]>) -> Option<Change> {
        match (self.position(name), value) {
            (None, None) => None,
            (Some(at), Some(value)) if *self.0.all[at].1 == *value => None,
            (Some(at), Some(value)) => {
                Some(Change::Replaced(at, std::mem::replace(&mut self.all_mut()[at].1, value.into())))
            }
            (None, Some(value)) => {
                self.all_mut().push((name.into(), value.into()));
                Some(Change::Added)
            }
            (Some(at), None) => Some(Change::Removed(at, self.all_mut().remove(at))),
        }
    }

    /// Undoes a change, if what came behind it is undone.
    pub fn take_back(&mut self, change: Change) {
        let all = self.all_mut();
        match change {
            Change::Replaced(at, value) => all[at].1 = value,
            Change::Added => _ = all.pop(),
            Change::Removed(at, param) => all.insert(at, param),
        }
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.0.all.iter().position(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    fn all_mut(&mut self) -> &mut Vec<Param> {
        let params = Arc::make_mut(&mut self.0);
        params.key.take();
        &mut params.all
    }

    /// All by which a text is read and planned, as bytes; equal ones mean the same. Made once for all who share the set.
    #[inline]
    pub fn key(&self) -> &[u8] {
        self.0.key.get_or_init(|| {
            let mut key = Vec::new();
            for (name, value) in self.iter().filter(|(name, _)| !MEANINGLESS.contains(name)) {
                for part in [name.as_bytes(), value] {
                    key.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
                    key.extend_from_slice(part);
                }
            }
            key.into()
        })
    }

    /// How many it holds.
    pub fn len(&self) -> usize {
        self.0.all.len()
    }

    /// How many bytes it takes, about.
    pub fn bytes(&self) -> usize {
        self.0.all.iter().map(|(name, value)| PARAM_BYTES + name.len() + value.len()).sum()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.0.all.is_empty()
    }

    /// In order of first report.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.all.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether nobody else holds this allocation.
    pub fn is_last(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Whether both are one allocation, and so certainly equal.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
