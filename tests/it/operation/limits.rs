//! Limits: the reserve, those that pools share, those on clients.

use std::time::Duration;

use futures_util::future::join_all;
use pglifeguard::app::demo::{Cluster, ClusterOptions, Login, LoginMethod, Watch};

use super::{at, number, pool, show};
use crate::support::{Database, PoolerConfig, Session, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_long_gets_a_server_of_the_reserve() {
    let database = Database::create("reserve");
    let config = PoolerConfig::new().database("app", &database).set("default_pool_size", "1");
    let pooler = config.set("reserve_pool_size", "1").set("reserve_pool_timeout", "0.2").start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let dsn = pooler.app_dsn("app");
    let [first, second, third] = [(); 3].map(|()| Session::connect(&dsn));
    let (first, second, third) = (first.await, second.await, third.await);
    first.batch_execute("BEGIN").await.expect("the pool's own");
    second.batch_execute("BEGIN").await.expect("the reserve's");
    assert!(pooler.log().contains("taking connection from reserve_pool"), "{}", pooler.log());
    let waiting = tokio::spawn(async move { third.batch_execute("SELECT 1").await });
    eventually("the third to wait", async || pool(&console, "app", "cl_waiting").await == 1).await;
    assert_eq!(pool(&console, "app", "sv_active").await, 2);
    first.batch_execute("COMMIT").await.expect("it has a server");
    waiting.await.expect("no panic").expect("its turn came");
}

/// Two pools that share a limit of one server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_that_share_a_limit_pass_its_places_on() {
    let (one, two) = (Database::create("shared_one"), Database::create("shared_two"));
    let cases = [
        ("max_db_connections", ["app:app@one", "by_trust:by_trust@one"]),
        ("max_user_connections", ["app:app@one", "app:app@two"]),
        ("max_node_connections", ["app:app@one", "by_trust:by_trust@two"]),
    ];
    for (setting, who) in cases {
        let config = PoolerConfig::new().database("one", &one).database("two", &two).user("by_trust", "by_trust");
        let pooler = config.set(setting, "1").set("query_wait_timeout", "1").start();
        let dsn = |who: &str| {
            let (login, database) = who.split_once('@').expect("an @");
            let (user, password) = login.split_once(':').expect("a colon");
            pooler.dsn(user, password, database)
        };
        let (first, second) = (Session::connect(&dsn(who[0])).await, Session::connect(&dsn(who[1])).await);
        for _ in 0..5 {
            first.batch_execute("SELECT 1").await.expect("the place is free");
            second.batch_execute("SELECT 1").await.expect("what rests makes room");
            let servers =
                "SELECT count(*) FROM pg_stat_activity WHERE usename IN ('app', 'by_trust') AND datname ~ 'shared_'";
            assert_eq!(one.sql(servers), "1", "{setting}");
        }
        first.batch_execute("BEGIN").await.expect("the place is free");
        let error = second.batch_execute("SELECT 1").await.expect_err("the place is taken");
        let error = error.as_db_error().expect("a server's error");
        assert_eq!((error.code().code(), error.message()), ("57014", "query_wait_timeout"), "{setting}");
        assert!(error.detail().is_some_and(|detail| detail.contains(setting)), "{setting}: {:?}", error.detail());
        first.batch_execute("COMMIT").await.expect("it has a server");
    }
}

