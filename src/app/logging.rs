//! The log, as the configuration wants it.

use std::io;

use crate::config::model::{Config, LogFormat};
use crate::telemetry::log::{self, Format, LogHandle, Verbosity};

/// Starts the log.
///
/// # Errors
/// The log file can't be opened, or a log was started before.
pub fn start(config: &Config) -> io::Result<LogHandle> {
    let format = match config.pooler.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    log::init(format, verbosity(config), config.pooler.logfile.as_deref())
}

/// Applies changed settings.
///
/// # Errors
/// Says why the log file can't be opened; the old one stays in use.
pub fn apply(log: &LogHandle, config: &Config) -> Result<(), String> {
    log.reopen(config.pooler.logfile.as_deref()).map_err(|error| format!("logfile: {error}"))?;
    log.set_verbosity(verbosity(config));
    Ok(())
}

fn verbosity(config: &Config) -> Verbosity {
    let pooler = &config.pooler;
    Verbosity {
        level: pooler.verbose,
        connections: pooler.log_connections,
        disconnections: pooler.log_disconnections,
        pooler_errors: pooler.log_pooler_errors,
        stats: pooler.log_stats,
    }
}
