//! The console and the metrics listener. Together these lines are the audit log of what operators did.

use std::fmt::Display;

use tracing::{debug, info, warn};

use crate::telemetry::labels::Outcome;
use crate::telemetry::names::ADMIN_COMMANDS;

/// Someone logged in to the console.
pub fn console_opened(user: &str, admin: bool) {
    info!(user, admin, "console opened");
}

/// A console ended.
pub fn console_closed(user: &str) {
    debug!(user, "console closed");
}

/// A SHOW was answered.
pub fn shown(user: &str, what: &'static str) {
    debug!(user, what, "console query");
}

/// A command that changes something begins. `command` is from the closed list of commands.
pub fn command_issued(user: &str, command: &'static str, argument: Option<&str>) {
    info!(user, command, argument, "console command issued");
}

/// A command was carried out.
pub fn command_done(user: &str, command: &'static str) {
    metrics::counter!(ADMIN_COMMANDS.name, "command" => command, "outcome" => Outcome::Ok.as_str()).increment(1);
    debug!(user, command, "console command done");
}

/// A command was refused or failed.
pub fn command_failed(user: &str, command: &'static str, why: &dyn Display) {
    metrics::counter!(ADMIN_COMMANDS.name, "command" => command, "outcome" => Outcome::Failed.as_str()).increment(1);
    warn!(user, command, "console command failed: {why}");
}

/// The metrics listener could not accept a connection.
pub fn metrics_accept_failed(error: &std::io::Error) {
    warn!("metrics listener: {error}");
}
