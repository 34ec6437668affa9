//! The relay: pure machines, and the one loop that moves bytes.
