//! RELOAD and SIGHUP: all or nothing, and nobody is disturbed who is not concerned.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::Signal;

use super::{number, pool, show};
use crate::support::peers::Line;
use crate::support::pki::Pki;
use crate::support::pooler::Pooler;
use crate::support::{Database, PoolerConfig, Session, eventually, wait_until};

const PID: &str = "SELECT pg_backend_pid()";

fn words(code: &str, text: &str) -> (String, String) {
    (code.to_owned(), text.to_owned())
}

async fn reload(pooler: &Pooler, console: &Session, config: &PoolerConfig) {
    pooler.reconfigure(config);
    console.batch_execute("RELOAD").await.unwrap_or_else(|error| panic!("{error:?}\n{}", pooler.log()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_file_changes_nothing_and_says_why() {
    let database = Database::create("reload_broken");
    let config = PoolerConfig::new().database("app", &database);
    let pooler = config.start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let client = Session::connect(&pooler.app_dsn("app")).await;
    let pid = client.value(PID).await;
    // The first change is right, and must not be applied for that.
    pooler
        .reconfigure(&config.clone().set("max_client_conn", "7").set("query_timout", "5").set("pool_mode", "\"fast\""));
    let error = console.batch_execute("RELOAD").await.expect_err("two mistakes");
    let error = error.as_db_error().expect("a server's error");
    assert_eq!((error.code().code(), error.message()), ("F0000", "RELOAD failed, see logs for additional details"));
    for place in [error.detail().unwrap_or_default().to_owned(), pooler.log()] {
        assert!(place.contains("query_timout") && place.contains("query_timeout") && place.contains("fast"), "{place}");
    }
    assert_eq!(show(&console, "CONFIG", "key", "max_client_conn").await["value"], "1000");
    assert_eq!(client.value(PID).await, pid);
    reload(&pooler, &console, &config.set("max_client_conn", "7")).await;
    assert_eq!(show(&console, "CONFIG", "key", "max_client_conn").await["value"], "7");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_the_machine_refuses_is_told_at_once_with_its_place() {
    let database = Database::create("reload_machine");
    let config = PoolerConfig::new().database("app", &database);
    let pooler = config.start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let wrong = config.clone().set("logfile", "\"/nowhere/log\"").set("tcp_keepidle", "40000");
    pooler.reconfigure(&wrong.set("tcp_keepintvl", "40000").set("auth_file", "\"none.txt\"").set("query_timeout", "7"));
    let error = console.batch_execute("RELOAD").await.expect_err("four mistakes");
    let detail = error.as_db_error().and_then(|error| error.detail()).unwrap_or_default().to_owned();
    for words in [
        "cannot open logfile \"/nowhere/log\": No such file",
        "tcp_keepidle: the system refuses it",
        "tcp_keepintvl: the system refuses it",
        "auth_file: can't read ",
    ] {
        let told = |line: &str| line.contains("pooler.toml:") && line.contains(words);
        assert!(detail.lines().any(told), "{words} in {detail}");
    }
    assert_eq!(show(&console, "CONFIG", "key", "query_timeout").await["value"], "0");
    reload(&pooler, &console, &config).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unchanged_file_closes_nothing() {
    let database = Database::create("reload_same");
    let config = PoolerConfig::new().database("app", &database).set("default_pool_size", "3");
    let pooler = config.start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let client = Session::connect(&pooler.app_dsn("app")).await;
    let pid = client.value(PID).await;
    for _ in 0..3 {
        reload(&pooler, &console, &config).await;
        assert_eq!(client.value(PID).await, pid);
    }
    let before = pooler.log().matches("configuration reloaded").count();
    pooler.signal(Signal::HUP);
    eventually("the reload", async || pooler.log().matches("configuration reloaded").count() > before).await;
    assert_eq!(client.value(PID).await, pid);
    assert!(!pooler.log().contains("closing because"), "{}", pooler.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_come_and_go() {
    let (one, two) = (Database::create("reload_one"), Database::create("reload_two"));
    let (first, both) =
        (PoolerConfig::new().database("one", &one), PoolerConfig::new().database("one", &one).database("two", &two));
    let pooler = first.start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let stays = Session::connect(&pooler.app_dsn("one")).await;
    let pid = stays.value(PID).await;
    assert_eq!(
        Session::refusal(Session::try_connect(&pooler.app_dsn("two")).await),
        words("3D000", "no such database: two")
    );
    reload(&pooler, &console, &both).await;
    let (idle, busy) = (Session::connect(&pooler.app_dsn("two")).await, Session::connect(&pooler.app_dsn("two")).await);
    assert_eq!(idle.value("SELECT current_database()").await, two.name);
    busy.batch_execute("BEGIN").await.expect("a server");
    reload(&pooler, &console, &first).await;
    assert_eq!(idle.end().await, words("57P01", "database removed"));
    assert_eq!(busy.end().await, words("57P01", "database removed"));
    assert_eq!(
        Session::refusal(Session::try_connect(&pooler.app_dsn("two")).await),
        words("3D000", "no such database: two")
    );
    let left = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND usename = 'app'", two.name);
    eventually("its servers to go", async || one.sql(&left) == "0").await;
    assert_eq!(stays.value(PID).await, pid, "the other database is not concerned");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_databases_that_are_there_are_shown_and_counted() {
    let database = Database::create("reload_shown");
    let star = format!("host = \"127.0.0.1\"\nport = {}\n", database.port());
    let one = PoolerConfig::new().database("one", &database).section("databases.\"*\"", &star);
    let both = one.clone().database("two", &database);
    let pooler = both.start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let counted = async || number(&show(&console, "LISTS", "list", "databases").await, "items");
    let names = async |what: &str, column: &str| -> Vec<String> {
        console.rows(&format!("SHOW {what}")).await.iter().map(|row| row[column].clone()).collect()
    };
    assert_eq!(names("DATABASES", "name").await, ["one", "pgbouncer", "two"]);
    assert_eq!(counted().await, 3);
    for name in ["one", "two", &database.name] {
        assert_eq!(Session::connect(&pooler.app_dsn(name)).await.value("SELECT 1").await, "1");
    }
    assert_eq!(counted().await, 4, "what the star serves is one");
    assert_eq!(names("STATS", "database").await.len(), 4);
    reload(&pooler, &console, &PoolerConfig::new().database("one", &database)).await;
    for (what, column) in [("DATABASES", "name"), ("STATS", "database"), ("STATS_TOTALS", "database")] {
        assert_eq!(names(what, column).await, ["one", "pgbouncer"], "{what}");
    }
    // One that comes back is another.
    reload(&pooler, &console, &both).await;
    assert_eq!(Session::connect(&pooler.app_dsn("two")).await.value("SELECT 1").await, "1");
    assert_eq!(show(&console, "STATS", "database", "two").await["total_client_login_count"], "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_the_star_are_told_when_it_goes() {
    let database = Database::create("reload_star");
    let star = format!("host = \"127.0.0.1\"\nport = {}\n", database.port());
    let (with, without) =
        (PoolerConfig::new().section("databases.\"*\"", &star), PoolerConfig::new().database("other", &database));
    let pooler = with.start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let client = Session::connect(&pooler.app_dsn(&database.name)).await;
    assert_eq!(client.value("SELECT 1").await, "1");
    reload(&pooler, &console, &without).await;
    assert_eq!(client.end().await, words("57P01", "database removed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_moves_takes_its_clients_along() {
    let database = Database::create("reload_move");
    let line = Line::to(database.port());
    let at = |port: u16| {
        PoolerConfig::new()
            .section("databases.app", &format!("host = \"127.0.0.1\"\nport = {port}\ndbname = \"{}\"\n", database.name))
    };
    let pooler = at(line.port()).start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let (idle, busy) = (Session::connect(&pooler.app_dsn("app")).await, Session::connect(&pooler.app_dsn("app")).await);
    busy.batch_execute("BEGIN").await.expect("a server");
    let pid = busy.value(PID).await;
    reload(&pooler, &console, &at(database.port())).await;
    assert_eq!(idle.value("SELECT 1").await, "1");
    assert_eq!(busy.value(PID).await, pid, "its transaction goes on where it began");
    busy.batch_execute("COMMIT").await.expect("it ends as it should");
    assert_ne!(busy.value(PID).await, pid);
    let ports: Vec<_> = console.rows("SHOW SERVERS").await.iter().map(|row| row["port"].clone()).collect();
    assert!(!ports.is_empty() && ports.iter().all(|port| *port == database.port().to_string()), "{ports:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pool_sizes_and_limits_change_under_way() {
    let database = Database::create("reload_size");
    let sized = |size: &str| PoolerConfig::new().database("app", &database).set("default_pool_size", size);
    let pooler = sized("1").start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let (one, two) = (Session::connect(&pooler.app_dsn("app")).await, Session::connect(&pooler.app_dsn("app")).await);
    one.batch_execute("BEGIN").await.expect("the only server");
    let waiting = tokio::spawn(async move {
        two.batch_execute("BEGIN").await.expect("a server");
        two
    });
    eventually("the second to wait", async || pool(&console, "app", "cl_waiting").await == 1).await;
    reload(&pooler, &console, &sized("2")).await;
    let two = waiting.await.expect("it was served");
    assert_eq!(number(&show(&console, "DATABASES", "name", "app").await, "pool_size"), 2);
    reload(&pooler, &console, &sized("1")).await;
    one.batch_execute("COMMIT").await.expect("it has a server");
    two.batch_execute("COMMIT").await.expect("it has a server");
    eventually("the pool to shrink", async || {
        let row = show(&console, "POOLS", "database", "app").await;
        number(&row, "sv_idle") == 1 && number(&row, "sv_active") == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_lowered_under_way_reaches_clients_that_are_there() {
    let database = Database::create("reload_limit");
    let config = PoolerConfig::new().database("app", &database);
    let pooler = config.start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let client = Session::connect(&pooler.app_dsn("app")).await;
    client.batch_execute("BEGIN").await.expect("a server");
    reload(&pooler, &console, &config.set("idle_transaction_timeout", "0.3")).await;
    assert_eq!(client.end().await, words("08P01", "idle transaction timeout"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_need_a_restart_are_named_and_stay() {
    let database = Database::create("reload_restart");
    let config = PoolerConfig::new().database("app", &database);
    let pooler = config.start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let changed = config.set("listen_addr", "\"127.0.0.7\"").set("workers", "3").set("query_timeout", "77");
    reload(&pooler, &console, &changed).await;
    for (key, value) in [("listen_addr", "127.0.0.1"), ("workers", "0"), ("query_timeout", "77")] {
        assert_eq!(show(&console, "CONFIG", "key", key).await["value"], value, "{key}");
    }
    let log = pooler.log();
    let told = ["listen_addr", "workers"].map(|key| format!("{key}: a change takes effect only after a restart"));
    assert_eq!(console.notices(), told);
    for notice in told {
        assert!(log.contains(&format!("configuration: {notice}")), "{log}");
    }
    assert!(!log.lines().any(|line| line.contains("restart") && line.contains("query_timeout")), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_reload_takes_with_a_warning_is_told_at_the_console_too() {
    let database = Database::create("reload_warned");
    let config = || PoolerConfig::new().database("app", &database);
    let pooler = config().start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let pki = Pki::new();
    let expired = pki.issue_expired("localhost");
    let [cert, key] = [&expired.cert, &expired.key].map(|path| format!("\"{}\"", path.display()));
    let tls = config().set("client_tls_sslmode", "\"allow\"");
    let tls = tls.set("client_tls_cert_file", &cert).set("client_tls_key_file", &key);
    reload(&pooler, &console, &tls).await;
    let [notice] = console.notices().try_into().expect("one notice");
    assert!(notice.contains("client_tls_cert_file: the certificate in") && notice.contains("expired at"), "{notice}");
    assert!(pooler.log().contains(&format!("configuration: {notice}")), "{}", pooler.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_changed_everywhere_opens_new_servers() {
    let database = Database::create("reload_password");
    database.sql("CREATE ROLE rotated LOGIN PASSWORD 'old'");
    let config = PoolerConfig::new().database("app", &database);
    let pooler = config.clone().user("rotated", "old").start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let client = Session::connect(&pooler.dsn("rotated", "old", "app")).await;
    database.sql("ALTER ROLE rotated PASSWORD 'new'");
    reload(&pooler, &console, &config.user("rotated", "new")).await;
    console.batch_execute("RECONNECT").await.expect("it is done");
    assert_eq!(client.value("SELECT current_user").await, "rotated", "a client that was there before");
    let refused = Session::refusal(Session::try_connect(&pooler.dsn("rotated", "old", "app")).await);
    assert_eq!(refused.0, "28P01");
    assert_eq!(Session::connect(&pooler.dsn("rotated", "new", "app")).await.value("SELECT 1").await, "1");
}

/// In how many seconds the kernel probes the pooler's connections that have this port at our end or at the other.
fn probes_due(pooler: &Pooler, port: u16) -> Vec<u64> {
    let files = fs::read_dir(format!("/proc/{}/fd", pooler.pid())).expect("it is running");
    let links = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    let inodes: Vec<_> = links.filter_map(|link| link.to_str()?.strip_prefix("socket:[").map(str::to_owned)).collect();
    let table = fs::read_to_string("/proc/net/tcp").expect("every Linux has it");
    let port = format!(":{port:04X}");
    // local, remote, state, queues, timer:when, ..., inode at 9
    let due = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let is_ours = inodes.iter().any(|inode| inode.strip_suffix(']') == fields.get(9).copied());
        let is_meant = fields[1].ends_with(&port) || fields[2].ends_with(&port);
        let (timer, when) = fields[5].split_once(':')?;
        (is_ours && is_meant && timer == "02").then(|| u64::from_str_radix(when, 16).expect("a number") / 100)
    };
    table.lines().skip(1).filter_map(due).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_settings_reach_new_clients_and_new_servers() {
    let database = Database::create("reload_tcp");
    let config = PoolerConfig::new().database("app", &database);
    let pooler = config.clone().set("tcp_keepidle", "1000").start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let mut clients = Vec::new();
    for (seconds, next) in [(1000, "3000"), (3000, "0"), (7200, "0")] {
        // Each holds a server, so the next gets a new one.
        let client = Session::connect(&pooler.app_dsn("app")).await;
        client.batch_execute("BEGIN").await.expect("a server");
        clients.push(client);
        let system = fs::read_to_string("/proc/sys/net/ipv4/tcp_keepalive_time").expect("every Linux has it");
        let seconds = if seconds == 7200 { system.trim().parse().expect("a number") } else { seconds };
        // A timer that waits for an acknowledgement may stand before this one for a moment.
        for port in [pooler.port(), database.port()] {
            eventually(&format!("a probe of port {port} after {seconds} s"), async || {
                probes_due(&pooler, port).iter().any(|due| (seconds - 100..=seconds).contains(due))
            })
            .await;
        }
        reload(&pooler, &console, &config.clone().set("tcp_keepidle", next)).await;
    }
    pooler.reconfigure(&config.set("tcp_keepidle", "40000"));
    let error = console.batch_execute("RELOAD").await.expect_err("the kernel has a limit");
    let detail = error.as_db_error().and_then(|error| error.detail()).unwrap_or_default().to_owned();
    assert!(detail.contains("tcp_keepidle: the system refuses it"), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_log_is_let_go_of() {
    let database = Database::create("reload_log");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (log, rotated) = (dir.path().join("log"), dir.path().join("log.1"));
    let config = PoolerConfig::new().database("app", &database);
    let pooler = config.set("logfile", &format!("\"{}\"", log.display())).start();
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    eventually("the first lines", async || read(&log).contains("process up")).await;
    fs::rename(&log, &rotated).expect("a file of our own");
    pooler.signal(Signal::HUP);
    eventually("a new file", async || read(&log).contains("configuration reloaded")).await;
    let before = read(&rotated);
    drop(Session::connect(&pooler.app_dsn("app")).await);
    eventually("the client in the new one", async || read(&log).contains("closing because")).await;
    assert_eq!(read(&rotated), before);
}

/// A reload forgets names whose time is over; of how long that is, the settings say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_names_is_that_of_the_settings() {
    let database = Database::create("reload_dns");
    let entry = format!("host = \"localhost\"\nport = {}\ndbname = \"{}\"\n", database.port(), database.name);
    let with = |ttl: &str| PoolerConfig::new().section("databases.app", &entry).set("dns_max_ttl", ttl);
    for (started, reloaded, left) in [("0", "0", 0), ("3600", "3600", 1), ("3600", "0", 0), ("0", "3600", 1)] {
        let pooler = with(started).start();
        let console = Session::connect(&pooler.console_dsn()).await;
        reload(&pooler, &console, &with(reloaded)).await;
        let client = Session::connect(&pooler.app_dsn("app")).await;
        assert_eq!(client.value("SELECT 1").await, "1");
        reload(&pooler, &console, &with(reloaded)).await;
        let names = number(&show(&console, "LISTS", "list", "dns_names").await, "items");
        assert_eq!(names, left, "{started}, then {reloaded}");
    }
}

/// A reload that hangs reading the user list, until what is returned is closed.
fn hanging_reload(pooler: &Pooler) -> fs::File {
    let users = pooler.directory().join("userlist.txt");
    fs::remove_file(&users).expect("it is there");
    assert!(Command::new("mkfifo").arg(&users).status().expect("coreutils").success());
    pooler.signal(Signal::HUP);
    // As soon as somebody reads it, it can be opened to write; and it goes on being read until that is closed.
    let open =
        || fs::OpenOptions::new().write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(&users).ok();
    let mut writer = None;
    wait_until("the file to be read", Duration::from_secs(30), || {
        writer = open();
        writer.is_some()
    });
    fs::remove_file(&users).expect("it is there");
    writer.expect("it was opened")
}

#[test]
fn a_reload_that_hangs_does_not_keep_the_pooler_from_ending() {
    let database = Database::create("reload_hangs");
    let mut pooler = PoolerConfig::new().database("app", &database).start();
    let writer = hanging_reload(&pooler);
    pooler.signal(Signal::TERM);
    assert!(pooler.wait().success());
    drop(writer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_a_reload_while_one_hangs_gets_another_afterwards() {
    let database = Database::create("reload_again");
    let config = PoolerConfig::new().database("app", &database);
    let pooler = config.start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let users = fs::read(pooler.directory().join("userlist.txt")).expect("it is there");
    let mut writer = hanging_reload(&pooler);
    pooler.reconfigure(&config.set("query_timeout", "7"));
    pooler.signal(Signal::HUP);
    pooler.signal(Signal::HUP);
    assert_eq!(show(&console, "CONFIG", "key", "query_timeout").await["value"], "0", "one after the other");
    writer.write_all(&users).expect("it is read");
    drop(writer);
    eventually("the second reload", async || show(&console, "CONFIG", "key", "query_timeout").await["value"] == "7")
        .await;
}
