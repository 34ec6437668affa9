//! The table of all settings, and the tree of their values.

use std::collections::BTreeMap;

use super::entries::{DatabaseSettings, UserSettings};
use super::kinds::Form;
use super::pooler::{Metrics, Pooler};
use super::section::{Findings, Section};
use super::tls::{ClientTls, ServerTls};

/// What is declared of one setting.
#[derive(Debug)]
pub struct Setting {
    /// Its name.
    pub key: &'static str,
    /// PgBouncer's other name for it.
    pub alias: Option<&'static str>,
    /// The heading under which it is described.
    pub topic: &'static str,
    /// Its description, by lines, as written in the source.
    pub text: &'static [&'static str],
    /// Its default, or what stands for one.
    pub value: Declared,
    /// How it is written in TOML.
    pub form: Form,
    /// What is legal, in words.
    pub legal: fn() -> String,
    /// When a change takes effect.
    pub reload: Reload,
}

/// What holds when a setting is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declared {
    /// This value.
    Default(&'static str),
    /// The global setting of this name.
    Overrides(&'static str),
    /// Nothing; this is how one might be set.
    Example(&'static str),
}

/// When a change takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// At the next reload.
    Live,
    /// At the next start.
    Restart,
}

impl Setting {
    /// Its name, and its other name if it has one.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.key).chain(self.alias)
    }
}

/// Settings that stand together in one struct. Made by the `settings!` macro.
pub trait Group: Sized {
    /// What is declared of each, in order.
    fn settings() -> Vec<&'static Setting>;
    /// Takes every value out of a section; absent and wrong ones get their default.
    fn take(section: &mut Section<'_>) -> Self;

    /// Every value by default.
    fn defaults() -> Self {
        Self::take(&mut Section::new("", None, &mut Findings::new("")))
    }

    /// Every value as PgBouncer's console shows it.
    fn show(&self, shown: &mut Vec<(&'static str, String)>);
    /// Puts the `running` value back wherever only a restart applies a change, and names those settings.
    fn keep_restart_only(&mut self, running: &Self, kept: &mut Vec<&'static str>);
}

/// One section of the configuration file.
#[derive(Debug)]
pub struct SectionTable {
    /// How it is headed, with `NAME` for what the operator chooses.
    pub name: &'static str,
    /// Its settings, in order.
    pub settings: fn() -> Vec<&'static Setting>,
}

/// Every section, in order.
pub const SECTIONS: [SectionTable; 4] = [
    SectionTable { name: "pooler", settings: pooler_settings },
    SectionTable { name: "metrics", settings: <Metrics as Group>::settings },
    SectionTable { name: "databases.NAME", settings: DatabaseSettings::settings },
    SectionTable { name: "users.NAME", settings: UserSettings::settings },
];

/// The settings of `[pooler]`, in order.
pub fn pooler_settings() -> Vec<&'static Setting> {
    let mut all = Pooler::settings();
    all.extend(ClientTls::settings());
    all.extend(ServerTls::settings());
    all
}

/// The headings of the sections that have a setting called `key`.
pub fn homes_of(key: &str) -> Vec<String> {
    SECTIONS
        .iter()
        .filter(|section| (section.settings)().iter().any(|setting| setting.names().any(|name| name == key)))
        .map(|section| format!("[{}]", section.name))
        .collect()
}

/// A whole configuration file with types, before anything is looked up or checked against anything else.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    /// `[pooler]`.
    pub pooler: Pooler,
    /// `[pooler] client_tls_*`.
    pub client_tls: ClientTls,
    /// `[pooler] server_tls_*`.
    pub server_tls: ServerTls,
    /// `[metrics]`.
    pub metrics: Metrics,
    /// `[databases.NAME]`.
    pub databases: BTreeMap<String, DatabaseSettings>,
    /// `[users.NAME]`.
    pub users: BTreeMap<String, UserSettings>,
}

impl Tree {
    /// An empty file.
    pub fn defaults() -> Self {
        Self {
            pooler: Pooler::defaults(),
            client_tls: ClientTls::defaults(),
            server_tls: ServerTls::defaults(),
            metrics: Metrics::defaults(),
            databases: BTreeMap::new(),
            users: BTreeMap::new(),
        }
    }

    /// Takes the `[pooler]` section.
    pub fn take_pooler(mut section: Section<'_>) -> (Pooler, ClientTls, ServerTls) {
        let groups = (Pooler::take(&mut section), ClientTls::take(&mut section), ServerTls::take(&mut section));
        section.finish(&pooler_settings());
        groups
    }

    /// Takes the `[metrics]` section.
    pub fn take_metrics(mut section: Section<'_>) -> Metrics {
        let metrics = Metrics::take(&mut section);
        section.finish(&Metrics::settings());
        metrics
    }

    /// Takes a `[databases.NAME]` section.
    pub fn take_database(mut section: Section<'_>) -> DatabaseSettings {
        let database = DatabaseSettings::take(&mut section);
        section.finish(&DatabaseSettings::settings());
        database
    }

    /// Takes a `[users.NAME]` section.
    pub fn take_user(mut section: Section<'_>) -> UserSettings {
        let user = UserSettings::take(&mut section);
        section.finish(&UserSettings::settings());
        user
    }
}
