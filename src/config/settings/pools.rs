//! Settings of `[pooler]` that databases and users may override.

use super::kinds::{Limit, Span, Timeout, Whole};
use super::settings;
use super::texts::Choice;
use crate::config::model::PoolMode;

/// Servers of one pool.
pub type PoolSize = Whole<u32, 1, 100_000>;
/// Servers that a pool keeps, or may open in need.
pub type SparePoolSize = Whole<u32, 0, 100_000>;
/// Connections of many pools or clients.
pub type Connections = Limit<1_000_000>;

settings! {
    /// Values that `[databases.NAME]` and `[users.NAME]` may override.
    pub struct Defaults {
        "Pools" {
            /// When a server goes back to its pool: when the `transaction` ends, when the `session` ends, or after each
            /// `statement` (which refuses transaction blocks).
            pool_mode: Choice<PoolMode> = "transaction", reload: live;
            /// Servers per database and user, on each server node.
            default_pool_size: PoolSize = "25", reload: live;
            /// Servers that a pool keeps open even when idle, once it has a client or where the database has a `user`.
            min_pool_size: SparePoolSize = "0", reload: live;
            /// Servers that a pool may open beyond its size when a client has waited for `reserve_pool_timeout`.
            reserve_pool_size: SparePoolSize = "0", reload: live;
            /// Servers per database, over the pools of all users, on each server node. 0: no limit.
            max_db_connections: Connections = "0", reload: live;
            /// Clients per database. 0: no limit.
            max_db_client_connections: Connections = "0", reload: live;
            /// Servers per user, over all databases, on each server node. 0: no limit.
            max_user_connections: Connections = "0", reload: live;
            /// Clients per user. 0: no limit.
            max_user_client_connections: Connections = "0", reload: live;
            /// Servers that clients may keep, in each pool, for what only that server has (`pin`). A statement that would
            /// have one more kept is refused. 0: all.
            max_pinned_servers: Connections = "0", reload: live;
            /// A server of this age is closed when it is idle. Pools spread the closing. 0: after one use.
            server_lifetime: Span<0> = "3600s", reload: live;
        }
        "Time limits" {
            /// How long a client waits for a server before its query is refused. 0 waits for ever.
            query_wait_timeout: Timeout = "120s", reload: live;
            /// How long a query may take, the wait for a server included. Then its client is disconnected and it is
            /// cancelled (`cancel_on_disconnect`); its server is used again. 0: no limit.
            query_timeout: Timeout = "0", reload: live;
            /// A client that asks nothing for so long, outside a transaction, is disconnected. 0: never.
            client_idle_timeout: Timeout = "0", reload: live;
            /// A client that asks nothing for so long within a transaction is disconnected. 0: never.
            idle_transaction_timeout: Timeout = "0", reload: live;
            /// A client that asks nothing for so long, outside a transaction, and keeps a server for what only that has (`pin`),
            /// is disconnected. 0: never.
            pin_idle_timeout: Timeout = "0", reload: live;
            /// How long a transaction may take. Its client is disconnected. 0: no limit.
            transaction_timeout: Timeout = "0", reload: live;
        }
    }
}
