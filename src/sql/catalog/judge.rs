//! From functions as the server tells them to a catalog: each by what it is, then all by each other's names, and by
//! those of the relations that the server finds to depend on them, until nothing is added.

use std::sync::Arc;

use hashbrown::HashMap;

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
    /// It is VOLATILE, or has no result: then it is called for what it does.
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
    relations: HashMap<Name, Danger, Hasher>,
    types: HashMap<u32, Danger, Hasher>,
    anything: Danger,
    any_ddl: Danger,
    /// What is reached by a value that names it.
    readers: Danger,
    /// What code sets by name.
    settings: Vec<Name>,
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

    /// The dangerous functions, by their numbers.
    pub fn dangerous(&self) -> impl Iterator<Item = (&str, Danger)> {
        let all = self.functions.iter().map(|function| (&*function.oid, function.danger));
        all.filter(|(_, danger)| !danger.is_none())
    }

    /// The server has found these to depend on functions that are so dangerous. Returns whether more functions are by that.
    pub fn reaches(&mut self, reached: Vec<(Reached, Danger)>) -> bool {
        let kinds = |draft: &Self| draft.dangerous().map(|(_, danger)| danger.kinds().count()).sum::<usize>();
        let before = kinds(self);
        for (reached, danger) in reached {
            match reached {
                Reached::Relation(name) => {
                    let unseen = danger.unseen();
                    self.reading(unseen);
                    let known = self.relations.entry(name.clone()).or_default();
                    if !known.has(unseen) {
                        *known = known.or(unseen);
                        self.news.push((name, unseen));
                    }
                }
                Reached::Type(oid) => {
                    let known = self.types.entry(oid).or_default();
                    *known = known.or(danger.unseen());
                }
                Reached::Function(name) => {
                    let named = self.by_name.get(&name).cloned().unwrap_or_default();
                    self.worsen(&named, danger);
                }
                Reached::Anything => self.anything = self.anything.or(danger.unseen()),
                Reached::Ddl => {
                    self.any_ddl = self.any_ddl.or(danger.unseen());
                    // Code that has DDL in it runs that.
                    self.news.extend(DDL.iter().map(|verb| (Name::from(*verb), danger.unseen())));
                }
            }
        }
        self.close();
        kinds(self) > before
    }

    /// Some type or index runs code that is so dangerous: so may those functions that are told which as a value.
    fn reading(&mut self, danger: Danger) {
        if !self.readers.has(danger) {
            self.readers = self.readers.or(danger);
            self.news.extend(deeds::READERS.iter().chain(&UPKEEP).map(|name| (Name::from(*name), danger)));
        }
    }

    /// What is dangerous is found.
    pub fn finish(self) -> Catalog {
        let Self { relations, types, anything, any_ddl, readers, settings, .. } = self;
        let mut catalog = Catalog { relations, types, readers, anything, any_ddl, settings, ..Catalog::default() };
        for function in self.functions {
            if function.procedure {
                catalog.procedures.insert(function.name.clone());
            }
            if function.danger.is_none() {
                continue;
            }
            if function.attribute {
                let named = catalog.relations.entry(function.name.clone()).or_default();
                *named = named.or(function.danger.unseen());
            }
            let danger = catalog.functions.entry(function.name).or_default();
            *danger = danger.or(function.danger);
        }
        let mut names = catalog.functions.keys().chain(catalog.relations.keys());
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
        let Some(body) = function.body.as_deref() else { return Danger::ANYTHING };
        match &*function.language {
            "internal" if deeds::is_own_setter(body) => Danger::ANYTHING,
            "internal" | "c" => {
                Danger::TOUCHES.when(!is_clean(function)).or(Danger::ANYTHING.when(runs_text(&function.name)))
            }
            "sql" | "plpgsql" => {
                // A server's encodings are all like that.
                let dialect = Dialect { standard_conforming_strings: true, encoding: Encoding::AsciiSafe };
                // Where strings end is up to the session that runs it.
                let other = Dialect { standard_conforming_strings: false, ..dialect };
                let doubtful = memchr::memmem::find(body, b"\\'").is_some();
                let at = self.next();
                let Self { by_word, settings, .. } = self;
                let mut note = |word: &[u8]| {
                    let bodies = by_word.entry_ref(word).or_default();
                    if bodies.last() != Some(&at) {
                        bodies.push(at);
                    }
                    Danger::default()
                };
                let mut sets = |name: &[u8]| {
                    let at = settings.iter().position(|known| **known == *name).unwrap_or(settings.len());
                    let danger = Danger::setting(at);
                    if at == settings.len() && danger.is_some() {
                        settings.push(name.into());
                    }
                    danger.unwrap_or(Danger::TOUCHES)
                };
                let mut danger = Danger::default();
                for dialect in [dialect, other].into_iter().take(1 + usize::from(doubtful)) {
                    danger = danger.or(deeds::judge_body(body, dialect, &mut note, &mut sets));
                    if &*function.language == "sql" && deeds::makes_table(body, dialect) {
                        // It is DDL.
                        danger = danger.or(Danger::MAKES).or(note(b"create"));
                    }
                }
                danger
            }
            "plperl" | "plperlu" | "plpython3u" | "plpythonu" | "plpython2u" | "pltcl" | "pltclu" | "plv8" => {
                // Strings there may be what runs, and what is kept for the next call is the session's.
                let runs: [&[u8]; 6] = [b"spi_", b"plpy", b"plv8", b"_SHARED", b"GD", b"SD"];
                Danger::ANYTHING.when(runs.iter().any(|word| memchr::memmem::find(body, word).is_some()))
            }
            _ => Danger::ANYTHING,
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

/// Words with which DDL begins that event triggers see.
pub(super) const DDL: [&[u8]; 9] =
    [b"alter", b"comment", b"create", b"drop", b"grant", b"import", b"refresh", b"revoke", b"security"];

/// Words in code that may run what hangs on relations which they don't name.
pub(super) const UPKEEP: [&[u8]; 6] = [b"alter", b"analyze", b"cluster", b"reindex", b"truncate", b"vacuum"];

/// Functions in C: those that can't change anything by their own word, and those of extensions that are known.
fn is_clean(function: &Function) -> bool {
    let listed = function.extension.as_deref().is_some_and(|name| CLEAN.contains(&name));
    !is_dirty(&function.name) && (!function.volatile || listed)
}

/// Functions in C that set something, or run a text that they are given, whatever they say of themselves.
fn is_dirty(name: &[u8]) -> bool {
    matches!(name, b"set_limit" | b"isn_weak") || name.starts_with(b"hll_set_") || runs_text(name)
}

fn runs_text(name: &[u8]) -> bool {
    let exact = matches!(name, b"connectby" | b"xpath_table" | b"standardize_address");
    exact || name.starts_with(b"crosstab") || name.starts_with(b"dblink")
}

/// Extensions whose functions in C surely leave the session of their caller as it was, but for [`is_dirty`].
const CLEAN: [&str; 65] = [
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
