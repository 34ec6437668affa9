use proptest::prelude::*;

use super::read::Authentication;
use super::*;

fn written(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out);
    out.to_vec()
}

/// The body of the one frame in `bytes`.
fn body(bytes: &[u8]) -> &[u8] {
    assert_eq!(u32::from_be_bytes(bytes[1..5].try_into().expect("4")) as usize, bytes.len() - 1, "{bytes:?}");
    &bytes[5..]
}

#[test]
fn what_we_say_to_clients_is_as_the_protocol_has_it() {
    for (bytes, expected) in [
        (written(backend::authentication_ok), &b"R\0\0\0\x08\0\0\0\0"[..]),
        (written(backend::authentication_cleartext), b"R\0\0\0\x08\0\0\0\x03"),
        (written(|out| backend::authentication_md5(out, *b"salt")), b"R\0\0\0\x0c\0\0\0\x05salt"),
        (written(|out| backend::authentication_sasl(out, &["A", "B"])), b"R\0\0\0\x0d\0\0\0\x0aA\0B\0\0"),
        (written(|out| backend::authentication_sasl_continue(out, b"x")), b"R\0\0\0\x09\0\0\0\x0bx"),
        (written(|out| backend::authentication_sasl_final(out, b"x")), b"R\0\0\0\x09\0\0\0\x0cx"),
        (written(|out| backend::parameter_status(out, "a", b"\xe9")), b"S\0\0\0\x08a\0\xe9\0"),
        (written(|out| backend::backend_key_data(out, u32::MAX, b"12345")), b"K\0\0\0\x0d\xff\xff\xff\xff12345"),
        (written(|out| backend::ready_for_query(out, TxStatus::Failed)), b"Z\0\0\0\x05E"),
        (
            written(|out| {
                backend::negotiate_protocol_version(out, crate::wire::startup::Version::V3_2, &["_pq_.x".into()])
            }),
            b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.x\0",
        ),
        (
            written(|out| backend::row_description(out, [("n", backend::ColumnType::Int8)])),
            b"T\0\0\0\x1a\0\x01n\0\0\0\0\0\0\0\0\0\0\x14\0\x08\xff\xff\xff\xff\0\0",
        ),
        (
            written(|out| backend::data_row(out, [Some(&b"ab"[..]), None])),
            b"D\0\0\0\x10\0\x02\0\0\0\x02ab\xff\xff\xff\xff",
        ),
        (written(|out| backend::command_complete(out, "SHOW")), b"C\0\0\0\x09SHOW\0"),
        (written(backend::empty_query_response), b"I\0\0\0\x04"),
    ] {
        assert_eq!(bytes, expected);
    }
}

#[test]
fn what_we_say_to_servers_is_as_the_protocol_has_it() {
    let startup = written(|out| {
        let params = [(&b"user"[..], &b"caf\xe9"[..]), (b"a\0b", b"x"), (b"c", b"d\0e"), (b"", b"x"), (b"f", b"")];
        frontend::startup(out, crate::wire::startup::Version::V3_0, params);
    });
    for (bytes, expected) in [
        (startup, &b"\0\0\0\x16\0\x03\0\0user\0caf\xe9\0f\0\0\0"[..]),
        (written(frontend::ssl_request), b"\0\0\0\x08\x04\xd2\x16\x2f"),
        (written(|out| frontend::cancel_request(out, 7, b"12345")), b"\0\0\0\x11\x04\xd2\x16\x2e\0\0\0\x0712345"),
        (written(|out| frontend::password(out, b"\xe9")), b"p\0\0\0\x06\xe9\0"),
        (written(|out| frontend::sasl_initial_response(out, "A", b"xy")), b"p\0\0\0\x0cA\0\0\0\0\x02xy"),
        (written(|out| frontend::sasl_response(out, b"xy")), b"p\0\0\0\x06xy"),
        (written(|out| frontend::query(out, "SELECT")), b"Q\0\0\0\x0bSELECT\0"),
        (written(frontend::terminate), b"X\0\0\0\x04"),
    ] {
        assert_eq!(bytes, expected);
    }
}

#[test]
fn what_can_not_be_encoded_leaves_no_half_message() {
    assert!(written(|out| backend::backend_key_data(out, 1, b"123")).is_empty());
    assert!(written(|out| backend::command_complete(out, &"x".repeat(40_000))).is_empty());
}

#[test]
fn authentication_messages_read_back() {
    for (bytes, expected) in [
        (written(backend::authentication_ok), Some(Authentication::Ok)),
        (written(backend::authentication_cleartext), Some(Authentication::Cleartext)),
        (written(|out| backend::authentication_md5(out, *b"salt")), Some(Authentication::Md5(*b"salt"))),
        (written(|out| backend::authentication_sasl(out, &["A"])), Some(Authentication::Sasl(vec![b"A"]))),
        (written(|out| backend::authentication_sasl_final(out, b"x")), Some(Authentication::SaslFinal(b"x"))),
        (b"R\0\0\0\x08\0\0\0\x07".to_vec(), Some(Authentication::Other(7))),
        (b"R\0\0\0\x09\0\0\0\x00x".to_vec(), None),
        (b"R\0\0\0\x0b\0\0\0\x05sal".to_vec(), None),
        (b"R\0\0\0\x0a\0\0\0\x0aA\0".to_vec(), None),
        (b"R\0\0\0\x07\0\0\0".to_vec(), None),
    ] {
        assert_eq!(read::authentication(body(&bytes)), expected);
    }
}

#[test]
fn other_messages_read_back_and_must_end_with_their_frame() {
    assert_eq!(read::parameter_status(b"a\0b\0"), Some(("a", &b"b"[..])));
    for broken in [&b"a\0b\0c"[..], b"a\0b", b"\xe9\0b\0", b"\0b\0", b""] {
        assert_eq!(read::parameter_status(broken), None, "{broken:?}");
    }
    assert_eq!(read::backend_key_data(b"\0\0\0\x011234"), Some((1, &b"1234"[..])));
    assert_eq!(read::backend_key_data(b"\0\0\0\x01123"), None);
    assert_eq!(read::negotiate_protocol_version(b"\0\x03\0\0\0\0\0\x01x\0"), Some((3 << 16, vec![&b"x"[..]])));
    assert_eq!(read::negotiate_protocol_version(b"\0\x03\0\0\xff\xff\xff\xffx\0"), None);
    assert_eq!(read::ready_for_query(b"T"), Some(TxStatus::InTransaction));
    assert_eq!(read::ready_for_query(b"X"), None);
    assert_eq!(read::password(b"x\0"), Some(&b"x"[..]));
    assert_eq!(read::password(b"x\0y\0"), None);
    assert_eq!(read::sasl_initial_response(b"A\0\0\0\0\x01x"), Some((&b"A"[..], Some(&b"x"[..]))));
    assert_eq!(read::sasl_initial_response(b"A\0\xff\xff\xff\xff"), Some((&b"A"[..], None)));
    for broken in [&b"A\0\xff\xff\xff\xfe"[..], b"A\0\0\0\0\x02x", b"A\0\0\0\0\x01xy", b"A\0\0\0\0", b"A"] {
        assert_eq!(read::sasl_initial_response(broken), None, "{broken:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), code in 0u8..14) {
        let coded = [&[0, 0, 0, code][..], &bytes].concat();
        let _ = (read::authentication(&coded), read::parameter_status(&bytes), read::backend_key_data(&bytes));
        let _ = (read::negotiate_protocol_version(&bytes), read::password(&bytes), read::sasl_initial_response(&bytes));
    }
}
