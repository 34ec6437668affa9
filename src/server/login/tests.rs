use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::wire::message::backend as say;
use crate::wire::scram::{ScramVerifier, server};

fn request(credential: Credential) -> LoginRequest<'static> {
    LoginRequest {
        user: "alice",
        database: "app",
        params: &[("application_name", "x")],
        credential,
        end_point: None,
        nonce: [1; 18],
    }
}

fn plain() -> Credential {
    Credential::Plain(Secret::new("secret"))
}

fn message(write: impl FnOnce(&mut BytesMut)) -> (u8, Vec<u8>) {
    let mut out = BytesMut::new();
    write(&mut out);
    (out[0], out[5..].to_vec())
}

/// A server's message by its name in the tables below.
fn named(name: &str) -> (u8, Vec<u8>) {
    match name {
        "ok" => message(say::authentication_ok),
        "clear" => message(say::authentication_cleartext),
        "md5" => message(|out| say::authentication_md5(out, *b"salt")),
        "sasl" => message(|out| say::authentication_sasl(out, &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])),
        "oauth" => message(|out| say::authentication_sasl(out, &["OAUTHBEARER"])),
        "continue" => message(|out| say::authentication_sasl_continue(out, b"x")),
        "final" => message(|out| say::authentication_sasl_final(out, b"x")),
        "gss" => (b'R', vec![0, 0, 0, 7]),
        "param" => message(|out| say::parameter_status(out, "TimeZone", b"UTC")),
        "key" => message(|out| say::backend_key_data(out, 7, b"secret of a length")),
        "ready" => message(|out| say::ready_for_query(out, TxStatus::Idle)),
        "busy" => message(|out| say::ready_for_query(out, TxStatus::Failed)),
        "notice" => message(|out| ErrorReply::notice("hello").encode(out)),
        "error" => message(|out| ErrorReply::fatal(SqlState(*b"28P01"), "no").detail("d").hint("h").encode(out)),
        "bare" => (b'E', vec![0]),
        "negotiate" => message(|out| say::negotiate_protocol_version(out, Version::V3_0, &[])),
        "upgrade" => message(|out| say::negotiate_protocol_version(out, Version::V3_2, &[])),
        "row" => (b'D', vec![]),
        "odd" => (b'R', vec![0, 0]),
        other => panic!("{other}"),
    }
}

fn run(credential: Credential, dialogue: &str) -> Result<Step, LoginFailure> {
    let mut out = BytesMut::new();
    let mut step = Ok(Step::Wait(Login::start(request(credential), &mut out)));
    for name in dialogue.split_whitespace() {
        let Ok(Step::Wait(login)) = step else { panic!("over before {name}: {step:?}") };
        let (tag, body) = named(name);
        step = login.step(tag, &body, &mut out);
    }
    step
}

#[test]
fn a_login_ends_at_ready_for_query() {
    for (credential, dialogue) in [
        (Credential::None, "ok param key notice ready"),
        (plain(), "ok key ready"),
        (plain(), "notice clear ok param key ready"),
        (plain(), "md5 ok param key ready"),
        (Credential::Md5(Md5Secret::from_password(b"secret", b"alice")), "md5 ok key ready"),
        (plain(), "negotiate clear ok key ready"),
    ] {
        let Ok(Step::Done(done)) = run(credential, dialogue) else { panic!("{dialogue}") };
        assert_eq!(done.key, BackendKey { pid: 7, secret: (*b"secret of a length").into() });
        let reported = dialogue.contains("param").then_some(&b"UTC"[..]);
        assert_eq!(done.params.get("timezone"), reported, "{dialogue}");
    }
    let Ok(Step::Done(done)) = run(plain(), "ok ready") else { panic!("no key is no fault") };
    assert!(done.key.secret.is_empty());
}

#[test]
fn what_comes_out_of_order_ends_the_login() {
    let protocol = |what| Err(LoginFailure::Protocol(what));
    let unexpected = || protocol("unexpected message during login");
    let authentication = || protocol("unexpected authentication request");
    for (dialogue, expected) in [
        ("ready", unexpected()),
        ("param", unexpected()),
        ("key", unexpected()),
        ("row", unexpected()),
        ("ok row", unexpected()),
        ("ok negotiate", unexpected()),
        ("ok ok", authentication()),
        ("ok clear", authentication()),
        ("clear clear", authentication()), // would give the password a second time
        ("clear sasl", authentication()),
        ("clear ready", unexpected()),
        ("continue", authentication()),
        ("final", authentication()),
        ("sasl ok", authentication()), // has not proved that it knows us
        ("sasl final", authentication()),
        ("sasl clear", authentication()),
        ("sasl sasl", authentication()),
        ("sasl continue", Err(LoginFailure::Scram(ScramError::Malformed("server-first-message")))),
        ("upgrade", protocol("server wants another protocol version than 3.0")),
        ("odd", protocol("malformed authentication request")),
        ("ok busy", protocol("malformed ReadyForQuery")),
        ("oauth", Err(LoginFailure::Unsupported("a SASL mechanism other than SCRAM-SHA-256"))),
        ("gss", Err(LoginFailure::Unsupported("GSSAPI"))),
    ] {
        let result: Result<(), _> = run(plain(), dialogue).map(|_| ());
        assert_eq!(result, expected, "{dialogue}");
    }
}

