//! The cluster that the demo and these tests stand on: made completely, removed completely.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use pglifeguard::app::demo::{Cluster, ClusterError, ClusterOptions, Login, LoginMethod, Shutdown, TlsFiles, Watch};

use crate::support::cluster::shared;
use crate::support::programs::{finish, psql, run};
use crate::support::wait_until;

const LIMIT: Duration = Duration::from_secs(20);

fn start(options: &ClusterOptions) -> Cluster {
    Cluster::start(options, &Watch::QUIET).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn standbys_get_what_the_primary_writes_and_all_is_gone_in_the_end() {
    let cluster = start(&ClusterOptions { standbys: 2, ..ClusterOptions::default() });
    cluster.primary().sql("app", "CREATE TABLE t AS SELECT 42 AS answer").expect("the primary takes writes");
    assert_eq!(cluster.standbys().len(), 2);
    for standby in cluster.standbys() {
        let replayed = "SELECT count(*) FROM pg_class WHERE relname = 'pg_class' AND pg_is_in_recovery()";
        standby.wait_for(replayed, "1", &Watch::QUIET).expect("a standby is in recovery");
        wait_until("the row to arrive", LIMIT, || standby.sql("app", "SELECT answer FROM t").is_ok_and(|a| a == "42"));
    }
    let names = "SELECT string_agg(application_name, ' ' ORDER BY application_name) FROM pg_stat_replication";
    assert_eq!(cluster.primary().sql("app", names).expect("a query"), "pg2 pg3");

    let (dir, port) = (cluster.dir().to_owned(), cluster.primary().port());
    drop(cluster);
    assert!(!dir.exists());
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
}

#[test]
fn each_user_logs_in_by_its_method_and_only_with_its_password() {
    let port = shared().primary().port();
    for (user, password, succeeds) in [
        ("app", "app", true),
        ("app", "wrong", false),
        ("by_md5", "md5-secret", true),
        ("by_md5", "wrong", false),
        ("by_password", "plain-secret", true),
        ("by_password", "wrong", false),
        ("by_trust", "wrong", true),
        ("postgres", shared().superuser_password(), true),
        ("postgres", "", false),
    ] {
        let dsn = format!("postgresql://{user}:{password}@127.0.0.1:{port}/app");
        let (success, _, stderr) = finish(psql(&dsn).args(["-w", "-c", "SELECT 1"]));
        assert_eq!(success, succeeds, "{user} with {password}: {stderr}");
    }
}

#[test]
fn a_stopped_primary_comes_back_with_its_data_on_its_port() {
    let mut cluster = start(&ClusterOptions::default());
    let primary = cluster.primary_mut();
    let port = primary.port();
    primary.sql("app", "CREATE TABLE t AS SELECT 1 AS n").expect("a table");
    for how in [Shutdown::Smart, Shutdown::Fast, Shutdown::Immediate] {
        primary.stop(how).expect("it stops");
        assert!(primary.sql("app", "SELECT 1").is_err(), "{how:?}");
        primary.start(&Watch::QUIET).expect("it starts");
        assert_eq!(primary.sql("app", "SELECT n FROM t").expect("a query"), "1", "{how:?}");
        assert_eq!(primary.port(), port);
    }
}

#[test]
fn tls_is_what_the_files_say_and_a_user_can_be_bound_to_it() {
    let files = tempfile::tempdir().expect("a temporary directory");
    let tls = self_signed(files.path());
    let root = tls.cert.clone();
    let only_tls = Login::new("careful", "secret", LoginMethod::Scram).over_tls_only();
    let cluster =
        start(&ClusterOptions { logins: vec![only_tls], databases: vec![], tls: Some(tls), ..<_>::default() });
    let dsn = |parameters: &str| {
        let port = cluster.primary().port();
        format!("postgresql://careful:secret@localhost:{port}/postgres?hostaddr=127.0.0.1&{parameters}")
    };
    let query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let verified = format!("sslmode=verify-full&sslrootcert={}", root.display());
    assert_eq!(run(psql(&dsn(&verified)).args(["-At", "-c", query])), "t\n");
    let (success, _, stderr) = finish(psql(&dsn("sslmode=disable")).args(["-c", query]));
    assert!(!success && stderr.contains("rejects connection"), "{stderr}");
}

fn self_signed(dir: &Path) -> TlsFiles {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let tls = TlsFiles { cert: dir.join("cert.pem"), key: dir.join("key.pem"), client_ca: None };
    fs::write(&tls.cert, made.cert.pem()).expect("a file of our own");
    fs::write(&tls.key, made.signing_key.serialize_pem()).expect("a file of our own");
    tls
}

#[test]
fn an_interrupted_start_leaves_nothing_behind() {
    let interrupted = AtomicBool::new(true);
    let watch = Watch { interrupted: Some(&interrupted), ..Watch::QUIET };
    let outcome = Cluster::start(&ClusterOptions::default(), &watch);
    assert!(matches!(outcome, Err(ClusterError::Interrupted)), "{outcome:?}");
}

/// The test below runs this one alone in a process of its own, which it kills.
#[test]
#[ignore = "the owner for another test, which starts it"]
fn owner_that_waits_to_be_killed() {
    let cluster = start(&ClusterOptions::default());
    let pid_file = fs::read_to_string(cluster.primary().data().join("postmaster.pid")).expect("it runs");
    let pid = pid_file.lines().next().unwrap_or_default();
    println!("\nOWNER {pid} {}", cluster.dir().display());
    std::io::stdout().flush().expect("the parent reads");
    // Ends only by being killed, or with its parent.
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn a_killed_owner_takes_its_servers_and_files_with_it() {
    let mut owner = Command::new(std::env::current_exe().expect("this test binary"))
        .args(["--ignored", "--exact", "--nocapture", "throwaway_cluster::owner_that_waits_to_be_killed"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test binary runs");
    let lines = BufReader::new(owner.stdout.take().expect("piped")).lines();
    let announced = lines.map_while(Result::ok).find_map(|line| {
        let (pid, dir) = line.strip_prefix("OWNER ")?.split_once(' ')?;
        Some((PathBuf::from(format!("/proc/{pid}")), PathBuf::from(dir)))
    });
    let (process, dir) = announced.expect("the owner has a cluster");
    assert!(dir.exists() && process.exists());
    owner.kill().expect("our own child");
    owner.wait().expect("our own child");
    wait_until("the directory to vanish", LIMIT, || !dir.exists());
    // It removes its pid file before it is quite gone.
    wait_until("the server to end", LIMIT, || !process.exists());
}
