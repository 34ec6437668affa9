//! Statements prepared on one server, least recently used first out.

use std::num::NonZeroUsize;

use lru::LruCache;

/// Names a statement across all clients and servers: the same text and parameter types have the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatementId(pub u64);

/// What this server has prepared under our names. Capacity zero means that it never keeps any.
#[derive(Debug)]
pub struct Statements {
    known: Option<LruCache<StatementId, (), foldhash::fast::RandomState>>,
}

impl Statements {
    /// Room for `capacity` statements.
    pub fn new(capacity: u32) -> Self {
        let known = NonZeroUsize::new(capacity as usize)
            .map(|capacity| LruCache::with_hasher(capacity, foldhash::fast::RandomState::default()));
        Self { known }
    }

    /// Whether `id` is prepared here; counts as a use.
    pub fn touch(&mut self, id: StatementId) -> bool {
        self.known.as_mut().is_some_and(|known| known.get(&id).is_some())
    }

    /// Notes that `id` is being prepared. Returns the one that must be closed to stay within capacity.
    pub fn insert(&mut self, id: StatementId) -> Option<StatementId> {
        self.known.as_mut()?.push(id, ()).map(|(evicted, ())| evicted).filter(|evicted| *evicted != id)
    }

    /// Forgets `id`: its Parse failed, or it was closed.
    pub fn remove(&mut self, id: StatementId) {
        if let Some(known) = &mut self.known {
            known.pop(&id);
        }
    }

    /// Forgets all: DISCARD ALL or DEALLOCATE ALL ran.
    pub fn clear(&mut self) {
        if let Some(known) = &mut self.known {
            known.clear();
        }
    }

    /// How many are prepared here.
    pub fn len(&self) -> usize {
        self.known.as_ref().map_or(0, LruCache::len)
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut statements = Statements::new(2);
        assert_eq!(statements.insert(StatementId(1)), None);
        assert_eq!(statements.insert(StatementId(2)), None);
        assert!(statements.touch(StatementId(1)));
        assert_eq!(statements.insert(StatementId(3)), Some(StatementId(2)));
        assert_eq!(statements.insert(StatementId(3)), None, "again");
        assert_eq!(Statements::new(0).insert(StatementId(1)), None);
    }
}
