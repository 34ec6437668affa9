//! Clients: connections, logins, errors, cancel requests. What happens per query is counted by the pools instead.

use std::fmt::Display;
use std::time::Duration;

use tracing::{debug, info, warn};

use super::{count, count_by, zero};
use crate::telemetry::labels::{
    CancelOutcome, CloseReason, Dirt, LoginRefusal, Pin, ServerLoss, sqlstate_class, sqlstate_classes,
};
use crate::telemetry::log::{CONNECTIONS, DISCONNECTIONS, POOLER_ERRORS};
use crate::telemetry::names::{
    CANCEL_REQUESTS, CLIENT_CONNECTIONS, CLIENT_DISCONNECTIONS, ERRORS_SENT, LOGIN_REFUSALS, LOGINS,
    NOTIFICATION_CONNECTIONS, NOTIFICATION_CONNECTIONS_LOST, NOTIFICATIONS, PINS, PROTOCOL_VIOLATIONS, SERVER_ERRORS,
    SERVER_RESETS, SERVERS_LOST,
};
use crate::types::PoolKey;

pub(super) fn begin_at_zero() {
    for metric in [CLIENT_CONNECTIONS, PROTOCOL_VIOLATIONS, NOTIFICATIONS, NOTIFICATION_CONNECTIONS_LOST] {
        metrics::counter!(metric.name).increment(0);
    }
    metrics::gauge!(NOTIFICATION_CONNECTIONS.name).set(0.0);
    ["off", "on"].into_iter().for_each(|tls| zero(LOGINS, "tls", tls));
    LoginRefusal::ALL.iter().for_each(|reason| zero(LOGIN_REFUSALS, "reason", reason.as_str()));
    CloseReason::ALL.iter().for_each(|reason| zero(CLIENT_DISCONNECTIONS, "reason", reason.as_str()));
    sqlstate_classes().for_each(|class| zero(SERVER_ERRORS, "class", class));
    ServerLoss::ALL.iter().for_each(|outcome| zero(SERVERS_LOST, "outcome", outcome.as_str()));
    Pin::ALL.iter().for_each(|reason| zero(PINS, "reason", reason.as_str()));
    Dirt::ALL.iter().for_each(|reason| zero(SERVER_RESETS, "reason", reason.as_str()));
    CancelOutcome::ALL.iter().for_each(|outcome| zero(CANCEL_REQUESTS, "outcome", outcome.as_str()));
}

/// A connection was accepted.
pub fn client_connected(client: &dyn Display) {
    count(CLIENT_CONNECTIONS);
    debug!(target: CONNECTIONS, %client, "client connected");
}

/// A login succeeded.
pub fn login_succeeded(database: &str, user: &str, tls: bool, client: &dyn Display) {
    count_by(LOGINS, "tls", if tls { "on" } else { "off" });
    info!(target: CONNECTIONS, db = database, user, tls, %client, "client logged in");
}

/// A login was refused. `wants` is the user and the database, where the client came to say so; `cause` is what the
/// client is not told.
pub fn login_refused(reason: LoginRefusal, wants: Option<(&str, &str)>, cause: Option<&str>, client: &dyn Display) {
    count_by(LOGIN_REFUSALS, "reason", reason.as_str());
    count_by(CLIENT_DISCONNECTIONS, "reason", CloseReason::LoginRefused.as_str());
    if reason == LoginRefusal::ClientLeft && wants.is_none() {
        // Somebody looked whether the port is open: load balancers do that all the time.
        debug!(target: CONNECTIONS, %client, "client left without a word");
        return;
    }
    let (user, db) = wants.unwrap_or(("(nouser)", "(nodb)"));
    info!(target: CONNECTIONS, reason = reason.as_str(), db, user, %client, cause, "login refused");
}

/// A connection brought a cancel request, and nothing else.
pub fn cancel_connected() {
    count_by(CLIENT_DISCONNECTIONS, "reason", CloseReason::CancelRequest.as_str());
}

/// The connection of a client that had logged in ended, `age` after it was accepted.
pub fn client_closed(client: &dyn Display, reason: CloseReason, age: Duration) {
    count_by(CLIENT_DISCONNECTIONS, "reason", reason.as_str());
    info!(target: DISCONNECTIONS, %client, "closing because: {reason} (age={}s)", age.as_secs());
}

/// An error of our own was sent to a client, and the log has it already in other words.
pub fn error_counted(code: [u8; 5]) {
    count_by(ERRORS_SENT, "class", sqlstate_class([code[0], code[1]]));
}

/// An error of our own was sent to a client. `code` is its SQLSTATE.
pub fn error_sent(client: &dyn Display, code: [u8; 5], message: &str) {
    error_counted(code);
    let code = std::str::from_utf8(&code).unwrap_or("?????");
    warn!(target: POOLER_ERRORS, %client, code, "pooler error: {message}");
}

