use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::wire::message::frontend as say;
use crate::wire::message::read::Authentication;
use crate::wire::scram::client::{self, Mechanism, ScramCredential};

const STRANGERS: Strangers<'static> =
    Strangers { process_secret: b"secret of this process", iterations: 16, scram_users: (0, 1) };

fn stored(kind: &str) -> Option<StoredSecret> {
    Some(match kind {
        "plain" => StoredSecret::Plain(Secret::new("secret")),
        "md5" => StoredSecret::Md5(Secret::new("md54a0a68b43b6cd5cf266fa02f196e2371")), // of "secret" and "alice"
        "scram" => StoredSecret::Scram(ScramVerifier::from_password(b"secret", b"salt", 16)),
        _ => return None,
    })
}

fn request<'a>(method: AuthType, secret: Option<&'a StoredSecret>) -> Request<'a> {
    Request {
        method,
        user: "alice",
        secret,
        verifier: None,
        refusal: None,
        end_point: None,
        strangers: STRANGERS,
        random: Random { nonce: [1; 18], salt: *b"salt" },
    }
}

/// What the last message says, and the login after it.
fn body(out: &BytesMut) -> &[u8] {
    &out[5..]
}

/// Plays an honest client with this password to the end; also returns the kinds of message that it saw.
fn log_in(request: Request<'_>, password: &str) -> (String, Result<Proof, Refusal>) {
    let mut seen = String::new();
    let mut out = BytesMut::new();
    let user = request.user.to_owned();
    let end_point = request.end_point.clone();
    let mut scram = (None, None);
    let mut step = start(request, &mut out);
    loop {
        let exchange = match step {
            Ok(Step::Wait(exchange)) => exchange,
            Ok(Step::Authenticated(proof)) => return (seen, Ok(proof)),
            Err(refusal) => return (seen, Err(refusal)),
        };
        let mut answer = BytesMut::new();
        match read::authentication(body(&out)).expect("an authentication request") {
            Authentication::Cleartext => {
                seen.push('c');
                say::password(&mut answer, password.as_bytes());
            }
            Authentication::Md5(salt) => {
                seen.push('m');
                let secret = Md5Secret::from_password(password.as_bytes(), user.as_bytes());
                say::password(&mut answer, secret.answer(salt).expose());
            }
            Authentication::Sasl(offered) => {
                seen.push('s');
                let mechanism = Mechanism::choose(&offered, end_point.clone()).expect("offered");
                let name = mechanism.name();
                let credential = ScramCredential::Password(Secret::new(password));
                let (next, first) = client::AwaitFirst::new(credential, mechanism, Nonce::from_random([2; 18]));
                scram.0 = Some(next);
                say::sasl_initial_response(&mut answer, name, first.as_bytes());
            }
            Authentication::SaslContinue(data) => {
                seen.push('k');
                let (next, message) = scram.0.take().expect("begun").answer(data).expect("well-formed");
                scram.1 = Some(next);
                say::sasl_response(&mut answer, message.as_bytes());
            }
            other => panic!("{other:?}"),
        }
        out.clear();
        step = exchange.step(b'p', body(&answer), &mut out);
    }
}

#[test]
fn each_method_takes_the_secrets_that_it_can_serve() {
    use AuthType::{Md5, Plain, ScramSha256, Trust};
    for (method, secret, asked, served) in [
        (Trust, "plain", "", true),
        (Trust, "scram", "", true),
        (Trust, "nobody", "", false),
        (Plain, "plain", "c", true),
        (Plain, "md5", "c", true),
        (Plain, "scram", "c", true),
        (Plain, "nobody", "c", false),
        (Md5, "plain", "m", true),
        (Md5, "md5", "m", true),
        (Md5, "scram", "sk", true), // upgrades itself
        (Md5, "nobody", "m", false),
        (ScramSha256, "plain", "sk", true),
        (ScramSha256, "md5", "sk", false),
        (ScramSha256, "scram", "sk", true),
        (ScramSha256, "nobody", "sk", false),
    ] {
        let name = format!("{method:?} {secret}");
        let secret = stored(secret);
        let (seen, result) = log_in(request(method, secret.as_ref()), "secret");
        assert_eq!((seen.as_str(), result.is_ok()), (asked, served), "{name}");
        if method != Trust {
            let (seen, result) = log_in(request(method, secret.as_ref()), "Secret");
            assert_eq!((seen.as_str(), result.is_ok()), (asked, false), "{name}, wrong password");
            let message = if asked == "sk" { "SASL authentication failed" } else { "password authentication failed" };
            let reply = result.expect_err("wrong").reply();
            assert_eq!((&*reply.message, reply.code), (message, SqlState::INVALID_PASSWORD), "{name}");
        }
        assert!(secret.is_none_or(|secret| can_serve(method, &secret) == served), "{name}");
    }
}

