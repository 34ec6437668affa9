//! From the startup packet to ReadyForQuery.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::SystemTime;

use aws_lc_rs::rand;
use bytes::BytesMut;
use rustix::process::getuid;
use tokio::time::Instant;

use super::auth::{self, Proof, Random, Request, Step};
use super::cancel;
use super::census::{Full, Most, Present};
use super::context::{Context, Counted};
use super::handshake::{Incoming, Refused};
use super::registry::{CONSOLE, ConsoleIdentity, ConsoleKey, Identity};
use super::relay::Relay;
use super::relay::own::Own;
use super::relay::pump::Pump;
use super::session::{Session, say_and_close};
use super::welcome::{self, Wishes};
use crate::config::model::{Config, Database, Pin, PoolMode, SessionState, Unknown};
use crate::config::users::StoredSecret;
use crate::net::Stream;
use crate::net::address::Address;
use crate::pool::error::in_vain;
use crate::pool::stats::Tally;
use crate::pool::{AcquireError, Pool, Purpose};
use crate::telemetry::events::session as events;
use crate::telemetry::labels::LoginRefusal;
use crate::types::ClientId;
use crate::wire::error::{ClientError, ErrorReply, SqlState};
use crate::wire::message::backend;
use crate::wire::params::ParamSet;
use crate::wire::startup::{Initial, Version};

/// What a connection turned out to be.
#[derive(Debug)]
pub enum Accepted {
    /// A client of a pool.
    Session(Box<Session>),
    /// An operator.
    Console(Box<ConsoleClient>),
    /// Nothing is left to do: a cancel request, or a login that was refused.
    Done,
}

/// An operator's connection. What the login has to say, up to AuthenticationOk, is not sent yet.
#[derive(Debug)]
pub struct ConsoleClient {
    /// The connection.
    pub stream: Stream,
    /// What it sent already.
    pub held: BytesMut,
    /// May change things, not only look.
    pub admin: bool,
    /// What is to be sent first: negotiation, authentication.
    pub preamble: BytesMut,
    /// For cancel requests.
    pub key: ConsoleKey,
    /// Its place among the clients.
    pub counted: Counted,
}

/// Serves a connection up to the end of its login.
pub async fn login(
    context: &Arc<Context>,
    stream: Stream,
    peer: Address,
    counted: Counted,
    accepted_at: Instant,
) -> Accepted {
    events::client_connected(&peer);
    let config = context.config.load_full();
    let deadline = config.pooler.client_login_timeout.map(|limit| accepted_at + limit);
    let mut incoming = Incoming { stream: Some(stream), held: BytesMut::new(), peer, wants: None, deadline };
    match serve(context, &config, &mut incoming, counted, accepted_at).await {
        Ok(accepted) => accepted,
        Err(refused) => {
            let wants = incoming.wants.as_ref().map(|(user, database)| (&**user, &**database));
            events::login_refused(refused.why, wants, refused.cause.as_deref(), &incoming.peer);
            if let (Some(mut stream), Some(reply)) = (incoming.stream.take(), refused.reply) {
                events::error_sent(&incoming.peer, reply.code.0, &reply.message);
                let mut bytes = BytesMut::new();
                reply.encode(&mut bytes);
                let limit = super::session::LAST_WORDS;
                let _ = tokio::time::timeout(limit, say_and_close(&mut stream, bytes)).await;
            }
            Accepted::Done
        }
    }
}

