//! What operators order: RECONNECT, KILL, DISABLE, ENABLE, WAIT_CLOSE, and the end; PAUSE and RESUME are in `pausing`.

use std::future::Future;
use std::sync::Arc;

use thiserror::Error;

use super::gate::HoldReason;
use super::now;
use super::pool::Pool;
use super::registry::{Book, Pools, Registry};
use crate::telemetry::events::pool as events;
use crate::wire::error::{ClientError, ErrorReply, SqlState};

/// The console's own database.
const ADMIN_DATABASE: &str = "pgbouncer";

/// Why an order is not carried out, in PgBouncer's words.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommandError {
    /// PAUSE or KILL while everything is paused.
    #[error("already suspended/paused")]
    AlreadyPaused,
    /// RESUME while nothing is paused.
    #[error("pooler is not paused/suspended")]
    NotPaused {
        /// Databases that are paused by themselves.
        by_name: Vec<Arc<str>>,
    },
    /// RESUME of a database that is not paused.
    #[error("database {0} is not paused")]
    DatabaseNotPaused(String),
    /// RESUME, or a reload without the database, while PAUSE still waited.
    #[error("PAUSE was ended by {by}")]
    PauseEnded {
        /// What ended it.
        by: &'static str,
    },
    /// RESUME at the end.
    #[error("pooler is shutting down")]
    ShuttingDown,
    /// The configuration has no such database, nor `*`.
    #[error("no such database: {0}")]
    NoSuchDatabase(String),
    /// The console's own database can't be treated so.
    #[error("cannot {order} admin db: {ADMIN_DATABASE}")]
    AdminDatabase {
        /// What was ordered.
        order: &'static str,
    },
    /// DISABLE or ENABLE without a name.
    #[error("a database is required")]
    DatabaseRequired,
}

impl ClientError for CommandError {
    /// Scripts catch 08P01, as PgBouncer has it for all that it refuses.
    fn reply(&self) -> ErrorReply {
        match self {
            Self::PauseEnded { .. } => ErrorReply::error(SqlState::QUERY_CANCELED, self.to_string())
                .detail("Clients are served again, before all servers had come free."),
            Self::NotPaused { by_name } if !by_name.is_empty() => {
                let names = by_name.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
                ErrorReply::error(SqlState::PROTOCOL_VIOLATION, self.to_string())
                    .detail(format!("Paused by themselves: {names}."))
                    .hint("RESUME with the name of a database ends that.")
            }
            _ => ErrorReply::error(SqlState::PROTOCOL_VIOLATION, self.to_string()),
        }
    }
}

impl Pools {
    /// RECONNECT: servers are closed as they come to rest, and new clients are told what new servers report.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn reconnect(&self, database: Option<&str>) -> Result<(), CommandError> {
        self.check(database, "reconnect")?;
        events::operated("RECONNECT", database);
        for pool in self.registry.of(database) {
            let now = now();
            pool.order(now, |inner, deeds| {
                inner.welcome = None;
                inner.state.raise_generation(now, deeds);
            });
        }
        Ok(())
    }

    /// KILL: who waits is refused, servers are closed, lent ones as soon as they come back, and the database stays
    /// paused. To disconnect its clients is the caller's part.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn kill(&self, database: Option<&str>) -> Result<(), CommandError> {
        self.check(database, "kill")?;
        self.registry.with_book(|book| {
            if book.pooler_paused.is_some() {
                return Err(CommandError::AlreadyPaused);
            }
            for name in book.named(database) {
                book.pause(Some(&name)).keep();
            }
            Ok(())
        })?;
        events::operated("KILL", database);
        for pool in self.registry.of(database) {
            let now = now();
            pool.order(now, |inner, deeds| {
                inner.welcome = None;
                inner.state.hold(HoldReason::DatabasePaused, deeds);
                inner.state.kill(now, deeds);
            });
        }
        Ok(())
    }

    /// DISABLE: new clients of the database are to be refused; see [`Self::is_disabled`].
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn disable(&self, database: Option<&str>) -> Result<(), CommandError> {
        self.set_disabled(database, true)
    }

    /// ENABLE: ends DISABLE.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn enable(&self, database: Option<&str>) -> Result<(), CommandError> {
        self.set_disabled(database, false)
    }

    fn set_disabled(&self, database: Option<&str>, disabled: bool) -> Result<(), CommandError> {
        let order = if disabled { "disable" } else { "enable" };
        let name = database.ok_or(CommandError::DatabaseRequired)?;
        self.check(database, order)?;
        self.registry.with_book(|book| book.databases.entry(name.into()).or_default().disabled = disabled);
        events::operated(if disabled { "DISABLE" } else { "ENABLE" }, database);
        Ok(())
    }

    /// Whether new clients of a database are to be refused.
    pub fn is_disabled(&self, database: &str) -> bool {
        self.registry.with_book(|book| book.databases.get(database).is_some_and(|orders| orders.disabled))
    }

    /// Whether no client is given a server any more, for the pooler ends.
    pub fn is_ending(&self) -> bool {
        self.registry.with_book(|book| book.ending)
    }

    /// WAIT_CLOSE: ends when no server of before the last RECONNECT or reload is left.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn wait_close(
        &self,
        database: Option<&str>,
    ) -> Result<impl Future<Output = ()> + Send + 'static + use<>, CommandError> {
        if database == Some(ADMIN_DATABASE) {
            return Err(CommandError::AdminDatabase { order: "wait in" });
        }
        self.check(database, "wait in")?;
        let (registry, database) = (self.registry.clone(), database.map(Arc::<str>::from));
        Ok(async move {
            let settled = registry.settled().clone();
            settled.until(|| registry.all_of(database.as_deref(), |pool| !pool.has_obsolete())).await;
        })
    }

    /// The end: who waits is refused, servers are closed, lent ones as they come back. The future ends when none is
    /// used any more.
    pub fn shutdown(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.registry.end_all();
        let registry = self.registry.clone();
        async move {
            let settled = registry.settled().clone();
            settled.until(|| registry.all_of(None, Pool::is_quiet)).await;
        }
    }

    /// Whether an order for `database` makes sense.
    pub(super) fn check(&self, database: Option<&str>, order: &'static str) -> Result<(), CommandError> {
        match database {
            None => Ok(()),
            Some(ADMIN_DATABASE) => Err(CommandError::AdminDatabase { order }),
            Some(name) => {
                let known = self.registry.with_book(|book| book.config.database(name).is_some());
                if known { Ok(()) } else { Err(CommandError::NoSuchDatabase(name.into())) }
            }
        }
    }
}

impl Registry {
    pub(super) fn all_of(&self, database: Option<&str>, holds: impl Fn(&Pool) -> bool) -> bool {
        self.of(database).iter().all(|pool| holds(pool))
    }
}

impl Book {
    /// One database, or all that there are by name.
    fn named(&self, database: Option<&str>) -> Vec<Arc<str>> {
        match database {
            Some(name) => vec![name.into()],
            None => {
                let configured = self.config.databases.keys().filter(|name| &***name != "*");
                configured.cloned().chain(self.pool_databases()).collect()
            }
        }
    }
}
