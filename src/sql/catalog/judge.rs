//! From functions as the server tells them to a catalog: each by what it is, then all by each other's names, and by
//! those of the relations that the server finds to depend on them, until nothing is added.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::super::deeds::{self, Name};
use super::super::source::{Dialect, Encoding};
use super::{Catalog, Danger, Hasher, Reached};

/// A function, procedure or aggregate that did not come with PostgreSQL.
#[derive(Debug, Clone, Default)]
pub struct Function {
    /// `pg_proc.oid`, in digits.
    pub oid: Box<str>,
    /// Its name as it is stored, in the database's encoding.
    pub name: Name,
    /// Its language.
    pub language: Box<str>,
    /// It is VOLATILE.
    pub volatile: bool,
    /// It is called by CALL.
    pub procedure: bool,
    /// The extension that it belongs to.
    pub extension: Option<Box<str>>,
    /// Its code, and its parameters' defaults; `None`: too much to be read.
    pub body: Option<Box<[u8]>>,
    /// It can be written as a column of its parameter.
    pub attribute: bool,
}

/// A catalog in the making.
#[derive(Debug, Default)]
pub struct Draft {
    functions: Vec<Judged>,
    /// Names of functions that leave nothing, whatever they look like.
    trusted: Arc<[Name]>,
    /// The bodies in which a word stands.
    by_word: HashMap<Name, Vec<u32>, Hasher>,
    by_name: HashMap<Name, Vec<u32>, Hasher>,
    relations: HashSet<Name, Hasher>,
    anything: bool,
    any_ddl: bool,
    /// Names whose danger others may have by them.
    news: Vec<(Name, Danger)>,
}

#[derive(Debug)]
struct Judged {
    oid: Box<str>,
    name: Name,
    danger: Danger,
    procedure: bool,
    attribute: bool,
}

impl Draft {
    /// One that takes functions of these names for clean.
    pub fn trusting(trusted: Arc<[Name]>) -> Self {
        Self { trusted, ..Self::default() }
    }

    /// Judges these functions.
    pub fn new(functions: Vec<Function>) -> Self {
        let mut draft = Self::default();
        functions.into_iter().for_each(|function| draft.add(function));
        draft.close();
        draft
    }

    /// The functions that may touch the session, by their numbers.
    pub fn touching(&self) -> impl Iterator<Item = &str> {
        self.functions.iter().filter(|function| function.danger.touches).map(|function| &*function.oid)
    }

    /// The server has found these to depend on dangerous functions. Returns whether more functions are dangerous by that.
    pub fn reaches(&mut self, reached: Vec<Reached>) -> bool {
        let before = self.touching().count();
        for reached in reached {
            match reached {
                Reached::Relation(name) => {
                    if self.relations.insert(name.clone()) {
                        self.news.push((name, Danger::TOUCHES));
                    }
                }
                Reached::Function(name) => {
                    let named = self.by_name.get(&name).cloned().unwrap_or_default();
                    self.worsen(&named, Danger::TOUCHES);
                }
                Reached::Anything => self.anything = true,
                Reached::Ddl => self.any_ddl = true,
            }
        }
        self.close();
        self.touching().count() > before
    }

    /// What is dangerous is found.
    pub fn finish(self) -> Catalog {
        let mut catalog =
            Catalog { relations: self.relations, anything: self.anything, any_ddl: self.any_ddl, ..Catalog::default() };
        for function in self.functions {
            if function.procedure {
                catalog.procedures.insert(function.name.clone());
            }
            if function.danger.is_none() {
                continue;
            }
            if function.attribute && function.danger.touches {
                catalog.relations.insert(function.name.clone());
            }
            let danger = catalog.functions.entry(function.name).or_default();
            *danger = danger.or(function.danger);
        }
        let mut names = catalog.functions.keys().chain(&catalog.relations);
        catalog.foreign = names.any(|name| !name.is_ascii());
        catalog
    }

    /// Judges one more function by itself. Once all are there, to be [closed](Self::close).
    pub fn add(&mut self, function: Function) {
        let at = self.next();
        // Nor does anything count that is found out of others.
        let trusted = self.trusted.contains(&function.name);
        let danger = if trusted { Danger::default() } else { self.judge(&function) };
        let Function { oid, name, procedure, attribute, .. } = function;
        if !trusted {
            self.by_name.entry(name.clone()).or_default().push(at);
        }
        if !danger.is_none() {
            self.news.push((name.clone(), danger));
        }
        self.functions.push(Judged { oid, name, danger, procedure, attribute });
    }

