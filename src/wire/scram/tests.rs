use proptest::prelude::*;

use super::client::{Mechanism, ScramCredential};
use super::*;
use crate::types::Secret;

/// RFC 7677, section 3.
const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn nonce(text: &str) -> Nonce {
    Nonce(text.to_owned())
}

fn verifier() -> ScramVerifier {
    ScramVerifier::from_password(b"pencil", &BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64"), 4096)
}

fn password(text: &str) -> ScramCredential {
    ScramCredential::Password(Secret::new(text))
}

/// A whole exchange; the client's word first.
fn exchange(
    credential: ScramCredential,
    expected: ScramVerifier,
    offered: Option<&[u8]>,
    seen: Option<&[u8]>,
) -> Result<(ScramKeys, ScramKeys), ScramError> {
    let mechanisms = server::mechanisms(offered.is_some());
    let offer: Vec<&[u8]> = mechanisms.iter().map(|name| name.as_bytes()).collect();
    let mechanism = Mechanism::choose(&offer, seen.map(Arc::from)).expect("always one");
    let plus = mechanism.name() == SHA_256_PLUS;
    let (client, message) = client::AwaitFirst::new(credential, mechanism, Nonce::from_random([1; 18]));
    let server = server::AwaitFirst::new(expected, offered.map(Arc::from));
    let (server, message) = server.answer(plus, message.as_bytes(), &Nonce::from_random([2; 18]))?;
    let (client, message) = client.answer(message.as_bytes())?;
    let (learnt, message) = server.finish(message.as_bytes())?;
    Ok((learnt, client.finish(message.as_bytes())?))
}

#[test]
fn our_client_says_what_the_rfc_says() {
    let (client, first) =
        client::AwaitFirst::begin(password("pencil"), Binding::Unsupported, nonce(CLIENT_NONCE), "user");
    assert_eq!(first, CLIENT_FIRST);
    let (client, message) = client.answer(SERVER_FIRST.as_bytes()).expect("server-first-message");
    assert_eq!(message, CLIENT_FINAL);
    assert_eq!(client.finish(SERVER_FINAL.as_bytes()).expect("server-final-message").verifier(), verifier());
}

#[test]
fn our_server_says_what_the_rfc_says_and_learns_the_clients_keys() {
    let server = server::AwaitFirst::new(verifier(), None);
    let (server, message) = server.answer(false, CLIENT_FIRST.as_bytes(), &nonce(SERVER_NONCE)).expect("first");
    assert_eq!(message, SERVER_FIRST);
    let (keys, message) = server.finish(CLIENT_FINAL.as_bytes()).expect("proof");
    assert_eq!(message, SERVER_FINAL);
    assert_eq!(keys, ScramKeys::from_password(b"pencil", verifier().salt(), 4096));
}

#[test]
fn learnt_keys_open_the_server_with_the_same_secret_and_no_other() {
    let (learnt, _) = exchange(password("pencil"), verifier(), None, None).expect("login");
    let again = exchange(ScramCredential::Keys(learnt.clone()), verifier(), None, None);
    assert_eq!(again, Ok((learnt.clone(), learnt.clone())));
    for other in [
        ScramVerifier::from_password(b"pencil", b"other salt", 4096),
        ScramVerifier::from_password(b"pencil", verifier().salt(), 4097),
    ] {
        assert_eq!(exchange(ScramCredential::Keys(learnt.clone()), other, None, None), Err(ScramError::OtherKeys));
    }
    let other = ScramVerifier::from_password(b"pen", verifier().salt(), 4096);
    assert_eq!(exchange(ScramCredential::Keys(learnt), other, None, None), Err(ScramError::Proof));
}

#[test]
fn stored_secrets_read_back_as_postgresql_writes_them() {
    let text = verifier().to_string();
    assert_eq!(
        text,
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
         wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    );
    assert_eq!(ScramVerifier::parse(&text), Some(verifier()));
    assert!(verifier().matches_password(b"pencil") && !verifier().matches_password(b"Pencil"));
    for broken in [
        "",
        "pencil",
        &text[..text.len() - 1],
        &text.replace("4096", "0"),
        &text.replace("4096", "-1"),
        &text.replace("W22ZaJ0SNY7soEsUEjb6gQ==", ""),
        &text.replace("SHA-256", "SHA-1"),
        &text.replace("wfPL", ""),
        &text.replace(':', "$"),
    ] {
        assert_eq!(ScramVerifier::parse(broken), None, "{broken}");
    }
    assert!(!format!("{:?}", verifier()).contains("WG5d"));
}

#[test]
fn a_stranger_is_asked_like_anybody_and_fails_at_the_end() {
    let mock = |user| ScramVerifier::mock(b"secret of this process", user, 4096);
    assert_eq!(mock("a").salt(), mock("a").salt(), "the same at each attempt");
    assert_ne!(mock("a").salt(), mock("b").salt());
    assert_eq!(mock("a").salt(), salt_for(b"secret of this process", "a"), "as for users with a plain password");
    // Even one who happens to know the keys does not get in.
    let server = server::AwaitFirst::mock(verifier(), None);
    let (server, message) = server.answer(false, CLIENT_FIRST.as_bytes(), &nonce(SERVER_NONCE)).expect("first");
    assert_eq!(message, SERVER_FIRST);
    assert_eq!(server.finish(CLIENT_FINAL.as_bytes()).expect_err("doomed"), ScramError::Proof);
    assert_eq!(exchange(password("pencil"), mock("a"), None, None), Err(ScramError::Proof));
}

#[test]
fn an_exchange_is_bound_to_the_certificate_that_both_see() {
    let hash: Option<&[u8]> = Some(&[7; 32]);
    for (offered, seen, expected) in [
        (None, None, None),
        (hash, hash, None),
        (hash, None, None), // the client's TLS has no end point, or none is wanted
        (None, hash, None), // not offered, and rightly so
        (hash, Some(&[8; 32][..]), Some(ScramError::BindingMismatch)), // somebody sits in between
    ] {
        let result = exchange(password("pencil"), verifier(), offered, seen);
        assert_eq!(result.err(), expected, "{offered:?} {seen:?}");
    }
}

#[test]
fn a_first_message_is_read_as_postgresql_reads_it() {
    let malformed = |place| Some(ScramError::Malformed(place));
    const ATTRIBUTE: &str = "Unexpected attribute in client-first-message.";
    for (plus, end_point, message, expected) in [
        (false, false, "n,,n=,r=abc", None),
        (false, false, "y,,n=,r=abc", None),
        (false, false, "n,,n=x,r=abc,z=ignored", None),
        (false, true, "n,,n=,r=abc", None),
        (true, true, "p=tls-server-end-point,,n=,r=abc", None),
        (false, true, "y,,n=,r=abc", Some(ScramError::Downgrade)),
        (true, true, "p=tls-unique,,n=,r=abc", Some(ScramError::UnknownBinding)),
        (true, true, "n,,n=,r=abc", malformed("Channel binding data is missing.")),
        (true, true, "y,,n=,r=abc", malformed("Channel binding data is missing.")),
        (false, true, "p=tls-server-end-point,,n=,r=abc", malformed("Channel binding data is not expected.")),
        (false, false, "n,a=x,n=,r=abc", Some(ScramError::AuthorizationIdentity)),
        (false, false, "n,,m=x,n=,r=abc", Some(ScramError::Extension)),
        (false, false, "", malformed("Unexpected channel-binding flag.")),
        (false, false, "n", malformed("Unexpected channel-binding flag.")),
        (false, false, "x,,n=,r=abc", malformed("Unexpected channel-binding flag.")),
        (false, false, "n,", malformed(ATTRIBUTE)),
        (false, false, "n,,", malformed(ATTRIBUTE)),
        (false, false, "n,,r=abc", malformed(ATTRIBUTE)),
        (false, false, "n,,n=x", malformed(ATTRIBUTE)),
        (false, false, "n,,n=,r=abc,junk", malformed(ATTRIBUTE)),
        (false, false, "n,,n=,r=", malformed("Non-printable characters in SCRAM nonce.")),
        (false, false, "n,,n=,r=a b", malformed("Non-printable characters in SCRAM nonce.")),
        (false, false, "n,,n=,r=caf\u{e9}", malformed("Non-printable characters in SCRAM nonce.")),
        (false, false, "n,,n=\0,r=abc", malformed("Message length does not match input length.")),
    ] {
        let server = server::AwaitFirst::new(verifier(), end_point.then(|| Arc::from([7; 32])));
        let result = server.answer(plus, message.as_bytes(), &nonce(SERVER_NONCE));
        assert_eq!(result.err(), expected, "{message}");
    }
}

#[test]
fn a_final_message_is_read_as_postgresql_reads_it() {
    let changed = |from: &str, to: &str| {
        let message = CLIENT_FINAL.replace(from, to);
        let server = server::AwaitFirst::new(verifier(), None);
        let (server, _) = server.answer(false, CLIENT_FIRST.as_bytes(), &nonce(SERVER_NONCE)).expect("first");
        server.finish(message.as_bytes()).err()
    };
    const ATTRIBUTE: &str = "Unexpected attribute in client-final-message.";
    for (from, to, expected) in [
        ("", "", None),
        ("p=dHzb", "p=dHzc", Some(ScramError::Proof)),
        (",p=", ",z=ignored,p=", Some(ScramError::Proof)), // read, but not what was signed
        ("k0,", "k1,", Some(ScramError::Nonce)),
        (
            "c=biws",
            "c=eSws",
            Some(ScramError::Malformed("Unexpected channel-binding attribute in client-final-message.")),
        ),
        ("p=dHzb", "p=", Some(ScramError::Malformed("Malformed proof in client-final-message."))),
        ("p=dHzb", "p=!!!!", Some(ScramError::Malformed("Malformed proof in client-final-message."))),
        ("VQ=", "VQ=,x=y", Some(ScramError::Malformed("Garbage found at the end of client-final-message."))),
        ("VQ=", "VQ=,", Some(ScramError::Malformed("Garbage found at the end of client-final-message."))),
        (",p=", ",", Some(ScramError::Malformed(ATTRIBUTE))),
        ("c=biws,", "", Some(ScramError::Malformed(ATTRIBUTE))),
    ] {
        // Replacing nothing by nothing would insert at every place.
        let result = if from.is_empty() { changed("biws", "biws") } else { changed(from, to) };
        assert_eq!(result, expected, "{from:?} by {to:?}");
    }
}

#[test]
fn a_server_is_not_believed() {
    let answer = |message: &str| {
        let (client, _) =
            client::AwaitFirst::begin(password("pencil"), Binding::Unsupported, nonce(CLIENT_NONCE), "user");
        client.answer(message.as_bytes()).map(|(client, _)| client)
    };
    for (from, to, expected) in [
        ("r=rOpr", "r=xOpr", ScramError::Nonce),
        ("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", "", ScramError::Nonce),
        ("i=4096", "i=0", ScramError::Iterations(0)),
        ("i=4096", "i=1000001", ScramError::Iterations(1_000_001)),
        ("i=4096", "i=99999999999", ScramError::Malformed("iteration count")),
        ("i=4096", "i=-1", ScramError::Malformed("iteration count")),
        ("i=4096", "i=4096,x=y", ScramError::Malformed("server-first-message")),
        ("s=W22ZaJ0SNY7soEsUEjb6gQ==", "s=", ScramError::Malformed("salt")),
        ("s=W22Z", "s=!", ScramError::Malformed("salt")),
        (",s=", ",t=", ScramError::Malformed("server-first-message")),
        ("r=rOpr", "m=x,r=rOpr", ScramError::Extension),
    ] {
        assert_eq!(answer(&SERVER_FIRST.replace(from, to)).expect_err(to), expected, "{to}");
    }
    let finish = |message: &str| answer(SERVER_FIRST).expect("well-formed").finish(message.as_bytes());
    for (message, expected) in [
        ("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=", ScramError::Malformed("server-final-message")),
        ("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", ScramError::ServerSignature),
        ("v=", ScramError::ServerSignature),
        ("", ScramError::Malformed("server-final-message")),
        ("e=other-error", ScramError::Server("other-error".into())),
        (&format!("{SERVER_FINAL},x=y"), ScramError::Malformed("server-final-message")),
    ] {
        assert_eq!(finish(message).expect_err(message), expected, "{message}");
    }
}

#[test]
fn the_mechanism_follows_offer_and_connection() {
    let both: &[&[u8]] = &[b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"];
    for (offered, bound, expected) in [
        (both, true, Some(SHA_256_PLUS)),
        (both, false, Some(SHA_256)),
        (&both[1..], true, Some(SHA_256)),
        (&both[..1], true, Some(SHA_256_PLUS)),
        (&both[..1], false, None),
        (&[b"OAUTHBEARER"], true, None),
        (&[], false, None),
    ] {
        let chosen = Mechanism::choose(offered, bound.then(|| Arc::from([7; 32])));
        assert_eq!(chosen.map(|mechanism| mechanism.name()), expected, "{offered:?} {bound}");
    }
}

#[test]
fn passwords_are_prepared_as_postgresql_prepares_them() {
    for (given, prepared) in [
        ("pencil".as_bytes(), "pencil".as_bytes()),
        (b"a\x07b", b"a\x07b"),                                   // ASCII is never touched
        ("I\u{AD}X".as_bytes(), b"IX"),                           // RFC 4013: mapped to nothing
        ("\u{AA}".as_bytes(), b"a"),                              // normalized
        ("\u{2168}".as_bytes(), b"IX"),                           // normalized
        ("a\u{A0}b".as_bytes(), b"a b"),                          // another space
        ("\u{627}1".as_bytes(), "\u{627}1".as_bytes()),           // refused (bidirectional): as it is
        ("caf\u{e9}\x07".as_bytes(), "caf\u{e9}\x07".as_bytes()), // refused (control): as it is
        ("\u{AD}".as_bytes(), "\u{AD}".as_bytes()),               // nothing would be left
        (b"caf\xe9", b"caf\xe9"),                                 // not UTF-8
    ] {
        assert_eq!(prepare(given).as_slice(), prepared, "{given:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_message_panics(message in prop::collection::vec(prop::sample::select(&b"npyrscivem=,a\0\xff1+/"[..]), 0..60)) {
        for plus in [false, true] {
            let server = server::AwaitFirst::new(ScramVerifier::mock(b"", "", 1), plus.then(|| Arc::from([7; 32])));
            let _ = server.answer(plus, &message, &nonce("x"));
        }
        let server = server::AwaitFirst::new(ScramVerifier::mock(b"", "", 1), None);
        let (server, _) = server.answer(false, CLIENT_FIRST.as_bytes(), &nonce("x")).expect("well-formed");
        prop_assert!(server.finish(&message).is_err());
        let keys = ScramCredential::Keys(ScramKeys::from_password(b"", &[1], 1));
        let (client, _) = client::AwaitFirst::begin(keys, Binding::Unsupported, nonce("r"), "");
        let _ = client.answer(&message).map(|(client, _)| client.finish(&message));
        let _ = ScramVerifier::parse(&String::from_utf8_lossy(&message));
    }
}