/// Connections that listen count by themselves: who holds the only server may wait for one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_connections_listen_than_there_may_be_servers() {
    let (one, two) = (Database::create("listening_one"), Database::create("listening_two"));
    for (setting, users) in [
        ("max_db_connections", ["app", "by_trust"]),
        ("max_user_connections", ["app"; 2]),
        ("max_node_connections", ["app"; 2]),
    ] {
        let config = PoolerConfig::new().database("one", &one).database("two", &two).user("by_trust", "by_trust");
        let pooler = config.set(setting, "1").start();
        let second = if setting == "max_db_connections" { "one" } else { "two" };
        let first = Session::connect(&pooler.dsn(users[0], users[0], "one")).await;
        let second = Session::connect(&pooler.dsn(users[1], users[1], second)).await;
        first.batch_execute("BEGIN; LISTEN a; COMMIT; LISTEN b").await.expect("one may listen");
        let words = format!("too many connections listen for clients ({setting})");
        for text in ["LISTEN a", "SELECT 1; LISTEN a"] {
            let refused = Session::refusal(second.batch_execute(text).await);
            assert_eq!(refused, ("53300".to_owned(), words.clone()), "{setting}");
        }
        assert!(pooler.log().contains(&words), "{}", pooler.log());
        second.batch_execute("SELECT 1").await.expect("it goes on");
        drop(first);
        eventually("the place to be free", async || second.batch_execute("LISTEN a").await.is_ok()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_limit_is_for_each_node() {
    let database = Database::create("per_node");
    // Two names of one server are two nodes to the pooler.
    let entry = |host| format!("host = \"{host}\"\nport = {}\ndbname = \"{}\"\n", database.port(), database.name);
    let config = PoolerConfig::new().section("databases.one", &entry("127.0.0.1"));
    let pooler = config.section("databases.two", &entry("localhost")).set("max_node_connections", "1").start();
    let (one, two) = (Session::connect(&pooler.app_dsn("one")).await, Session::connect(&pooler.app_dsn("two")).await);
    one.batch_execute("BEGIN").await.expect("a place on one node");
    two.batch_execute("BEGIN").await.expect("a place on the other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_limits_hold_in_a_storm_of_logins_and_exempt_admins() {
    let database = Database::create("client_limits");
    let forced =
        format!("host = \"127.0.0.1\"\nport = {}\ndbname = \"{}\"\nuser = \"app\"", database.port(), database.name);
    let db = "max_db_client_connections";
    for (setting, name) in [(db, "app"), (db, "forced"), ("max_user_client_connections", "forced")] {
        let config = PoolerConfig::new().database("app", &database).section("databases.forced", &forced);
        let pooler = config.user("by_trust", "by_trust").set(setting, "3").start();
        let dsn = pooler.dsn("by_trust", "by_trust", name);
        let logins = join_all((0..12).map(|_| Session::try_connect(&dsn))).await;
        let (clients, refused): (Vec<_>, Vec<_>) = logins.into_iter().partition(Result::is_ok);
        assert_eq!((clients.len(), refused.len()), (3, 9), "{setting}");
        for error in refused {
            let expected = ("53300".to_owned(), format!("client connections exceeded ({setting})"));
            assert_eq!(Session::refusal(error), expected);
        }
        let console = Session::connect(&pooler.console_dsn()).await;
        assert_eq!(number(&show(&console, "USERS", "name", "by_trust").await, "current_client_connections"), 3);
        assert_eq!(number(&show(&console, "DATABASES", "name", name).await, "current_client_connections"), 3);
        if name == "forced" {
            // More of them than either limit.
            let dsn = pooler.dsn("admin", "admin", name);
            let admins = join_all((0..5).map(|_| Session::connect(&dsn))).await;
            assert_eq!(admins[4].value("SELECT 1").await, "1");
        }
        drop(clients);
        eventually("a place to be free again", async || Session::try_connect(&dsn).await.is_ok()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_pooler_refuses_clients_but_not_the_console() {
    let database = Database::create("full");
    let pooler = PoolerConfig::new().database("app", &database).set("max_client_conn", "2").start();
    let clients = [Session::connect(&pooler.app_dsn("app")).await, Session::connect(&pooler.app_dsn("app")).await];
    let error = Session::try_connect(&pooler.app_dsn("app")).await.expect_err("it is full");
    let error = error.as_db_error().expect("the pooler's own");
    let refused = (error.code().code(), error.message());
    assert_eq!(refused, ("53300", "no more connections allowed (max_client_conn)"));
    assert_eq!((error.detail(), error.hint()), (None, None), "strangers are not told how many there are");
    let cause = "max_client_conn is 2; clients logged in: 2; connections not logged in, this one included: 1";
    assert!(pooler.log().contains(&format!("cause=\"{cause}\"")), "{}", pooler.log());
    let console = Session::connect(&pooler.console_dsn()).await;
    assert_eq!(number(&show(&console, "LISTS", "list", "used_clients").await, "items"), 3);
    drop((clients, console));
    eventually("a place to be free again", async || Session::try_connect(&pooler.app_dsn("app")).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_user_is_logged_in_with_its_own_password() {
    let database = Database::create("forced_user");
    let forced =
        format!("host = \"127.0.0.1\"\nport = {}\ndbname = \"{}\"\nuser = \"app\"", database.port(), database.name);
    let config = PoolerConfig::new().section("databases.forced", &forced);
    let pooler = config.user("stranger", "another password").start();
    let client = Session::connect(&pooler.dsn("stranger", "another password", "forced")).await;
    assert_eq!(client.value("SELECT current_user").await, "app");
    let console = Session::connect(&pooler.console_dsn()).await;
    let row = show(&console, "CLIENTS", "database", "forced").await;
    assert_eq!(row["user"], "stranger");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_database_is_served_by_the_star_and_forgotten_when_unused() {
    let database = Database::create("star");
    let star = format!("host = \"127.0.0.1\"\nport = {}\n", database.port());
    let config = PoolerConfig::new().section("databases.\"*\"", &star).set("autodb_idle_timeout", "1");
    let pooler = config.set("server_idle_timeout", "1").start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let client = Session::connect(&pooler.app_dsn(&database.name)).await;
    assert_eq!(client.value("SELECT current_database()").await, database.name);
    assert_eq!(show(&console, "DATABASES", "name", &database.name).await["database"], database.name);
    let refused = Session::refusal(Session::try_connect(&pooler.app_dsn("no_such_thing")).await);
    assert_eq!(refused, ("3D000".to_owned(), "database \"no_such_thing\" does not exist".to_owned()));
    drop(client);
    for name in [&database.name, "no_such_thing"] {
        eventually("the database to be forgotten", async || {
            show(&console, "DATABASES", "name", name).await.is_empty()
                && show(&console, "POOLS", "database", name).await.is_empty()
        })
        .await;
    }
    let again = tokio::time::timeout(Duration::from_secs(30), Session::connect(&pooler.app_dsn(&database.name))).await;
    assert_eq!(again.expect("in time").value("SELECT 1").await, "1");
}

/// A server with five places, all of them taken by servers of one pool.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_share_the_places_of_a_server_that_is_full() {
    let options = ClusterOptions {
        logins: ["app", "two", "three"].map(|user| Login::new(user, user, LoginMethod::Scram)).into(),
        settings: [("max_connections", "8"), ("superuser_reserved_connections", "3")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(&options, &Watch::QUIET).expect("a cluster of its own");
    let config = PoolerConfig::new().user("two", "two").user("three", "three");
    let config = config.section("databases.app", &at(cluster.primary().port(), "app"));
    let pooler = config.set("default_pool_size", "5").set("query_wait_timeout", "1.5").start();
    let all = async |sql: &str, clients: &[Session]| {
        let answers = clients.iter().map(|client| client.batch_execute(sql));
        join_all(answers).await.into_iter().for_each(|answer| answer.expect(sql));
    };
    let rich = join_all((0..5).map(|_| async { Session::connect(&pooler.app_dsn("app")).await })).await;
    all("BEGIN", &rich).await;
    all("COMMIT", &rich).await;
    let mut poor = Vec::new();
    for user in ["two", "three"] {
        let client = Session::connect(&pooler.dsn(user, user, "app")).await;
        client.batch_execute("SELECT 1").await.expect("what rests elsewhere makes room");
        poor.push(client);
    }
    all("BEGIN", &poor).await;
    all("BEGIN", &rich[..3]).await;
    let error = rich[3].batch_execute("SELECT 1").await.expect_err("all five are in use");
    let error = error.as_db_error().expect("a server's error");
    assert_eq!((error.code().code(), error.message()), ("57014", "query_wait_timeout"));
    assert!(
        error.detail().is_some_and(|detail| detail.contains("the server's max_connections")),
        "{:?}",
        error.detail()
    );
    all("COMMIT", &rich[..3]).await;
    all("COMMIT", &poor).await;
    all("BEGIN", &rich[..3]).await;
    all("BEGIN", &poor[..1]).await;
}
