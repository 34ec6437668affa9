//! Servers that are down, refuse, start up, hang, or are no PostgreSQL at all.

use futures_util::future::join_all;
use pglifeguard::app::demo::{Cluster, ClusterOptions, Shutdown, Watch};

use super::{at, number, pool};
use crate::support::peers::{Doorman, Line, Parrot};
use crate::support::{Database, PoolerConfig, Session, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_wait_get_the_servers_own_words() {
    let database = Database::create("refusals");
    database.sql("CREATE ROLE refuse_nologin NOLOGIN PASSWORD 'x'");
    database.sql("CREATE ROLE refuse_password LOGIN PASSWORD 'another'");
    let config = PoolerConfig::new()
        .database("app", &database)
        .section("databases.missing", &at(database.port(), "no_such_database"))
        .user("refuse_password", "x")
        .user("refuse_nologin", "x");
    let pooler = config.start();
    for (user, password, name, code, text) in [
        ("refuse_password", "x", "app", "28P01", "password authentication failed for user \"refuse_password\""),
        ("refuse_nologin", "x", "app", "28000", "role \"refuse_nologin\" is not permitted to log in"),
        ("app", "app", "missing", "3D000", "database \"no_such_database\" does not exist"),
    ] {
        let dsn = pooler.dsn(user, password, name);
        let before = pooler.log().matches("server login failed").count();
        let outcomes = join_all((0..8).map(|_| Session::try_connect(&dsn))).await;
        let cached = format!("server login has been failing, cached error: {text} (server_login_retry)");
        let mut heard = 0;
        for outcome in outcomes {
            let (found, message) = Session::refusal(outcome);
            assert_eq!(found, code, "{message}");
            if message != cached {
                assert_eq!(message, text);
                heard += 1;
            }
        }
        // Whoever comes later reads the same, and why it is not tried anew.
        let late = Session::refusal(Session::try_connect(&dsn).await);
        assert!(late.0 == code && [&cached, text].contains(&late.1.as_str()), "{late:?}");
        assert!(heard > 0, "{user}: somebody must have waited");
        let attempts = pooler.log().matches("server login failed").count() - before;
        assert!(attempts < 8, "{user}: {attempts} attempts for 8 clients");
    }
}

/// A server that says no for now is waited for by logins, also by those that come when an attempt has just failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_wait_while_a_server_starts_up_or_is_full() {
    let database = Database::create("for_now");
    database.sql("CREATE ROLE for_now LOGIN PASSWORD 'x' CONNECTION LIMIT 0");
    let (starting, words) =
        (Parrot::refusing("57P03", "not yet accepting connections"), "not yet accepting connections");
    let config = PoolerConfig::new()
        .database("app", &database)
        .section("databases.starting", &at(starting.port(), "app"))
        .user("for_now", "x")
        .set("server_tls_sslmode", "\"disable\"");
    let pooler = config.clone().set("query_wait_timeout", "1").start();
    let full = "too many connections for role \"for_now\"";
    for (dsn, code, words) in
        [(pooler.dsn("app", "app", "starting"), "57P03", words), (pooler.dsn("for_now", "x", "app"), "53300", full)]
    {
        let first = tokio::spawn({
            let dsn = dsn.clone();
            async move { Session::refusal(Session::try_connect(&dsn).await) }
        });
        eventually("a login to fail", async || pooler.log().contains(words)).await;
        let late = Session::refusal(Session::try_connect(&dsn).await);
        for (found, message) in [first.await.expect("no panic"), late] {
            assert_eq!((found.as_str(), message.as_str()), (code, words));
        }
    }
    let limited = config.clone().set("client_login_timeout", "1").start();
    let refused = Session::refusal(Session::try_connect(&limited.dsn("app", "app", "starting")).await);
    assert_eq!((refused.0.as_str(), refused.1.as_str()), ("57P03", words));
    let pooler = config.start();
    let dsn = pooler.dsn("for_now", "x", "app");
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let dsn = dsn.clone();
            tokio::spawn(async move { Session::connect(&dsn).await.value("SELECT 1").await })
        })
        .collect();
    eventually("a login to fail", async || pooler.log().contains(full)).await;
    let late = tokio::spawn(async move { Session::connect(&dsn).await.value("SELECT 1").await });
    let console = Session::connect(&pooler.console_dsn()).await;
    eventually("all to wait", async || pool(&console, "app", "cl_waiting").await == 3).await;
    database.sql("ALTER ROLE for_now CONNECTION LIMIT -1");
    for client in clients.into_iter().chain([late]) {
        assert_eq!(client.await.expect("it waited for the server"), "1");
    }
}

