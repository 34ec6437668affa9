//! A thousand clients over 25 servers. Every question carries a token, and every answer must bring it back: nobody
//! may ever get what another asked for. Some vanish in the middle, some cancel.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage, Statement};

use crate::support::pooler::Pooler;
use crate::support::{Database, PoolerConfig, wait_until};

#[test]
fn a_thousand_clients_get_their_own_answers_from_25_servers() {
    let database = Database::create("crowd");
    let pooler = for_a_thousand(&database);
    let dsn = pooler.app_dsn("app");
    let runtime = Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let crowd = (0..CLIENTS).map(|me| tokio::spawn(client(dsn.clone(), me)));
        for (me, outcome) in join_all(crowd).await.into_iter().enumerate() {
            outcome.expect("no client panicked").unwrap_or_else(|error| panic!("client {me}: {error} ({error:?})"));
        }
    });
    let of_app = "pid <> pg_backend_pid() AND datname = current_database() AND usename = 'app'";
    let servers: u32 =
        database.sql(&format!("SELECT count(*) FROM pg_stat_activity WHERE {of_app}")).parse().expect("n");
    assert!((1..=25).contains(&servers), "{servers} servers");
    // Whoever vanished left nothing running, and nothing open.
    let busy = format!("SELECT count(*) FROM pg_stat_activity WHERE {of_app} AND state <> 'idle'");
    wait_until("the servers of vanished clients to come to rest", LIMIT, || database.sql(&busy) == "0");
}

/// A pooler with 25 servers for a thousand clients.
pub(crate) fn for_a_thousand(database: &Database) -> Pooler {
    raise_descriptor_limit();
    let config = PoolerConfig::new()
        .database("app", database)
        .set("max_client_conn", "1100")
        .set("default_pool_size", "25")
        // On a slow machine the last of a thousand logins takes its time.
        .set("client_login_timeout", "120")
        .set("listen_backlog", "1024");
    config.start()
}

/// Each cancel waits until its connection is closed, as libpq's does: from then on it may hit nothing, neither the next
/// query of the same client nor anybody else's.
#[test]
fn in_a_storm_of_cancels_and_departures_each_hits_only_its_own_query() {
    let database = Database::create("storm");
    let config = PoolerConfig::new().database("app", &database).set("default_pool_size", "4");
    let pooler = config.set("auth_type", "\"trust\"").start();
    let (dsn, port) = (pooler.app_dsn("app"), pooler.port());
    let runtime = Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let storm = (1..=50).map(|seed| tokio::spawn(stormy(dsn.clone(), port, seed)));
        for (me, outcome) in join_all(storm).await.into_iter().enumerate() {
            outcome.expect("no client panicked").unwrap_or_else(|error| panic!("client {me}: {error} ({error:?})"));
        }
    });
    let of_app = "pid <> pg_backend_pid() AND datname = current_database() AND usename = 'app'";
    let busy = format!("SELECT count(*) FROM pg_stat_activity WHERE {of_app} AND state <> 'idle'");
    wait_until("the servers of vanished clients to come to rest", LIMIT, || database.sql(&busy) == "0");
}

async fn stormy(dsn: String, port: u16, seed: usize) -> Result<(), Error> {
    let mut random = seed;
    let (mut client, mut connection) = connect(&dsn).await?;
    for round in 0..12 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let echo = client.prepare("SELECT $1::text, pg_sleep(0.001)").await?;
        match (random >> 33) % 6 {
            0 => {
                // Whether it sleeps, waits for a server, or is only on its way there.
                let (cancelled, ()) = tokio::join!(client.simple_query("SELECT pg_sleep(5)"), async {
                    sleep(Duration::from_millis((random >> 40) as u64 % 60)).await;
                    cancel_and_wait(&client, port).await;
                });
                let code = cancelled.err().map(|error| error.code().cloned());
                assert!(code.is_none_or(|code| code == Some(SqlState::QUERY_CANCELED)));
            }
            1 => cancel_and_wait(&client, port).await,
            2 => {
                let open = "BEGIN; CREATE TABLE lost (n int); SELECT pg_sleep(60)";
                let _ = timeout(Duration::from_millis((random >> 40) as u64 % 60), client.simple_query(open)).await;
                connection.abort();
                (client, connection) = connect(&dsn).await?;
                continue;
            }
            _ => (),
        }
        ask(&client, &echo, seed, round).await?;
    }
    drop(client);
    connection.await.expect("it was not aborted")
}

/// Half of the connection is still open when the request is sent, so its end can be awaited.
async fn cancel_and_wait(client: &Client, port: u16) {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("the pooler listens");
    client.cancel_token().cancel_query_raw(&mut socket, NoTls).await.expect("it is sent");
    assert_eq!(socket.read(&mut [0]).await.ok(), Some(0));
}

