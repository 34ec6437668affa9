//! What is written about settings outside of the source: `pooler.toml` and the reference page, from the table of
//! settings. A test compares them with the files.

use std::fmt::Write;

use super::settings::kinds::Form;
use super::settings::{Declared, Reload, SECTIONS, SectionTable, Setting};

/// The commented `pooler.toml`: every setting with its text and default, and a few that are in force.
pub fn pooler_toml() -> String {
    let mut page = String::from(TOML_HEAD);
    for section in &SECTIONS {
        let _ = write!(page, "\n{}\n", heading(section.name));
        for (topic, settings) in topics(section) {
            let _ = write!(page, "\n# --- {topic} ---\n");
            for setting in settings {
                page.push('\n');
                for line in setting.text {
                    let _ = writeln!(page, "#{line}");
                }
                if setting.reload == Reload::Restart {
                    page.push_str("# A change needs a restart.\n");
                }
                let _ = writeln!(page, "{}", assignment(section.name, setting));
            }
        }
    }
    page
}

/// The line that sets a setting: in force where the file needs it, else commented out, with the default.
fn assignment(section: &str, setting: &Setting) -> String {
    match LIVE.iter().find(|(of, key, _)| *of == section && *key == setting.key) {
        Some((_, key, value)) => format!("{key} = {value}"),
        None => format!("# {} = {}", setting.key, default(setting)),
    }
}

/// How a section is headed in `pooler.toml`; those with a name have one of an example.
fn heading(section: &str) -> String {
    match section {
        "databases.NAME" => "[databases.app]".into(),
        "users.NAME" => "# [users.app]".into(),
        other => format!("[{other}]"),
    }
}

/// Settings by topic, in the order in which people read them.
fn topics(section: &SectionTable) -> Vec<(&'static str, Vec<&'static Setting>)> {
    let mut topics: Vec<(&str, Vec<&Setting>)> = Vec::new();
    for setting in (section.settings)() {
        match topics.iter_mut().find(|(topic, _)| *topic == setting.topic) {
            Some((_, settings)) => settings.push(setting),
            None => topics.push((setting.topic, vec![setting])),
        }
    }
    topics.sort_by_key(|(topic, _)| ORDER.iter().position(|known| known == topic).unwrap_or(ORDER.len()));
    topics
}

/// A default, or what stands for one, in TOML.
fn default(setting: &Setting) -> String {
    match setting.value {
        Declared::Default(value) | Declared::Example(value) => in_toml(setting.form, value),
        Declared::Overrides(global) => {
            (SECTIONS[0].settings)().into_iter().find(|setting| setting.key == global).map(default).unwrap_or_default()
        }
    }
}

fn in_toml(form: Form, value: &str) -> String {
    let bare = value.parse::<f64>().is_ok() || matches!(value, "true" | "false");
    match form {
        Form::Plain if bare => value.to_owned(),
        Form::Plain | Form::Text => format!("\"{value}\""),
        Form::List => {
            let items: Vec<_> = value
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| format!("\"{item}\""))
                .collect();
            format!("[{}]", items.join(", "))
        }
    }
}

/// The reference page, in Markdown.
pub fn reference_page() -> String {
    let mut page = String::from(PAGE_HEAD);
    for section in &SECTIONS {
        let _ = write!(page, "\n## [{}]\n", section.name);
        for (topic, settings) in topics(section) {
            let _ = write!(page, "\n### {topic}\n");
            for setting in settings {
                let _ = write!(page, "\n**`{}`**: {}  \n{}\n", setting.key, text(setting), facts(setting));
            }
        }
    }
    page
}

