//! `pglifeguard demo`: a throw-away primary with standbys, a pooler in front of it, and DSNs to copy.
//! Ends with Ctrl-C and leaves nothing behind.

use std::future::Future;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{self, JoinHandle};
use tokio::time::sleep;

use crate::app::demo::{Cluster, ClusterError, ClusterOptions, Node, PoolerFiles, PortClaim, Watch};

/// What the demo can be asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Port of the pooler; where it is taken, the next free one. 0: any that is free
    #[arg(long, default_value_t = 6432)]
    pub port: u16,
    /// How many standbys follow the primary
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=8))]
    pub standbys: u8,
}

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub enum DemoError<E> {
    /// The cluster could not be made.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Signals can't be caught, so nothing would be cleaned up.
    #[error("could not install signal handlers: {0}")]
    Signals(io::Error),
    /// The pooler ended by itself.
    #[error("the pooler ended: {0}")]
    Pooler(E),
    /// The pooler ended by itself and without a reason, or never accepted.
    #[error("the pooler {0}")]
    NoPooler(&'static str),
}

/// Runs the demo until SIGINT, SIGTERM or SIGHUP, or until the pooler ends.
///
/// `start_pooler` gets the path of a `pooler.toml` and runs the pooler on it; its future is dropped to end it.
/// Ending by signal is success.
pub async fn run<F, P, E>(args: &DemoArgs, start_pooler: F) -> Result<(), DemoError<E>>
where
    F: FnOnce(PathBuf) -> P,
    P: Future<Output = Result<(), E>>,
{
    // Before anything exists that would have to be removed.
    let mut stop = StopSignals::install().map_err(DemoError::Signals)?;
    let clock = Clock(Instant::now());
    let Some(cluster) = start_cluster(args, clock, &mut stop).await? else {
        clock.say("stopped; nothing is left behind");
        return Ok(());
    };
    let outcome = serve(args, clock, &cluster, start_pooler, &mut stop).await;
    clock.say("stopping");
    // Blocks until the servers are gone. A second signal changes nothing.
    drop(cluster);
    clock.say("stopped; nothing is left behind");
    outcome
}

/// `None` when a signal came first; what had been made is removed by then.
async fn start_cluster<E>(
    args: &DemoArgs,
    clock: Clock,
    stop: &mut StopSignals,
) -> Result<Option<Cluster>, DemoError<E>> {
    let standbys = match args.standbys {
        1 => "1 standby".to_owned(),
        n => format!("{n} standbys"),
    };
    clock.say(&format!("starting a throw-away primary and {standbys}"));
    let interrupted = Arc::new(AtomicBool::new(false));
    let mut starting = spawn_cluster(args, clock, Arc::clone(&interrupted));
    let started = tokio::select! {
        started = &mut starting => started,
        () = stop.wait() => {
            interrupted.store(true, Ordering::Relaxed);
            clock.say("stopping");
            starting.await
        }
    };
    match started.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())) {
        // The signal may come when the last step is already done.
        Ok(cluster) if interrupted.load(Ordering::Relaxed) => {
            drop(cluster);
            Ok(None)
        }
        Ok(cluster) => Ok(Some(cluster)),
        Err(ClusterError::Interrupted) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn spawn_cluster(
    args: &DemoArgs,
    clock: Clock,
    interrupted: Arc<AtomicBool>,
) -> JoinHandle<Result<Cluster, ClusterError>> {
    let options = ClusterOptions { standbys: args.standbys.into(), ..ClusterOptions::default() };
    task::spawn_blocking(move || {
        let progress = |step: &str| clock.say(step);
        Cluster::start(&options, &Watch { progress: &progress, interrupted: Some(&interrupted) })
    })
}

/// Runs the pooler until it or the user ends it.
async fn serve<F, P, E>(
    args: &DemoArgs,
    clock: Clock,
    cluster: &Cluster,
    start_pooler: F,
    stop: &mut StopSignals,
) -> Result<(), DemoError<E>>
where
    F: FnOnce(PathBuf) -> P,
    P: Future<Output = Result<(), E>>,
{
    let claim = match args.port {
        0 => PortClaim::anywhere()?,
        wanted => PortClaim::at_or_after(wanted)?,
    };
    let metrics_claim = PortClaim::at_or_after(METRICS_PORT)?;
    let (port, metrics_port) = (claim.number(), metrics_claim.number());
    if ![0, port].contains(&args.port) {
        clock.say(&format!("port {} is taken; the pooler gets {port}", args.port));
    }
    let users = [("app", "app"), (ADMIN, ADMIN)];
    let files = PoolerFiles { cluster, listen_port: port, metrics_port, users: &users, admin_user: ADMIN };
    let mut pooler = pin!(start_pooler(files.write()?));

    tokio::select! {
        ended = &mut pooler => return Err(ended.map_or_else(DemoError::Pooler, |()| DemoError::NoPooler(ENDED))),
        () = stop.wait() => return Ok(()),
        accepts = accepts(port) => if !accepts { return Err(DemoError::NoPooler("does not accept connections")) },
    }
    clock.say(&format!("pooler accepts on port {port}"));
    print(&guide(cluster, port, metrics_port));
    tokio::select! {
        // By SHUTDOWN on its console, or by a signal that it heard before us.
        ended = &mut pooler => ended.map_err(DemoError::Pooler),
        () = stop.wait() => Ok(()),
    }
}

/// Waits until somebody accepts on `port`; not for ever.
async fn accepts(port: u16) -> bool {
    let deadline = Instant::now() + ACCEPT_TIMEOUT;
    while Instant::now() < deadline {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
            return true;
        }
        sleep(Duration::from_millis(20)).await;
    }
    false
}

fn guide(cluster: &Cluster, port: u16, metrics_port: u16) -> String {
    let direct = |node: &Node| {
        let role = if node.name() == cluster.primary().name() { "primary" } else { "standby" };
        format!("  {} ({role})   postgresql://app:app@127.0.0.1:{}/app\n", node.name(), node.port())
    };
    let nodes: String = std::iter::once(cluster.primary()).chain(cluster.standbys()).map(direct).collect();
    format!(
        "\n\
         Through the pooler\n\
         \x20 application     psql postgresql://app:app@127.0.0.1:{port}/app\n\
         \x20 console         psql postgresql://{ADMIN}:{ADMIN}@127.0.0.1:{port}/pgbouncer   (try SHOW HELP)\n\
         \x20 metrics         http://127.0.0.1:{metrics_port}/metrics\n\
         \n\
         Past the pooler\n\
         {nodes}\
         \x20 superuser       postgresql://postgres:{superuser}@127.0.0.1:{primary}/app\n\
         \n\
         Ctrl-C stops everything and removes {dir}.\n\n",
        superuser = cluster.superuser_password(),
        primary = cluster.primary().port(),
        dir = cluster.dir().display(),
    )
}

/// When the demo began; every line says how long ago that was.
#[derive(Debug, Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn say(self, text: &str) {
        print(&format!("[{:5.1} s] {text}\n", self.0.elapsed().as_secs_f32()));
    }
}

/// Writes to standard output; a closed one must not keep us from cleaning up.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The signals that end the demo.
struct StopSignals([Signal; 3]);

impl StopSignals {
    fn install() -> io::Result<Self> {
        Ok(Self([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]))
    }

    /// Returns when one has come.
    async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => (),
            _ = terminate.recv() => (),
            _ = hangup.recv() => (),
        }
    }
}

const ADMIN: &str = "admin";
const METRICS_PORT: u16 = 9127;
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(30);
const ENDED: &str = "ended before it accepted connections";
