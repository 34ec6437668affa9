//! What a reader found in one section of a file, before values have types; and the way each setting takes its value.
//! Readers of different file formats fill the same [`Section`], so that they refuse the same things in the same words.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::elsewhere::instead_of;
use super::kinds::Kind;
use super::{Setting, homes_of};
use crate::config::complaint::{Complaint, Place, nearest};

/// A value without a type.
#[derive(Debug, Clone, PartialEq)]
pub enum Raw<'a> {
    /// A string; also every value of a format that knows nothing else.
    Text(Cow<'a, str>),
    /// A number: its digits, and their base (8 for `0o777`).
    Number(Cow<'a, str>, u32),
    /// `true` or `false`.
    Bool(bool),
    /// An array.
    List(Vec<Self>),
    /// Something that no setting takes, in words: "a table".
    Other(&'static str),
}

impl fmt::Display for Raw<'_> {
    /// As it may be shown in a complaint: one line, not too long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) if text.chars().count() > LONGEST_ECHO => {
                write!(f, "{:?}…", text.chars().take(LONGEST_ECHO).collect::<String>())
            }
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Number(digits, base) => {
                let prefix = match base {
                    2 => "0b",
                    8 => "0o",
                    16 => "0x",
                    _ => "",
                };
                write!(f, "{prefix}{}", digits.chars().take(LONGEST_ECHO).collect::<String>())
            }
            Self::Bool(value) => value.fmt(f),
            Self::List(_) => f.write_str("a list"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// What a kind may use besides the value, and where it leaves remarks.
#[derive(Debug)]
pub struct Context {
    /// Paths are relative to this directory.
    pub base: PathBuf,
    /// What is allowed but won't do what it seems to.
    pub remarks: Vec<String>,
}

/// Where each setting that a file has stands: by section and key.
pub type Places = BTreeMap<(String, &'static str), Place>;

/// What reading a file leaves behind besides the values.
#[derive(Debug)]
pub struct Findings {
    /// The file, as it was named.
    pub file: String,
    /// Mistakes.
    pub complaints: Vec<Complaint>,
    /// What is no mistake, but should be known.
    pub warnings: Vec<Complaint>,
    /// Where the settings stand.
    pub places: Places,
    context: Context,
}

impl Findings {
    /// Nothing found yet in `file`. Paths in it are relative to its directory.
    pub fn new(file: &str) -> Self {
        let base = Path::new(file).parent().unwrap_or_else(|| Path::new("")).to_owned();
        Self {
            file: file.to_owned(),
            complaints: Vec::new(),
            warnings: Vec::new(),
            places: Places::new(),
            context: Context { base, remarks: Vec::new() },
        }
    }

    /// Notes a mistake.
    pub fn complain(&mut self, place: Option<Place>, text: impl Into<String>) {
        self.complaints.push(Complaint { file: self.file.clone(), place, text: text.into() });
    }

    /// Notes what is no mistake, but should be known.
    pub fn warn(&mut self, place: Option<Place>, text: impl Into<String>) {
        self.warnings.push(Complaint { file: self.file.clone(), place, text: text.into() });
    }

    /// Where a setting stands, if the file has it.
    pub fn place(&self, section: &str, key: &'static str) -> Option<Place> {
        self.places.get(&(section.to_owned(), key)).copied()
    }

    /// Where a section begins, if the file has it.
    pub fn place_of_section(&self, section: &str) -> Option<Place> {
        self.place(section, "")
    }
}

/// One section of a file. Settings take their values out of it; what is left at the end is unknown.
#[derive(Debug)]
pub struct Section<'a> {
    name: String,
    entries: BTreeMap<String, (Place, Raw<'a>)>,
    findings: &'a mut Findings,
}

impl<'a> Section<'a> {
    /// A section called `name` (`pooler`, `databases.app`), without settings.
    pub fn new(name: impl Into<String>, place: Option<Place>, findings: &'a mut Findings) -> Self {
        let name = name.into();
        if let Some(place) = place {
            findings.places.insert((name.clone(), ""), place);
        }
        Self { name, entries: BTreeMap::new(), findings }
    }

    /// Adds a setting; a later one of the same name replaces it.
    pub fn insert(&mut self, key: impl Into<String>, place: Place, raw: Raw<'a>) {
        self.entries.insert(key.into(), (place, raw));
    }

    /// Takes the value of a setting that may go by several names. `None`: the file doesn't have it, or has it wrong,
    /// which is then noted.
    pub fn take<K: Kind>(&mut self, names: &[&'static str]) -> Option<K::Value> {
        let mut value = None;
        for &name in names {
            let Some((place, raw)) = self.entries.remove(name) else { continue };
            if self.findings.places.insert((self.name.clone(), names[0]), place).is_some() {
                let text = format!("{name} is given twice: it is another name of {}", names[0]);
                self.findings.complain(Some(place), text);
            }
            value = self.read::<K>(name, place, &raw);
        }
        value
    }

    /// Takes the value of a setting, or else its default.
    pub fn take_or<K: Kind>(&mut self, name: &'static str, default: &'static str) -> K::Value {
        match self.take::<K>(&[name]) {
            Some(value) => value,
            None => K::read(&Raw::Text(Cow::Borrowed(default)), &mut self.findings.context)
                .expect("a test reads every default"),
        }
    }

    fn read<K: Kind>(&mut self, name: &str, place: Place, raw: &Raw<'_>) -> Option<K::Value> {
        let read = K::read(raw, &mut self.findings.context);
        for remark in std::mem::take(&mut self.findings.context.remarks) {
            self.findings.warn(Some(place), format!("{name}: {remark}"));
        }
        match read {
            Ok(value) => Some(value),
            Err(why) => {
                self.findings.complain(Some(place), format!("{name}: {why}"));
                None
            }
        }
    }

    /// Complains of whatever nobody took.
    pub fn finish(self, settings: &[&'static Setting]) {
        for (key, (place, _)) in &self.entries {
            if let Some(instead) = instead_of(key) {
                let text = format!("PgBouncer's setting {key} is not supported: {instead}");
                self.findings.complain(Some(*place), text);
                continue;
            }
            let known = settings.iter().flat_map(|setting| setting.names());
            let hint = match (nearest(key, known), homes_of(key).as_slice()) {
                (Some(near), _) => format!("; did you mean \"{near}\"?"),
                (None, []) => String::new(),
                (None, homes) => format!("; it belongs in {}", homes.join(" or ")),
            };
            self.findings.complain(Some(*place), format!("unknown setting {key:?} in [{}]{hint}", self.name));
        }
    }
}

const LONGEST_ECHO: usize = 60;
