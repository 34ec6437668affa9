//! Statements prepared on one server, least recently used first out.

use lru::LruCache;

/// Names a statement across all clients and servers: the same text and parameter types have the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatementId(pub u64);

/// What this server has prepared under our names.
#[derive(Debug)]
pub struct Statements {
    /// Since when it has each for certain, in microseconds of the sessions' clock where somebody wants to know, and else 0;
    /// `None`: it may have it.
    known: LruCache<StatementId, Option<u64>, foldhash::fast::RandomState>,
    capacity: usize,
}

impl Statements {
    /// Room for `capacity` statements, but at least for the one in use.
    pub fn new(capacity: u32) -> Self {
        let known = LruCache::unbounded_with_hasher(foldhash::fast::RandomState::default());
        Self { known, capacity: capacity.max(1) as usize }
    }

    /// Whether `id` is prepared here for certain; counts as a use.
    pub fn touch(&mut self, id: StatementId) -> bool {
        self.touch_since(id, 0)
    }

    /// The same of one that was prepared then or later.
    pub fn touch_since(&mut self, id: StatementId, since: u64) -> bool {
        self.known.get(&id).copied().flatten().is_some_and(|at| at >= since)
    }

    /// Notes that `id` is prepared here. Never forgets another: that is for [`Statements::evict`].
    pub fn insert(&mut self, id: StatementId) {
        self.insert_at(id, 0);
    }

    /// The same of one whose age matters.
    pub fn insert_at(&mut self, id: StatementId, now: u64) {
        self.known.put(id, Some(now));
    }

    /// Notes that `id` may be prepared here. It is to be closed before it is prepared again.
    pub fn insert_doubtful(&mut self, id: StatementId) {
        self.known.put(id, None);
    }

    /// One that was known to be prepared here is not: something has dropped it, and may have dropped others.
    pub fn doubt(&mut self) {
        self.known.iter_mut().for_each(|(_, since)| *since = None);
    }

    /// Forgets the one that must be closed to stay within capacity, and returns it.
    pub fn evict(&mut self) -> Option<StatementId> {
        if self.known.len() <= self.capacity {
            return None;
        }
        self.known.pop_lru().map(|(id, _)| id)
    }

    /// Forgets `id`: its Parse failed, or it was closed. Returns whether it was here.
    pub fn remove(&mut self, id: StatementId) -> bool {
        self.known.pop(&id).is_some()
    }

    /// Forgets all: DISCARD ALL or DEALLOCATE ALL ran.
    pub fn clear(&mut self) {
        self.known.clear();
    }

    /// How many are prepared here.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// All of them, most recently used first.
    pub fn iter(&self) -> impl Iterator<Item = StatementId> {
        self.known.iter().map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut statements = Statements::new(2);
        statements.insert(StatementId(1));
        statements.insert(StatementId(2));
        assert_eq!(statements.evict(), None);
        assert!(statements.touch(StatementId(1)));
        statements.insert(StatementId(3));
        assert_eq!(statements.evict(), Some(StatementId(2)));
        assert_eq!(statements.evict(), None);
        assert_eq!(statements.iter().collect::<Vec<_>>(), [StatementId(3), StatementId(1)]);
        assert!(statements.remove(StatementId(1)) && !statements.remove(StatementId(1)));
    }

    #[test]
    fn what_is_in_doubt_is_not_there_until_it_is_prepared_again() {
        let mut statements = Statements::new(9);
        statements.insert(StatementId(1));
        statements.doubt();
        assert!(!statements.touch(StatementId(1)) && statements.remove(StatementId(1)));
        statements.insert_doubtful(StatementId(2));
        assert!(!statements.touch(StatementId(2)));
        statements.insert(StatementId(2));
        assert!(statements.touch(StatementId(2)));
        statements.insert_at(StatementId(2), 7);
        assert!(statements.touch_since(StatementId(2), 7) && !statements.touch_since(StatementId(2), 8));
    }

    #[test]
    fn the_one_in_use_stays_even_where_there_is_no_room() {
        let mut statements = Statements::new(0);
        statements.insert(StatementId(1));
        assert_eq!(statements.evict(), None);
    }
}
