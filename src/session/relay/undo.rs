//! What a server was left with by its client, and what undoes that. Prepared statements of the protocol stay.

use hashbrown::HashSet;

use super::inquiry::Perhaps;
use super::namespace::{Shown, to_drop};
use super::own::Own;
use super::settings::quoted;
use crate::sql::deeds::{Doubt, What};

/// What makes a server fit for the next client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undo {
    /// It is.
    Nothing,
    /// This query does.
    Query {
        /// Its text.
        text: String,
        /// It resets all settings.
        resets: bool,
    },
    /// Nothing does: it is to be closed.
    Close,
}

impl Undo {
    /// What undoes what a client has there, what nobody knows of, and what the server was not heard of (`perhaps`). It may
    /// listen (`listens`).
    /// Statements of the protocol may be there under the client's names, too (`shown`).
    pub fn of(own: Option<&Own>, doubts: &[Doubt], perhaps: &Perhaps, listens: bool, shown: &[Shown]) -> Self {
        let mut commands: Vec<String> = Vec::new();
        let mut add = |command: &str| {
            if !commands.iter().any(|known| known == command) {
                commands.push(command.to_owned());
            }
        };
        let of_settings = |doubt: &Doubt| *doubt == Doubt::Setting;
        let anything = if doubts.iter().all(of_settings) { &ANYTHING[..SETTINGS] } else { &ANYTHING };
        let resets = !doubts.is_empty() || perhaps.sets();
        if resets {
            anything.iter().for_each(|command| add(command));
        }
        if listens {
            add("UNLISTEN *");
        }
        for what in own.iter().flat_map(|own| own.ties()).chain(perhaps.there()) {
            match what {
                What::Temporary => add("DISCARD TEMP"),
                What::Cursor => add("CLOSE ALL"),
                What::Channel => add("UNLISTEN *"),
                What::Lock => add("SELECT pg_catalog.pg_advisory_unlock_all()"),
                // Others' numbers are discarded before anybody asks.
                // And of what nobody knows it is known that it is there.
                What::Statement | What::Number | What::Unknown => {}
                What::Library | What::Seed | What::Connection | What::Replication => return Self::Close,
            }
        }
        // That code drops those of SQL.
        let by_code = anything.len() > SETTINGS && !doubts.is_empty();
        let kept = own.iter().flat_map(|own| own.names_of(What::Statement)).filter(|_| !by_code);
        let dropped = kept.chain(to_drop(shown));
        let mut told: HashSet<&[u8], foldhash::fast::RandomState> = HashSet::default();
        let once = dropped.filter(|name| told.insert(*name));
        commands.extend(once.map(|name| format!("DEALLOCATE {}", quoted(&String::from_utf8_lossy(name)))));
        if commands.is_empty() {
            return Self::Nothing;
        }
        Self::Query { text: commands.join("; "), resets }
    }
}

/// The first so many of these undo settings.
const SETTINGS: usize = 2;

/// All that code which nobody knows may have left, but for what only closing undoes. Nobody's `search_path` counts here.
const ANYTHING: [&str; 8] = [
    "RESET SESSION AUTHORIZATION",
    "RESET ALL",
    "CLOSE ALL",
    "UNLISTEN *",
    "SELECT pg_catalog.pg_advisory_unlock_all()",
    "DISCARD TEMP",
    "DISCARD SEQUENCES",
    "DO LANGUAGE plpgsql $$DECLARE name text; BEGIN \
     FOR name IN SELECT s.name FROM pg_catalog.pg_prepared_statements s WHERE s.from_sql \
     LOOP EXECUTE pg_catalog.format('DEALLOCATE %I', name); END LOOP; \
     PERFORM pg_catalog.setseed(pg_catalog.sin(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()))); \
     PERFORM pg_catalog.pg_drop_replication_slot(s.slot_name) FROM pg_catalog.pg_replication_slots s \
     WHERE s.temporary AND s.active_pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid(); \
     FOR name IN SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n \
     ON n.oid OPERATOR(pg_catalog.=) e.extnamespace WHERE e.extname OPERATOR(pg_catalog.=) 'dblink' LOOP BEGIN \
     EXECUTE pg_catalog.format('SELECT %I.dblink_disconnect(c) FROM pg_catalog.unnest(%1$I.dblink_get_connections()) c', name); \
     EXECUTE pg_catalog.format('SELECT %I.dblink_disconnect()', name); \
     EXCEPTION WHEN connection_does_not_exist OR insufficient_privilege THEN NULL; END; END LOOP; END$$",
];
