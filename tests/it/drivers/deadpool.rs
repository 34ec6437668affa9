//! deadpool-postgres, as most Rust services have it: many tasks over a few connections, each given back after use,
//! statements cached per connection. The pooler sees connections that live long and change hands all the time.

use std::error::Error;
use std::time::Duration;

use deadpool_postgres::{GenericClient, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use futures_util::future::{join_all, try_join_all};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use super::directly_and_pooled;

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

const CONNECTIONS: usize = 6;
const TASKS: i32 = 24;
const ROUNDS: i32 = 15;

#[test]
fn deadpool_works_with_every_recycling_method() {
    directly_and_pooled("deadpool", |dsn, _| {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let methods = [
            ("fast", RecyclingMethod::Fast),
            ("verified", RecyclingMethod::Verified),
            ("clean", RecyclingMethod::Clean),
            ("custom", RecyclingMethod::Custom("SELECT 'recycled'".to_owned())),
        ];
        for (name, method) in methods {
            let done = runtime.block_on(serve(dsn, name, method));
            done.unwrap_or_else(|error| panic!("{name}: {error} ({error:?})"));
        }
    });
}

fn pool(dsn: &str, method: RecyclingMethod) -> Result<Pool, Box<dyn Error + Send + Sync>> {
    let manager = Manager::from_config(dsn.parse()?, NoTls, ManagerConfig { recycling_method: method });
    let wait = Some(Duration::from_secs(60));
    Ok(Pool::builder(manager)
        .max_size(CONNECTIONS)
        .runtime(Runtime::Tokio1)
        .wait_timeout(wait)
        .create_timeout(wait)
        .recycle_timeout(wait)
        .build()?)
}

async fn serve(dsn: &str, name: &str, method: RecyclingMethod) -> Outcome {
    let pool = pool(dsn, method)?;
    let table = format!("ledger_{name}");
    pool.get().await?.batch_execute(&format!("CREATE TABLE {table} (task int, round int, note text)")).await?;
    let tasks = (0..TASKS).map(|me| tokio::spawn(work(pool.clone(), table.clone(), me)));
    for outcome in join_all(tasks).await {
        outcome??;
    }
    let row = pool.get().await?.query_one(&format!("SELECT count(*), count(DISTINCT task) FROM {table}"), &[]).await?;
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (i64::from(TASKS * ROUNDS), i64::from(TASKS)));
    let status = pool.status();
    assert!(status.size <= CONNECTIONS && status.waiting == 0, "{status:?}");
    lost_connections(&pool).await
}

/// One task of a service: each round it takes whatever connection is free.
async fn work(pool: Pool, table: String, me: i32) -> Outcome {
    for round in 0..ROUNDS {
        let mut client = pool.get().await?;
        let echo = client.prepare_cached("SELECT $1::int * 1000 + $2::int").await?;
        assert_eq!(client.query_one(&echo, &[&me, &round]).await?.get::<_, i32>(0), me * 1000 + round);

        let insert = format!("INSERT INTO {table} VALUES ($1, $2, $3)");
        let own = format!("SELECT count(*) FROM {table} WHERE task = $1");
        let block = client.transaction().await?;
        add(&block, &insert, (me, round), "kept").await?;
        let inside = block.prepare_cached(&own).await?;
        assert_eq!(block.query_one(&inside, &[&me]).await?.get::<_, i64>(0), i64::from(round + 1), "own rows, inside");
        block.commit().await?;
        // Given back in the middle of a transaction: the driver rolls back before whoever is next.
        let lost = client.transaction().await?;
        add(&lost, &insert, (me, -1), "dropped").await?;
        drop(lost);
        drop(client);

        let mut client = pool.get().await?;
        let rows = client.query(&client.prepare_cached(&own).await?, &[&me]).await?;
        assert_eq!(rows[0].get::<_, i64>(0), i64::from(round + 1), "own rows, by another connection");
        assert_eq!(mistake(&client).await, Some(SqlState::DIVISION_BY_ZERO));
        let block = client.build_transaction().read_only(true).start().await?;
        assert_eq!(block.query_one("SHOW transaction_read_only", &[]).await?.get::<_, &str>(0), "on");
        let refused = block.execute(&insert, &[&me, &round, &"never"]).await.err();
        assert_eq!(refused.and_then(|e| e.code().cloned()), Some(SqlState::READ_ONLY_SQL_TRANSACTION));
        block.rollback().await?;
    }
    Ok(())
}

/// What a service's own code is written against: a client or a transaction.
async fn add(client: &impl GenericClient, insert: &str, (me, round): (i32, i32), note: &str) -> Outcome {
    let statement = client.prepare_cached(insert).await?;
    assert_eq!(client.execute(&statement, &[&me, &round, &note]).await?, 1);
    Ok(())
}

async fn mistake(client: &impl GenericClient) -> Option<SqlState> {
    let error = client.query("SELECT 1 / ($1::int - $1::int)", &[&1]).await.err()?;
    error.code().cloned()
}

/// Connections that die at rest are replaced without a task seeing an error.
async fn lost_connections(pool: &Pool) -> Outcome {
    let all = try_join_all((0..CONNECTIONS).map(|_| pool.get())).await?;
    let tokens: Vec<_> = all.iter().map(|client| client.query_one("SELECT 1", &[])).collect();
    assert_eq!(try_join_all(tokens).await?.len(), CONNECTIONS);
    // The driver hangs up on half of them; they come back to the pool as dead as they are.
    for client in all.into_iter().step_by(2) {
        let _ = deadpool_postgres::Object::take(client);
    }
    let again = try_join_all((0..CONNECTIONS).map(|_| pool.get())).await?;
    let sums = again.iter().map(|client| async move {
        let statement = client.prepare_cached("SELECT sum(n) FROM generate_series(1, $1::int) AS n").await?;
        client.query_one(&statement, &[&100]).await
    });
    assert!(try_join_all(sums).await?.iter().all(|row| row.get::<_, i64>(0) == 5050));
    Ok(())
}
