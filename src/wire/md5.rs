//! (skeleton: md5)
