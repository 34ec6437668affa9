//! Random numbers that are the same in every run: what fails can be run again.

/// Xorshift.
pub struct Random(u64);

impl Random {
    /// Begins with `seed`, which is not 0.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One of the first `n` numbers.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % n.max(1)
    }
}
