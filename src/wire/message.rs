//! (skeleton: message)
