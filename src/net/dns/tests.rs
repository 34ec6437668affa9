use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::*;

/// A resolver that answers as many questions as it is allowed to, and counts them.
struct Resolver {
    asked: AtomicUsize,
    allowed: Semaphore,
    up: Mutex<bool>,
}

fn resolver(allowed: usize) -> (Arc<Resolver>, Dns) {
    let resolver =
        Arc::new(Resolver { asked: AtomicUsize::new(0), allowed: Semaphore::new(allowed), up: Mutex::new(true) });
    let shared = resolver.clone();
    let lookup: Lookup = Box::new(move |name| {
        let resolver = shared.clone();
        Box::pin(async move {
            let number = resolver.asked.fetch_add(1, Ordering::SeqCst);
            resolver.allowed.acquire().await.map_err(io::Error::other)?.forget();
            match (&*name, *resolver.up.lock()) {
                ("empty", _) => Ok(Vec::new()),
                (_, true) => Ok(vec![IpAddr::from([10, 0, 0, u8::try_from(number).unwrap_or(255)])]),
                (_, false) => Err(io::Error::other("failed to lookup address information: Name or service not known")),
            }
        })
    });
    (resolver, Dns::with_lookup(TTL, lookup))
}

impl Resolver {
    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

const TTL: DnsTtl = DnsTtl { found: Duration::from_secs(15), failed: Duration::from_secs(5) };

#[tokio::test]
async fn literal_addresses_are_not_asked_for() {
    let (resolver, dns) = resolver(0);
    for literal in ["127.0.0.1", "::1", "[::1]"] {
        let expected: IpAddr = literal.trim_matches(['[', ']']).parse().expect("address");
        assert_eq!(dns.resolve(literal).await.as_deref(), Ok(&[expected][..]));
    }
    assert_eq!(resolver.asked(), 0);
    assert_eq!(dns.counts(), DnsCounts { names: 0, pending: 0 });
}

#[tokio::test]
async fn answers_are_believed_for_their_time() {
    let (resolver, dns) = resolver(100);
    let start = Instant::now();
    let at = |millis| dns.resolve_at("db", start + Duration::from_millis(millis));
    let first = at(0).await.expect("found");
    assert_eq!(at(14_999).await.expect("found"), first);
    assert_eq!(resolver.asked(), 1);
    *resolver.up.lock() = false;
    let error = at(15_000).await.expect_err("the resolver is down");
    assert_eq!(error.to_string(), "\"db\" has no address: Name or service not known");
    *resolver.up.lock() = true;
    at(19_999).await.expect_err("remembered");
    assert_eq!(resolver.asked(), 2);
    assert_ne!(at(20_000).await.expect("found"), first);
    dns.resolve("empty").await.expect_err("a name without addresses");
    assert_eq!(resolver.asked(), 4);
}

#[tokio::test]
async fn a_name_is_asked_for_once_at_a_time() {
    let (resolver, dns) = resolver(0);
    let mut asking: Vec<_> = (0..10)
        .map(|_| {
            tokio::spawn({
                let dns = dns.clone();
                async move { dns.resolve("db").await }
            })
        })
        .collect();
    let other = tokio::spawn({
        let dns = dns.clone();
        async move { dns.resolve("other").await }
    });
    while resolver.asked() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(dns.counts(), DnsCounts { names: 2, pending: 2 });
    // The one who asks gives up; another asks instead.
    asking.remove(0).abort();
    while resolver.asked() < 3 {
        tokio::task::yield_now().await;
    }
    resolver.allowed.add_permits(2);
    let mut answers = Vec::new();
    for task in asking {
        answers.push(task.await.expect("task").expect("found"));
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    assert_ne!(other.await.expect("task").expect("found"), answers[0]);
    assert_eq!(resolver.asked(), 3);
    assert_eq!(dns.counts(), DnsCounts { names: 2, pending: 0 });
}

#[tokio::test]
async fn a_new_ttl_holds_for_new_answers_and_drops_the_old() {
    let (resolver, dns) = resolver(100);
    let (start, later) = (Instant::now(), Instant::now() + TTL.found);
    dns.resolve_at("old", start).await.expect("found");
    dns.resolve_at("young", later).await.expect("found");
    dns.set_ttl_at(DnsTtl { found: Duration::ZERO, failed: Duration::ZERO }, later);
    assert_eq!(dns.counts().names, 1);
    dns.resolve_at("young", later).await.expect("remembered");
    assert_eq!(resolver.asked(), 2);
    for _ in 0..2 {
        dns.resolve_at("young", later + TTL.found).await.expect("found");
    }
    assert_eq!(resolver.asked(), 4, "0 turns the cache off");
}

#[tokio::test]
async fn the_systems_resolver_knows_localhost() {
    let found = Dns::new(TTL).resolve("localhost").await.expect("found");
    assert!(found.iter().all(IpAddr::is_loopback));
}
