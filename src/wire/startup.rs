//! (skeleton: startup)
