use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::net::options::TlsVersions;
use crate::net::testing::Pair;

/// One round trip, so that both sides know whether the other was content: in TLS 1.3 the connecting side is
/// done before its own certificate has been looked at.
async fn exchange(ends: (Result<Stream, HandshakeError>, Result<Stream, HandshakeError>)) -> Result<String, String> {
    let mut accepted = ends.0.map_err(|e| format!("accepting: {e}"))?;
    let mut connected = ends.1.map_err(|e| format!("connecting: {e}"))?;
    connected.write_all(b"ask").await.map_err(|e| e.to_string())?;
    let mut bytes = [0; 3];
    accepted.read_exact(&mut bytes).await.map_err(|e| e.to_string())?;
    accepted.write_all(b"say").await.map_err(|e| e.to_string())?;
    connected.read_exact(&mut bytes).await.map_err(|e| e.to_string())?;
    assert_eq!(&bytes, b"say");
    assert_eq!(accepted.tls_name(), connected.tls_name());
    assert_eq!(accepted.server_end_point(), connected.server_end_point());
    Ok(connected.tls_name().to_string())
}

#[tokio::test]
async fn a_server_is_verified_as_far_as_the_mode_says() {
    let (ours, theirs) = (Pki::new(), Pki::named("Foreign Authority"));
    let named = ours.issue("named", &["db.example", "127.0.0.1"]);
    let foreign = theirs.issue("foreign", &["db.example"]);
    let same_name = Pki::new(); // but another key
    let impostor = same_name.issue("impostor", &["db.example"]);
    let expired = ours.issue_with("expired", &["db.example"], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    });
    let (unknown, misnamed) = ("not signed by any authority", "not valid for name");
    for (mode, server, host, refusal) in [
        (SslMode::Allow, &foreign, "other.example", None),
        (SslMode::Prefer, &foreign, "other.example", None),
        (SslMode::Require, &foreign, "other.example", None),
        (SslMode::Require, &expired, "not a name!", None),
        (SslMode::VerifyCa, &named, "other.example", None),
        (SslMode::VerifyCa, &named, "not a name!", None),
        (SslMode::VerifyCa, &foreign, "db.example", Some(unknown)),
        (SslMode::VerifyCa, &impostor, "db.example", Some("signed by another key")),
        (SslMode::VerifyCa, &expired, "db.example", Some("expired")),
        (SslMode::VerifyFull, &named, "db.example", None),
        (SslMode::VerifyFull, &named, "127.0.0.1", None),
        (SslMode::VerifyFull, &named, "127.0.0.2", Some(misnamed)),
        (SslMode::VerifyFull, &named, "other.example", Some(misnamed)),
        (SslMode::VerifyFull, &named, "not a name!", Some("not a name that a certificate")),
        (SslMode::VerifyFull, &foreign, "db.example", Some(unknown)),
    ] {
        let case = format!("{mode:?} {} {host}", server.cert.display());
        let accept = client_tls(SslMode::Require, server, None);
        let connect = server_tls(mode, None, Some(ours.ca()));
        let (accepted, connected) = shake(&accept, &connect, host).await;
        match (refusal, connected) {
            (None, connected) => drop(exchange((accepted, connected)).await.expect(&case)),
            (Some(words), Err(e)) => assert!(e.to_string().contains(words), "{case}: {e}"),
            (Some(_), Ok(_)) => panic!("{case}: connected"),
        }
    }
}

#[tokio::test]
async fn a_client_needs_a_certificate_in_the_verifying_modes_only() {
    let (ours, theirs) = (Pki::new(), Pki::named("Foreign Authority"));
    let server = ours.issue("server", &["localhost"]);
    let (known, foreign) = (ours.issue("client", &[]), theirs.issue("client", &[]));
    for (mode, client, refusal) in [
        (SslMode::Allow, None, None),
        (SslMode::Require, None, None),
        (SslMode::Require, Some(&foreign), None),
        (SslMode::VerifyCa, Some(&known), None),
        (SslMode::VerifyFull, Some(&known), None),
        (SslMode::VerifyCa, None, Some("has no certificate")),
        (SslMode::VerifyFull, Some(&foreign), Some("not signed by any authority")),
    ] {
        let accept = client_tls(mode, &server, Some(ours.ca()));
        let ends = shake(&accept, &server_tls(SslMode::Require, client, None), "localhost").await;
        match (refusal, exchange(ends).await) {
            (None, done) => drop(done.expect("exchange")),
            (Some(words), Err(e)) => assert!(e.contains(words), "{mode:?} {client:?}: {e}"),
            (Some(_), Ok(_)) => panic!("{mode:?} {client:?}: accepted"),
        }
    }
}

