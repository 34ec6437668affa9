//! Why a console command was not carried out, in PgBouncer's words: scripts match them.

use thiserror::Error;

use super::command::Role;
use crate::wire::error::{ClientError, ErrorReply, SqlState};

/// The operator's fault or the pooler's state; nothing was changed, and the console stays open.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommandError {
    /// No such command, or not with these arguments.
    #[error("invalid command '{0}', use SHOW HELP;")]
    Unknown(String),
    /// The user is in `stats_users` only.
    #[error("admin access needed")]
    NotAdmin,
    /// RESUME of a database that runs.
    #[error("database {0} is not paused")]
    DatabaseNotPaused(String),
    /// The console's own database can't be paused, killed and so on. `doing` is the verb.
    #[error("cannot {doing} admin db: {name}")]
    AdminDatabase {
        /// `pause`, `kill`, `wait in`, …
        doing: &'static str,
        /// As the operator wrote it.
        name: String,
    },
    /// DISABLE or ENABLE without a name.
    #[error("a database is required")]
    DatabaseRequired,
    /// KILL_CLIENT without a number.
    #[error("invalid client pointer supplied")]
    InvalidClient,
    /// KILL_CLIENT of nobody.
    #[error("client not found")]
    ClientNotFound,
    /// The pools refuse, in their own words.
    #[error("{}", .0.message)]
    Refused(ErrorReply),
    /// The new configuration can't be used; the old one stays. Complaints go to the client as the detail.
    #[error("RELOAD failed, see logs for additional details")]
    ReloadFailed(Vec<String>),
    /// The wait of a PAUSE or WAIT_CLOSE was cancelled; a PAUSE is taken back.
    #[error("canceling {0} due to user request")]
    Canceled(&'static str),
}

/// How many complaints of a failed RELOAD the console repeats; the log has all.
const COMPLAINTS_SHOWN: usize = 5;
/// PgBouncer's limit of a message is 1023 bytes; what stands around the echoed text is shorter than the rest.
const ECHO_BYTES_MAX: usize = 960;

impl CommandError {
    /// Quotes a text that is no command, not more of it than is readable.
    pub fn unknown(text: &str) -> Self {
        Self::Unknown(text.char_indices().take_while(|(at, _)| *at < ECHO_BYTES_MAX).map(|(_, c)| c).collect())
    }

    /// What `role` is told: a command that only PgBouncer has, and that for admins, is refused to others as such.
    pub fn told_to(self, role: Role) -> Self {
        match self {
            Self::Unknown(command) if role != Role::Admin && is_for_admins(&command) => Self::NotAdmin,
            other => other,
        }
    }
}

impl ClientError for CommandError {
    /// SQLSTATE 08P01 for all but RELOAD and cancel, as scripts expect of a PgBouncer console.
    fn reply(&self) -> ErrorReply {
        let text = self.to_string();
        match self {
            Self::ReloadFailed(complaints) => {
                let reply = ErrorReply::error(SqlState::CONFIG_FILE_ERROR, text);
                match complaints.len() {
                    0 => reply,
                    _ => reply.detail(detail_of(complaints)),
                }
            }
            Self::Refused(reply) => reply.clone(),
            Self::Canceled(_) => ErrorReply::error(SqlState::QUERY_CANCELED, text),
            Self::Unknown(command) => {
                let reply = ErrorReply::error(SqlState::PROTOCOL_VIOLATION, text);
                match instead_of(command) {
                    Some(hint) => reply.hint(hint),
                    None => reply,
                }
            }
            _ => ErrorReply::error(SqlState::PROTOCOL_VIOLATION, text),
        }
    }
}

/// What to do instead of a command that only PgBouncer has.
fn instead_of(command: &str) -> Option<&'static str> {
    let lower = command.to_ascii_lowercase();
    match first_words(&lower) {
        (Some("set"), _) => Some("Settings are changed in the configuration file, followed by RELOAD."),
        (Some("suspend"), _) => {
            Some("There is no SUSPEND: PAUSE waits until no server is in use, and clients wait meanwhile.")
        }
        (Some("show"), Some("fds" | "sockets" | "active_sockets")) => {
            Some("SHOW CLIENTS and SHOW SERVERS have the connections and their addresses.")
        }
        (Some("show"), Some("mem")) => Some("The memory that the process uses is VmRSS in /proc/PID/status."),
        (Some("show"), Some("dns_hosts" | "dns_zones")) => {
            Some("SHOW SERVERS has the addresses that are connected to.")
        }
        (Some("show"), Some("peers" | "peer_pools")) => Some("There are no peers: one process uses every core."),
        _ => None,
    }
}

/// Whether PgBouncer has this command, and for admins only.
fn is_for_admins(command: &str) -> bool {
    let lower = command.to_ascii_lowercase();
    matches!(first_words(&lower), (Some("set" | "suspend"), _) | (Some("show"), Some("fds")))
}

fn first_words(command: &str) -> (Option<&str>, Option<&str>) {
    let mut words = command.split(|c: char| c.is_whitespace() || c == ';').filter(|word| !word.is_empty());
    (words.next(), words.next())
}

fn detail_of(complaints: &[String]) -> String {
    let mut detail = complaints.iter().take(COMPLAINTS_SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n");
    if complaints.len() > COMPLAINTS_SHOWN {
        detail.push_str(&format!("\n… and {} more", complaints.len() - COMPLAINTS_SHOWN));
    }
    detail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_reload_says_the_first_complaints() {
        let complaints: Vec<_> = (1..=7).map(|n| format!("line {n} is wrong")).collect();
        let reply = CommandError::ReloadFailed(complaints).reply();
        assert_eq!(reply.code.as_str(), "F0000");
        assert_eq!(reply.message, "RELOAD failed, see logs for additional details");
        let detail = reply.detail.expect("a detail");
        assert!(detail.starts_with("line 1 is wrong\nline 2") && detail.ends_with("line 5 is wrong\n… and 2 more"));
    }

    #[test]
    fn what_only_pgbouncer_has_is_refused_with_what_to_do_instead() {
        for (text, hint) in [
            ("SET x = 1;", "followed by RELOAD"),
            (" suspend;", "PAUSE"),
            ("SHOW FDS", "SHOW CLIENTS"),
            ("show  mem;", "VmRSS"),
            ("SHOW DNS_HOSTS", "SHOW SERVERS"),
            ("SHOW PEERS", "one process"),
        ] {
            let reply = CommandError::unknown(text).reply();
            assert_eq!(reply.code, SqlState::PROTOCOL_VIOLATION);
            assert!(reply.hint.as_deref().is_some_and(|it| it.contains(hint)), "{text}: {:?}", reply.hint);
        }
        assert_eq!(CommandError::unknown("SHOW settings_of_mine").reply().hint, None);
    }

    #[test]
    fn other_errors_keep_pgbouncers_code() {
        for error in [CommandError::NotAdmin, CommandError::unknown("set x = 1"), CommandError::DatabaseRequired] {
            assert_eq!(error.reply().code, SqlState::PROTOCOL_VIOLATION);
        }
        assert_eq!(CommandError::Canceled("PAUSE").reply().code, SqlState::QUERY_CANCELED);
    }
}