async fn serve(
    context: &Arc<Context>,
    config: &Arc<Config>,
    incoming: &mut Incoming,
    counted: Counted,
    accepted_at: Instant,
) -> Result<Accepted, Refused> {
    let startup = match incoming.first_packet(context).await? {
        Initial::Startup(startup) => startup,
        Initial::Cancel(key) => {
            // It takes no client's place while it waits.
            drop(counted);
            events::cancel_connected();
            cancel::requested(&context.registry, &key, config.pooler.cancel_wait_timeout).await;
            return Ok(Accepted::Done);
        }
        Initial::Ssl | Initial::Gss => return Err(Refused::silent(LoginRefusal::Startup)),
    };
    let startup_error = |error: &dyn ClientError| Refused::with(LoginRefusal::Startup, error.reply());
    let (user, database) = startup.identity().map_err(|error| startup_error(&error))?;
    incoming.wants = Some((user.into(), database.into()));
    let console = database == CONSOLE;
    admit(context, config, incoming, &counted, console)?;
    let wishes = welcome::wishes(&startup, config, console)?;
    let speaks_against = |config: &Config| match console {
        true => console_refusal(config, user),
        false => refusal(context, config.database(database), database),
    };
    let mut bytes = BytesMut::new();
    let (version, negotiate) = startup.negotiate();
    if negotiate {
        backend::negotiate_protocol_version(&mut bytes, version, &startup.protocol_options);
    }
    if console && is_operator(incoming, user) {
        return open_console(context, incoming, (user, true), &wishes, version, counted, bytes);
    }
    let proof = prove(context, config, incoming, user, speaks_against(config), &mut bytes).await?;
    let config = &holds_still(context, config, user)?;
    admit(context, config, incoming, &counted, console)?;
    if let Some(reply) = speaks_against(config) {
        return Err(refused(&auth::Refusal::Other(Box::new(reply))));
    }
    if console {
        let admin = config.pooler.admin_users.iter().any(|name| name == user);
        return open_console(context, incoming, (user, admin), &wishes, version, counted, bytes);
    }
    let Some(entry) = config.database(database) else { return Err(Refused::silent(LoginRefusal::NoSuchDatabase)) };
    let client = Client { context, config, user, database, entry, version, wishes, accepted_at };
    client.open(incoming, proof, counted, bytes).await
}

/// The configuration in force, for a client that has proved who it is by an earlier one; it may have taken long.
fn holds_still(context: &Context, before: &Arc<Config>, user: &str) -> Result<Arc<Config>, Refused> {
    let now = context.config.load_full();
    let same = Arc::ptr_eq(&now, before)
        || (now.userlist.get(user) == before.userlist.get(user) && now.pooler.auth_type == before.pooler.auth_type);
    if same {
        return Ok(now);
    }
    let reply = ErrorReply::fatal(SqlState::INVALID_AUTHORIZATION, "the configuration has changed during the login")
        .hint("Connect again.");
    Err(Refused::with(LoginRefusal::Authentication, reply))
}

/// Whether one more client is taken at all.
fn admit(
    context: &Context,
    config: &Config,
    incoming: &Incoming,
    counted: &Counted,
    console: bool,
) -> Result<(), Refused> {
    if config.client_tls.sslmode.requires_tls() && matches!(incoming.stream, Some(Stream::Tcp(_))) {
        let reply = ErrorReply::fatal(SqlState::INVALID_AUTHORIZATION, "SSL required")
            .hint("This pooler takes only TLS connections (client_tls_sslmode): connect with sslmode=require.");
        return Err(Refused::with(LoginRefusal::TlsRequired, reply));
    }
    if console {
        return Ok(());
    }
    if counted.is_apart(&context.clients) || context.pools.is_ending() {
        let reply = ErrorReply::fatal(SqlState::CANNOT_CONNECT_NOW, "pooler is shutting down");
        return Err(Refused::with(LoginRefusal::ShuttingDown, reply));
    }
    let clients = context.clients.total();
    if clients > config.pooler.max_client_conn {
        let reply = ErrorReply::fatal(SqlState::TOO_MANY_CONNECTIONS, "no more connections allowed (max_client_conn)");
        // Who they are is not known yet: how much there is room for is none of their business.
        let cause = Some(full(config.pooler.max_client_conn, context.registry.members(), clients));
        return Err(Refused { cause, ..Refused::with(LoginRefusal::MaxClientConn, reply) });
    }
    Ok(())
}

/// Who takes the places. Connections count from their first byte on, and until who is refused has read so.
fn full(limit: u32, logged_in: usize, connected: u32) -> String {
    let others = (connected as usize).saturating_sub(logged_in).max(1);
    format!(
        "max_client_conn is {limit}; clients logged in: {logged_in}; connections not logged in, this one included: {others}"
    )
}

