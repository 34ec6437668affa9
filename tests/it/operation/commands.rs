//! Commands of the console: what they do to clients and servers, who may give them, what they answer.

use std::time::Duration;

use super::{number, pool, servers, show};
use crate::support::{Database, PoolerConfig, Session, eventually};

const PID: &str = "SELECT pg_backend_pid()";

fn words(code: &str, text: &str) -> (String, String) {
    (code.to_owned(), text.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_waits_for_transactions_and_holds_clients_until_resume() {
    let database = Database::create("pause");
    let pooler = PoolerConfig::new().database("app", &database).start();
    for target in ["", " app"] {
        let console = Session::connect(&pooler.console_dsn()).await;
        let busy = Session::connect(&pooler.app_dsn("app")).await;
        busy.batch_execute("BEGIN").await.expect("a server");
        let pauser = Session::connect(&pooler.console_dsn()).await;
        let command = format!("PAUSE{target}");
        let pausing = tokio::spawn(async move { pauser.batch_execute(&command).await });
        let held = Session::connect(&pooler.app_dsn("app")).await;
        eventually("the pause", async || paused(&console, target).await).await;
        let waiting = tokio::spawn(async move { held.value("SELECT 1").await });
        eventually("the client to wait", async || pool(&console, "app", "cl_waiting").await == 1).await;
        assert!(!pausing.is_finished(), "a transaction is open");
        busy.batch_execute("COMMIT").await.expect("it goes on to its end");
        pausing.await.expect("no panic").expect("it is paused");
        let row = show(&console, "POOLS", "database", "app").await;
        assert_eq!((number(&row, "sv_active"), number(&row, "sv_idle"), number(&row, "cl_waiting")), (0, 0, 1));
        // Their processes take a moment to end.
        eventually("the servers to go", async || servers(&database) == 0).await;
        console.batch_execute(&format!("RESUME{target}")).await.expect("it was paused");
        assert_eq!(waiting.await.expect("it was served"), "1");
    }
}

async fn paused(console: &Session, target: &str) -> bool {
    match target {
        "" => show(console, "STATE", "key", "paused").await["value"] == "yes",
        _ => show(console, "DATABASES", "name", "app").await["paused"] == "1",
    }
}

/// The id of the console that was opened last.
async fn youngest(console: &Session) -> u32 {
    let rows = console.rows("SHOW CLIENTS").await.into_iter();
    rows.filter(|row| row["database"] == "pgbouncer").map(|row| number(&row, "id")).max().expect("at least this one")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_that_another_operator_ends_has_not_succeeded() {
    let database = Database::create("pause_resumed");
    let pooler = PoolerConfig::new().database("app", &database).start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let busy = Session::connect(&pooler.app_dsn("app")).await;
    busy.batch_execute("BEGIN").await.expect("a server");
    for target in ["", " app"] {
        let pauser = Session::connect(&pooler.console_dsn()).await;
        let command = format!("PAUSE{target}");
        let pausing = tokio::spawn(async move { Session::refusal(pauser.batch_execute(&command).await) });
        eventually("the pause", async || paused(&console, target).await).await;
        console.batch_execute(&format!("RESUME{target}")).await.expect("it was paused");
        assert_eq!(pausing.await.expect("no panic"), words("57014", "PAUSE was ended by RESUME"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_that_is_cancelled_or_left_is_taken_back() {
    let database = Database::create("pause_left");
    let pooler = PoolerConfig::new().database("app", &database).start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let busy = Session::connect(&pooler.app_dsn("app")).await;
    busy.batch_execute("BEGIN").await.expect("a server");
    for cancels in [true, false] {
        let pauser = Session::connect(&pooler.console_dsn()).await;
        let token = pauser.cancel_token();
        let pausing = tokio::spawn(async move { Session::refusal(pauser.batch_execute("PAUSE").await) });
        eventually("the pause", async || paused(&console, "").await).await;
        if cancels {
            token.cancel_query(tokio_postgres::NoTls).await.expect("it listens");
            assert_eq!(pausing.await.expect("no panic").0, "57014");
        } else {
            let pauser = youngest(&console).await;
            console.batch_execute(&format!("KILL_CLIENT {pauser}")).await.expect("it is there");
            assert_eq!(pausing.await.expect("no panic"), words("57P01", "admin forced disconnect"));
        }
        eventually("the pause to end", async || !paused(&console, "").await).await;
    }
    busy.batch_execute("COMMIT").await.expect("it has a server");
    assert_eq!(busy.value("SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_console_that_is_lost_leaves_the_pause_of_another_operator() {
    let database = Database::create("pause_shared");
    let pooler = PoolerConfig::new().database("app", &database).start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let busy = Session::connect(&pooler.app_dsn("app")).await;
    busy.batch_execute("BEGIN").await.expect("a server");
    let pauses = |pauser: Session| tokio::spawn(async move { pauser.batch_execute("PAUSE app").await });
    let losing = pauses(Session::connect(&pooler.console_dsn()).await);
    eventually("the pause", async || paused(&console, " app").await).await;
    let lost = youngest(&console).await;
    let pausing = pauses(Session::connect(&pooler.console_dsn()).await);
    eventually("both", async || pooler.log().matches("command=\"PAUSE\"").count() == 2).await;
    console.batch_execute(&format!("KILL_CLIENT {lost}")).await.expect("it is there");
    losing.await.expect("no panic").expect_err("it is killed");
    assert!(paused(&console, " app").await && !pausing.is_finished());
    busy.batch_execute("COMMIT").await.expect("it goes on to its end");
    pausing.await.expect("no panic").expect("it is paused");
    assert!(paused(&console, " app").await);
    console.batch_execute("RESUME app").await.expect("it was paused");
    assert_eq!(busy.value("SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconnect_replaces_servers_and_wait_close_waits_for_the_old() {
    let database = Database::create("reconnect");
    let pooler = PoolerConfig::new().database("app", &database).start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let client = Session::connect(&pooler.app_dsn("app")).await;
    let idle = client.value(PID).await;
    console.batch_execute("RECONNECT app").await.expect("it is done");
    assert_ne!(client.value(PID).await, idle);
    client.batch_execute("BEGIN").await.expect("a server");
    let busy = client.value(PID).await;
    console.batch_execute("RECONNECT").await.expect("it is done");
    let waiter = Session::connect(&pooler.console_dsn()).await;
    let closing = tokio::spawn(async move { waiter.batch_execute("WAIT_CLOSE app").await });
    assert_eq!(client.value(PID).await, busy, "the transaction keeps its server");
    assert_eq!(show(&console, "SERVERS", "remote_pid", &busy).await["close_needed"], "1");
    assert!(!closing.is_finished());
    client.batch_execute("COMMIT").await.expect("it has a server");
    closing.await.expect("no panic").expect("the old server is gone");
    assert_ne!(client.value(PID).await, busy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_database_takes_no_new_clients_and_keeps_the_old() {
    let database = Database::create("disable");
    let pooler = PoolerConfig::new().database("app", &database).start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let old = Session::connect(&pooler.app_dsn("app")).await;
    console.batch_execute("DISABLE app").await.expect("it is done");
    assert_eq!(show(&console, "DATABASES", "name", "app").await["disabled"], "1");
    let refused = Session::refusal(Session::try_connect(&pooler.app_dsn("app")).await);
    assert_eq!(refused, words("57P03", "database \"app\" is disabled"));
    assert_eq!(old.value("SELECT 1").await, "1");
    console.batch_execute("ENABLE app").await.expect("it is done");
    assert_eq!(Session::connect(&pooler.app_dsn("app")).await.value("SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_ends_clients_and_servers_and_leaves_the_database_paused() {
    let (database, other) = (Database::create("kill"), Database::create("kill_other"));
    let pooler = PoolerConfig::new().database("app", &database).database("other", &other).start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let (idle, busy) = (Session::connect(&pooler.app_dsn("app")).await, Session::connect(&pooler.app_dsn("app")).await);
    let bystander = Session::connect(&pooler.app_dsn("other")).await;
    let running = tokio::spawn(async move { Session::refusal(busy.batch_execute("SELECT pg_sleep(60)").await) });
    eventually("the query", async || pool(&console, "app", "sv_active").await == 1).await;
    console.batch_execute("KILL app").await.expect("it is done");
    assert_eq!(running.await.expect("no panic"), words("57P01", "database removed"));
    assert_eq!(idle.end().await, words("57P01", "database removed"));
    let servers =
        format!("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND datname = '{}'", database.name);
    eventually("the servers to go", async || database.sql(&servers) == "0").await;
    assert_eq!(bystander.value("SELECT 1").await, "1");
    assert_eq!(show(&console, "DATABASES", "name", "app").await["paused"], "1");
    let dsn = pooler.app_dsn("app");
    let held = tokio::spawn(async move { Session::connect(&dsn).await.value("SELECT 1").await });
    eventually("a new client to wait", async || pool(&console, "app", "cl_waiting").await == 1).await;
    console.batch_execute("RESUME app").await.expect("it was paused");
    assert_eq!(held.await.expect("it was served"), "1");
    let log = pooler.log();
    assert!(!log.contains("closing because: database configuration changed"), "{log}");
    assert!(log.contains("closing because: killed"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_is_killed_by_its_number() {
    let database = Database::create("kill_client");
    let pooler = PoolerConfig::new().database("app", &database).start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let named = |name: &str| format!("{}?application_name={name}", pooler.app_dsn("app"));
    let (victim, other) = (Session::connect(&named("victim")).await, Session::connect(&named("other")).await);
    victim.batch_execute("BEGIN; CREATE TABLE lost (n int)").await.expect("a server");
    let row = show(&console, "CLIENTS", "application_name", "victim").await;
    console.batch_execute(&format!("KILL_CLIENT {}", row["id"])).await.expect("it is there");
    assert_eq!(victim.end().await, words("57P01", "admin forced disconnect"));
    assert_eq!(other.value("SELECT count(*) FROM pg_class WHERE relname = 'lost'").await, "0");
    // Until its server is at rest, the command is for that.
    let kills = format!("KILL_CLIENT {}", row["id"]);
    eventually("the client to be forgotten", async || match console.batch_execute(&kills).await {
        Ok(()) => false,
        refused => Session::refusal(refused) == words("08P01", "client not found"),
    })
    .await;
    // Who ordered it, and against whom; a refusal is one line.
    let own = show(&console, "CLIENTS", "database", "pgbouncer").await;
    let who = format!("C-{:#x}: pgbouncer/admin@127.0.0.1:{}", number(&own, "id"), own["port"]);
    let victim = format!("{0} (C-{0:#x})", number(&row, "id"));
    let log = pooler.log();
    let issued = format!("console command issued client={who} command=\"KILL_CLIENT\" argument=\"{victim}\"");
    assert!(log.contains(&issued), "{issued}: {log}");
    assert_eq!(log.matches("client not found").count(), 1, "{log}");
    let failed = format!("console command failed: client not found client={who} command=\"KILL_CLIENT\" argument=");
    assert!(log.contains(&failed), "{failed}: {log}");
    assert!(log.contains(&format!("console opened client={who}")), "{log}");
    for command in ["PAUSE", "RESUME"] {
        console.batch_execute(command).await.expect("nobody has a server");
        assert_eq!(pooler.log().matches(command).count(), 1, "{}", pooler.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_answered_in_pgbouncers_words_and_keep_the_console() {
    let database = Database::create("mistakes");
    let pooler = PoolerConfig::new().database("app", &database).start();
    let console = Session::connect(&pooler.console_dsn()).await;
    for (command, text) in [
        ("RESUME", "pooler is not paused/suspended"),
        ("RESUME app", "database app is not paused"),
        ("PAUSE nothing", "no such database: nothing"),
        ("PAUSE pgbouncer", "cannot pause admin db: pgbouncer"),
        ("RECONNECT pgbouncer", "cannot reconnect admin db: pgbouncer"),
        ("KILL pgbouncer", "cannot kill admin db: pgbouncer"),
        ("DISABLE", "a database is required"),
        ("KILL_CLIENT", "invalid client pointer supplied"),
        ("FROBNICATE", "invalid command 'FROBNICATE', use SHOW HELP;"),
        ("SHOW POOLS; SHOW STATS", "invalid command 'SHOW POOLS; SHOW STATS', use SHOW HELP;"),
    ] {
        assert_eq!(Session::refusal(console.batch_execute(command).await), words("08P01", text), "{command}");
    }
    console.batch_execute("PAUSE").await.expect("nothing runs");
    assert_eq!(Session::refusal(console.batch_execute("PAUSE").await), words("08P01", "already suspended/paused"));
    console.batch_execute("RESUME").await.expect("it was paused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stats_users_look_and_do_not_touch() {
    let database = Database::create("stats_users");
    let config = PoolerConfig::new().database("app", &database).user("watcher", "watcher");
    let pooler = config.set("stats_users", "[\"watcher\"]").start();
    let watcher = Session::connect(&pooler.dsn("watcher", "watcher", "pgbouncer")).await;
    for what in
        ["POOLS", "CLIENTS", "SERVERS", "STATS", "STATS_TOTALS", "LISTS", "USERS", "DATABASES", "CONFIG", "VERSION"]
    {
        watcher.batch_execute(&format!("SHOW {what}")).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    }
    for command in [
        "PAUSE",
        "RESUME",
        "RELOAD",
        "DISABLE app",
        "ENABLE app",
        "RECONNECT",
        "KILL app",
        "KILL_CLIENT 1",
        "WAIT_CLOSE",
        "SHUTDOWN",
        "SHUTDOWN WAIT_FOR_CLIENTS",
        // Only PgBouncer has these.
        "SET pool_mode = session",
        "SHOW FDS",
        "suspend;",
    ] {
        let needed = words("08P01", "admin access needed");
        assert_eq!(Session::refusal(watcher.batch_execute(command).await), needed, "{command}");
    }
    for command in ["SET pool_mode = session", "SHOW FDS", "SUSPEND"] {
        let refused = Session::refusal(watcher.query(command, &[]).await);
        assert_eq!(refused, words("08P01", "admin access needed"), "{command}, prepared");
    }
    let unknown = Session::refusal(watcher.batch_execute("SHOW SOCKETS").await);
    assert_eq!(unknown, words("08P01", "invalid command 'SHOW SOCKETS', use SHOW HELP;"));
    let stranger = Session::refusal(Session::try_connect(&pooler.dsn("app", "app", "pgbouncer")).await);
    assert_eq!(stranger.1, "not allowed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_of_the_process_needs_no_password_on_the_unix_socket_and_nowhere_else() {
    let database = Database::create("operator");
    let pooler = PoolerConfig::new().database("app", &database).start();
    let console = Session::connect(&pooler.socket_dsn("pgbouncer", "pgbouncer")).await;
    assert_eq!(show(&console, "CLIENTS", "user", "pgbouncer").await["addr"], "unix");
    console.batch_execute("RECONNECT").await.expect("it may do everything");
    for dsn in [
        pooler.dsn("pgbouncer", "", "pgbouncer"),
        pooler.dsn("pgbouncer", "pgbouncer", "pgbouncer"),
        pooler.socket_dsn("pgbouncer", "app"),
        pooler.socket_dsn("admin", "pgbouncer"),
    ] {
        let login = tokio::time::timeout(Duration::from_secs(20), Session::try_connect(&dsn)).await;
        assert!(login.expect("an answer").is_err(), "{dsn}");
    }
}
