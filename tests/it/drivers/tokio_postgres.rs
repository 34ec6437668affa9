//! tokio-postgres: pipelines by itself whenever several requests are under way on one connection.

use std::cell::Cell;
use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use futures_util::{SinkExt, TryStreamExt};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{CancelToken, Client, Config, NoTls, SimpleQueryMessage};

use super::directly_and_pooled;

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

#[test]
fn tokio_postgres_works() {
    directly_and_pooled("tokio_postgres", |dsn, _| {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let clients = (1..=6).map(|me| async move {
            work(dsn, me).await.unwrap_or_else(|error| panic!("client {me}: {error} ({error:?})"));
        });
        runtime.block_on(join_all(clients));
    });
}

async fn work(dsn: &str, me: i32) -> Outcome {
    let (mut client, connection) = tokio_postgres::connect(dsn, NoTls).await?;
    let connection = tokio::spawn(connection);
    transactions(&mut client, me).await?;
    mistakes(&mut client, me).await?;
    copy(&client, me).await?;
    cancel(&client, dsn, me).await?;
    pipelines(&client, me).await?;
    prepared(&client, me).await?;
    large(&mut client, me).await?;
    drop(client);
    connection.await??;
    Ok(())
}

async fn transactions(client: &mut Client, me: i32) -> Outcome {
    client.batch_execute(&format!("CREATE TABLE tx_{me} (n int PRIMARY KEY, t text)")).await?;
    let insert = format!("INSERT INTO tx_{me} VALUES ($1, $2)");
    let mut outer = client.transaction().await?;
    outer.execute(&insert, &[&1, &"kept"]).await?;
    let inner = outer.transaction().await?;
    inner.execute(&insert, &[&2, &"dropped"]).await?;
    inner.rollback().await?;
    outer.commit().await?;
    // Dropped without a word: the driver rolls back, before whatever comes next.
    let lost = client.transaction().await?;
    lost.execute(&insert, &[&3, &"dropped"]).await?;
    drop(lost);
    let rows = client.query(&format!("SELECT n FROM tx_{me} ORDER BY n"), &[]).await?;
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<i32>>(), [1]);
    Ok(())
}