/// Whether it is a process of our own user, on the Unix socket, who calls itself as the console does: it could read
/// our memory and needs no password. Scripts and supervisors depend on it.
fn is_operator(incoming: &Incoming, user: &str) -> bool {
    let peer = incoming.stream.as_ref().and_then(|stream| stream.peer().ok());
    user == CONSOLE && matches!(peer, Some(Address::Unix { uid, .. }) if uid == getuid().as_raw())
}

fn open_console(
    context: &Context,
    incoming: &mut Incoming,
    (user, admin): (&str, bool),
    wishes: &Wishes,
    version: Version,
    mut counted: Counted,
    mut bytes: BytesMut,
) -> Result<Accepted, Refused> {
    counted.stand_apart(&context.clients);
    let Some(stream) = incoming.stream.take() else { return Err(Refused::silent(LoginRefusal::ClientLeft)) };
    let addresses = (stream.peer().map_err(gone)?, stream.local().map_err(gone)?);
    let identity = ConsoleIdentity {
        id: ClientId(context.ids.fetch_add(1, Ordering::Relaxed)),
        secret: secret(version)?.into(),
        user: user.into(),
        application_name: wishes.application_name(&context.config.load(), &addresses.0).unwrap_or_default(),
        addresses,
        tls: stream.tls_name(),
        connected_at: SystemTime::now(),
    };
    let key = context.registry.register_console(identity, pids()).ok_or_else(no_key)?;
    backend::authentication_ok(&mut bytes);
    let held = std::mem::take(&mut incoming.held);
    Ok(Accepted::Console(Box::new(ConsoleClient { stream, held, admin, preamble: bytes, key, counted })))
}

fn console_refusal(config: &Config, user: &str) -> Option<ErrorReply> {
    let may = |names: &[String]| names.iter().any(|name| name == user);
    (!may(&config.pooler.admin_users) && !may(&config.pooler.stats_users)).then(|| {
        ErrorReply::fatal(SqlState::INVALID_AUTHORIZATION, "not allowed")
            .hint("The console is for the users in admin_users and stats_users.")
    })
}

/// What speaks against a login besides its password; told only after that was right.
fn refusal(context: &Context, entry: Option<&Arc<Database>>, database: &str) -> Option<ErrorReply> {
    if entry.is_none() {
        return Some(no_such_database(database));
    }
    if context.pools.is_disabled(database) {
        let text = format!("database \"{database}\" is disabled");
        return Some(ErrorReply::fatal(SqlState::CANNOT_CONNECT_NOW, text));
    }
    None
}

fn no_such_database(database: &str) -> ErrorReply {
    ErrorReply::fatal(SqlState::NO_SUCH_DATABASE, format!("no such database: {database}"))
        .hint("The pooler's configuration has no such entry under [databases].")
}

/// A place below `max_db_client_connections` and `max_user_client_connections`. Admins are let in as well.
fn place(
    context: &Context,
    config: &Config,
    entry: &Database,
    names: (&Arc<str>, &Arc<str>),
) -> Result<Present, Refused> {
    let (database, user) = names;
    let most = if config.pooler.admin_users.iter().any(|name| **name == **user) {
        Most::default()
    } else {
        Most { database: config.max_db_client_connections(entry), user: config.max_user_client_connections(user) }
    };
    context.census.enter(database, user, most).map_err(|full| {
        let (why, setting) = match full {
            Full::Database => (LoginRefusal::MaxDbClientConnections, "max_db_client_connections"),
            Full::User => (LoginRefusal::MaxUserClientConnections, "max_user_client_connections"),
        };
        let text = format!("client connections exceeded ({setting})");
        Refused::with(why, ErrorReply::fatal(SqlState::TOO_MANY_CONNECTIONS, text))
    })
}