fn text(setting: &Setting) -> String {
    setting.text.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// Default, legal values, scope and reload of a setting, in one line.
fn facts(setting: &Setting) -> String {
    let mut facts = Vec::new();
    match setting.value {
        Declared::Default(_) => facts.push(format!("Default `{}`", default(setting))),
        Declared::Overrides(global) => facts.push(format!("Default: the global `{global}`")),
        Declared::Example(_) => facts.push(format!("Example `{}`", default(setting))),
    }
    facts.push(format!("expects {}", (setting.legal)()));
    facts.extend(setting.alias.map(|alias| format!("also called `{alias}`")));
    let places = overridden_in(setting);
    if !places.is_empty() {
        facts.push(format!("may be overridden in {}", places.join(" and ")));
    }
    facts.push(
        match setting.reload {
            Reload::Live => "reload applies a change",
            Reload::Restart => "a change needs a restart",
        }
        .into(),
    );
    format!("*{}.*", facts.join("; "))
}

/// Where a global setting may be overridden, and under which name.
fn overridden_in(setting: &Setting) -> Vec<String> {
    let Declared::Default(_) = setting.value else { return Vec::new() };
    let mut places = Vec::new();
    for section in &SECTIONS {
        let overriding =
            (section.settings)().into_iter().filter(|other| other.value == Declared::Overrides(setting.key));
        places.extend(overriding.map(|other| match other.key == setting.key {
            true => format!("[{}]", section.name),
            false => format!("[{}] (`{}`)", section.name, other.key),
        }));
    }
    places
}

/// What is in force in the `pooler.toml` that we ship: section, key, value.
const LIVE: &[(&str, &str, &str)] = &[
    ("pooler", "listen_addr", "\"127.0.0.1\""),
    ("pooler", "listen_port", "6432"),
    ("pooler", "pool_mode", "\"transaction\""),
    ("pooler", "max_client_conn", "1000"),
    ("pooler", "default_pool_size", "25"),
    ("pooler", "auth_type", "\"scram-sha-256\""),
    ("pooler", "auth_file", "\"userlist.txt\""),
    ("pooler", "admin_users", "[\"admin\"]"),
    ("metrics", "listen", "\"127.0.0.1:9127\""),
    ("databases.NAME", "host", "\"127.0.0.1\""),
    ("databases.NAME", "port", "5432"),
    ("databases.NAME", "dbname", "\"app\""),
];

/// Topics in the order in which people read them.
const ORDER: &[&str] = &[
    "Listening",
    "Who may connect",
    "Pools",
    "Time limits",
    "Servers",
    "Sessions",
    "TLS to clients",
    "TLS to servers",
    "TCP, to clients and servers",
    "DNS",
    "Log",
    "Process",
];

const TOML_HEAD: &str = "\
# The configuration of pglifeguard. Every setting is here: what is commented out shows its default, or an example
# where there is none. `pglifeguard check pooler.toml` finds mistakes; SIGHUP applies changes.
#
# Durations are seconds, or \"500ms\", \"2s\", \"5min\", \"1h\", \"1d\". Sizes are bytes, or \"64kB\", \"16MB\".
# Relative paths start at the directory of this file. docs/settings.md has the same as a page to read.
";

const PAGE_HEAD: &str = "\
# Settings

Every setting of `pooler.toml`. This page is made from the source.

- Names and units are PgBouncer's, where PgBouncer has the setting and nothing else is said. So are the defaults, but
  for these: `auth_type` is scram-sha-256 (PgBouncer: md5), `default_pool_size` 25 (20), `listen_addr` 127.0.0.1
  (none), `max_client_conn` 1000 (100), `pool_mode` transaction (session), `server_login_retry` 1 (15).
- Durations are seconds, or a number with a unit: `\"500ms\"`, `\"2s\"`, `\"5min\"`, `\"1h\"`, `\"1d\"`.
- Sizes are bytes, or a number with a unit, in powers of 1024: `\"64kB\"`, `\"16MB\"`, `\"1GB\"`.
- Booleans are `true` and `false`, or `1` and `0`. Lists are arrays, or one text that separates its items by commas.
- A password is written as it is, comes from the environment (`\"${VARIABLE}\"`), or from a file (`password_file`).
- Relative paths start at the directory of the configuration file.
- `pglifeguard check pooler.toml` prints all mistakes with their lines. A reload with a mistake changes nothing.
- Where a user, a database and `[pooler]` all have a setting, the user's counts, then the database's.
";

#[cfg(test)]
mod tests;
