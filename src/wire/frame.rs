//! (skeleton: frame)
