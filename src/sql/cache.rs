//! What texts say, kept by text. A hit is one hash and one look-up under a lock of its own shard; texts are read outside
//! of any lock. Bounded in bytes: each shard has a young and an old generation, and what was not used while the young
//! one filled is dropped. A text is kept from its second sight on, so that literals in texts don't push out others.

use std::hash::{BuildHasher, Hash};
use std::mem;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use parking_lot::Mutex;

use super::{Dialect, Script};

/// Shared by all sessions.
#[derive(Debug)]
pub struct Cache {
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    /// Longer texts are read each time.
    text_max: usize,
}

#[derive(Debug)]
struct Shard {
    young: Generation,
    old: Generation,
    /// Parts of hashes of texts that were seen once; a newer one takes the place of an older.
    seen: Box<[u32; SEEN]>,
    /// Of one generation.
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Generation {
    entries: HashTable<Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    dialect: Dialect,
    text: Box<[u8]>,
    script: Arc<Script>,
}

/// A power of two, so that no two sessions often want the same lock.
const SHARDS: usize = 16;
const SEEN: usize = 1024;

impl Cache {
    /// Keeps at most about `bytes_max` bytes, of texts that have at most `text_max` each. 0 keeps nothing.
    pub fn new(bytes_max: usize, text_max: usize) -> Self {
        let shard = || {
            Mutex::new(Shard {
                young: Generation::default(),
                old: Generation::default(),
                seen: Box::new([0; SEEN]),
                bytes_max: bytes_max / SHARDS / 2,
            })
        };
        let shards = (0..SHARDS).map(|_| shard()).collect();
        Self { hasher: RandomState::default(), shards, text_max }
    }

    /// What `text` says. Its spans are positions in `text`.
    pub fn read(&self, text: &[u8], dialect: Dialect) -> Arc<Script> {
        if text.len() > self.text_max {
            return Arc::new(Script::of(text, dialect));
        }
        let hash = self.hash(text, dialect);
        // The table takes the lowest and the highest bits.
        let shard = &self.shards[(hash >> 32) as usize % SHARDS];
        if let Some(script) = shard.lock().find(hash, text, dialect) {
            return script;
        }
        let script = Arc::new(Script::of(text, dialect));
        let mut shard = shard.lock();
        if shard.saw(hash) {
            shard.insert(Entry { hash, dialect, text: text.into(), script: Arc::clone(&script) });
        }
        script
    }

    /// How many bytes it holds, as it counts them.
    pub fn bytes(&self) -> usize {
        let held = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            shard.young.bytes + shard.old.bytes
        };
        self.shards.iter().map(held).sum()
    }

    fn hash(&self, text: &[u8], dialect: Dialect) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        dialect.hash(&mut hasher);
        text.hash(&mut hasher);
        std::hash::Hasher::finish(&hasher)
    }
}

impl Shard {
    fn find(&mut self, hash: u64, text: &[u8], dialect: Dialect) -> Option<Arc<Script>> {
        let same = |entry: &Entry| entry.dialect == dialect && *entry.text == *text;
        if let Some(entry) = self.young.entries.find(hash, same) {
            return Some(Arc::clone(&entry.script));
        }
        let entry = self.old.take(hash, same)?;
        let script = Arc::clone(&entry.script);
        self.insert(entry);
        Some(script)
    }

    /// Whether a text of this hash was seen lately; it now was.
    fn saw(&mut self, hash: u64) -> bool {
        let mark = (hash >> 36) as u32;
        let place = &mut self.seen[hash as usize % SEEN];
        mem::replace(place, mark) == mark
    }

    fn insert(&mut self, entry: Entry) {
        let size = entry.size();
        let present = |other: &Entry| other.dialect == entry.dialect && other.text == entry.text;
        if size > self.bytes_max || self.young.entries.find(entry.hash, present).is_some() {
            return;
        }
        if self.young.bytes + size > self.bytes_max {
            self.old = mem::take(&mut self.young);
        }
        self.young.bytes += size;
        self.young.entries.insert_unique(entry.hash, entry, |entry| entry.hash);
    }
}

impl Generation {
    fn take(&mut self, hash: u64, same: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let (entry, _) = self.entries.find_entry(hash, same).ok()?.remove();
        self.bytes -= entry.size();
        Some(entry)
    }
}

impl Entry {
    fn size(&self) -> usize {
        // The table keeps up to half of its places free.
        self.text.len() + 2 * size_of::<Self>() + size_of::<Script>() + self.script.heap_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(bytes_max: usize) -> Cache {
        Cache::new(bytes_max, 1000)
    }

    #[test]
    fn a_text_is_kept_from_its_second_sight() {
        let cache = cache(1 << 20);
        let read = |text: &str| cache.read(text.as_bytes(), Dialect::default());
        let first = read("select 1");
        let second = read("select 1");
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&second, &read("select 1")));
        assert_eq!(*first, *second);
    }

    #[test]
    fn the_dialect_is_part_of_the_key() {
        let cache = cache(1 << 20);
        let text = br"select '\'; delete from t --'";
        let old = Dialect { standard_conforming_strings: false, ..Dialect::default() };
        for _ in 0..3 {
            assert_eq!(cache.read(text, Dialect::default()).statements.len(), 2);
            assert_eq!(cache.read(text, old).statements.len(), 1);
        }
    }

    #[test]
    fn bytes_are_bounded_and_what_is_used_stays() {
        let cache = cache(1 << 20);
        let read = |text: &str| cache.read(text.as_bytes(), Dialect::default());
        read("select hot");
        let hot = read("select hot");
        let mut most = 0;
        for n in 0..20_000 {
            let text = format!("select {n}, '{}'", "x".repeat(n % 500));
            read(&text);
            read(&text);
            assert!(Arc::ptr_eq(&hot, &read("select hot")), "{n}");
            most = most.max(cache.bytes());
        }
        assert!((850_000..=1 << 20).contains(&most), "{most}");
    }

    #[test]
    fn long_texts_and_small_caches_keep_nothing() {
        let long = format!("select '{}'", "x".repeat(1000));
        for (bytes_max, text) in [(1 << 20, &long[..]), (0, "select 1")] {
            let cache = cache(bytes_max);
            (0..3).for_each(|_| drop(cache.read(text.as_bytes(), Dialect::default())));
            assert_eq!(cache.bytes(), 0);
        }
    }

    #[test]
    fn what_is_dropped_is_not_counted() {
        let mut shard = Shard {
            young: Generation::default(),
            old: Generation::default(),
            seen: Box::new([0; SEEN]),
            bytes_max: 10_000,
        };
        for n in 0..1000_u64 {
            let text: Box<[u8]> = format!("select {}", n % 40).into_bytes().into();
            let script = Arc::new(Script::of(&text, Dialect::default()));
            shard.find(n % 40, &text, Dialect::default());
            shard.insert(Entry { hash: n % 40, dialect: Dialect::default(), text, script });
            for generation in [&shard.young, &shard.old] {
                assert_eq!(generation.bytes, generation.entries.iter().map(Entry::size).sum::<usize>());
            }
        }
    }
}