/// A server's error passed through to a client. `class` is the first two bytes of its SQLSTATE.
pub fn server_error_seen(class: [u8; 2]) {
    count_by(SERVER_ERRORS, "class", sqlstate_class(class));
}

/// A server of this pool was lost while a client had it.
pub fn server_lost(
    client: &dyn Display,
    pool: &PoolKey,
    endpoint: &dyn Display,
    cause: &dyn Display,
    outcome: ServerLoss,
) {
    count_by(SERVERS_LOST, "outcome", outcome.as_str());
    warn!(target: POOLER_ERRORS, %client, %pool, %endpoint, outcome = outcome.as_str(), "server conn crashed? {cause}");
}

/// A client keeps its server beyond its transaction, for one more reason.
pub fn client_pinned(client: &dyn Display, reason: Pin) {
    count_by(PINS, "reason", reason.as_str());
    info!(%client, reason = reason.as_str(), "client keeps its server");
}

/// A connection listens for the clients of a pool.
pub fn notifications_begin(pool: &PoolKey) {
    metrics::gauge!(NOTIFICATION_CONNECTIONS.name).increment(1.0);
    info!(%pool, "listening for clients");
}

/// It is over while so many clients listened.
pub fn notifications_end(pool: &PoolKey, cause: &str, clients: usize) {
    metrics::gauge!(NOTIFICATION_CONNECTIONS.name).decrement(1.0);
    if clients == 0 {
        return info!(%pool, "listening for nobody any more: {cause}");
    }
    count(NOTIFICATION_CONNECTIONS_LOST);
    warn!(%pool, clients, "notifications may be missing, the connection that listens for clients is closed: {cause}");
}

/// A client has got so many notifications.
pub fn notified(count: u64) {
    if count > 0 {
        metrics::counter!(NOTIFICATIONS.name).increment(count);
    }
}

/// A server is reset, for what a client may have left there.
pub fn server_dirty(client: &dyn Display, reason: Dirt) {
    count_by(SERVER_RESETS, "reason", reason.as_str());
    debug!(%client, reason = reason.as_str(), "server is reset");
}

/// The catalog of a database was read: so many functions, and relations that reach them, may touch their caller's session.
/// Where `anything` may, every transaction has its server reset.
pub fn catalog_loaded(database: &str, (functions, relations): (usize, usize), anything: bool, took: Duration) {
    debug!(database, functions, relations, anything, took_ms = took.as_millis(), "catalog was read");
}

/// The catalog of a database could not be read. Told once for each cause.
pub fn catalog_failed(database: &str, cause: &str) {
    warn!(
        database,
        "catalog could not be read: {cause}; until it can, servers are reset whenever a function may have left something"
    );
}

/// A cancel request came to its end.
pub fn cancel_received(outcome: CancelOutcome) {
    count_by(CANCEL_REQUESTS, "outcome", outcome.as_str());
    debug!(outcome = outcome.as_str(), "cancel request");
}

/// A client sent what the protocol does not allow, and reads so in an error, which the log has.
pub fn violation_counted() {
    count(PROTOCOL_VIOLATIONS);
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::telemetry::describe_all;

    #[test]
    fn events_count_under_closed_labels_and_begin_at_zero() {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            describe_all();
            login_succeeded("app", "alice", true, &"unix(1)");
            login_refused(LoginRefusal::Authentication, Some(("alice", "app")), None, &"unix(1)");
            cancel_connected();
            error_sent(&"C-0x1", *b"08P01", "broken");
            error_sent(&"C-0x1", [0xff; 5], "broken");
            client_closed(&"C-0x1", CloseReason::ClientLeft, Duration::from_secs(3));
        });
        let text = recorder.handle().render();
        for line in [
            "# HELP pglifeguard_logins_total Logins that succeeded.",
            "pglifeguard_logins_total{tls=\"on\"} 1",
            "pglifeguard_logins_total{tls=\"off\"} 0",
            "pglifeguard_login_refusals_total{reason=\"authentication\"} 1",
            "pglifeguard_login_refusals_total{reason=\"shutting_down\"} 0",
            "pglifeguard_errors_sent_total{class=\"08\"} 1",
            "pglifeguard_errors_sent_total{class=\"other\"} 1",
            "pglifeguard_client_disconnections_total{reason=\"client_left\"} 1",
            "pglifeguard_client_disconnections_total{reason=\"login_refused\"} 1",
            "pglifeguard_client_disconnections_total{reason=\"cancel_request\"} 1",
            "pglifeguard_client_connections_total 0",
            "pglifeguard_server_errors_total{class=\"23\"} 0",
            "pglifeguard_server_errors_total{class=\"other\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
