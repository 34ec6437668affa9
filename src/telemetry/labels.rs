//! Values of metric labels: closed enums, so that nothing from outside can make a series.

/// Declares an enum whose variants have a fixed text.
macro_rules! labels {
    ($($(#[$doc:meta])+ $name:ident { $($(#[$about:meta])+ $variant:ident = $text:literal,)+ })+) => {$(
        $(#[$doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$about])+ $variant,)+ }

        impl $name {
            /// Every value there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The label's text.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )+};
}

labels! {
    /// Why a login was refused.
    LoginRefusal {
        /// The password or proof was wrong, or the user does not exist.
        Authentication = "authentication",
        /// The configuration has no way for this user to prove who they are.
        NoMethod = "no_method",
        /// The database is not configured.
        NoSuchDatabase = "no_such_database",
        /// An operator disabled the database.
        DatabaseDisabled = "database_disabled",
        /// `max_client_conn` is reached.
        MaxClientConn = "max_client_conn",
        /// `max_db_client_connections` is reached.
        MaxDbClientConnections = "max_db_client_connections",
        /// `max_user_client_connections` is reached.
        MaxUserClientConnections = "max_user_client_connections",
        /// TLS is required and was not asked for.
        TlsRequired = "tls_required",
        /// The TLS handshake failed.
        TlsFailed = "tls_failed",
        /// The login took longer than `client_login_timeout`.
        Timeout = "timeout",
        /// The startup packet was malformed, or asks for what is not supported.
        Startup = "startup",
        /// The console is not for this user.
        NotAllowed = "not_allowed",
        /// The pooler is shutting down.
        ShuttingDown = "shutting_down",
        /// No server could be reached to log in with.
        ServerDown = "server_down",
        /// The client went away before the login was over.
        ClientLeft = "client_left",
    }

    /// Why a client's connection ended.
    CloseReason {
        /// The client said goodbye, or closed its socket between requests.
        ClientLeft = "client_left",
        /// The client vanished with a request or transaction open.
        ClientVanished = "client_vanished",
        /// The login was refused; the reason is counted of its own.
        LoginRefused = "login_refused",
        /// It was a cancel request, which ends so.
        CancelRequest = "cancel_request",
        /// The client sent what the protocol does not allow.
        ProtocolViolation = "protocol_violation",
        /// `query_timeout`
        QueryTimeout = "query_timeout",
        /// `query_wait_timeout`
        QueryWaitTimeout = "query_wait_timeout",
        /// `client_idle_timeout`
        ClientIdleTimeout = "client_idle_timeout",
        /// `idle_transaction_timeout`
        IdleTransactionTimeout = "idle_transaction_timeout",
        /// `pin_idle_timeout`
        PinIdleTimeout = "pin_idle_timeout",
        /// `transaction_timeout`
        TransactionTimeout = "transaction_timeout",
        /// Its server was lost, and its session with it.
        ServerLost = "server_lost",
        /// It did not read what it was notified of.
        NotificationsUnread = "notifications_unread",
        /// The server refused the login that the client waited for.
        ServerRefused = "server_refused",
        /// An operator's KILL or KILL_CLIENT.
        Killed = "killed",
        /// Its database was removed from the configuration, or changed.
        DatabaseChanged = "database_changed",
        /// The pooler shut down.
        Shutdown = "shutdown",
        /// A fault of ours.
        Internal = "internal",
    }

    /// Why a client keeps its server beyond its transaction.
    Pin {
        /// It has temporary objects.
        Temporary = "temporary_object",
        /// It has a cursor WITH HOLD.
        Cursor = "cursor",
        /// It has prepared a statement in SQL.
        Statement = "prepared_statement",
        /// It listens to a channel.
        Channel = "listen",
        /// It may have an advisory lock of the session.
        Lock = "advisory_lock",
        /// It has loaded a library.
        Library = "library",
        /// It has set the seed of `random()`.
        Seed = "seed",
        /// It has a connection to another server.
        Connection = "connection",
        /// It may have a replication origin or slot, or a backup.
        Replication = "replication",
        /// It has taken numbers of sequences, and mostly asks for them next.
        Number = "sequence",
        /// Code ran that may have left anything.
        Unknown = "unknown",
    }

    /// Why a server is reset before it serves another client.
    Dirt {
        /// A setting whose name or value is not known.
        Setting = "setting",
        /// Code ran that may have done anything.
        Code = "code",
        /// What code does was not known: the catalog was not read yet, or has changed.
        Unread = "catalog",
        /// A statement was not understood.
        Text = "text",
        /// A client left what only this server has.
        LeftBehind = "left_behind",
    }

    /// What became of a cancel request.
    CancelOutcome {
        /// Sent on to the server that runs the query.
        Forwarded = "forwarded",
        /// The client was still waiting for a server, and no longer is.
        Dequeued = "dequeued",
        /// The client had nothing running.
        Nothing = "nothing_running",
        /// Nobody has this key.
        UnknownKey = "unknown_key",
        /// The server could not be told.
        Failed = "failed",
    }

    /// What a server that was lost while a client had it meant for the client.
    ServerLoss {
        /// Nothing: the client had asked for nothing.
        Unnoticed = "unnoticed",
        /// Errors, outside of a transaction block.
        Error = "error",
        /// A failed transaction block.
        FailedTransaction = "failed_transaction",
        /// The end of its connection.
        Disconnected = "disconnected",
    }

    /// Whether something came about.
    Outcome {
        /// It did.
        Ok = "ok",
        /// It did not.
        Failed = "failed",
    }

    /// How the pooler ends.
    StopMode {
        /// Now, whoever is connected.
        AtOnce = "at_once",
        /// When no server is in use.
        WaitForServers = "wait_for_servers",
        /// When every client has left.
        WaitForClients = "wait_for_clients",
    }
}

/// Classes of SQLSTATEs that PostgreSQL documents (appendix "PostgreSQL Error Codes").
const CLASSES: [&str; 43] = [
    "00", "01", "02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "20", "21", "22", "23", "24", "25", "26",
    "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40", "42", "44", "53", "54", "55", "57", "58",
    "72", "F0", "HV", "P0", "XX",
];

/// The class of a SQLSTATE as a label: one of PostgreSQL's own, or `other`.
pub fn sqlstate_class(class: [u8; 2]) -> &'static str {
    CLASSES.iter().copied().find(|known| known.as_bytes() == class).unwrap_or("other")
}

/// All that [`sqlstate_class`] can say.
pub fn sqlstate_classes() -> impl Iterator<Item = &'static str> {
    CLASSES.into_iter().chain(["other"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_that_postgresql_does_not_have_share_one_label() {
        for (class, label) in [(*b"57", "57"), (*b"XX", "XX"), (*b"P0", "P0"), (*b"ZZ", "other"), ([0xff, 0], "other")]
        {
            assert_eq!(sqlstate_class(class), label);
        }
    }

    #[test]
    fn texts_of_one_label_differ() {
        let mut texts: Vec<_> = CloseReason::ALL.iter().map(|reason| reason.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), CloseReason::ALL.len());
    }
}
