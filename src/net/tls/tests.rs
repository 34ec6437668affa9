//! Both sides of ours against each other on loopback.

mod data;
mod handshake;
mod setup;

use super::{AcceptTls, ConnectTls, HandshakeError};
use crate::net::options::{ClientTls, ServerTls, SslMode};
use crate::net::stream::Stream;
use crate::net::testing::{Pki, client_tls, server_tls, tcp_pair};

/// What each end of a handshake came to, the accepting one first.
async fn shake(
    accept: &ClientTls,
    connect: &ServerTls,
    host: &str,
) -> (Result<Stream, HandshakeError>, Result<Stream, HandshakeError>) {
    let accept = AcceptTls::build(accept).expect("accepting side");
    let connect = ConnectTls::build(connect).expect("connecting side");
    let (accepted, connected) = tcp_pair().await;
    tokio::join!(accept.accept(accepted), connect.connect(connected, host))
}

/// A connection in TLS, the accepting end first.
async fn tls_pair() -> (Stream, Stream) {
    let pki = Pki::new();
    let accept = client_tls(SslMode::Require, &pki.issue("server", &["localhost"]), None);
    let (accepted, connected) = shake(&accept, &server_tls(SslMode::Require, None, None), "localhost").await;
    (accepted.expect("accepted"), connected.expect("connected"))
}
