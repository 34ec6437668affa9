//! Parameters that servers report (ParameterStatus) and that follow a client from server to server.

use std::sync::Arc;

/// The parameters that follow every client, in the order in which they are set on a server.
/// PgBouncer's list; `track_extra_parameters` comes after.
pub const ALWAYS_TRACKED: [&str; 5] =
    ["client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings", "application_name"];

/// Names and values in the order of first report; names compare without case, as PostgreSQL's do.
///
/// Cloning is cheap, and equal sets are usually the same allocation: [`ParamSet::same`] tells so at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ParamSet(Arc<Vec<Param>>);

type Param = (Arc<str>, Arc<[u8]>);

impl ParamSet {
    /// The value last reported.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// Notes a value. Returns whether it changed anything.
    pub fn set(&mut self, name: &str, value: &[u8]) -> bool {
        match self.0.iter().position(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some(at) if &*self.0[at].1 == value => false,
            Some(at) => {
                Arc::make_mut(&mut self.0)[at].1 = value.into();
                true
            }
            None => {
                Arc::make_mut(&mut self.0).push((name.into(), value.into()));
                true
            }
        }
    }

    /// Forgets a name. Returns whether it was known.
    pub fn remove(&mut self, name: &str) -> bool {
        let Some(at) = self.0.iter().position(|(known, _)| known.eq_ignore_ascii_case(name)) else { return false };
        Arc::make_mut(&mut self.0).remove(at);
        true
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In order of first report.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
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