#[test]
fn an_empty_secret_is_none() {
    use AuthType::{Md5, Plain, ScramSha256, Trust};
    let empty = StoredSecret::Plain(Secret::new(""));
    for (method, served) in [(Trust, true), (Plain, false), (Md5, false), (ScramSha256, false)] {
        assert_eq!(can_serve(method, &empty), served, "{method:?}");
        for password in ["", "secret"] {
            let (_, result) = log_in(request(method, Some(&empty)), password);
            assert_eq!(result.is_ok(), served, "{method:?} {password}");
        }
    }
}

#[test]
fn under_md5_strangers_are_asked_as_most_users_are() {
    let strangers = Strangers { scram_users: (3, 3), ..STRANGERS };
    for (secret, asked) in [("nobody", "sk"), ("scram", "sk"), ("md5", "m"), ("plain", "m")] {
        let secret = stored(secret);
        let request = Request { strangers, ..request(AuthType::Md5, secret.as_ref()) };
        assert_eq!(log_in(request, "wrong").0, asked);
    }
}

#[test]
fn under_md5_strangers_are_of_both_kinds_where_users_are() {
    let strangers = Strangers { scram_users: (1, 4), ..STRANGERS };
    let names: Vec<String> = (0..1000).map(|n| format!("u{n}")).collect();
    let kinds = || -> Vec<String> {
        let ask = |user: &String| {
            log_in(Request { strangers, user: user.as_str(), ..request(AuthType::Md5, None) }, "wrong").0
        };
        names.iter().map(ask).collect()
    };
    let asked = kinds();
    assert_eq!(asked, kinds(), "a name is asked in the same way each time");
    let scram = asked.iter().filter(|asked| **asked == "sk").count();
    assert!((150..350).contains(&scram) && asked.iter().all(|asked| asked == "sk" || asked == "m"), "{scram}");
}

#[test]
fn a_stranger_reads_the_same_as_a_user_with_a_plain_password() {
    for method in [AuthType::Plain, AuthType::Md5, AuthType::ScramSha256] {
        let plain = stored("plain");
        let [mut known, mut unknown] = [BytesMut::new(), BytesMut::new()];
        for (secret, out) in [(plain.as_ref(), &mut known), (None, &mut unknown)] {
            let Ok(Step::Wait(exchange)) = start(request(method, secret), out) else { panic!("asks") };
            if method == AuthType::ScramSha256 {
                let first = b"SCRAM-SHA-256\0\0\0\0\x0bn,,n=,r=abc";
                assert!(matches!(exchange.step(b'p', first, out), Ok(Step::Wait(_))));
            } else {
                assert_eq!(exchange.step(b'p', b"wrong\0", out), Err(Refusal::Password));
            }
        }
        assert_eq!(known, unknown, "{method:?}");
    }
}

#[test]
fn what_strangers_are_compared_with_opens_nothing() {
    for method in [AuthType::Plain, AuthType::Md5, AuthType::ScramSha256] {
        assert!(log_in(request(method, None), "secret of this process").1.is_err(), "{method:?}");
    }
}

impl PartialEq for Step {
    fn eq(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Authenticated(a), Self::Authenticated(b)) if a == b)
    }
}

#[test]
fn what_else_speaks_against_a_login_is_told_to_those_who_know_the_password() {
    let unknown_database = ErrorReply::fatal(SqlState::NO_SUCH_DATABASE, "no such database: nowhere");
    for method in [AuthType::Plain, AuthType::Md5, AuthType::ScramSha256] {
        for (secret, password, expected) in [
            ("plain", "secret", "no such database: nowhere"),
            ("plain", "wrong", "authentication failed"),
            ("nobody", "secret", "authentication failed"),
        ] {
            let secret = stored(secret);
            let refusal = Some(unknown_database.clone());
            let (_, result) = log_in(Request { refusal, ..request(method, secret.as_ref()) }, password);
            let message = result.expect_err("refused").reply().message;
            assert!(message.ends_with(expected), "{method:?} {password}: {message}");
        }
    }
}

#[test]
fn a_login_teaches_what_opens_the_server() {
    let password = || Credential::Plain(Secret::new("secret"));
    let keys = Credential::ScramKeys(ScramKeys::from_password(b"secret", b"salt", 16));
    let md5 = Credential::Md5(Md5Secret::from_password(b"secret", b"alice"));
    for (method, secret, expected) in [
        (AuthType::Trust, "plain", password()),
        (AuthType::Trust, "md5", md5.clone()),
        (AuthType::Trust, "scram", Credential::None),
        (AuthType::Plain, "md5", password()),
        (AuthType::Plain, "scram", password()),
        (AuthType::Md5, "md5", md5),
        (AuthType::Md5, "scram", keys.clone()),
        (AuthType::ScramSha256, "scram", keys),
        (AuthType::ScramSha256, "plain", password()),
    ] {
        let secret = stored(secret);
        let proof = log_in(request(method, secret.as_ref()), "secret").1.expect("right password");
        assert_eq!(proof.credential(secret.as_ref()), expected, "{method:?} {secret:?}");
    }
}

