//! A server taken from its pool and given back, uncontended and by two threads at once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Instant, SystemTime};

use criterion::Criterion;
use parking_lot::Mutex;
use pglifeguard::config::Config;
use pglifeguard::config::resolve::{Outside, resolve};
use pglifeguard::config::toml::parse_str;
use pglifeguard::net::Stream;
use pglifeguard::pool::stats::Tally;
use pglifeguard::pool::{Dial, DialRequest, Dialing, Pool, Pools};
use pglifeguard::server::login::Credential;
use pglifeguard::server::server::BackendKey;
use pglifeguard::server::statements::Statements;
use pglifeguard::server::{Server, ServerShared};
use pglifeguard::types::ClientId;
use pglifeguard::wire::params::ParamSet;
use tokio::net::UnixStream;

pub(crate) fn bench(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let config = Arc::new(config());
    let _entered = runtime.enter();
    let pools = Pools::new(config.clone(), Arc::new(Pairs::default()), Arc::new(AtomicU64::new(1)));
    let pool = pools.get_or_create(&"app".into(), &"alice".into(), None, Credential::None).expect("it is configured");
    runtime.block_on(async {
        // As many as are in use at once below.
        let now = Instant::now();
        let leases = [pool.acquire(ClientId(1), now).await, pool.acquire(ClientId(2), now).await];
        for lease in leases {
            lease.expect("a server").release(Instant::now(), &mut Tally::default());
        }
    });
    let mut group = criterion.benchmark_group("pool");
    let now = Instant::now();
    group.bench_function("acquire and release", |bencher| bencher.iter(|| turn(&pool, ClientId(1), now)));
    group.bench_function("acquire and release, with the clock", |bencher| {
        bencher.iter(|| turn(&pool, ClientId(1), Instant::now()));
    });
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                turn(&pool, ClientId(2), now);
            }
        });
        group.bench_function("acquire and release, contended", |bencher| {
            bencher.iter(|| turn(&pool, ClientId(1), now));
        });
        stop.store(true, Ordering::Relaxed);
    });
    group.finish();
}

/// What a transaction costs the pool.
fn turn(pool: &Arc<Pool>, client: ClientId, now: Instant) {
    let lease = pool.try_acquire(client, now).expect("one rests");
    let mut tally = Tally { queries: 1, xacts: 1, bytes_received: 50, bytes_sent: 100, ..Tally::default() };
    lease.release(now, &mut tally);
}

fn config() -> Config {
    let parsed = parse_str("pooler.toml", "[pooler]\nauth_type = \"trust\"\n[databases.app]\nhost = \"db\"\n");
    let outside = Outside { variable: &|_| None, read: &|_: &Path| Err("there are no files".into()) };
    resolve(parsed, None, &outside).expect("a valid configuration").config
}

/// Opens servers at one end of a socket pair.
#[derive(Default)]
struct Pairs(Mutex<Vec<UnixStream>>);

impl Dial for Pairs {
    fn dial(&self, request: DialRequest) -> Dialing {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        self.0.lock().push(theirs);
        let server = Server {
            matched: None,
            assigned: None,
            numbers: pglifeguard::server::NumbersOf::Nobody,
            stream: Stream::Unix(ours),
            params: ParamSet::default(),
            statements: Statements::new(request.settings.max_prepared_statements),
            key: BackendKey { pid: 1, secret: Arc::from([0; 4]) },
            endpoint: request.endpoint,
            catalog: None,
            surprises: 0,
            generation: request.generation,
            connected_at: Instant::now(),
            shared: Arc::new(ServerShared {
                id: request.id,
                connected_at: SystemTime::now(),
                remote_pid: 1,
                addr: ("unix".into(), 5432),
                local_addr: ("unix".into(), 5432),
                tls: "".into(),
                requested_at_us: AtomicU64::new(0),
                link: AtomicU64::new(0),
                prepared: AtomicU32::new(0),
            }),
        };
        Box::pin(std::future::ready(Ok(Box::new(server))))
    }
}
