//! Large objects: FunctionCall, the message that hardly anybody but libpq's `lo_*` functions sends.

use std::fs;

use super::{app, shown, trusting};
use crate::support::programs::{psql, run};
use crate::support::raw::{Raw, message};
use crate::support::{Database, PoolerConfig};

// Numbers of built-in functions, which never change.
const LO_OPEN: u32 = 952;
const LO_CLOSE: u32 = 953;
const LO_READ: u32 = 954;
const LO_WRITE: u32 = 955;
const LO_LSEEK: u32 = 956;
const LO_CREAT: u32 = 957;
const READ_WRITE: i32 = 0x6_0000;

/// All arguments and the result in binary form.
fn call(function: u32, arguments: &[&[u8]]) -> Vec<u8> {
    let count = u16::try_from(arguments.len()).expect("few").to_be_bytes();
    let mut body = [&function.to_be_bytes()[..], &[0, 1, 0, 1], &count].concat();
    for argument in arguments {
        body.extend_from_slice(&u32::try_from(argument.len()).expect("short").to_be_bytes());
        body.extend_from_slice(argument);
    }
    body.extend_from_slice(&[0, 1]);
    message(b'F', &body)
}

/// What it returns, which must be something.
fn result(client: &mut Raw, function: u32, arguments: &[&[u8]]) -> Vec<u8> {
    client.send(&call(function, arguments));
    let answer = client.until(b'Z');
    assert_eq!(shown(&answer), "VZ");
    answer[0].body[4..].to_vec()
}

/// What goes wrong, and the status of the transaction then.
fn failure(client: &mut Raw, function: u32, arguments: &[&[u8]]) -> String {
    client.send(&call(function, arguments));
    let answer = client.until(b'Z');
    let status = answer.last().and_then(|ready| ready.body.first()).copied().map(char::from);
    format!("{}{}", shown(&answer), status.expect("ReadyForQuery"))
}

fn int(n: i32) -> [u8; 4] {
    n.to_be_bytes()
}

#[test]
fn an_object_is_written_and_read_within_its_transaction_by_function_calls() {
    let database = Database::create("function_calls");
    let pooler = trusting(&database, 2).start();
    let mut clients = [app(&pooler), app(&pooler), app(&pooler)];
    let piece: Vec<u8> = (0..5_000_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    for client in &mut clients {
        // Alone each call is a transaction.
        let object = result(client, LO_CREAT, &[&int(READ_WRITE)]);
        let closed = result(client, LO_OPEN, &[&object, &int(READ_WRITE)]);
        assert_eq!(
            failure(client, LO_WRITE, &[&closed, b"lost"]),
            "[42704 invalid large-object descriptor: 0]ZI",
            "the descriptor ended with its transaction"
        );
        client.query("BEGIN");
        let descriptor = result(client, LO_OPEN, &[&object, &int(READ_WRITE)]);
        for part in piece.chunks(2_000_000) {
            let written = i32::try_from(part.len()).expect("short");
            assert_eq!(result(client, LO_WRITE, &[&descriptor, part]), int(written));
        }
        assert_eq!(result(client, LO_LSEEK, &[&descriptor, &int(0), &int(0)]), int(0));
        let read = result(client, LO_READ, &[&descriptor, &int(6_000_000)]);
        assert!(read == piece, "{} bytes, or others, came back", read.len());
        assert_eq!(result(client, LO_CLOSE, &[&descriptor]), int(0));
        client.query("COMMIT");
        let oid = u32::from_be_bytes(object.try_into().expect("four bytes"));
        assert_eq!(client.query(&format!("SELECT length(lo_get({oid}))")), ["5000000"]);
    }
    assert_eq!(database.sql("SELECT count(*) FROM pg_largeobject_metadata"), "3");
}

#[test]
fn a_function_call_that_fails_fails_its_transaction() {
    let database = Database::create("function_fails");
    let pooler = trusting(&database, 1).start();
    let (mut client, mut other) = (app(&pooler), app(&pooler));
    let open = [&int(1)[..], &int(READ_WRITE)];
    let missing = "[42704 large object 1 does not exist]Z";
    assert_eq!(failure(&mut client, LO_OPEN, &open), format!("{missing}I"));
    assert_eq!(other.query("SELECT 'between'"), ["between"]);
    client.query("BEGIN");
    assert_eq!(failure(&mut client, LO_OPEN, &open), format!("{missing}E"));
    let aborted = "[25P02 current transaction is aborted, commands ignored until end of transaction block]ZE";
    assert_eq!(failure(&mut client, LO_CREAT, &[&int(READ_WRITE)]), aborted);
    assert_eq!(client.query("ROLLBACK"), [""; 0]);
    let unknown = failure(&mut client, 4_000_000, &[]);
    assert!(unknown.starts_with("[42883 ") && unknown.ends_with("]ZI"), "{unknown}");
    assert_eq!(result(&mut client, LO_CREAT, &[&int(READ_WRITE)]).len(), 4);
    // Several at once, each answered, an error in their middle.
    client.send(&[call(LO_CREAT, &[&int(READ_WRITE)]), call(LO_OPEN, &open), call(LO_CREAT, &[&int(0)])].concat());
    let answers: String = (0..3).map(|_| shown(&client.until(b'Z'))).collect();
    assert_eq!(answers, format!("VZ{missing}VZ"));
    assert_eq!(other.query("SELECT 'after'"), ["after"]);
}

#[test]
fn psql_takes_files_in_and_gives_them_out() {
    let database = Database::create("lo_import");
    let dir = tempfile::tempdir().expect("a directory");
    let (file, copy) = (dir.path().join("in"), dir.path().join("out"));
    let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(|n| n.to_le_bytes()[..1].to_vec()).collect();
    fs::write(&file, &bytes).expect("a file of our own");
    for mode in ["transaction", "session"] {
        let config = PoolerConfig::new().database("app", &database).set("default_pool_size", "1");
        let pooler = config.set("pool_mode", &format!("\"{mode}\"")).start();
        let commands = [
            format!("\\lo_import '{}' 'a comment'", file.display()),
            format!("\\lo_export :LASTOID '{}'", copy.display()),
            "\\lo_unlink :LASTOID".to_owned(),
            "SELECT count(*) FROM pg_largeobject_metadata".to_owned(),
        ];
        let mut command = psql(&pooler.app_dsn("app"));
        commands.iter().for_each(|it| _ = command.args(["-At", "-c", it]));
        assert!(run(&mut command).ends_with("\n0\n"));
        assert!(fs::read(&copy).expect("it was written") == bytes, "the file came back changed");
        fs::remove_file(&copy).expect("a file of our own");
    }
}
