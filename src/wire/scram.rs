//! (skeleton: scram)
