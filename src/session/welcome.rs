//! Settings at login: what the client asks for in its startup packet, and what it is told that it has.

use std::borrow::Cow;

use bytes::BytesMut;

use super::context::Context;
use super::handshake::Refused;
use crate::config::model::{Config, SessionState};
use crate::config::settings::texts::is_setting_name;
use crate::net::address::Address;
use crate::telemetry::labels::LoginRefusal;
use crate::wire::error::{ClientError, ErrorReply, SqlState};
use crate::wire::message::{TxStatus, backend};
use crate::wire::params::ParamSet;
use crate::wire::startup::{self, Startup};

/// The settings that the client's startup packet asks for and that follow it.
#[derive(Debug, Default)]
pub struct Wishes {
    /// Those that servers report.
    reported: ParamSet,
    /// The others.
    own: ParamSet,
}

/// Reads the parameters of a startup packet.
///
/// # Errors
/// One that this pooler can't give the client is refused, unless `ignore_startup_parameters` names it. On a console no
/// setting means anything, and drivers send theirs unasked: there they are ignored.
pub fn wishes(startup: &Startup, config: &Config, console: bool) -> Result<Wishes, Refused> {
    let mut wishes = Wishes::default();
    for (name, value) in &startup.params {
        match name.as_str() {
            "replication" if matches!(value.as_str(), "false" | "off" | "no" | "0") => {}
            "replication" => return Err(replication()),
            "options" => {
                let options =
                    startup::parse_options(value).map_err(|error| Refused::with(LoginRefusal::Startup, error.reply()));
                for (name, value) in options? {
                    let wanted = !is_ignored("options", config);
                    if !wishes.take(&name, &value, config, wanted) && wanted && !console {
                        return Err(unsupported(&name, " in options"));
                    }
                }
            }
            name => {
                if !wishes.take(name, value, config, true) && !console {
                    return Err(unsupported(name, ""));
                }
            }
        }
    }
    Ok(wishes)
}

impl Wishes {
    /// Takes a setting that follows clients, or is to be ignored; one that no server reports only if it is `wanted`.
    /// Returns whether it is one of these.
    fn take(&mut self, name: &str, value: &str, config: &Config, wanted: bool) -> bool {
        let tracked = Context::tracked(config).find(|tracked| tracked.eq_ignore_ascii_case(name));
        if let Some(tracked) = tracked {
            self.reported.set(tracked, value.as_bytes());
        }
        if tracked.is_some() || is_ignored(name, config) {
            return true;
        }
        let tracks = config.pooler.session_state == SessionState::Track && wanted && is_setting_name(name);
        if tracks {
            self.own.set(&name.to_ascii_lowercase(), value.as_bytes());
        }
        tracks
    }

    /// What the client calls itself, as others are to see it.
    pub fn application_name(&self, config: &Config, peer: &Address) -> Option<String> {
        let name = self.reported.get("application_name").map(String::from_utf8_lossy);
        if config.pooler.application_name_add_host {
            return Some(format!("{} - {peer}", name.as_deref().unwrap_or("app")));
        }
        name.map(Cow::into_owned)
    }

    /// The settings that no server reports.
    pub fn own(&self) -> Option<&ParamSet> {
        Some(&self.own).filter(|own| !own.is_empty())
    }

    /// Those that servers report, as the client asked for them.
    pub fn base(&self) -> Option<&ParamSet> {
        Some(&self.reported).filter(|reported| !reported.is_empty())
    }
}

fn is_ignored(name: &str, config: &Config) -> bool {
    config.pooler.ignore_startup_parameters.iter().any(|ignored| ignored.eq_ignore_ascii_case(name))
}

fn unsupported(name: &str, place: &str) -> Refused {
    let reply = ErrorReply::fatal(SqlState::NOT_SUPPORTED, format!("unsupported startup parameter{place}: {name}"))
        .hint(format!(
            "Leave it out of the connection settings, or name it in ignore_startup_parameters \
             to have it ignored{}.",
            if place.is_empty() { "" } else { " (there, \"options\" stands for all within options)" }
        ));
    Refused::with(LoginRefusal::Startup, reply)
}

fn replication() -> Refused {
    let reply = ErrorReply::fatal(SqlState::NOT_SUPPORTED, "replication connections are not supported")
        .hint("Connect to the PostgreSQL server itself for replication.");
    Refused::with(LoginRefusal::Startup, reply)
}

/// What the client is told, and the part of it that follows the client.
pub fn parameters(reported: &ParamSet, wishes: &Wishes, config: &Config, peer: &Address) -> (ParamSet, ParamSet) {
    let mut told = ParamSet::default();
    for (name, value) in reported.iter() {
        told.set(name, wishes.reported.get(name).unwrap_or(value));
    }
    if config.pooler.application_name_add_host
        && let Some(name) = wishes.application_name(config, peer)
    {
        told.set("application_name", name.as_bytes());
    }
    let mut tracked = ParamSet::default();
    for name in Context::tracked(config) {
        if let Some(value) = told.get(name) {
            tracked.set(name, value);
        }
    }
    (told, tracked)
}

/// Appends AuthenticationOk and what follows it, up to ReadyForQuery.
pub fn write(told: &ParamSet, pid: u32, secret: &[u8], out: &mut BytesMut) {
    backend::authentication_ok(out);
    for (name, value) in told.iter() {
        backend::parameter_status(out, name, value);
    }
    backend::backend_key_data(out, pid, secret);
    backend::ready_for_query(out, TxStatus::Idle);
}
