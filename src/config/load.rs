//! Reads the configuration and the files it names. Nothing is applied here: a failed load leaves all as it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::complaint::{Complaint, Lines};
use super::diff::{Changes, changes};
use super::doubts;
use super::model::Config;
use super::resolve::{Outside, Resolved, resolve_despite};
use super::settings::section::Places;
use super::settings::table::Tree;
use super::toml::{Parsed, heading, parse_str};
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
    /// What is wrong with the file itself. With any of it the configuration is not to be used, but only to be looked at:
    /// settings that are wrong have their default.
    pub refused: Vec<Complaint>,
    /// Where the settings stand, for what else can be found of them.
    pub places: Places,
    /// Which files besides this one a reload reads.
    pub reads: Vec<ReadFile>,
}

impl Loaded {
    /// Whether the file has a setting without a mistake; where it has none at all, whether each of them may have its
    /// default.
    pub fn is_sound(&self, section: &str, key: &'static str) -> bool {
        match self.places.get(&(section.to_owned(), key)) {
            Some(place) => !self.refused.iter().any(|wrong| wrong.place.is_some_and(|at| at.line == place.line)),
            None => self.refused.is_empty(),
        }
    }
}

/// A file that a setting names, and that holds secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadFile {
    /// The section of the setting.
    pub section: String,
    /// The setting.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
}

/// A configuration to go on with.
#[derive(Debug)]
pub struct Reloaded {
    /// The configuration. Settings that only a restart changes have their running value. What is wrong with the user
    /// list is as good as wrong with the file: whoever could log in a moment ago is not to be locked out by a slip of
    /// the pen.
    pub loaded: Loaded,
    /// What differs from the running one, and what would after a restart.
    pub changes: Changes,
}

/// Reads the configuration from `path`.
///
/// # Errors
/// Every mistake in it, in the order of the file.
pub fn load(path: &Path) -> Result<Loaded, Vec<Complaint>> {
    let mut loaded = read_all(path, None)?.0;
    if loaded.refused.is_empty() {
        return Ok(loaded);
    }
    loaded.refused.append(&mut loaded.mistakes);
    Err(loaded.refused)
}

/// Reads the configuration from `path` to see what is wrong, with the file and beside it.
///
/// # Errors
/// The file can't be read.
pub fn load_despite(path: &Path) -> Result<Loaded, Vec<Complaint>> {
    read_all(path, None).map(|(loaded, _)| loaded)
}

/// Reads the configuration from `path` again, to replace `running`, which stays in force if anything is wrong.
///
/// # Errors
/// The file can't be read.
pub fn reload(path: &Path, running: &Config) -> Result<Reloaded, Vec<Complaint>> {
    let (loaded, needs_restart) = read_all(path, Some(running))?;
    let mut changes = changes(running, &loaded.config);
    changes.needs_restart.extend(needs_restart);
    changes.needs_restart.sort_unstable();
    Ok(Reloaded { loaded, changes })
}

/// What is in the file and in those that it names; and the settings of which the running value was kept.
fn read_all(path: &Path, running: Option<&Config>) -> Result<(Loaded, Vec<&'static str>), Vec<Complaint>> {
    let file = path.display().to_string();
    let text = read(path)
        .map_err(|why| format!("can't read it: {why}"))
        .map_err(|text| vec![Complaint { file: file.clone(), place: None, text }])?;
    let text = String::from_utf8(text).map_err(|error| vec![not_utf8(&file, &error)])?;
    let outside = Outside { variable: &|name| std::env::var(name).ok(), read: &read };
    let parsed = parse_str(&file, &text);
    let tls = Tls::of(&parsed);
    let reads = files_of(&parsed.tree);
    let (users, remarks) = users_of(&parsed, &file);
    let (mut resolved, mut refused) = resolve_despite(parsed, running, &outside);
    tls.inspect(&file, &mut resolved, &mut refused);
    let Resolved { mut config, mut warnings, needs_restart, places } = resolved;
    config.userlist = Arc::new(users);
    warnings.extend(remarks.doubts);
    // Of a list that could not be read, everybody would be missing.
    if remarks.mistakes.is_empty() && config.pooler.auth_file.is_some() {
        warnings.extend(doubts::of_users(&config, &file, &places));
    }
    let loaded = Loaded { config, warnings, mistakes: remarks.mistakes, refused, places, reads };
    Ok((loaded, needs_restart))
}

/// The users, and what is wrong with their list.
fn users_of(parsed: &Parsed, file: &str) -> (Userlist, Remarks) {
    let Some(path) = &parsed.tree.pooler.auth_file else { return Default::default() };
    Userlist::load(path).unwrap_or_else(|why| {
        let place = parsed.findings.places.get(&("pooler".to_owned(), "auth_file")).copied();
        let path = path.display();
        let text = format!("auth_file: can't read {path}: {why}; there are no users, and nobody can log in");
        let mistakes = vec![Complaint { file: file.to_owned(), place, text }];
        (Userlist::default(), Remarks { mistakes, ..Remarks::default() })
    })
}

/// The files that hold secrets.
fn files_of(tree: &Tree) -> Vec<ReadFile> {
    let users = tree.pooler.auth_file.iter().map(|path| ("pooler".to_owned(), "auth_file", path));
    let passwords = tree.databases.iter().filter_map(|(name, database)| {
        let path = database.password_file.as_ref()?.as_ref()?;
        Some((heading("databases", name), "password_file", path))
    });
    users.chain(passwords).map(|(section, key, path)| ReadFile { section, key, path: path.clone() }).collect()
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
    fn inspect(self, file: &str, resolved: &mut Resolved, refused: &mut Vec<Complaint>) {
        let is_in_order = |side: &str| !refused.iter().any(|complaint| complaint.text.contains(side));
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
        for Inspection { error, remarks } in inspections {
            refused.extend(error.map(|error| complaint((error.setting(), error.to_string()))));
            let remarks = remarks.into_iter().map(|(setting, text)| complaint((Some(setting), text)));
            resolved.warnings.extend(remarks);
        }
        refused.sort();
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
    /// Reads a user list.
    ///
    /// # Errors
    /// Why the file can't be read. To the caller that is a mistake, and a list without users, as in PgBouncer.
    pub fn load(path: &Path) -> Result<(Self, Remarks), String> {
        Ok(Self::parse(path, &read(path)?))
    }
}

#[cfg(test)]
mod tests;