#[test]
fn a_refusal_is_told_in_the_servers_words() {
    for dialogue in ["error", "clear error", "sasl error", "ok error"] {
        let failure = run(plain(), dialogue).expect_err("refused");
        let reply = failure.reply();
        assert_eq!(failure.code(), Some(SqlState(*b"28P01")), "{dialogue}");
        assert_eq!((&*reply.message, reply.detail.as_deref(), reply.hint.as_deref()), ("no", Some("d"), Some("h")));
    }
    let bare = run(plain(), "bare").expect_err("refused").reply();
    assert_eq!((&*bare.message, bare.code), ("server refused the login", SqlState::CONNECTION_FAILURE));
}

#[test]
fn a_credential_that_does_not_fit_is_named() {
    let md5 = || Credential::Md5(Md5Secret::from_password(b"secret", b"alice"));
    let keys = || Credential::ScramKeys(ScramKeys::from_password(b"secret", b"salt", 16));
    for (credential, dialogue) in [
        (Credential::None, "clear"),
        (Credential::None, "md5"),
        (Credential::None, "sasl"),
        (md5(), "clear"),
        (md5(), "sasl"),
        (keys(), "clear"),
        (keys(), "md5"),
        (Credential::Plain(Secret::new("sec\0ret")), "clear"),
    ] {
        let failure = run(credential.clone(), dialogue).expect_err(dialogue);
        assert_eq!(failure, LoginFailure::WrongPasswordType, "{credential:?} {dialogue}");
        assert_eq!(failure.reason(), "server login failed: wrong password type");
    }
}

/// A whole SCRAM login against our own server side.
fn scram(credential: Credential, verifier: &ScramVerifier, tls: bool, honest: bool) -> Result<Step, LoginFailure> {
    let end_point: Option<Arc<[u8]>> = tls.then(|| Arc::from([7; 32]));
    let mut out = BytesMut::new();
    let login = Login::start(LoginRequest { end_point: end_point.clone(), ..request(credential) }, &mut out);
    let step = |login: Login, (tag, body): (u8, Vec<u8>), out: &mut BytesMut| -> Result<Login, LoginFailure> {
        out.clear();
        match login.step(tag, &body, out)? {
            Step::Wait(login) => Ok(login),
            Step::Done(_) => panic!("too early"),
        }
    };
    let mechanisms = server::mechanisms(tls);
    let login = step(login, message(|out| say::authentication_sasl(out, mechanisms)), &mut out)?;
    let (name, first) = read::sasl_initial_response(&out[5..]).expect("initial response");
    assert_eq!(name, mechanisms[0].as_bytes(), "binds where it can");
    let peer = server::AwaitFirst::new(verifier.clone(), end_point);
    let (peer, answer) = peer.answer(tls, first.expect("data"), &Nonce::from_random([2; 18])).expect("well-formed");
    let login = step(login, message(|out| say::authentication_sasl_continue(out, answer.as_bytes())), &mut out)?;
    let (_, answer) = peer.finish(&out[5..]).map_err(LoginFailure::Scram)?;
    let answer = if honest { answer } else { "v=AAAA".into() };
    let login = step(login, message(|out| say::authentication_sasl_final(out, answer.as_bytes())), &mut out)?;
    let login = step(login, named("ok"), &mut out)?;
    let (tag, body) = named("ready");
    login.step(tag, &body, &mut out)
}

#[test]
fn scram_proves_both_sides() {
    let verifier = ScramVerifier::from_password(b"secret", b"salt", 16);
    let keys = |salt: &[u8]| Credential::ScramKeys(ScramKeys::from_password(b"secret", salt, 16));
    for (credential, tls, honest, expected) in [
        (plain(), false, true, None),
        (plain(), true, true, None),
        (keys(b"salt"), false, true, None),
        (keys(b"salt"), true, true, None),
        (keys(b"other"), false, true, Some(LoginFailure::WrongPasswordType)),
        (plain(), false, false, Some(LoginFailure::Scram(ScramError::ServerSignature))),
        (Credential::Plain(Secret::new("x")), false, true, Some(LoginFailure::Scram(ScramError::Proof))),
    ] {
        let result = scram(credential.clone(), &verifier, tls, honest);
        assert_eq!(result.err(), expected, "{credential:?} {tls} {honest}");
    }
}

#[test]
fn the_startup_packet_names_user_database_and_parameters_in_order() {
    let mut out = BytesMut::new();
    Login::start(request(plain()), &mut out);
    assert_eq!(&out[8..], b"user\0alice\0database\0app\0application_name\0x\0\0");
}

#[test]
fn a_server_that_reports_without_end_is_left() {
    let mut out = BytesMut::new();
    let mut step = Login::start(request(plain()), &mut out).step(b'R', &[0; 4], &mut out);
    for number in 0..=PARAMS_MAX {
        let Ok(Step::Wait(login)) = step else { panic!("{number}: {step:?}") };
        let (tag, body) = message(|out| say::parameter_status(out, &format!("p{number}"), b"x"));
        step = login.step(tag, &body, &mut out);
    }
    assert_eq!(step.map(|_| ()), Err(LoginFailure::Protocol("too many parameters")));
}

proptest! {
    #[test]
    fn no_bytes_panic(
        messages in prop::collection::vec(
            (prop::sample::select(&b"RSKZNEvDx"[..]), prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..20)),
            0..8,
        ),
    ) {
        let mut out = BytesMut::new();
        let mut step = Ok(Step::Wait(Login::start(request(plain()), &mut out)));
        for (tag, body) in messages {
            step = match step {
                Ok(Step::Wait(login)) => login.step(tag, &body, &mut out),
                ended => ended,
            };
        }
    }
}
