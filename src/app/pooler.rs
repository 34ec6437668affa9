//! A running pooler: what it is made of, how it starts, how it ends.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::accept::take_clients;
use super::control::Hands;
use super::dial::{Dialer, PoolDialer, canceller};
use super::signals::Signals;
use super::startup::{self, StartError, no_metrics};
use crate::admin::act::{AdminContext, keep_averages};
use crate::admin::http;
use crate::config::Loaded;
use crate::config::model::Config;
use crate::net::Connector;
use crate::net::dns::{Dns, DnsTtl};
use crate::net::listen::{Listener, UnixOptions};
use crate::net::tls::TlsSlot;
use crate::pool::Pools;
use crate::session::catalogs::Catalogs;
use crate::session::context::{Clients, Context, Interner, Verifiers, prepare_verifiers};
use crate::session::notify::Hubs;
use crate::session::registry::{Order, Registry};
use crate::session::relay::recurring::AllRecurring;
use crate::session::relay::table::Table;
use crate::telemetry::events::process as events;
use crate::telemetry::labels::StopMode;
use crate::telemetry::log::LogHandle;

/// How often sessions are looked at for timeouts that have passed.
const DEADLINES_EVERY: Duration = Duration::from_millis(250);
/// How often pools of databases that only `*` knows are looked at for being unused.
const RETIRE_EVERY: Duration = Duration::from_secs(1);
/// How long clients get to read that the pooler ends.
const GOODBYES: Duration = Duration::from_millis(500);

/// A running pooler.
pub struct Pooler {
    /// What sessions share.
    pub context: Arc<Context>,
    /// What consoles share.
    pub admin: Arc<AdminContext>,
}

/// What is already there when the pooler starts.
#[derive(Debug)]
pub struct Around {
    /// The configuration's file, for reloads.
    pub path: PathBuf,
    /// The log, for reloads.
    pub log: Option<LogHandle>,
    /// What events count, for /metrics.
    pub recorder: Option<PrometheusHandle>,
}

/// Runs a pooler until it is told to end.
///
/// # Errors
/// It could not start; nothing was served.
pub async fn run(loaded: Loaded, around: Around) -> Result<(), StartError> {
    let remarks = loaded.mistakes.iter().chain(&loaded.warnings);
    remarks.for_each(|remark| events::configuration_warning(remark));
    let config = Arc::new(loaded.config);
    startup::note_descriptors(&config);
    let signals = Signals::hear().map_err(StartError::io("cannot hear signals"))?;
    let (tcp, unix) = listeners(&config).await?;
    let metrics = match config.metrics_listen {
        Some(address) => Some(TcpListener::bind(address).await.map_err(no_metrics(address))?),
        None => None,
    };
    let (stop, stopping) = watch::channel(None);
    let listening = tcp.iter().map(Arc::downgrade).collect();
    let (hands, context) = build(&config, around.path, around.log, Ends { stop, listening })?;
    prepare_verifiers(&context, &config);
    let admin = Arc::new(AdminContext::new(Arc::clone(&hands) as Arc<_>, Instant::now()));
    let pooler = Arc::new(Pooler { context, admin });

    let mut tasks = JoinSet::new();
    let (open, taking) = watch::channel(true);
    let (always, forever) = watch::channel(true);
    for (listener, open) in tcp.into_iter().map(|l| (l, &taking)).chain(unix.into_iter().map(|l| (l, &forever))) {
        events::listening(&*listener);
        tasks.spawn(take_clients(Arc::clone(&pooler), listener, open.clone()));
    }
    tasks.spawn(keep_averages(Arc::clone(&pooler.admin)));
    tasks.spawn(check_deadlines(Arc::clone(&pooler.context.registry)));
    tasks.spawn(retire_unused(Arc::clone(&pooler.context.pools)));
    tasks.spawn(signals.obey(Arc::clone(&hands)));
    if let (Some(listener), Some(recorder)) = (metrics, around.recorder) {
        let admin = Arc::clone(&pooler.admin);
        tasks.spawn(async move {
            if let Err(error) = http::serve(listener, admin, recorder, std::future::pending()).await {
                events::metrics_ended(&error);
            }
        });
    }
    events::started(env!("CARGO_PKG_VERSION"), SystemTime::now());
    until_stopped(&pooler, stopping, &open).await;
    drop(always);
    pooler.context.registry.order_all(None, Order::SHUTDOWN);
    let _ = tokio::time::timeout(GOODBYES, pooler.context.registry.emptied()).await;
    tasks.shutdown().await;
    drop(pooler.context.pools.shutdown());
    Ok(())
}