async fn mistakes(client: &mut Client, me: i32) -> Outcome {
    for (query, expected) in [
        ("SELEC 1", SqlState::SYNTAX_ERROR),
        ("SELECT 1 / 0", SqlState::DIVISION_BY_ZERO),
        ("SELECT * FROM nowhere", SqlState::UNDEFINED_TABLE),
        ("SELECT 'x'::text::int", SqlState::INVALID_TEXT_REPRESENTATION),
    ] {
        let simple = client.simple_query(query).await.err();
        let extended = client.query(query, &[]).await.err();
        for error in [simple, extended] {
            assert_eq!(error.as_ref().and_then(tokio_postgres::Error::code), Some(&expected), "{query}: {error:?}");
        }
        assert_eq!(client.query_one("SELECT $1::int", &[&me]).await?.get::<_, i32>(0), me);
    }
    let block = client.transaction().await?;
    assert!(block.query("SELECT 1 / 0", &[]).await.is_err());
    let refused = block.query("SELECT 1", &[]).await.err();
    assert_eq!(refused.as_ref().and_then(tokio_postgres::Error::code), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
    block.rollback().await?;
    Ok(())
}

async fn copy(client: &Client, me: i32) -> Outcome {
    client.batch_execute(&format!("CREATE TABLE copy_{me} (n int, t text)")).await?;
    let copy_in = format!("COPY copy_{me} FROM STDIN");
    let mut sink = pin!(client.copy_in::<_, Bytes>(&copy_in).await?);
    for n in 0..20_000 {
        sink.feed(Bytes::from(format!("{n}\t{me} row {n}\n"))).await?;
    }
    assert_eq!(sink.as_mut().finish().await?, 20_000);
    let out = client.copy_out(&format!("COPY (SELECT * FROM copy_{me} ORDER BY n) TO STDOUT")).await?;
    let chunks: Vec<Bytes> = out.try_collect().await?;
    let expected: String = (0..20_000).map(|n| format!("{n}\t{me} row {n}\n")).collect();
    assert!(chunks.concat() == expected.as_bytes(), "the copy came back changed");

    // The server refuses what comes; the client may still be sending.
    let mut sink = pin!(client.copy_in::<_, Bytes>(&copy_in).await?);
    let line = Bytes::from("not a number\tx\n".repeat(1000));
    let mut refused = Ok(());
    for _ in 0..100 {
        refused = refused.and(sink.send(line.clone()).await);
    }
    let code = refused.err().or(sink.as_mut().finish().await.err()).and_then(|error| error.code().cloned());
    assert_eq!(code, Some(SqlState::INVALID_TEXT_REPRESENTATION));
    // The client gives up: the driver sends CopyFail when the sink is dropped.
    {
        let mut sink = pin!(client.copy_in::<_, Bytes>(&copy_in).await?);
        sink.send(Bytes::from_static(b"1\tnever\n")).await?;
    }
    let rows = client.query_one(&format!("SELECT count(*) FROM copy_{me}"), &[]).await?;
    assert_eq!(rows.get::<_, i64>(0), 20_000);
    Ok(())
}

async fn cancel(client: &Client, dsn: &str, me: i32) -> Outcome {
    // Prepared before: between the two round trips of an unprepared query a cancel request hits nothing.
    let sleep = client.prepare("SELECT pg_sleep(60)").await?;
    for _ in 0..3 {
        let token = client.cancel_token();
        let answered = Cell::new(false);
        let query = async {
            let answer = client.query(&sleep, &[]).await;
            answered.set(true);
            answer
        };
        // A request that comes before its query hits nothing.
        let canceller = async {
            while !answered.get() {
                ask_to_cancel(dsn, &token).await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Outcome::Ok(())
        };
        let (answer, sent) = tokio::join!(query, canceller);
        sent?;
        assert_eq!(answer.err().and_then(|error| error.code().cloned()), Some(SqlState::QUERY_CANCELED));
        assert_eq!(client.query_one("SELECT $1::int", &[&me]).await?.get::<_, i32>(0), me);
    }
    Ok(())
}

/// Until the request's connection is closed: then PostgreSQL has sent its signals, of which there are two, and the second
/// can't hit what comes next.
async fn ask_to_cancel(dsn: &str, token: &CancelToken) -> Outcome {
    let config: Config = dsn.parse()?;
    let [Host::Tcp(host)] = config.get_hosts() else { panic!("one host in {dsn}") };
    let mut stream = TcpStream::connect((host.as_str(), config.get_ports()[0])).await?;
    token.cancel_query_raw(&mut stream, NoTls).await?;
    stream.read_to_end(&mut Vec::new()).await?;
    Ok(())
}

/// Whatever is asked at the same time goes out without waiting for answers.
async fn pipelines(client: &Client, me: i32) -> Outcome {
    let statement = client.prepare("SELECT $1::int * 2").await?;
    let statement = &statement;
    let asked = (0..500).map(|n| async move { client.query_one(statement, &[&n]).await });
    let answers: Vec<i32> = try_join_all(asked).await?.iter().map(|row| row.get(0)).collect();
    assert_eq!(answers, (0..500).map(|n| 2 * n).collect::<Vec<i32>>());

    let after = format!("after {me}");
    let parameters: [[&(dyn ToSql + Sync); 1]; 3] = [[&"before"], [&0], [&after]];
    let (before, broken, simple, answered) = tokio::join!(
        client.query_one("SELECT $1::text", &parameters[0]),
        client.query_one("SELECT 1 / $1::int", &parameters[1]),
        client.simple_query("SELECT 'simple'"),
        client.query_one("SELECT $1::text", &parameters[2]),
    );
    assert_eq!(before?.get::<_, &str>(0), "before");
    assert_eq!(broken.err().and_then(|error| error.code().cloned()), Some(SqlState::DIVISION_BY_ZERO));
    let row = simple?.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    assert_eq!(row.as_deref(), Some("simple"));
    assert_eq!(answered?.get::<_, &str>(0), after);
    Ok(())
}

async fn prepared(client: &Client, me: i32) -> Outcome {
    let texts = (0..10).map(|n| format!("SELECT $1::text || ' {n}'"));
    let statements = try_join_all(texts.map(|text| async move { client.prepare(&text).await })).await?;
    for round in 0..60 {
        for (n, statement) in statements.iter().enumerate() {
            let token = format!("{me}.{round}");
            let row = client.query_one(statement, &[&token]).await?;
            assert_eq!(row.get::<_, String>(0), format!("{token} {n}"));
        }
        // Dropped at once: the driver closes it on the server.
        let passing = client.prepare(&format!("SELECT {round}")).await?;
        assert_eq!(client.query_one(&passing, &[]).await?.get::<_, i32>(0), round);
    }
    Ok(())
}

async fn large(client: &mut Client, me: i32) -> Outcome {
    let rows =
        client.query("SELECT n, repeat($1, 100) FROM generate_series(1, 100000) AS n", &[&me.to_string()]).await?;
    assert_eq!(rows.len(), 100_000);
    assert_eq!(rows[99_999].get::<_, String>(1), me.to_string().repeat(100));
    let text = me.to_string().repeat(20_000_000);
    let back: String = client.query_one("SELECT $1::text", &[&text]).await?.get(0);
    assert!(back == text, "a value of 20 MB came back changed");
    // A portal, read in portions.
    let block = client.transaction().await?;
    let portal = block.bind("SELECT n FROM generate_series(1, 5000) AS n", &[]).await?;
    let mut total = 0;
    loop {
        let portion = block.query_portal(&portal, 100).await?;
        total += portion.iter().map(|row| row.get::<_, i32>(0)).sum::<i32>();
        if portion.len() < 100 {
            break;
        }
    }
    block.commit().await?;
    assert_eq!(total, (1..=5000).sum::<i32>());
    Ok(())
}
