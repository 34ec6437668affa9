//! The listener of `[metrics] listen`: `/metrics` for Prometheus, `/health` for load balancers.
//!
//! It is open to whoever reaches the port, so it costs bounded memory and time: so many connections at once, one
//! request each, and a few seconds for all of it. Who comes when all places are taken gets that of whoever has been
//! there for longest without a whole request: those who say nothing keep nobody out. No request has an effect, but that
//! logins to a server that can't be reached are tried on, no sooner than clients could have them tried.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Sleep, sleep};

use super::act::AdminContext;
use super::control::Health;
use super::metrics::{Snapshot, render};
use crate::telemetry::events;

/// Connections at once.
const CONNECTIONS_MAX: usize = 64;
/// From accept to the last byte of the answer.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// Pause after a failed accept: out of descriptors is seldom over in less.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How often what the recorder keeps of samples is summed up; otherwise it grows until somebody scrapes.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);

/// Begins to collect the metrics that events count. To be called once, before the first event.
///
/// # Errors
/// When something else collects already.
pub fn install_recorder() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new().install_recorder()?;
    crate::telemetry::describe_all();
    Ok(handle)
}

/// Serves until `stop` ends, then lets requests under way finish. `recorder` has the metrics that events count.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    ctx: Arc<AdminContext>,
    recorder: PrometheusHandle,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let places = VecDeque::new();
    serve_on(Bounded { listener, permits, places, time: CONNECTION_TIME }, ctx, recorder, stop).await
}

async fn serve_on(
    listener: Bounded,
    ctx: Arc<AdminContext>,
    recorder: PrometheusHandle,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let upkeep = upkeep(recorder.clone());
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .route("/", get(index))
        .layer(map_response(close_after))
        .with_state(Shared { ctx, recorder });
    let server = axum::serve(listener, router).with_graceful_shutdown(stop);
    tokio::select! {
        served = server => served,
        never = upkeep => match never {},
    }
}

async fn upkeep(recorder: PrometheusHandle) -> Infallible {
    loop {
        sleep(UPKEEP_EVERY).await;
        recorder.run_upkeep();
    }
}

#[derive(Clone)]
struct Shared {
    ctx: Arc<AdminContext>,
    recorder: PrometheusHandle,
}

async fn metrics(State(shared): State<Shared>) -> impl IntoResponse {
    let mut text = shared.recorder.render();
    text.push_str(&render(&Snapshot::take(&shared.ctx)));
    answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
}

async fn health(State(shared): State<Shared>) -> impl IntoResponse {
    let health = shared.ctx.control().health();
    let status = if health.is_good() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer(status, "application/json", health_json(&health))
}

async fn index() -> impl IntoResponse {
    answer(StatusCode::OK, "text/plain; charset=utf-8", "pglifeguard\n\n/metrics\n/health\n".to_owned())
}

/// One request per connection, so the time of a connection is the time of a request.
async fn close_after(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> impl IntoResponse {
    (status, [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")], body)
}

/// `{"status":"ok","draining":false,"databases":{"app":"reachable"}}`
fn health_json(health: &Health) -> String {
    let status = match (health.is_good(), health.draining) {
        (true, _) => "ok",
        (false, true) => "draining",
        (false, false) => "unreachable",
    };
    let mut json = format!("{{\"status\":\"{status}\",\"draining\":{},\"databases\":{{", health.draining);
    for (at, (name, reachability)) in health.databases.iter().enumerate() {
        if at > 0 {
            json.push(',');
        }
        push_json_string(name, &mut json);
        json.push(':');
        push_json_string(reachability.as_str(), &mut json);
    }
    json.push_str("}}\n");
    json
}

fn push_json_string(text: &str, json: &mut String) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                json.push('\\');
                json.push(c);
            }
            c if c.is_control() => {
                // Writing to a `String` cannot fail; control characters have no more than four hex digits.
                let _ = write!(json, "\\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
    json.push('"');
}

/// Serves no more connections at once than there are permits, and gives each so much time.
struct Bounded {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    /// Who is there, by the time of their coming.
    places: VecDeque<Place>,
    time: Duration,
}

/// A connection's place, as the listener sees it.
struct Place {
    answered: Arc<AtomicBool>,
    leave: oneshot::Sender<()>,
}

impl Bounded {
    /// A permit for who has just come, at another's expense if there is no other.
    async fn place(&mut self) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.places.retain(|place| !place.leave.is_closed());
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let mute = self.places.iter().position(|place| !place.answered.load(Ordering::Relaxed));
        if let Some(place) = self.places.remove(mute.unwrap_or(0)) {
            // Who has left meanwhile has left the place, too.
            let _ = place.leave.send(());
        }
        self.permits.clone().acquire_owned().await
    }
}

impl axum::serve::Listener for Bounded {
    type Io = Limited;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Limited, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    // The semaphore is never closed; were it, serving without a permit would be wrong.
                    let Ok(permit) = self.place().await else { return std::future::pending().await };
                    let deadline = Box::pin(sleep(self.time));
                    let (answered, (leave, told_to_leave)) = (Arc::default(), oneshot::channel());
                    self.places.push_back(Place { answered: Arc::clone(&answered), leave });
                    return (Limited { stream, deadline, answered, told_to_leave, _permit: permit }, peer);
                }
                Err(error) => {
                    events::admin::metrics_accept_failed(&error);
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails when its time is over or another needs its place, whatever it waits for.
struct Limited {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    /// Whether it has been written to.
    answered: Arc<AtomicBool>,
    told_to_leave: oneshot::Receiver<()>,
    _permit: OwnedSemaphorePermit,
}

impl Limited {
    /// `result`, unless it is yet to come and the time is over, or the place another's.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_pending() {
            let must_leave = Pin::new(&mut self.told_to_leave).poll(cx).is_ready();
            if !must_leave {
                ready!(self.deadline.as_mut().poll(cx));
            }
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        result
    }
}

impl AsyncRead for Limited {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.in_time(cx, result)
    }
}

impl AsyncWrite for Limited {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.answered.store(true, Ordering::Relaxed);
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.in_time(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.in_time(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.in_time(cx, result)
    }
}

#[cfg(test)]
mod tests;