async fn listeners(config: &Config) -> Result<(Vec<Arc<Listener>>, Option<Arc<Listener>>), StartError> {
    let pooler = &config.pooler;
    // TCP last: whoever is answered there finds the rest as well.
    let unix = match &pooler.unix_socket_dir {
        None => None,
        Some(dir) => Some(Arc::new(Listener::unix(&UnixOptions {
            dir,
            port: pooler.listen_port,
            mode: pooler.unix_socket_mode,
            group: pooler.unix_socket_group.as_deref(),
            backlog: pooler.listen_backlog,
        })?)),
    };
    let mut tcp = Vec::new();
    for host in &pooler.listen_addr {
        let options = pooler.tcp.options();
        let listeners = Listener::tcp(host, pooler.listen_port, pooler.listen_backlog, &options).await?;
        tcp.extend(listeners.into_iter().map(Arc::new));
    }
    Ok((tcp, unix))
}

/// What the hands reach of the tasks that take clients.
struct Ends {
    stop: watch::Sender<Option<StopMode>>,
    listening: Vec<Weak<Listener>>,
}

fn build(
    config: &Arc<Config>,
    path: PathBuf,
    log: Option<LogHandle>,
    ends: Ends,
) -> Result<(Arc<Hands>, Arc<Context>), StartError> {
    let ttl = DnsTtl { found: config.pooler.dns_max_ttl, failed: config.pooler.dns_nxdomain_ttl };
    let connector = Connector { dns: Dns::new(ttl), tcp: config.pooler.tcp.options() };
    let dialer = Arc::new(Dialer::new(connector, TlsSlot::for_servers(&config.server_tls.options())?));
    let ids = Arc::new(AtomicU64::new(1));
    let mut process_secret = [0; 32];
    aws_lc_rs::rand::fill(&mut process_secret).map_err(|_| StartError::Random)?;
    let catalogs = Arc::new(Catalogs::new(config));
    let opener = PoolDialer { dialer: Arc::clone(&dialer), catalogs: Arc::clone(&catalogs) };
    let pools = Arc::new(Pools::new(Arc::clone(config), Arc::new(opener), Arc::clone(&ids)));
    let shown = Arc::new(ArcSwap::from(Arc::clone(config)));
    let limits = Arc::clone(&shown);
    let context = Arc::new(Context {
        config: shown,
        hubs: Arc::new(Hubs::new(Arc::clone(&pools))),
        pools,
        registry: Arc::new(Registry::new(Instant::now())),
        census: Arc::default(),
        catalogs,
        statements: Arc::new(Table::default()),
        recurring: AllRecurring::default(),
        tls: TlsSlot::for_clients(&config.client_tls.options())?,
        canceller: Arc::new(canceller(Arc::clone(&dialer), move || limits.load().pooler.cancel_wait_timeout)),
        ids,
        clients: Clients::default(),
        settings: Interner::default(),
        verifiers: Arc::new(Verifiers::default()),
        process_secret,
        draining: AtomicBool::new(false),
    });
    let Ends { stop, listening } = ends;
    let (listening, reloading) = (listening.into(), Arc::default());
    let hands = Hands { context: Arc::clone(&context), dialer, listening, path, log, reloading, stop };
    Ok((Arc::new(hands), context))
}

async fn check_deadlines(registry: Arc<Registry>) {
    loop {
        tokio::time::sleep(DEADLINES_EVERY).await;
        registry.check_deadlines(Instant::now());
    }
}

async fn retire_unused(pools: Arc<Pools>) {
    loop {
        tokio::time::sleep(RETIRE_EVERY).await;
        pools.retire_unused(Instant::now());
    }
}

/// Ends when the pooler may end: at once, when no server is used any more, or when the clients have left.
/// A later, stricter order takes the place of the one that is being waited for.
async fn until_stopped(pooler: &Pooler, mut stopping: watch::Receiver<Option<StopMode>>, open: &watch::Sender<bool>) {
    let mut mode = loop {
        // The sender lives as long as the pooler.
        let Ok(()) = stopping.changed().await else { return };
        if let Some(mode) = *stopping.borrow_and_update() {
            break mode;
        }
    };
    loop {
        events::stopping(mode);
        if mode == StopMode::AtOnce {
            return;
        }
        pooler.context.draining.store(true, Ordering::Relaxed);
        open.send_replace(false);
        tokio::select! {
            () = settled(pooler, mode) => return,
            changed = stopping.changed() => {
                if changed.is_err() {
                    return;
                }
                mode = stopping.borrow_and_update().unwrap_or(mode);
            }
        }
    }
}

/// Ends when what `mode` waits for is over, or `shutdown_timeout` is.
async fn settled(pooler: &Pooler, mode: StopMode) {
    let context = &pooler.context;
    let waited = async {
        match mode {
            StopMode::WaitForServers => context.pools.shutdown().await,
            StopMode::WaitForClients | StopMode::AtOnce => context.clients.left().await,
        }
    };
    match context.config.load().pooler.shutdown_timeout {
        Some(limit) => drop(tokio::time::timeout(limit, waited).await),
        None => waited.await,
    }
}
