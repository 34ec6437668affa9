//! A thousand clients listen beside others who work, over 25 servers: each hears every notification that is for it,
//! once, in the order of the commits, and no other.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::poll_fn;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, NoTls, Notification};

use crate::crowd::for_a_thousand;
use crate::support::Database;

#[test]
fn a_thousand_listeners_hear_every_notification_beside_traffic_over_25_servers() {
    let database = Database::create("listeners");
    let pooler = for_a_thousand(&database);
    let (dsn, direct) = (pooler.app_dsn("app"), database.direct_dsn());
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listeners = join_all((0..LISTENERS).map(|me| Listener::new(&dsn, me))).await;
        let workers: Vec<_> = (0..8).map(|me| tokio::spawn(work(dsn.clone(), me))).collect();
        let notifiers = (0..NOTIFIERS).map(|me| {
            // One of them past the pooler.
            let dsn = if me == 0 { direct.clone() } else { dsn.clone() };
            tokio::spawn(notify(dsn, me))
        });
        let listening: Vec<_> = listeners.into_iter().map(|listener| tokio::spawn(listener.listen())).collect();
        for notifier in join_all(notifiers).await {
            notifier.expect("no panic");
        }
        let (end, _) = connect(&dsn).await;
        end.batch_execute("NOTIFY everybody, 'end'").await.expect("it notifies");
        let heard = join_all(listening).await.into_iter().map(|heard| heard.expect("no panic")).sum::<usize>();
        assert_eq!(heard, LISTENERS * NOTIFIERS * (ROUNDS + ROUNDS / GROUPS));
        workers.iter().for_each(tokio::task::JoinHandle::abort);
    });
    let of_app = "pid <> pg_backend_pid() AND datname = current_database() AND usename = 'app'";
    let pool =
        format!("SELECT count(*) FROM pg_stat_activity WHERE {of_app} AND application_name NOT LIKE 'pglifeguard%'");
    let servers: usize = database.sql(&pool).parse().expect("a number");
    assert!(servers <= 25, "{servers} servers");
}

/// A client, and what it is notified of.
struct Listener {
    me: usize,
    client: Client,
    heard: UnboundedReceiver<Notification>,
}

async fn connect(dsn: &str) -> (Client, UnboundedReceiver<Notification>) {
    let (client, mut connection) = tokio_postgres::connect(dsn, NoTls).await.expect("it logs in");
    let (tell, heard) = unbounded_channel();
    tokio::spawn(async move {
        let mut messages = poll_fn(move |cx| connection.poll_message(cx));
        while let Some(message) = messages.next().await {
            match message.expect("the connection lasts") {
                AsyncMessage::Notification(notification) => _ = tell.send(notification),
                notice => panic!("{notice:?}"),
            }
        }
    });
    (client, heard)
}

impl Listener {
    async fn new(dsn: &str, me: usize) -> Self {
        let (client, heard) = connect(dsn).await;
        let group = me % GROUPS;
        let texts = match me % 3 {
            0 => format!("LISTEN everybody; LISTEN group_{group}"),
            1 => format!(
                "BEGIN; LISTEN everybody; SAVEPOINT s; LISTEN nobody; ROLLBACK TO s; LISTEN group_{group}; COMMIT"
            ),
            _ => {
                client.batch_execute("LISTEN everybody").await.expect("it listens");
                format!("LISTEN group_{group}")
            }
        };
        client.batch_execute(&texts).await.expect("it listens");
        Self { me, client, heard }
    }

    /// Returns how many it has heard.
    async fn listen(mut self) -> usize {
        let mut next = BTreeMap::<String, usize>::new();
        let mut count = 0;
        loop {
            let heard = timeout(LIMIT, self.heard.recv()).await.expect("in time").expect("the connection lasts");
            if heard.payload() == "end" {
                break;
            }
            // Each notifier counts for each channel.
            let (who, number) = heard.payload().split_once(' ').expect("a notifier and a number");
            let next = next.entry(format!("{} {who}", heard.channel())).or_default();
            assert_eq!(number.parse(), Ok(*next), "{}: {heard:?}", self.me);
            *next += 1;
            count += 1;
            if count % 97 == 0 {
                let me = self.client.query_one("SELECT $1::text", &[&self.me.to_string()]).await.expect("an answer");
                assert_eq!(me.get::<_, String>(0), self.me.to_string());
            }
        }
        assert_eq!(next.len(), 2 * NOTIFIERS, "{next:?}");
        count
    }
}

/// Each round one for everybody, and one for one group after the other, in one transaction; what is rolled back is none.
async fn notify(dsn: String, me: usize) {
    let (client, _) = connect(&dsn).await;
    for round in 0..ROUNDS {
        let (group, number) = (round % GROUPS, round / GROUPS);
        let text = format!(
            "BEGIN; NOTIFY everybody, 'rolled back'; ROLLBACK; BEGIN; SELECT pg_notify('everybody', '{me} {round}'); \
             SELECT 1; NOTIFY group_{group}, '{me} {number}'; COMMIT; NOTIFY nobody, 'unheard'"
        );
        client.batch_execute(&text).await.expect("it notifies");
    }
}

async fn work(dsn: String, me: i32) {
    let (client, _) = connect(&dsn).await;
    loop {
        let row = client.query_one("SELECT $1::int, pg_sleep(0.002)", &[&me]).await.expect("an answer");
        assert_eq!(row.get::<_, i32>(0), me);
        client.batch_execute("BEGIN; SELECT count(*) FROM pg_class; COMMIT").await.expect("an answer");
    }
}

const LISTENERS: usize = 1000;
const NOTIFIERS: usize = 5;
const GROUPS: usize = 10;
/// Of which each group gets as many.
const ROUNDS: usize = 60;
const LIMIT: Duration = Duration::from_secs(120);
