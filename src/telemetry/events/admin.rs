//! The console and the metrics listener. Together these lines are the audit log of what operators did.

use std::fmt::Display;

use tracing::{debug, info, warn};

use crate::telemetry::labels::Outcome;
use crate::telemetry::names::ADMIN_COMMANDS;

// `client` is the console's client in all of them: number, user, address.

/// Someone logged in to the console.
pub fn console_opened(client: &dyn Display, admin: bool) {
    info!(%client, admin, "console opened");
}

/// A console ended.
pub fn console_closed(client: &dyn Display) {
    debug!(%client, "console closed");
}

/// A SHOW was answered.
pub fn shown(client: &dyn Display, what: &'static str) {
    debug!(%client, what, "console query");
}

/// A command that changes something has begun. `command` is from the closed list of commands.
pub fn command_issued(client: &dyn Display, command: &'static str, argument: Option<&str>) {
    info!(%client, command, argument, "console command issued");
}

/// A command was carried out.
pub fn command_done(client: &dyn Display, command: &'static str) {
    metrics::counter!(ADMIN_COMMANDS.name, "command" => command, "outcome" => Outcome::Ok.as_str()).increment(1);
    debug!(%client, command, "console command done");
}

/// A command was refused or failed. `why` is the whole of it: the error that the operator reads is not logged again.
pub fn command_failed(client: &dyn Display, command: &'static str, argument: Option<&str>, why: &dyn Display) {
    metrics::counter!(ADMIN_COMMANDS.name, "command" => command, "outcome" => Outcome::Failed.as_str()).increment(1);
    warn!(%client, command, argument, "console command failed: {why}");
}

/// The metrics listener could not accept a connection.
pub fn metrics_accept_failed(error: &std::io::Error) {
    warn!("metrics listener: {error}");
}
