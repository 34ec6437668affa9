//! Reads the configuration and the files it names. Nothing is applied here: a failed load leaves all as it was.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::complaint::{Complaint, Lines};
use super::diff::{Changes, changes};
use super::model::Config;
use super::resolve::{Outside, Resolved, resolve};
use super::toml::parse_str;
use super::users::Userlist;

/// A configuration to start with.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is no mistake, but should be known.
    pub warnings: Vec<Complaint>,
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
    let (resolved, warnings) = read_all(path, None)?;
    Ok(Loaded { config: resolved.config, warnings })
}

/// Reads the configuration from `path` again, to replace `running`.
///
/// # Errors
/// As [`load`]; `running` then stays in force.
pub fn reload(path: &Path, running: &Config) -> Result<Reloaded, Vec<Complaint>> {
    let (resolved, warnings) = read_all(path, Some(running))?;
    let mut changes = changes(running, &resolved.config);
    changes.needs_restart.extend(resolved.needs_restart);
    changes.needs_restart.sort_unstable();
    Ok(Reloaded { config: resolved.config, changes, warnings })
}

fn read_all(path: &Path, running: Option<&Config>) -> Result<(Resolved, Vec<Complaint>), Vec<Complaint>> {
    let file = path.display().to_string();
    let text = read(path)
        .map_err(|why| format!("can't read it: {why}"))
        .map_err(|text| vec![Complaint { file: file.clone(), place: None, text }])?;
    let text = String::from_utf8(text).map_err(|error| vec![not_utf8(&file, &error)])?;
    let outside = Outside { variable: &|name| std::env::var(name).ok(), read: &read };
    let mut resolved = resolve(parse_str(&file, &text), running, &outside)?;
    let mut warnings = std::mem::take(&mut resolved.warnings);
    if let Some(path) = &resolved.config.pooler.auth_file {
        let (users, complaints) = Userlist::load(path);
        resolved.config.userlist = Arc::new(users);
        warnings.extend(complaints);
    }
    Ok((resolved, warnings))
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
    pub fn load(path: &Path) -> (Self, Vec<Complaint>) {
        match read(path) {
            Ok(text) => Self::parse(path, &text),
            Err(why) => {
                let text = format!("can't read it: {why}; there are no users, and nobody can log in");
                (Self::default(), vec![Complaint { file: path.display().to_string(), place: None, text }])
            }
        }
    }
}

#[cfg(test)]
mod tests;
