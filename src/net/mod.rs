//! Sockets, TLS, DNS. Does not know what a frame is.

pub mod stream;

pub use stream::Stream;