#[tokio::test]
async fn versions_and_ciphers_are_those_that_both_allow() {
    let pki = Pki::new();
    let server = pki.issue("server", &["localhost"]);
    let only12 = TlsVersions { tls12: true, tls13: false };
    let both = TlsVersions::default();
    for (ours, ciphers, theirs, name) in [
        (both, &[][..], both, "TLSv1.3/TLS_AES_256_GCM_SHA384/X25519MLKEM768"),
        (both, &["TLS_CHACHA20_POLY1305_SHA256"], both, "TLSv1.3/TLS_CHACHA20_POLY1305_SHA256/X25519MLKEM768"),
        (
            both,
            &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"],
            both,
            "TLSv1.3/TLS_AES_128_GCM_SHA256/X25519MLKEM768",
        ),
        (only12, &[], both, "TLSv1.2/ECDHE-ECDSA-AES256-GCM-SHA384/X25519"),
        (both, &["TLS_AES_128_GCM_SHA256"], only12, "TLSv1.2/ECDHE-ECDSA-AES256-GCM-SHA384/X25519"),
    ] {
        let mut accept = client_tls(SslMode::Require, &server, None);
        accept.versions = ours;
        accept.tls13_ciphers = ciphers.iter().map(|name| (*name).to_owned()).collect();
        let mut connect = server_tls(SslMode::Require, None, None);
        connect.versions = theirs;
        assert_eq!(exchange(shake(&accept, &connect, "localhost").await).await.as_deref(), Ok(name));
    }
    let mut accept = client_tls(SslMode::Require, &server, None);
    accept.versions = TlsVersions { tls12: false, tls13: true };
    let mut connect = server_tls(SslMode::Require, None, None);
    connect.versions = only12;
    let (accepted, connected) = shake(&accept, &connect, "localhost").await;
    assert!(accepted.is_err() && connected.is_err());
}

#[tokio::test]
async fn both_ends_bind_to_the_same_certificate() {
    let pki = Pki::new();
    for (algorithm, length) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, Some(32)),
        (&rcgen::PKCS_ECDSA_P384_SHA384, Some(48)),
        (&rcgen::PKCS_ED25519, None),
    ] {
        let server = pki.self_signed("server", &["localhost"], algorithm);
        let ends =
            shake(&client_tls(SslMode::Require, &server, None), &server_tls(SslMode::Require, None, None), "localhost")
                .await;
        let (accepted, connected) = (ends.0.expect("accepted"), ends.1.expect("connected"));
        assert_eq!(accepted.server_end_point().map(|hash| hash.len()), length);
        assert_eq!(accepted.server_end_point(), connected.server_end_point());
    }
    let (accepted, _) = tcp_pair().await;
    assert_eq!(accepted.server_end_point(), None);
}

#[tokio::test]
async fn a_self_signed_certificate_is_verified_by_its_copy() {
    let pki = Pki::new();
    let server = pki.self_signed("server", &["localhost"], &rcgen::PKCS_ECDSA_P256_SHA256);
    let other = pki.self_signed("other", &["localhost"], &rcgen::PKCS_ECDSA_P256_SHA256);
    let accept = client_tls(SslMode::Require, &server, None);
    for (ca, accepted) in [(&server.cert, true), (&other.cert, false)] {
        let connect = server_tls(SslMode::VerifyFull, None, Some(ca.clone()));
        assert_eq!(exchange(shake(&accept, &connect, "localhost").await).await.is_ok(), accepted);
    }
}

