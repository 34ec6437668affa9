use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::admin::control::Reachability;
use crate::admin::fake::Fake;

struct Site {
    address: SocketAddr,
    fake: Arc<Fake>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<io::Result<()>>,
}

async fn site() -> Site {
    site_with(CONNECTIONS_MAX, CONNECTION_TIME).await
}

async fn site_with(connections: usize, time: Duration) -> Site {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let fake = Arc::new(Fake::default());
    let ctx = Arc::new(AdminContext::new(fake.clone(), std::time::Instant::now()));
    let recorder = PrometheusBuilder::new().build_recorder().handle();
    let (stop, stopped) = oneshot::channel::<()>();
    let permits = Arc::new(Semaphore::new(connections));
    let bounded = Bounded { listener, permits, places: VecDeque::new(), time };
    let served = tokio::spawn(serve_on(bounded, ctx, recorder, async {
        drop(stopped.await);
    }));
    Site { address, fake, stop, served }
}

/// Sends a request as written and reads to the end.
async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

async fn get_path(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
}

#[tokio::test]
async fn metrics_are_served_and_the_connection_closed() {
    let site = site().await;
    let answer = get_path(site.address, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
    assert!(answer.contains("\npgbouncer_pools_client_waiting_connections{database=\"app\",user=\"alice\"} 2\n"));
    assert!(
        answer.contains("\npgbouncer_pools_client_active_connections{database=\"pgbouncer\",user=\"pgbouncer\"} 0\n")
    );
    assert!(answer.contains("\npgbouncer_stats_totals_queries_duration_seconds_total{database=\"app\"} 2.5\n"));
    assert!(get_path(site.address, "/").await.contains("/health"));
    assert!(get_path(site.address, "/nothing").await.starts_with("HTTP/1.1 404"));
    assert!(ask(site.address, "POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.starts_with("HTTP/1.1 405"));
    site.stop.send(()).expect("still serving");
    site.served.await.expect("no panic").expect("no error");
}

#[tokio::test]
async fn health_is_bad_while_draining_or_when_no_database_can_be_reached() {
    use Reachability::{Reachable, Unknown, Unreachable};
    let site = site().await;
    for (draining, databases, status, word) in [
        (false, vec![], "200 OK", "ok"),
        (false, vec![("a", Unknown), ("b", Unreachable)], "200 OK", "ok"),
        (false, vec![("a", Reachable), ("b", Unreachable)], "200 OK", "ok"),
        (false, vec![("a", Unreachable), ("b", Unreachable)], "503 Service Unavailable", "unreachable"),
        (true, vec![("a", Reachable)], "503 Service Unavailable", "draining"),
    ] {
        let databases = databases.into_iter().map(|(name, state)| (Arc::from(name), state)).collect();
        *site.fake.health.lock() = Health { draining, databases };
        let answer = get_path(site.address, "/health").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert!(answer.contains(&format!("{{\"status\":\"{word}\",\"draining\":{draining},")), "{answer}");
    }
}

#[test]
fn names_cannot_break_the_json() {
    let databases = vec![("a\"\\\n".into(), Reachability::Reachable), ("b".into(), Reachability::Unknown)];
    assert_eq!(
        health_json(&Health { draining: false, databases }),
        "{\"status\":\"ok\",\"draining\":false,\"databases\":{\"a\\\"\\\\\\u000a\":\"reachable\",\"b\":\"unknown\"}}\n"
    );
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off() {
    let site = site_with(1, Duration::from_millis(100)).await;
    let mut slow = TcpStream::connect(site.address).await.expect("connected");
    slow.write_all(b"GET /metrics HTTP/1.1\r\nX: ").await.expect("written");
    let mut rest = Vec::new();
    drop(slow.read_to_end(&mut rest).await);
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
}

/// None of them has a deadline in this test: only the place that they lose lets the others in.
#[tokio::test]
async fn those_who_say_nothing_or_not_enough_keep_nobody_out() {
    let site = site_with(3, Duration::from_secs(3600)).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(site.address).await.expect("connected");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").await.expect("written");
        idle.push(stream);
    }
    for path in ["/health", "/metrics", "/health"] {
        assert!(get_path(site.address, path).await.starts_with("HTTP/1.1 200"), "{path}");
    }
    let mut rest = Vec::new();
    drop(idle[0].read_to_end(&mut rest).await);
    assert_eq!(rest, b"", "the first has lost its place");
    // The last is still there, and is answered when it has said it all.
    let mut last = idle.pop().expect("twenty");
    last.write_all(b"y\r\nHost: x\r\n\r\n").await.expect("written");
    let mut answer = String::new();
    last.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
