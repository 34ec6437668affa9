//! One PostgreSQL server for the whole test binary, and a database of its own for each test.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use pglifeguard::app::demo::{Cluster, ClusterOptions, Login, LoginMethod, Watch};

/// The server that tests share. Its watchdog removes it when the test binary ends: a `static` is never dropped.
pub(crate) fn shared() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let options = ClusterOptions {
            logins: vec![
                Login::new("app", "app", LoginMethod::Scram),
                Login::new("by_md5", "md5-secret", LoginMethod::Md5),
                Login::new("by_password", "plain-secret", LoginMethod::Password),
                Login::new("by_trust", "trust-secret", LoginMethod::Trust),
            ],
            settings: vec![("max_connections".to_owned(), "400".to_owned())],
            ..ClusterOptions::default()
        };
        Cluster::start(&options, &Watch::QUIET).unwrap_or_else(|error| panic!("no PostgreSQL to test with: {error}"))
    })
}

/// A fresh database on the shared server, owned by `app`.
#[derive(Debug)]
pub(crate) struct Database {
    /// Its name on the server.
    pub(crate) name: String,
}

impl Database {
    /// Makes one; `label` is for people who look into the server.
    pub(crate) fn create(label: &str) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("{label}_{}", MADE.fetch_add(1, Ordering::Relaxed));
        let create = format!("CREATE DATABASE {name} OWNER app");
        shared().primary().sql("postgres", &create).unwrap_or_else(|error| panic!("{create}: {error}"));
        Self { name }
    }

    /// The port of the server it is on.
    pub(crate) fn port(&self) -> u16 {
        shared().primary().port()
    }

    /// Past the pooler, as `app`.
    pub(crate) fn direct_dsn(&self) -> String {
        format!("postgresql://app:app@127.0.0.1:{}/{}", self.port(), self.name)
    }

    /// Runs SQL as superuser; rows unaligned, columns separated by `|`.
    pub(crate) fn sql(&self, sql: &str) -> String {
        shared().primary().sql(&self.name, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}
