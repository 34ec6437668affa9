use super::*;

fn statement(text: &str) -> Arc<Statement> {
    super::super::table::Table::default().unshared(text.as_bytes(), crate::sql::Dialect::default())
}

fn frames(text: &str, describe: &[u8], tail: &[u8]) -> Vec<u8> {
    let frame = |tag: u8, body: &[u8]| {
        let mut out = vec![tag];
        out.extend_from_slice(&u32::try_from(body.len() + 4).expect("small").to_be_bytes());
        out.extend_from_slice(body);
        out
    };
    let parse = frame(b'P', &[b"\0", text.as_bytes(), b"\0\0\0"].concat());
    let describe = if describe.is_empty() { Vec::new() } else { frame(b'D', describe) };
    let (bind, execute) = (frame(b'B', &[0; 8]), frame(b'E', &[0; 5]));
    [parse, bind, describe, execute, frame(b'S', b""), tail.to_vec()].concat()
}

#[test]
fn a_text_recurs_from_the_second_time_on_until_it_is_forgotten() {
    let recurring = Recurring::new(4);
    let find = |text: &str| {
        let known = recurring.find(text.as_bytes());
        known.or_else(|| recurring.notes(text.as_bytes(), || statement(text)))
    };
    assert!(find("a").is_none());
    let first = find("a").expect("it recurs");
    assert!(Arc::ptr_eq(&first, &find("a").expect("it is known")));
    recurring.forget();
    assert!(find("a").is_none());
    let second = find("a").expect("it recurs");
    assert!(!Arc::ptr_eq(&first, &second), "it is parsed anew");
    for text in ["b", "c", "b", "c"] {
        find(text);
    }
    assert_eq!(recurring.known.lock().statements.len(), 2, "half of a server's room");
    assert!(find("a").is_some_and(|third| !Arc::ptr_eq(&third, &second)), "it was the oldest");
}

#[test]
fn what_is_known_is_bounded_in_bytes() {
    let recurring = Recurring::new(u32::MAX);
    for n in 0..100 {
        let key = [n; KEYS_MAX / 20];
        for _ in 0..2 {
            recurring.notes(&key, || statement("x"));
        }
    }
    let known = recurring.known.lock();
    assert!(known.bytes <= KEYS_MAX && known.statements.len() == 20, "{} {}", known.bytes, known.statements.len());
}

#[test]
fn a_database_has_one_for_as_long_as_somebody_has_it() {
    let (all, name) = (AllRecurring::default(), Arc::from("app"));
    let one = all.of(&name, 9);
    assert!(Arc::ptr_eq(&one, &all.of(&name, 9)));
    drop(one);
    all.of(&Arc::from("other"), 9);
    assert_eq!(all.0.lock().len(), 1);
}

#[test]
fn only_one_statement_without_names_up_to_its_sync_is_a_batch() {
    for (describe, tail, is) in [
        (&b""[..], &b""[..], true),
        (b"P\0", b"", true),
        (b"S\0", b"", false),
        (b"Pname\0", b"", false),
        (b"", b"S\0\0\0\x04", false),
        (b"", b"H", false),
    ] {
        let input = frames("select $1", describe, tail);
        assert_eq!(Batch::of(&input).is_some(), is, "{describe:?} {tail:?}");
        (0..input.len() - tail.len()).for_each(|cut| assert!(Batch::of(&input[..cut]).is_none(), "{cut}"));
    }
    let input = frames("select $1", b"P\0", b"");
    let batch = Batch::of(&input).expect("it is one");
    assert_eq!((batch.text, batch.definition, batch.describes), (&b"select $1"[..], &b"select $1\0\0\0"[..], true));
    assert_eq!([b"P".as_slice(), &input[input.len() - batch.rest.len()..]].concat()[1..2], *b"D");
}

#[test]
fn a_text_with_a_constant_in_quotes_may_say_something_else_tomorrow() {
    for (text, constant) in [
        ("select * from t where a = $1 and b > 7", true),
        ("select \"a\" from t", true),
        ("select * from t where d = 'today'", false),
        ("select $$now$$::timestamp", false),
        ("select $a$now$a$::timestamp", false),
        ("select $", false),
        ("select ä from t", false),
    ] {
        let input = frames(text, b"", b"");
        assert_eq!(Batch::of(&input).expect("a batch").is_constant(), constant, "{text}");
    }
}
