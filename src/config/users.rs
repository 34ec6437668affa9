//! `userlist.txt` as PgBouncer reads and writes it: `"user" "secret"`, the rest of the line ignored, `""` for a quote
//! within quotes, lines that start with `;` ignored. Unlike there, quotes must close on their line: a forgotten one
//! does not make a name the secret of another.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::complaint::{Complaint, Place};
use super::settings::entries::MAX_USER_NAME;
use crate::types::Secret;
use crate::wire::scram::ScramVerifier;

/// What is known of a user's password.
#[derive(Clone, PartialEq, Eq)]
pub enum StoredSecret {
    /// The password.
    Plain(Secret),
    /// `md5` and 32 hexadecimal digits: the MD5 hash of password and user name.
    Md5(Secret),
    /// What SCRAM needs to check a password.
    Scram(ScramVerifier),
}

impl StoredSecret {
    /// Tells the kinds apart as PgBouncer does.
    pub fn of(secret: &[u8]) -> Self {
        let md5 = secret
            .strip_prefix(b"md5")
            .is_some_and(|hash| hash.len() == 32 && hash.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
        match std::str::from_utf8(secret).ok().and_then(ScramVerifier::parse) {
            Some(verifier) => Self::Scram(verifier),
            None if md5 => Self::Md5(Secret::new(secret)),
            None => Self::Plain(Secret::new(secret)),
        }
    }
}

impl fmt::Debug for StoredSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain(…)",
            Self::Md5(_) => "Md5(…)",
            Self::Scram(_) => "Scram(…)",
        })
    }
}

/// What is to be said of a user list.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Remarks {
    /// Lines that can't be read, or the whole file. The users behind the first are missing.
    pub mistakes: Vec<Complaint>,
    /// What can be read, and was hardly meant so.
    pub doubts: Vec<Complaint>,
}

impl Remarks {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Complaint> {
        self.mistakes.iter().chain(&self.doubts)
    }
}

/// Users and their secrets.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Userlist {
    users: BTreeMap<Box<str>, StoredSecret>,
    /// How many have a SCRAM secret.
    scram: usize,
}

impl Userlist {
    /// The secret of `user`.
    pub fn get(&self, user: &str) -> Option<&StoredSecret> {
        self.users.get(user)
    }

    /// Every user, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &StoredSecret)> {
        self.users.iter().map(|(user, secret)| (&**user, secret))
    }

    /// How many users have a SCRAM secret.
    pub fn scram_users(&self) -> usize {
        self.scram
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there is no user at all.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Reads the text of a user list. From the first line on that is broken it takes no users any more, as PgBouncer
    /// does; the others that are broken are told too, up to a limit.
    pub fn parse(path: &Path, text: &[u8]) -> (Self, Remarks) {
        let mut list = Self::default();
        let mut remarks = Remarks::default();
        // Some editors put it before everything.
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let complain = |text: String| Complaint {
                file: path.display().to_string(),
                place: Some(Place { line: number, column: 1 }),
                text,
            };
            match Entry::read(line) {
                Ok(None) => {}
                Ok(Some(_)) if !remarks.mistakes.is_empty() => {}
                Ok(Some(entry)) => {
                    let doubt = list.add(entry).filter(|_| remarks.doubts.len() < DOUBTS_MAX);
                    remarks.doubts.extend(doubt.map(complain));
                }
                Err(why) if remarks.mistakes.is_empty() => {
                    let text = format!("{why}; this line and what follows it is not read");
                    remarks.mistakes.push(complain(text));
                }
                Err(why) if remarks.mistakes.len() < MISTAKES_MAX => remarks.mistakes.push(complain(why.to_owned())),
                Err(_) => {
                    remarks.mistakes.push(complain("more lines are broken, from here on".to_owned()));
                    break;
                }
            }
        }
        list.scram = list.iter().filter(|(_, secret)| matches!(secret, StoredSecret::Scram(_))).count();
        (list, remarks)
    }

    /// Adds a user, in place of an earlier one of that name. Returns what should be known about the line.
    fn add(&mut self, entry: Entry) -> Option<String> {
        let secret = StoredSecret::of(entry.secret.expose());
        let doubtful = matches!(secret, StoredSecret::Plain(_)) && entry.secret.expose().starts_with(b"SCRAM-SHA-256$");
        let mut remark = doubtful.then(|| {
            format!(
                "the secret of {:?} is no SCRAM-SHA-256 secret, though it begins like one: it is taken as a password",
                entry.user
            )
        });
        let again = format!("{:?} is in it already: this line counts, the earlier one does not", entry.user);
        if self.users.insert(entry.user.into(), secret).is_some() {
            remark.get_or_insert(again);
        }
        remark
    }
}

/// One line with a user.
struct Entry {
    user: String,
    secret: Secret,
}

impl Entry {
    /// Reads a line; `None` when it has no user.
    fn read(line: &[u8]) -> Result<Option<Self>, &'static str> {
        let line = line.trim_ascii();
        match line.first() {
            None | Some(b';') => return Ok(None),
            Some(b'"') => {}
            Some(_) => return Err(EXPECTED),
        }
        let (user, rest) = quoted(line).ok_or(EXPECTED)?;
        let gap = rest.iter().position(|byte| *byte == b'"').ok_or(EXPECTED)?;
        let (secret, _) = quoted(&rest[gap..]).ok_or(EXPECTED)?;
        let secret = Secret::new(secret);
        let user = String::from_utf8(user).map_err(|_| "the user's name is not UTF-8")?;
        if user.len() > MAX_USER_NAME {
            return Err("the user's name is longer than 127 bytes");
        }
        Ok(Some(Self { user, secret }))
    }
}

/// Reads a quoted text, at whose opening quote `text` begins; also returns what is behind the closing one.
fn quoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut inner = Vec::with_capacity(text.len());
    let mut at = 1;
    loop {
        match (text.get(at)?, text.get(at + 1)) {
            (b'"', Some(b'"')) => {
                inner.push(b'"');
                at += 2;
            }
            (b'"', _) => return Some((inner, &text[at + 1..])),
            (byte, _) => {
                inner.push(*byte);
                at += 1;
            }
        }
    }
}

/// Of a file that is no user list at all, more would not help.
const MISTAKES_MAX: usize = 20;

/// As many lines that are doubtful are told.
const DOUBTS_MAX: usize = 20;

const EXPECTED: &str = "broken user list: expected \"user\" \"secret\"";

#[cfg(test)]
mod tests;
