//! A client that a test drives by hand: it hears notices, and how its connection ended.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::poll_fn;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, Config, Error, NoTls, SimpleQueryMessage};

/// A connected client. Dropping it says goodbye.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    notices: Arc<Mutex<Vec<String>>>,
    connection: JoinHandle<Option<Error>>,
}

/// A row by column name; NULL is missing.
pub(crate) type Row = BTreeMap<String, String>;

impl Session {
    /// Logs in.
    pub(crate) async fn try_connect(dsn: &str) -> Result<Self, Error> {
        let config: Config = dsn.parse().expect("a DSN of our own");
        let (client, mut connection) = config.connect(NoTls).await?;
        let notices = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&notices);
        let connection = tokio::spawn(async move {
            let mut messages = poll_fn(move |cx| connection.poll_message(cx));
            while let Some(message) = messages.next().await {
                match message {
                    Ok(AsyncMessage::Notice(notice)) => {
                        heard.lock().expect("nobody panicked").push(notice.message().to_owned());
                    }
                    Ok(_) => {}
                    Err(error) => return Some(error),
                }
            }
            None
        });
        Ok(Self { client, notices, connection })
    }

    /// Logs in, which must succeed.
    pub(crate) async fn connect(dsn: &str) -> Self {
        Self::try_connect(dsn).await.unwrap_or_else(|error| panic!("{dsn}: {error:?}"))
    }

    /// The rows of a simple query, which must succeed.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<Row> {
        self.try_rows(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    /// The rows of a simple query.
    pub(crate) async fn try_rows(&self, sql: &str) -> Result<Vec<Row>, Error> {
        let messages = self.client.simple_query(sql).await?;
        let row = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => {
                let cell = |at: usize| Some((row.columns()[at].name().to_owned(), row.get(at)?.to_owned()));
                Some((0..row.len()).filter_map(cell).collect())
            }
            _ => None,
        };
        Ok(messages.iter().filter_map(row).collect())
    }

    /// The only value of a query, which must succeed.
    pub(crate) async fn value(&self, sql: &str) -> String {
        let rows = self.rows(sql).await;
        rows.first().and_then(|row| row.values().next()).cloned().unwrap_or_default()
    }

    /// SQLSTATE and text of a query's error.
    #[track_caller]
    pub(crate) fn refusal<T>(result: Result<T, Error>) -> (String, String) {
        refusal(&result.err().expect("it was to fail"))
    }

    /// The notices so far.
    pub(crate) fn notices(&self) -> Vec<String> {
        self.notices.lock().expect("nobody panicked").clone()
    }

    /// Waits until the other side ends the connection; SQLSTATE and text of its last words.
    pub(crate) async fn end(self) -> (String, String) {
        let ended =
            tokio::time::timeout(END_LIMIT, self.connection).await.expect("the other side was to end it by now");
        let error = ended.expect("no panic").expect("the other side was to end it");
        refusal(&error)
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

const END_LIMIT: Duration = Duration::from_secs(30);

/// SQLSTATE and text; of what is no server's error, none and the driver's text.
pub(crate) fn refusal(error: &Error) -> (String, String) {
    match error.as_db_error() {
        Some(error) => (error.code().code().to_owned(), error.message().to_owned()),
        None => (String::new(), error.to_string()),
    }
}