/// Has the client prove who it is.
async fn prove(
    context: &Context,
    config: &Config,
    incoming: &mut Incoming,
    user: &str,
    refusal: Option<ErrorReply>,
    bytes: &mut BytesMut,
) -> Result<Proof, Refused> {
    let secret = config.userlist.get(user);
    let strangers = context.strangers(config);
    let verifier = match secret {
        Some(StoredSecret::Plain(password)) if config.pooler.auth_type.is_scram() => {
            let verifier = incoming.within(context.verifiers.get(user, password, strangers)).await?;
            Some(verifier.ok_or_else(|| internal("no secret could be derived"))?)
        }
        _ => None,
    };
    let mut random = Random { nonce: [0; 18], salt: [0; 4] };
    let filled = rand::fill(&mut random.nonce).and_then(|()| rand::fill(&mut random.salt));
    filled.map_err(|_| internal("no random numbers to be had"))?;
    let request = Request {
        method: config.pooler.auth_type,
        user,
        secret,
        verifier: verifier.as_deref(),
        refusal,
        end_point: incoming.stream.as_ref().and_then(Stream::server_end_point),
        strangers,
        random,
    };
    let mut step = auth::start(request, bytes).map_err(|refusal| refused(&refusal))?;
    loop {
        let exchange = match step {
            Step::Authenticated(proof) => return Ok(proof),
            Step::Wait(exchange) => exchange,
        };
        incoming.send(&bytes.split()).await?;
        let (tag, body) = incoming.message().await?;
        step = exchange.step(tag, &body, bytes).map_err(|refusal| refused(&refusal))?;
    }
}

fn refused(refusal: &auth::Refusal) -> Refused {
    let why = match refusal {
        auth::Refusal::Other(reply) if reply.code == SqlState::NO_SUCH_DATABASE => LoginRefusal::NoSuchDatabase,
        auth::Refusal::Other(reply) if reply.code == SqlState::CANNOT_CONNECT_NOW => LoginRefusal::DatabaseDisabled,
        auth::Refusal::Other(_) => LoginRefusal::NotAllowed,
        auth::Refusal::Unexpected { .. } | auth::Refusal::Malformed(_) | auth::Refusal::Mechanism => {
            LoginRefusal::Startup
        }
        _ => LoginRefusal::Authentication,
    };
    Refused::with(why, refusal.reply())
}

fn internal(text: &'static str) -> Refused {
    Refused::with(LoginRefusal::Startup, ErrorReply::fatal(SqlState::INTERNAL, text))
}

fn no_key() -> Refused {
    internal("no key for cancel requests to be had")
}

/// A client that has proved who it is, on its way into its pool.
struct Client<'a> {
    context: &'a Arc<Context>,
    config: &'a Config,
    user: &'a str,
    database: &'a str,
    entry: &'a Arc<Database>,
    version: Version,
    wishes: Wishes,
    accepted_at: Instant,
}

