//! `[databases.NAME]` and `[users.NAME]`.

use super::kinds::{Span, Timeout, Whole};
use super::overrides;
use super::pools::{Connections, PoolSize, SparePoolSize};
use super::texts::{Choice, FilePath, Hosts, Name, SecretText, Text};
use crate::config::model::{LoadBalance, Pin, PoolMode, Unknown};

/// The longest name of a database, in bytes, as in PostgreSQL.
pub const MAX_DATABASE_NAME: usize = 63;
/// The longest name of a user, in bytes, as in PgBouncer.
pub const MAX_USER_NAME: usize = 127;

overrides! {
    /// `[databases.NAME]`.
    pub struct DatabaseSettings {
        "Where it is" {
            /// Host name, IP address, or directory of a Unix socket; or a list of these, which are used in turn. Without
            /// it: the Unix socket in `unix_socket_dir`.
            host: Hosts, example: "10.0.0.9";
            /// Port of the host, or of every host of the list. Default 5432.
            port: Whole<u16, 1, 65535>, example: "5432";
            /// Name of the database there. Default: the name that the client asked for.
            dbname: Name<MAX_DATABASE_NAME>, example: "app";
            /// `round-robin` takes the next host of the list for each connection; `disable` stays with one until a
            /// connection to it fails. Default `round-robin`.
            load_balance_hosts: Choice<LoadBalance>, example: "round-robin";
        }
        "How to log in there" {
            /// User there, for all clients, who then share one pool. Default: the client's user.
            user: Name<MAX_USER_NAME>, example: "app";
            /// Password of `user`: inline, or `"${VARIABLE}"` of the environment. Default: that of `auth_file`.
            password: SecretText, example: "${APP_PASSWORD}";
            /// File with the password of `user`.
            password_file: FilePath, example: "app.pw";
            /// Query to run after each login there.
            connect_query: Text, example: "SET search_path TO app";
            /// `client_encoding` to start connections with.
            client_encoding: Text, example: "UTF8";
            /// `DateStyle` to start connections with.
            datestyle: Text, example: "ISO";
            /// `TimeZone` to start connections with.
            timezone: Text, example: "UTC";
            /// `application_name` to start connections with.
            application_name: Text, example: "pglifeguard";
        }
        "What is special about it" {
            /// As the global setting, for this database.
            pool_mode: Choice<PoolMode>, overrides: pool_mode;
            /// Servers per user for this database.
            pool_size: PoolSize, overrides: default_pool_size;
            /// As the global setting, for this database.
            min_pool_size: SparePoolSize, overrides: min_pool_size;
            /// As the global setting, for this database.
            reserve_pool_size or "reserve_pool": SparePoolSize, overrides: reserve_pool_size;
            /// As the global setting, for this database. 0: as the global setting.
            max_db_connections: Connections, overrides: max_db_connections;
            /// As the global setting, for this database. 0: as the global setting.
            max_db_client_connections: Connections, overrides: max_db_client_connections;
            /// As the global setting, for this database.
            pin: Choice<Pin>, overrides: pin;
            /// As the global setting, for this database.
            unknown: Choice<Unknown>, overrides: unknown;
            /// As the global setting, for this database. 0: as the global setting.
            max_pinned_servers: Connections, overrides: max_pinned_servers;
            /// As the global setting, for this database.
            server_lifetime: Span<0>, overrides: server_lifetime;
            /// As the global setting, for this database.
            query_wait_timeout: Timeout, overrides: query_wait_timeout;
        }
    }
}

overrides! {
    /// `[users.NAME]`. Where a database has a setting as well, the user's counts.
    pub struct UserSettings {
        "What is special about the user" {
            /// As the global setting, for this user.
            pool_mode: Choice<PoolMode>, overrides: pool_mode;
            /// Servers per database for this user.
            pool_size: PoolSize, overrides: default_pool_size;
            /// As the global setting, for this user.
            reserve_pool_size: SparePoolSize, overrides: reserve_pool_size;
            /// As the global setting, for this user. 0: as the global setting.
            max_user_connections: Connections, overrides: max_user_connections;
            /// As the global setting, for this user. 0: as the global setting.
            max_user_client_connections: Connections, overrides: max_user_client_connections;
            /// As the global setting, for this user.
            query_timeout: Timeout, overrides: query_timeout;
            /// As the global setting, for this user.
            query_wait_timeout: Timeout, overrides: query_wait_timeout;
            /// As the global setting, for this user.
            client_idle_timeout: Timeout, overrides: client_idle_timeout;
            /// As the global setting, for this user.
            idle_transaction_timeout: Timeout, overrides: idle_transaction_timeout;
            /// As the global setting, for this user.
            pin: Choice<Pin>, overrides: pin;
            /// As the global setting, for this user.
            unknown: Choice<Unknown>, overrides: unknown;
            /// As the global setting, for this user. 0: as the global setting.
            max_pinned_servers: Connections, overrides: max_pinned_servers;
            /// As the global setting, for this user.
            pin_idle_timeout: Timeout, overrides: pin_idle_timeout;
            /// As the global setting, for this user.
            transaction_timeout: Timeout, overrides: transaction_timeout;
        }
    }
}
