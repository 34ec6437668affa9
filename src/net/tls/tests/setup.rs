use std::fs;

use super::super::end_point::end_point;
use super::super::slot::{Reloaded, TlsSlot};
use super::*;
use crate::net::options::TlsVersions;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

#[test]
fn what_is_wrong_is_said_with_the_setting_and_the_file() {
    let pki = Pki::new();
    let (good, other) = (pki.issue("good", &["localhost"]), pki.issue("other", &["localhost"]));
    let pem = |name: &str, text: &str| Some(pki.write(name, text));
    let encrypted =
        pem("enc.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let damaged = pem("bad.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let cut = pem("cut.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let torn = pem("torn.key", "-----BEGIN PRIVATE KEY--AAAA\n-----END PRIVATE KEY-----\n");
    let base = || client_tls(SslMode::Require, &good, None);
    type Change<'a> = Box<dyn Fn(&mut ClientTls) + 'a>;
    let table: Vec<(Change<'_>, &[&str])> = vec![
        (Box::new(|t| (t.key_file, t.cert_file) = (None, None)), &["client_tls_key_file must be set"]),
        (Box::new(|t| t.key_file = None), &["client_tls_key_file must be set", "no key for it"]),
        (Box::new(|t| t.cert_file = None), &["client_tls_cert_file must be set"]),
        (Box::new(|t| t.key_file = Some("/nowhere/k".into())), &["client_tls_key_file", "/nowhere/k", "No such file"]),
        (Box::new(|t| t.key_file = t.cert_file.clone()), &["client_tls_key_file", "good.crt", "no private key in it"]),
        (Box::new(|t| t.cert_file = t.key_file.clone()), &["client_tls_cert_file", "good.key", "no certificate in it"]),
        (Box::new(|t| t.key_file = encrypted.clone()), &["enc.key", "passphrase"]),
        (Box::new(|t| t.cert_file = damaged.clone()), &["bad.crt", "damaged"]),
        (Box::new(|t| t.cert_file = cut.clone()), &["cut.crt", "the line -----END CERTIFICATE----- is missing"]),
        (Box::new(|t| t.key_file = torn.clone()), &["torn.key", "-----BEGIN does not end with -----"]),
        (Box::new(|t| t.key_file = Some(other.key.clone())), &["other.key", "does not belong to", "good.crt"]),
        (Box::new(|t| t.sslmode = SslMode::VerifyCa), &["client_tls_ca_file must be set"]),
        (
            Box::new(|t| (t.sslmode, t.ca_file) = (SslMode::VerifyFull, damaged.clone())),
            &["client_tls_ca_file", "bad.crt", "none of its certificates"],
        ),
        (Box::new(|t| t.ca_file = Some("/nowhere/ca".into())), &["client_tls_ca_file", "/nowhere/ca"]),
        (
            Box::new(|t| t.tls13_ciphers = vec!["TLS_ROT13".into()]),
            &["client_tls13_ciphers", "TLS_ROT13", "TLS_AES_256_GCM_SHA384"],
        ),
        (Box::new(|t| t.versions = TlsVersions { tls12: false, tls13: false }), &["client_tls_protocols"]),
    ];
    for (change, words) in table {
        let mut settings = base();
        change(&mut settings);
        let error = AcceptTls::build(&settings).expect_err("built").to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error:?} lacks one of {words:?}");
    }
    AcceptTls::build(&base()).expect("the base is good");
}

#[test]
fn servers_settings_have_their_own_names() {
    let pki = Pki::new();
    for mode in [SslMode::VerifyCa, SslMode::VerifyFull] {
        let error = ConnectTls::build(&server_tls(mode, None, None)).expect_err("built");
        assert!(error.to_string().starts_with("server_tls_ca_file must be set"), "{error}");
    }
    let mut settings = server_tls(SslMode::Prefer, Some(&pki.issue("good", &[])), None);
    settings.cert_file = None;
    let error = ConnectTls::build(&settings).expect_err("built");
    assert!(error.to_string().starts_with("server_tls_cert_file must be set"), "{error}");
}

#[test]
fn an_expired_certificate_of_our_own_is_left_to_the_client() {
    let pki = Pki::new();
    let old = pki.issue_with("old", &["localhost"], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    });
    AcceptTls::build(&client_tls(SslMode::Require, &old, None)).expect("built");
}

#[test]
fn a_reload_replaces_by_what_can_be_built_and_only_if_something_changed() {
    let pki = Pki::new();
    let first = pki.issue("server", &["localhost"]);
    let settings = client_tls(SslMode::Require, &first, None);
    let slot = TlsSlot::for_clients(&settings).expect("first");
    let before = slot.load().expect("on");
    assert_eq!(slot.install(slot.prepare(&settings).expect("same")), Reloaded::Unchanged);
    fs::write(&first.cert, fs::read(&first.cert).expect("read")).expect("touch");
    assert_eq!(slot.install(slot.prepare(&settings).expect("touched")), Reloaded::Unchanged);

    fs::write(&first.cert, "rubbish").expect("break");
    slot.prepare(&settings).expect_err("broken");
    assert!(std::sync::Arc::ptr_eq(&slot.load().expect("on"), &before), "the old one stays");

    pki.issue("server", &["localhost"]);
    assert_eq!(slot.install(slot.prepare(&settings).expect("new")), Reloaded::Changed);
    assert!(!std::sync::Arc::ptr_eq(&slot.load().expect("on"), &before));

    let allow = client_tls(SslMode::Allow, &first, None);
    assert_eq!(slot.install(slot.prepare(&allow).expect("mode")), Reloaded::Changed);
    assert_eq!(slot.load().expect("on").mode(), SslMode::Allow);

    let off = client_tls(SslMode::Disable, &first, None);
    assert_eq!(slot.install(slot.prepare(&off).expect("off")), Reloaded::Changed);
    assert!(slot.load().is_none());
    assert_eq!(slot.install(slot.prepare(&off).expect("off")), Reloaded::Unchanged);
}

#[test]
fn a_reload_for_servers_sees_every_file() {
    let pki = Pki::new();
    let client = pki.issue("client", &[]);
    let settings = server_tls(SslMode::VerifyCa, Some(&client), Some(pki.ca()));
    let slot = TlsSlot::for_servers(&settings).expect("first");
    assert_eq!(slot.install(slot.prepare(&settings).expect("same")), Reloaded::Unchanged);
    pki.issue("client", &[]);
    assert_eq!(slot.install(slot.prepare(&settings).expect("key")), Reloaded::Changed);
    fs::write(pki.path().join("ca.crt"), include_str!("../testdata/version1-ca.crt")).expect("write");
    assert_eq!(slot.install(slot.prepare(&settings).expect("ca")), Reloaded::Changed);
    fs::remove_file(pki.path().join("ca.crt")).expect("remove");
    slot.prepare(&settings).expect_err("gone");
    assert!(slot.load().is_some());
}

#[test]
fn the_hash_of_a_pss_signature_is_in_its_parameters() {
    let pem = include_str!("../testdata/pss.crt");
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("certificate");
    // openssl x509 -outform DER | openssl dgst -sha384
    let hash = "aa2d196785c50b5e54eccd202e72e1c2fde6f0cb00e725d1f351cdac022d936e52bb57dbae11df12118ae4bfa0705d89";
    let found: String = end_point(&der).expect("hash").iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(found, hash);
    assert_eq!(end_point(b"rubbish"), None);
}