#[test]
fn on_tls_the_exchange_is_bound_and_a_kept_verifier_is_used() {
    let secret = stored("plain");
    let Some(StoredSecret::Plain(password)) = &secret else { panic!("plain") };
    let verifier = plain_verifier(password, "alice", STRANGERS);
    let bound = Request {
        end_point: Some(Arc::from([7; 32])),
        verifier: Some(&verifier),
        ..request(AuthType::ScramSha256, secret.as_ref())
    };
    let mut out = BytesMut::new();
    assert!(start(Request { refusal: None, ..request(AuthType::ScramSha256, None) }, &mut out).is_ok());
    assert!(!out.windows(5).any(|bytes| bytes == b"-PLUS"), "not offered without TLS");
    assert!(log_in(bound, "secret").1.is_ok());
    let other = ScramVerifier::from_password(b"other", b"salt", 16);
    let kept = Request { verifier: Some(&other), ..request(AuthType::ScramSha256, secret.as_ref()) };
    assert!(log_in(kept, "other").1.is_ok(), "no derivation where one was kept");
}

#[test]
fn nothing_but_the_next_message_is_accepted() {
    let first: &[u8] = b"SCRAM-SHA-256\0\0\0\0\x0bn,,n=,r=abc";
    let mechanism = "client selected an invalid SASL authentication mechanism";
    for (method, messages, expected) in [
        (AuthType::Plain, &[(b'Q', &b"select 1\0"[..])][..], "expected password response, got message type \"Q\""),
        (AuthType::Plain, &[(0, b"")], "expected password response, got message type \"\\x00\""),
        (AuthType::Plain, &[(b'p', b"")], "invalid password packet size"),
        (AuthType::Plain, &[(b'p', b"secret")], "invalid password packet size"),
        (AuthType::Plain, &[(b'p', b"sec\0ret\0")], "invalid password packet size"),
        (AuthType::Plain, &[(b'p', b"\0")], "empty password returned by client"),
        (AuthType::Md5, &[(b'p', b"\0")], "empty password returned by client"),
        (AuthType::Md5, &[(b'X', b"")], "expected password response, got message type \"X\""),
        (AuthType::ScramSha256, &[(b'p', b"secret\0")], "invalid SASLInitialResponse message"),
        (AuthType::ScramSha256, &[(b'p', b"SCRAM-SHA-1\0\xff\xff\xff\xff")], mechanism),
        (AuthType::ScramSha256, &[(b'p', b"SCRAM-SHA-256-PLUS\0\xff\xff\xff\xff")], mechanism),
        (AuthType::ScramSha256, &[(b'p', b"SCRAM-SHA-256\0\0\0\0\0")], "malformed SCRAM message"),
        (AuthType::ScramSha256, &[(b'p', first), (b'p', first)], "malformed SCRAM message"),
        (AuthType::ScramSha256, &[(b'p', first), (b'Q', b"")], "expected password response, got message type \"Q\""),
        (AuthType::ScramSha256, &[(b'p', first), (b'p', b"")], "malformed SCRAM message"),
    ] {
        let secret = stored("plain");
        let mut out = BytesMut::new();
        let mut step = start(request(method, secret.as_ref()), &mut out);
        for (tag, body) in messages {
            let Ok(Step::Wait(exchange)) = step else { panic!("over too early: {step:?}") };
            step = exchange.step(*tag, body, &mut out);
        }
        let reply = step.expect_err("refused").reply();
        assert_eq!(reply.message, expected, "{method:?} {messages:?}");
        assert_eq!(reply.severity.as_str(), "FATAL");
    }
}

#[test]
fn a_client_may_send_its_first_word_after_the_mechanism() {
    let secret = stored("plain");
    let mut out = BytesMut::new();
    let Ok(Step::Wait(exchange)) = start(request(AuthType::ScramSha256, secret.as_ref()), &mut out) else {
        panic!("asks")
    };
    out.clear();
    let Ok(Step::Wait(exchange)) = exchange.step(b'p', b"SCRAM-SHA-256\0\xff\xff\xff\xff", &mut out) else {
        panic!("goes on")
    };
    assert_eq!(read::authentication(body(&out)), Some(Authentication::SaslContinue(b"")));
    assert!(matches!(exchange.step(b'p', b"n,,n=,r=abc", &mut out), Ok(Step::Wait(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_bytes_panic_or_log_in(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..4),
        method in prop::sample::select(vec![AuthType::Plain, AuthType::Md5, AuthType::ScramSha256]),
        known in any::<bool>(),
        begun in any::<bool>(),
    ) {
        let secret = stored(if known { "plain" } else { "nobody" });
        let mut out = BytesMut::new();
        let mut step = start(request(method, secret.as_ref()), &mut out);
        let begin = begun.then(|| b"SCRAM-SHA-256\0\0\0\0\x0bn,,n=,r=abc".to_vec());
        for body in begin.into_iter().chain(bodies) {
            step = match step {
                Ok(Step::Wait(exchange)) => exchange.step(b'p', &body, &mut out),
                ended => ended,
            };
        }
        prop_assert!(!matches!(step, Ok(Step::Authenticated(_))));
    }
}