/// What becomes of a client in the middle of its life.
enum Fate {
    /// It stays to the end.
    Stays,
    /// Its connection closes while its query runs.
    VanishesMidQuery,
    /// Its connection closes within a transaction block.
    VanishesMidTransaction,
    /// It cancels its query, and goes on.
    Cancels,
    /// It cancels while nothing runs: nobody's query may be hit.
    CancelsIdly,
}

impl Fate {
    fn of(me: usize) -> Self {
        match me % 10 {
            0 => Self::VanishesMidQuery,
            1 => Self::VanishesMidTransaction,
            2 => Self::Cancels,
            3 => Self::CancelsIdly,
            _ => Self::Stays,
        }
    }
}

async fn client(dsn: String, me: usize) -> Result<(), Error> {
    let (client, connection) = connect(&dsn).await?;
    let echo = client.prepare("SELECT $1::text, pg_sleep(0.001)").await?;
    for round in 0..ROUNDS {
        ask(&client, &echo, me, round).await?;
        if round == ROUNDS / 2 {
            match Fate::of(me) {
                Fate::Stays => (),
                Fate::VanishesMidQuery => return vanish(&client, &connection, "SELECT pg_sleep(60)").await,
                Fate::VanishesMidTransaction => {
                    let open = format!("BEGIN; CREATE TABLE lost_{me} (n int); SELECT pg_sleep(60)");
                    return vanish(&client, &connection, &open).await;
                }
                Fate::Cancels => cancel(&client).await?,
                Fate::CancelsIdly => {
                    client.cancel_token().cancel_query(NoTls).await?;
                    settle(&client).await?;
                }
            }
        }
    }
    drop(client);
    connection.await.expect("it was not aborted")
}

/// A client, and the task that owns its socket.
async fn connect(dsn: &str) -> Result<(Client, JoinHandle<Result<(), Error>>), Error> {
    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await?;
    Ok((client, tokio::spawn(connection)))
}

/// One question by each protocol, all under way at once, then one transaction.
async fn ask(client: &Client, echo: &Statement, me: usize, round: usize) -> Result<(), Error> {
    let token = |how: &str| format!("{how} {me}.{round}");
    let (prepared, extended, simple) = (token("prepared"), token("extended"), token("simple"));
    let query = format!("SELECT '{simple}'; SELECT '{simple} again'");
    let by_name: [&(dyn ToSql + Sync); 1] = [&prepared];
    let unnamed: [(&(dyn ToSql + Sync), Type); 1] = [(&extended, Type::TEXT)];
    let (by_name, unnamed, texts) = tokio::join!(
        client.query_one(echo, &by_name),
        client.query_typed("SELECT $1::text", &unnamed),
        client.simple_query(&query),
    );
    assert_eq!(by_name?.get::<_, &str>(0), prepared);
    assert_eq!(unnamed?[0].get::<_, &str>(0), extended);
    assert_eq!(rows(&texts?), [simple.clone(), format!("{simple} again")]);

    // Between the statements of a transaction others get their turn, but not on this server.
    let inside = format!("BEGIN; SELECT set_config('crowd.token', '{}', true)", token("inside"));
    client.batch_execute(&inside).await?;
    let seen = client.query_one("SELECT current_setting('crowd.token')", &[]).await?;
    assert_eq!(seen.get::<_, &str>(0), token("inside"));
    client.batch_execute("COMMIT").await
}

fn rows(messages: &[SimpleQueryMessage]) -> Vec<String> {
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    messages.iter().filter_map(row).collect()
}

/// Aborting the task that owns the socket closes it, without a Terminate.
async fn vanish(client: &Client, connection: &JoinHandle<Result<(), Error>>, query: &str) -> Result<(), Error> {
    let running = timeout(Duration::from_millis(50), client.simple_query(query)).await;
    assert!(running.is_err(), "it was to run for a minute: {running:?}");
    connection.abort();
    Ok(())
}

/// The request may be there before its query: then it has nothing to cancel, and is sent again.
async fn cancel(client: &Client) -> Result<(), Error> {
    let token = client.cancel_token();
    let mut query = std::pin::pin!(client.simple_query("SELECT pg_sleep(60)"));
    loop {
        tokio::select! {
            answer = &mut query => {
                let code = answer.err().and_then(|error| error.code().cloned());
                assert_eq!(code, Some(SqlState::QUERY_CANCELED));
                return settle(client).await;
            }
            () = sleep(Duration::from_millis(100)) => token.cancel_query(NoTls).await?,
        }
    }
}

/// A cancel request that is still on its way may hit the next query of the *same* client, with PostgreSQL too.
async fn settle(client: &Client) -> Result<(), Error> {
    for _ in 0..5 {
        sleep(Duration::from_millis(100)).await;
        match client.simple_query("SELECT 1").await {
            Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => (),
            answer => drop(answer?),
        }
    }
    Ok(())
}

/// Two sockets for each client would not fit into the usual 1024.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("up to the maximum is always allowed");
}

const CLIENTS: usize = 1000;
const ROUNDS: usize = 10;
const LIMIT: Duration = Duration::from_secs(30);
