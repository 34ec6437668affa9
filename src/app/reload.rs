//! Reads the configuration anew. Everything is checked and built first; only then is anything changed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use super::dial::Dialer;
use super::{logging, surroundings};
use crate::config::{Complaint, Config, Loaded, Reloaded, reload as read};
use crate::net::dns::DnsTtl;
use crate::net::listen::Listener;
use crate::net::tls::Reloaded as Tls;
use crate::session::context::{Context, prepare_verifiers};
use crate::session::registry::Order;
use crate::telemetry::events::process as events;
use crate::telemetry::log::LogHandle;

/// What a configuration is applied to.
#[derive(Debug)]
pub struct Running {
    /// What sessions share.
    pub context: Arc<Context>,
    /// Makes server connections.
    pub dialer: Arc<Dialer>,
    /// Where clients come in by TCP.
    pub listening: Arc<[Weak<Listener>]>,
    /// The log.
    pub log: Option<LogHandle>,
}

/// Reads and applies the configuration. What the log warns of in it is given back as well.
///
/// # Errors
/// All mistakes in it; nothing has changed.
pub async fn reload(on: Running, path: PathBuf) -> Result<Vec<String>, Vec<String>> {
    let running = on.context.config.load_full();
    let reading = tokio::task::spawn_blocking(move || read_and_look(&path, &running)).await;
    let reloaded = reading.map_err(|error| vec![error.to_string()])?;
    let reloaded = reloaded.map_err(|complaints| complaints.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    apply(&on, reloaded)
}

/// What is to be applied, or all that is wrong with it: in the file, in those that it names, and on the machine.
fn read_and_look(path: &Path, running: &Config) -> Result<Reloaded, Vec<Complaint>> {
    let mut reloaded = read(path, running)?;
    let mut wrong = surroundings::examine_again(path, &reloaded.loaded);
    wrong.append(&mut reloaded.loaded.mistakes);
    if wrong.is_empty() { Ok(reloaded) } else { Err(wrong) }
}

fn apply(on: &Running, new: Reloaded) -> Result<Vec<String>, Vec<String>> {
    let Running { context, dialer, listening, log } = on;
    let Reloaded { loaded: Loaded { config, warnings, .. }, changes } = new;
    let tcp = config.pooler.tcp.options();
    let clients = context.tls.prepare(&config.client_tls.options());
    let servers = dialer.tls.prepare(&config.server_tls.options());
    let (clients, servers) = match (clients, servers) {
        (Ok(clients), Ok(servers)) => (clients, servers),
        (clients, servers) => {
            let errors = [clients.err(), servers.err()];
            return Err(errors.into_iter().flatten().map(|error| format!("TLS setup failed: {error}")).collect());
        }
    };
    if let Some(log) = log {
        logging::apply(log, &config).map_err(|error| vec![error])?;
    }
    let config = Arc::new(config);
    context.config.store(Arc::clone(&config));
    context.tls.install(clients);
    prepare_verifiers(context, &config);
    dialer.set_options(tcp);
    for listener in listening.iter().filter_map(Weak::upgrade) {
        // They have been tried on a socket of the same kind.
        drop(listener.set_options(&tcp));
    }
    let ttl = DnsTtl { found: config.pooler.dns_max_ttl, failed: config.pooler.dns_nxdomain_ttl };
    dialer.connector.load().dns.set_ttl(ttl);
    let servers_by_tls = dialer.tls.install(servers);
    context.pools.apply(&config);
    context.catalogs.apply(&config);
    if servers_by_tls == Tls::Changed {
        // Every database exists, so none can be unknown.
        drop(context.pools.reconnect(None));
    }
    context.registry.part_from_obsolete(None);
    // Also those of a database that only `*` knew.
    context.registry.order_where(|name| config.database(name).is_none(), Order::DATABASE_GONE);
    let kept =
        changes.needs_restart.iter().map(|setting| format!("{setting}: a change takes effect only after a restart"));
    let warnings: Vec<String> = kept.chain(warnings.iter().map(ToString::to_string)).collect();
    warnings.iter().for_each(|warning| events::configuration_warning(warning));
    Ok(warnings)
}