impl Client<'_> {
    async fn open(
        self,
        incoming: &mut Incoming,
        proof: Proof,
        counted: Counted,
        mut bytes: BytesMut,
    ) -> Result<Accepted, Refused> {
        let Self { context, config, .. } = self;
        let (database, user) = (self.database.into(), self.user.into());
        let present = place(context, config, self.entry, (&database, &user))?;
        let id = ClientId(context.ids.fetch_add(1, Ordering::Relaxed));
        let stored = config.userlist.get(self.user);
        let pool = context.pools.get_or_create(&database, &user, stored, proof.credential(stored));
        let pool = pool.ok_or_else(|| refused(&auth::Refusal::Other(Box::new(no_such_database(&database)))))?;
        let guard = pool.client_came();
        let reported = reported(&pool, id, incoming).await?;
        let Some(stream) = incoming.stream.take() else { return Err(Refused::silent(LoginRefusal::ClientLeft)) };
        let addresses = (incoming.peer, stream.local().map_err(gone)?);
        let (told, tracked) = welcome::parameters(&reported, &self.wishes, config, &addresses.0);
        let identity = Identity {
            id,
            secret: secret(self.version)?,
            user,
            pool: Arc::clone(&pool),
            addresses,
            tls: stream.tls_name(),
            connected_at: SystemTime::now(),
            application_name: tracked.get("application_name").unwrap_or_default().into(),
        };
        let registered = context.registry.register(identity, pids()).ok_or_else(no_key)?;
        guard.logged_in();
        welcome::write(&told, registered.shared.pid, &registered.shared.secret, &mut bytes);
        let settings = pool.settings();
        let mode = settings.pool_mode;
        let mut relay = Relay::new(
            Arc::clone(&context.statements),
            context.settings.intern(tracked),
            usize::try_from(config.pooler.max_packet_size.0).unwrap_or(usize::MAX),
            mode != PoolMode::Session && settings.max_prepared_statements > 0,
        );
        relay.single_statements = mode == PoolMode::Statement;
        if config.pooler.session_state == SessionState::Track {
            relay.tracks = mode != PoolMode::Session;
            if relay.tracks {
                relay.listen = config.pooler.listen;
                let caches = config.pooler.cache_unnamed_statements && settings.max_prepared_statements > 0;
                relay.recurring =
                    caches.then(|| context.recurring.of(&pool.key().database, settings.max_prepared_statements));
                relay.refuses_ties = settings.pin == Pin::Error;
                relay.has_connect_query = pool.connect_query().is_some();
                relay.keeps_unknown = settings.pin == Pin::Auto && settings.unknown == Unknown::Pin;
                relay.pinned = (settings.pin == Pin::Auto).then(|| Arc::clone(pool.pinned()));
            }
            relay.base = self.wishes.base().cloned();
            relay.own = self.wishes.own().map(|own| Box::new(Own::new(own.clone())));
        }
        let held = std::mem::take(&mut incoming.held);
        let shared = Arc::clone(&registered.shared);
        events::login_succeeded(self.database, self.user, stream.is_tls(), &shared);
        let mut pump = Pump::new(stream, shared, relay, held, mode, Arc::clone(context));
        pump.pins = settings.pin == Pin::Auto;
        pump.say(&bytes);
        let accepted_at = self.accepted_at.into_std();
        Ok(Accepted::Session(Box::new(Session { pump, registered, guard, present, counted, mode, accepted_at })))
    }
}

fn gone(_: std::io::Error) -> Refused {
    Refused::silent(LoginRefusal::ClientLeft)
}

/// What a server of the pool reports at login: from the last one, or from the first that can be had.
async fn reported(pool: &Arc<Pool>, id: ClientId, incoming: &mut Incoming) -> Result<ParamSet, Refused> {
    if let Some(reported) = pool.welcome() {
        return Ok(reported);
    }
    let begun = std::time::Instant::now();
    let mut acquire = pool.acquire_for(Purpose::Login, id, begun);
    let deadline = incoming.deadline;
    let waiting = std::future::poll_fn(|cx| {
        if let Some(stream) = &mut incoming.stream
            && let Poll::Ready(crate::net::stream::Probe::Closed) = stream.poll_probe(cx)
        {
            return Poll::Ready(None);
        }
        std::pin::Pin::new(&mut acquire).poll(cx).map(Some)
    });
    let acquired = match deadline {
        None => waiting.await,
        Some(deadline) => tokio::time::timeout_at(deadline, waiting).await.map_err(|_| {
            let (limit, code) = ("client_login_timeout (server down)", SqlState::CONNECTION_FAILURE);
            Refused::with(LoginRefusal::ServerDown, in_vain(limit, code, begun.elapsed(), &pool.wait_cause()))
        })?,
    };
    let lease = acquired
        .ok_or_else(|| Refused::silent(LoginRefusal::ClientLeft))?
        .map_err(|error: AcquireError| Refused::with(LoginRefusal::ServerDown, error.login_reply()))?;
    let reported = lease.params.clone();
    lease.release(std::time::Instant::now(), &mut Tally::default());
    Ok(reported)
}

/// Process ids that nobody can guess from their own.
fn pids() -> impl Iterator<Item = u32> {
    std::iter::repeat_with(|| {
        let mut bytes = [0; 4];
        rand::fill(&mut bytes).map_or(0, |()| u32::from_be_bytes(bytes) & 0x7fff_ffff)
    })
    .take(64)
}

fn secret(version: Version) -> Result<Box<[u8]>, Refused> {
    let mut secret = vec![0; version.cancel_secret_len()];
    rand::fill(&mut secret).map_err(|_| internal("no random numbers to be had"))?;
    Ok(secret.into())
}
