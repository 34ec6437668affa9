//! Reads the configuration and the files it names. Nothing is applied here: a failed load leaves all as it was.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::complaint::{Complaint, Lines};
use super::diff::{Changes, changes};
use super::model::Config;
use super::resolve::{Outside, Resolved, resolve};
use super::settings::section::Places;
use super::toml::{Parsed, parse_str};
use super::users::{Remarks, Userlist};
use crate::net::options::{ClientTls, ServerTls};
use crate::net::tls::{Inspection, inspect_clients, inspect_servers};

/// A configuration to start with.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is no mistake, but should be known.
    pub warnings: Vec<Complaint>,
    /// What is wrong with the user list. A start goes on without the users that are missing for it, as PgBouncer's.
    pub mistakes: Vec<Complaint>,
    /// Where the settings stand, for what else can be found of them.
    pub places: Places,
}

/// A configuration to go on with.
#[derive(Debug)]
pub struct Reloaded {
    /// The configuration. Settings that only a restart changes have their running value.
    pub config: Config,
    /// What differs from the running one, and what would after a restart.
    pub changes: Changes,
    /// What is no mistake, but should be known.
    pub warnings: Vec<Complaint>,
}

/// Reads the configuration from `path`.
///
/// # Errors
/// Every mistake in it, in the order of the file.
pub fn load(path: &Path) -> Result<Loaded, Vec<Complaint>> {
    let (resolved, users) = read_all(path, None)?;
    let Resolved { config, mut warnings, places, .. } = resolved;
    warnings.extend(users.doubts);
    Ok(Loaded { config, warnings, mistakes: users.mistakes, places })
}

/// Reads the configuration from `path` again, to replace `running`.
///
/// # Errors
/// As [`load`], and what is wrong with the user list: whoever could log in a moment ago is not to be locked out by a
/// slip of the pen. `running` then stays in force.
pub fn reload(path: &Path, running: &Config) -> Result<Reloaded, Vec<Complaint>> {
    let (resolved, users) = read_all(path, Some(running))?;
    if !users.mistakes.is_empty() {
        return Err(users.mistakes);
    }
    let mut warnings = resolved.warnings;
    warnings.extend(users.doubts);
    let mut changes = changes(running, &resolved.config);
    changes.needs_restart.extend(resolved.needs_restart);
    changes.needs_restart.sort_unstable();
    Ok(Reloaded { config: resolved.config, changes, warnings })
}

fn read_all(path: &Path, running: Option<&Config>) -> Result<(Resolved, Remarks), Vec<Complaint>> {
    let file = path.display().to_string();
    let text = read(path)
        .map_err(|why| format!("can't read it: {why}"))
        .map_err(|text| vec![Complaint { file: file.clone(), place: None, text }])?;
    let text = String::from_utf8(text).map_err(|error| vec![not_utf8(&file, &error)])?;
    let outside = Outside { variable: &|name| std::env::var(name).ok(), read: &read };
    let parsed = parse_str(&file, &text);
    let tls = Tls::of(&parsed);
    let (users, remarks) = parsed.tree.pooler.auth_file.as_deref().map(Userlist::load).unwrap_or_default();
    match tls.inspect(&file, resolve(parsed, running, &outside)) {
        Ok(mut resolved) => {
            resolved.config.userlist = Arc::new(users);
            Ok((resolved, remarks))
        }
        Err(mut complaints) => {
            complaints.extend(remarks.mistakes);
            Err(complaints)
        }
    }
}

/// What a file says of TLS, kept aside: whether keys and certificates are of use is looked at even where other
/// settings are wrong.
struct Tls {
    client: ClientTls,
    server: ServerTls,
    places: Places,
}

impl Tls {
    fn of(parsed: &Parsed) -> Self {
        let places = parsed.findings.places.clone();
        Self { client: parsed.tree.client_tls.options(), server: parsed.tree.server_tls.options(), places }
    }

    /// Adds what is wrong with the files of a side whose settings are in order by themselves.
    fn inspect(self, file: &str, resolved: Result<Resolved, Vec<Complaint>>) -> Result<Resolved, Vec<Complaint>> {
        let is_in_order = |side: &str| {
            let wrong = |complaint: &Complaint| complaint.text.contains(side);
            resolved.as_ref().err().is_none_or(|complaints| !complaints.iter().any(wrong))
        };
        let now = SystemTime::now();
        let mut inspections = Vec::new();
        if is_in_order("client_tls_") {
            inspections.push(inspect_clients(&self.client, now));
        }
        if is_in_order("server_tls_") {
            inspections.push(inspect_servers(&self.server, now));
        }
        let complaint = |(setting, text): (Option<&'static str>, String)| {
            let place = setting.and_then(|key| self.places.get(&("pooler".to_owned(), key)).copied());
            Complaint { file: file.to_owned(), place, text }
        };
        let (mut mistakes, mut remarks) = (Vec::new(), Vec::new());
        for Inspection { error, remarks: found } in inspections {
            mistakes.extend(error.map(|error| complaint((error.setting(), error.to_string()))));
            remarks.extend(found.into_iter().map(|(setting, text)| complaint((Some(setting), text))));
        }
        match resolved {
            Ok(mut resolved) if mistakes.is_empty() => {
                resolved.warnings.extend(remarks);
                Ok(resolved)
            }
            Ok(_) => Err(mistakes),
            Err(mut complaints) => {
                complaints.extend(mistakes);
                complaints.sort();
                Err(complaints)
            }
        }
    }
}

fn not_utf8(file: &str, error: &std::string::FromUtf8Error) -> Complaint {
    let valid = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
    let place = Lines::new(&valid).place(valid.len());
    Complaint { file: file.to_owned(), place: Some(place), text: "this is not UTF-8".into() }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| error.to_string())
}

impl Userlist {
    /// Reads a user list. A missing file is a complaint, and a list without users, as in PgBouncer.
    pub fn load(path: &Path) -> (Self, Remarks) {
        match read(path) {
            Ok(text) => Self::parse(path, &text),
            Err(why) => {
                let text = format!("can't read it: {why}; there are no users, and nobody can log in");
                let mistakes = vec![Complaint { file: path.display().to_string(), place: None, text }];
                (Self::default(), Remarks { mistakes, ..Remarks::default() })
            }
        }
    }
}

#[cfg(test)]
mod tests;
