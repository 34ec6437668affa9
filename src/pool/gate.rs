//! The set of reasons why a pool hands out no server. Open when it is empty; each reason is taken back only by
//! the one who gave it.

/// Why servers are held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum HoldReason {
    /// PAUSE or KILL of this database, until RESUME of it.
    DatabasePaused = 1,
    /// PAUSE of everything, until RESUME of everything.
    PoolerPaused = 2,
}

/// Reasons to hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gate(u8);

impl Gate {
    /// Whether servers may be handed out.
    pub fn is_open(self) -> bool {
        self.0 == 0
    }

    /// Whether an operator paused: then idle servers are closed, not kept.
    pub fn is_paused(self) -> bool {
        self.has(HoldReason::DatabasePaused) || self.has(HoldReason::PoolerPaused)
    }

    /// Whether `reason` holds.
    pub fn has(self, reason: HoldReason) -> bool {
        self.0 & reason as u8 != 0
    }

    /// Adds a reason. Returns whether it is new.
    pub fn hold(&mut self, reason: HoldReason) -> bool {
        let before = *self;
        self.0 |= reason as u8;
        before != *self
    }

    /// Takes a reason back. Returns whether it was there.
    pub fn release(&mut self, reason: HoldReason) -> bool {
        let before = *self;
        self.0 &= !(reason as u8);
        before != *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_taken_back_only_by_its_own_name() {
        let mut gate = Gate::default();
        assert!(gate.is_open());
        assert!(gate.hold(HoldReason::DatabasePaused));
        assert!(gate.hold(HoldReason::PoolerPaused));
        assert!(!gate.hold(HoldReason::PoolerPaused), "held already");
        assert!(gate.release(HoldReason::PoolerPaused));
        assert!(!gate.is_open() && gate.is_paused() && gate.has(HoldReason::DatabasePaused));
        assert!(!gate.release(HoldReason::PoolerPaused));
        assert!(gate.release(HoldReason::DatabasePaused) && gate.is_open() && !gate.is_paused());
    }
}