/// PostgreSQL wants SCRAM, the user list has an md5 secret: no proof can be made of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_cannot_be_is_told_once() {
    let database = Database::create("wrong_type");
    let config = PoolerConfig::new().database("app", &database).user("app", "md5fe63fea7be31b0200b496d08bc6b517d");
    let pooler = config.set("auth_type", "\"md5\"").set("server_login_retry", "60").start();
    let words = "server login failed: wrong password type";
    for said in [words.to_owned(), format!("server login has been failing, cached error: {words} (server_login_retry)")]
    {
        let refusal = Session::refusal(Session::try_connect(&pooler.app_dsn("app")).await);
        assert_eq!(refusal, ("28P01".to_owned(), said));
    }
    let log = pooler.log();
    assert!(log.contains(words) && !log.contains("server login failed: server login failed"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_probes_a_server_that_refuses() {
    let parrot = Parrot::refusing("28P01", "go away");
    let config = PoolerConfig::new().section("databases.app", &at(parrot.port(), "app"));
    let pooler = config.set("server_login_retry", "60").set("server_tls_sslmode", "\"disable\"").start();
    let dsn = pooler.app_dsn("app");
    let outcomes = join_all((0..50).map(|_| Session::try_connect(&dsn))).await;
    for outcome in outcomes {
        let (_, message) = Session::refusal(outcome);
        assert!(message.contains("go away"), "{message}");
    }
    let visits = parrot.visits();
    assert!(visits <= 10, "{visits} logins were tried for 50 clients");
}

/// A server that is full is asked by one connection, whoever wants one, and when it is not everybody is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_all_pools_one_connection_probes_a_server_that_refuses() {
    let database = Database::create("probes");
    let doorman = Doorman::before(database.port(), "53300", "sorry, too many clients already");
    let users: Vec<String> = (0..12).map(|number| format!("probe_{number}")).collect();
    let config = PoolerConfig::new()
        .section("databases.app", &at(doorman.port(), &database.name))
        .set("default_pool_size", "1")
        .set("server_tls_sslmode", "\"disable\"")
        .set("server_login_retry", "0.1");
    let config = users.iter().fold(config, |config, user| {
        database.sql(&format!("CREATE ROLE {user} LOGIN PASSWORD 'x'"));
        config.user(user, "x")
    });
    let pooler = config.start();
    let clients: Vec<_> = users
        .iter()
        .flat_map(|user| [(); 3].map(|()| pooler.dsn(user, "x", "app")))
        .map(|dsn| tokio::spawn(async move { Session::connect(&dsn).await.value("SELECT 1").await }))
        .collect();
    let console = Session::connect(&pooler.console_dsn()).await;
    eventually("all to wait", async || {
        let pools = console.rows("SHOW POOLS").await;
        pools.iter().map(|row| number(row, "cl_waiting") as usize).sum::<usize>() == clients.len()
    })
    .await;
    let before = doorman.refused().0;
    eventually("some probes", async || doorman.refused().0 >= before + 10).await;
    assert_eq!(doorman.refused().1, 1, "at once");
    doorman.lets_in();
    for client in clients {
        assert_eq!(client.await.expect("it waited for the server"), "1");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_postgresql_is_called_so_and_what_hangs_is_given_up() {
    let web = Parrot::saying(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec());
    let (mute, starting) =
        (Parrot::saying(Vec::new()), Parrot::refusing("57P03", "the database system is starting up"));
    for (peer, sslmode, code, message, words) in [
        (&web, "prefer", "08006", "unknown pkt from server", "its answer to SSLRequest is none of PostgreSQL's"),
        (&web, "disable", "08006", "unknown pkt from server", "impossible length of a message during login"),
        (&mute, "prefer", "57014", "query_wait_timeout", "connect timeout"),
        (&mute, "disable", "57014", "query_wait_timeout", "connect timeout"),
        (&starting, "disable", "57P03", "the database system is starting up", "for a server (query_wait_timeout)"),
    ] {
        let config = PoolerConfig::new().section("databases.app", &at(peer.port(), "app"));
        let config = config.set("server_tls_sslmode", &format!("\"{sslmode}\"")).set("query_wait_timeout", "2");
        let pooler = config.set("server_connect_timeout", "0.5").start();
        let before = peer.visits();
        let error = Session::try_connect(&pooler.app_dsn("app")).await.expect_err("no server is to be had");
        let error = error.as_db_error().expect("a server's error");
        assert_eq!((error.code().code(), error.message()), (code, message), "{sslmode}: {error:?}");
        let said = format!("{} {}", error.detail().unwrap_or_default(), error.hint().unwrap_or_default());
        assert!(said.contains(words), "{sslmode}: {said}");
        if code == "08006" {
            assert!(said.contains("check host and port"), "{sslmode}: {said}");
            assert!(pooler.log().contains(&format!("{message} (08006): {words}")), "{}", pooler.log());
        }
        let visits = peer.visits() - before;
        assert_eq!(visits > 1, code != "08006", "{sslmode}: {visits} visits; who waits is waited for");
    }
}

/// Whoever waited before the server went down waits on, and is served when it is back; who comes later is refused at
/// once, as in PgBouncer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_served_after_a_restart_of_postgresql() {
    let mut cluster = Cluster::start(&ClusterOptions::default(), &Watch::QUIET).expect("a cluster of its own");
    let config = PoolerConfig::new().section("databases.app", &at(cluster.primary().port(), "app"));
    let pooler = config.set("default_pool_size", "1").start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let clients = join_all((0..6).map(|_| async { Session::connect(&pooler.app_dsn("app")).await })).await;
    let mut clients = clients.into_iter();
    let holder = clients.next().expect("six");
    holder.batch_execute("BEGIN").await.expect("the only server");
    let queries: Vec<_> = clients.map(|client| tokio::spawn(async move { client.value("SELECT 1").await })).collect();
    eventually("all to wait", async || pool(&console, "app", "cl_waiting").await == 5).await;
    cluster.primary_mut().stop(Shutdown::Fast).expect("it stops");
    let (code, _) = Session::refusal(holder.batch_execute("SELECT 1").await);
    assert_eq!(code, "08006");
    eventually("a login to fail", async || pooler.log().contains("server login failed")).await;
    let late = Session::connect(&pooler.app_dsn("app")).await;
    let (code, text) = Session::refusal(late.batch_execute("SELECT 1").await);
    assert_eq!(
        (
            ["08006", "57P03"].contains(&code.as_str()),
            text.starts_with("server login has been failing, cached error: ")
        ),
        (true, true),
        "{code}: {text}"
    );
    assert_eq!(pool(&console, "app", "cl_waiting").await, 5);
    cluster.primary_mut().start(&Watch::QUIET).expect("it starts again");
    for outcome in join_all(queries).await {
        assert_eq!(outcome.expect("it waited for the server"), "1");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_in_vain_for_a_server_that_is_down_is_told_why() {
    let database = Database::create("down");
    let mut line = Line::to(database.port());
    let config = PoolerConfig::new().section("databases.app", &at(line.port(), &database.name));
    let pooler = config.set("query_wait_timeout", "1.5").start();
    let (busy, unlucky) =
        (Session::connect(&pooler.app_dsn("app")).await, Session::connect(&pooler.app_dsn("app")).await);
    busy.batch_execute("BEGIN").await.expect("a server");
    line.cut();
    let (code, text) = Session::refusal(busy.batch_execute("SELECT 1").await);
    assert_eq!((code.as_str(), text.contains("the transaction is rolled back")), ("08006", true), "{text}");
    let error = unlucky.batch_execute("SELECT 1").await.expect_err("there is no server");
    let error = error.as_db_error().expect("a server's error");
    assert_eq!((error.code().code(), error.message()), ("57014", "query_wait_timeout"));
    let exactly = format!("connect failed: could not connect to 127.0.0.1:{}: connection refused", line.port());
    assert!(error.detail().is_some_and(|detail| detail.contains(&exactly)), "{:?}", error.detail());
    assert!(pooler.log().contains(&format!("server login failed: {exactly}")), "{}", pooler.log());
    line.mend();
    eventually("the server to be found again", async || {
        let client = Session::connect(&pooler.app_dsn("app")).await;
        client.batch_execute("SELECT 1").await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_hosts_has_one_dead_host_passed_over() {
    let database = Database::create("hosts");
    for balance in ["round-robin", "disable"] {
        let hosts = format!(
            "host = [\"127.0.0.2\", \"127.0.0.1\"]\nport = {}\ndbname = \"{}\"\nload_balance_hosts = \"{balance}\"\n",
            database.port(),
            database.name
        );
        let pooler = PoolerConfig::new().section("databases.app", &hosts).start();
        let clients = join_all((0..4).map(|_| async { Session::connect(&pooler.app_dsn("app")).await })).await;
        for outcome in join_all(clients.iter().map(|client| client.batch_execute("SELECT pg_sleep(0.05)"))).await {
            outcome.unwrap_or_else(|error| panic!("{balance}: {error:?}"));
        }
    }
}