    fn next(&self) -> u32 {
        u32::try_from(self.functions.len()).unwrap_or(u32::MAX)
    }

    /// What a function is by itself; notes the words of its body.
    fn judge(&mut self, function: &Function) -> Danger {
        let anything = Danger::TOUCHES.or(Danger::DEFINES);
        let Some(body) = function.body.as_deref() else { return anything };
        match &*function.language {
            "internal" | "c" => Danger { touches: !is_clean(function), defines: false },
            "sql" | "plpgsql" => {
                // A server's encodings are all like that.
                let dialect = Dialect { standard_conforming_strings: true, encoding: Encoding::AsciiSafe };
                let at = self.next();
                let mut note = |word: &[u8]| {
                    let bodies = self.by_word.entry_ref(word).or_default();
                    if bodies.last() != Some(&at) {
                        bodies.push(at);
                    }
                    Danger::default()
                };
                deeds::judge_body(body, dialect, &mut note)
            }
            "plperl" | "plperlu" | "plpython3u" | "plpythonu" | "plpython2u" | "pltcl" | "pltclu" | "plv8" => {
                // Strings there may be what runs, and what is kept for the next call is the session's.
                let runs: [&[u8]; 6] = [b"spi_", b"plpy", b"plv8", b"_SHARED", b"GD", b"SD"];
                if runs.iter().any(|word| memchr::memmem::find(body, word).is_some()) {
                    anything
                } else {
                    Danger::default()
                }
            }
            _ => anything,
        }
    }

    /// These functions may do this, too.
    fn worsen(&mut self, functions: &[u32], danger: Danger) {
        for &at in functions {
            let Some(function) = self.functions.get_mut(at as usize) else { continue };
            let now = function.danger.or(danger);
            if now != function.danger {
                function.danger = now;
                self.news.push((function.name.clone(), now));
            }
        }
    }

    /// Whoever names what is dangerous is so, too.
    pub fn close(&mut self) {
        while let Some((name, danger)) = self.news.pop() {
            let naming = self.by_word.get(&name).cloned().unwrap_or_default();
            self.worsen(&naming, danger);
        }
    }
}

/// Functions in C: those that can't change anything by their own word, and those of extensions that are known.
fn is_clean(function: &Function) -> bool {
    let listed = function.extension.as_deref().is_some_and(|name| CLEAN.contains(&name));
    !is_dirty(&function.name) && (!function.volatile || listed)
}

/// Functions in C that set something, or run a text that they are given, whatever they say of themselves.
fn is_dirty(name: &[u8]) -> bool {
    let dirty: [&[u8]; 4] = [b"set_limit", b"isn_weak", b"connectby", b"xpath_table"];
    dirty.contains(&name) || name.starts_with(b"crosstab") || name.starts_with(b"dblink")
}

/// Extensions whose functions in C surely leave the session of their caller as it was, but for [`is_dirty`].
const CLEAN: [&str; 66] = [
    "address_standardizer",
    "address_standardizer_data_us",
    "adminpack",
    "amcheck",
    "autoinc",
    "bloom",
    "bool_plperl",
    "bool_plperlu",
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "dict_int",
    "dict_xsyn",
    "earthdistance",
    "file_fdw",
    "fuzzystrmatch",
    "hll",
    "hstore",
    "hstore_plperl",
    "hstore_plperlu",
    "hstore_plpython3u",
    "insert_username",
    "intagg",
    "intarray",
    "ip4r",
    "isn",
    "jsonb_plperl",
    "jsonb_plperlu",
    "jsonb_plpython3u",
    "lo",
    "ltree",
    "ltree_plpython3u",
    "moddatetime",
    "old_snapshot",
    "pageinspect",
    "pg_buffercache",
    "pg_freespacemap",
    "pg_logicalinspect",
    "pg_prewarm",
    "pg_stat_statements",
    "pg_surgery",
    "pg_trgm",
    "pg_uuidv7",
    "pg_visibility",
    "pg_walinspect",
    "pgcrypto",
    "pgrowlocks",
    "pgstattuple",
    "plpgsql",
    "postgis",
    "postgis_raster",
    "postgis_sfcgal",
    "postgres_fdw",
    "prefix",
    "refint",
    "seg",
    "sslinfo",
    "tablefunc",
    "tcn",
    "tsm_system_rows",
    "tsm_system_time",
    "unaccent",
    "uuid-ossp",
    "vector",
    "xml2",
];