#[tokio::test]
async fn certificates_as_the_postgresql_manual_makes_them_are_verified() {
    let pki = Pki::new();
    let server = Pair {
        key: pki.write("old.key", include_str!("../testdata/version1.key")),
        cert: pki.write("old.crt", include_str!("../testdata/version1.crt")),
    };
    let ca = pki.write("old-ca.crt", include_str!("../testdata/version1-ca.crt"));
    let same_name = Pki::named("Old Authority"); // but another key
    let only12 = TlsVersions { tls12: true, tls13: false };
    for versions in [TlsVersions::default(), only12] {
        for (mode, ca, host, accepted) in [
            (SslMode::Require, &pki.ca(), "other.example", true),
            (SslMode::VerifyCa, &ca, "other.example", true),
            (SslMode::VerifyCa, &pki.ca(), "db.old.example", false),
            (SslMode::VerifyCa, &same_name.ca(), "db.old.example", false),
            (SslMode::VerifyFull, &ca, "DB.old.example", true),
            (SslMode::VerifyFull, &ca, "old.example", false),
        ] {
            let mut accept = client_tls(SslMode::Require, &server, None);
            accept.versions = versions;
            let ends = shake(&accept, &server_tls(mode, None, Some(ca.clone())), host).await;
            assert_eq!(exchange(ends).await.is_ok(), accepted, "{versions:?} {mode:?} {host}");
        }
    }
}

#[tokio::test]
async fn a_second_connection_resumes_the_first_ones_session() {
    let pki = Pki::new();
    let server = pki.issue("server", &["localhost"]);
    let accept = AcceptTls::build(&client_tls(SslMode::Require, &server, None)).expect("accepting side");
    let connect = ConnectTls::build(&server_tls(SslMode::Require, None, None)).expect("connecting side");
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let (accepted, connected) = tcp_pair().await;
        let ends = tokio::join!(accept.accept(accepted), connect.connect(connected, "localhost"));
        let (mut accepted, mut connected) = (ends.0.expect("accepted"), ends.1.expect("connected"));
        accepted.write_all(b"tickets come before this").await.expect("write");
        connected.read_exact(&mut [0; 24]).await.expect("read");
        let Stream::Tls(tls) = &connected else { panic!("not TLS") };
        kinds.push(tls.handshake_kind());
        assert_eq!(accepted.server_end_point(), connected.server_end_point());
    }
    assert_eq!(kinds, [Some(rustls::HandshakeKind::Full), Some(rustls::HandshakeKind::Resumed)]);
}

#[tokio::test]
async fn a_peer_that_does_not_speak_tls_is_an_error_and_not_a_wait() {
    let pki = Pki::new();
    let accept = AcceptTls::build(&client_tls(SslMode::Require, &pki.issue("server", &["localhost"]), None));
    let accept = accept.expect("accepting side");
    let connect = ConnectTls::build(&server_tls(SslMode::Require, None, None)).expect("connecting side");
    for words in [&b"\0\0\0\x08\x04\xd2\x16\x2f"[..], b"Q\0\0\0\x05\0", b"\x16\x03\x01\0\x05nonsense", b""] {
        let (accepted, mut other) = tcp_pair().await;
        other.write_all(words).await.expect("write");
        other.shutdown().await.expect("shutdown");
        accept.accept(accepted).await.expect_err("accepted nonsense");

        let (mut other, connected) = tcp_pair().await;
        other.write_all(words).await.expect("write");
        other.shutdown().await.expect("shutdown");
        connect.connect(connected, "localhost").await.expect_err("connected to nonsense");
    }
    let (unix, _other) = tokio::net::UnixStream::pair().expect("pair");
    assert!(matches!(accept.accept(Stream::Unix(unix)).await, Err(HandshakeError::NotTcp)));
}

#[tokio::test]
async fn direct_tls_needs_alpn_and_keeps_what_was_read_already() {
    let pki = Pki::new();
    let server = pki.issue("server", &["localhost"]);
    let accept = AcceptTls::build(&client_tls(SslMode::Require, &server, None)).expect("accepting side");
    let connect = ConnectTls::build(&server_tls(SslMode::Require, None, None)).expect("connecting side");
    for (read_before, ours) in [(1, true), (700, true), (1, false)] {
        let (mut accepted, connected) = tcp_pair().await;
        let connecting = async {
            match ours {
                true => connect.connect(connected, "localhost").await,
                false => connect.connect_without_alpn(connected, "localhost").await,
            }
        };
        let accepting = async {
            let mut first = vec![0; read_before];
            accepted.read_exact(&mut first).await.expect("first bytes");
            accept.accept_direct(accepted, &first).await
        };
        let ends = tokio::join!(accepting, connecting);
        match ours {
            true => drop(exchange(ends).await.expect("exchange")),
            false => assert!(matches!(ends.0, Err(HandshakeError::NoAlpn))),
        }
    }
}
