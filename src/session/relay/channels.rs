//! LISTEN where one connection listens for all clients: a statement that listens waits until that connection does, and
//! then runs on the server as it is; so it is in effect before the client can know, and PostgreSQL says what becomes of
//! it. What it leaves on the server is undone there. Alone in a Query, outside of a transaction, it needs no server.
//! A statement that notifies waits until somebody has taken note of whose its notifications are.

use hashbrown::HashMap;

use super::alone::Alone;
use super::exchange::{Exchange, Notifies, send_sync};
use super::machine::{Relay, Stop, Take, put_complete, put_ready};
use super::own::{Channels, Own, SETTINGS_MAX};
use super::pipeline::{How, Owed, Status};
use super::requests::poison;
use super::steps::Steps;
use super::tracking::read;
use crate::config::model::Listen;
use crate::sql::deeds::{Deed, Name, What};
use crate::wire::error::{ErrorReply, SqlState};
use crate::wire::frame::{HEADER, Header};

/// A LISTEN or UNLISTEN that is longer is not looked for without a server.
const SHORT: usize = 1024;

/// What a client has asked the connection for that listens: what it listens to, and what statements wait for.
/// A client may listen to thousands of channels: no step looks at all of them.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// All that the client listens to are among them.
    known: HashMap<Name, Claim, foldhash::fast::RandomState>,
    /// Those to ask for.
    wanted: Vec<Name>,
    /// So many are wanted or asked for.
    waiting: usize,
}

#[derive(Debug)]
enum Claim {
    Wanted,
    Asked,
    InEffect,
    Refused(Box<ErrorReply>),
    /// It is refused, and the client has been told.
    Over,
}

impl Claims {
    /// A statement needs a channel. Returns whether it is listened to; that it can't be is said once.
    fn needs(&mut self, name: &Name) -> Result<bool, Box<ErrorReply>> {
        match self.known.get_mut(name) {
            Some(Claim::InEffect) => return Ok(true),
            Some(Claim::Wanted | Claim::Asked) => return Ok(false),
            Some(claim @ Claim::Refused(_)) => {
                if let Claim::Refused(error) = std::mem::replace(claim, Claim::Over) {
                    return Err(error);
                }
            }
            Some(Claim::Over) | None => {}
        }
        self.known.insert(name.clone(), Claim::Wanted);
        self.wanted.push(name.clone());
        self.waiting += 1;
        Ok(false)
    }

    /// Each is told once.
    fn take_wanted(&mut self) -> Vec<Name> {
        let mut wanted = std::mem::take(&mut self.wanted);
        wanted.retain(|name| match self.known.get_mut(name) {
            Some(claim @ Claim::Wanted) => {
                *claim = Claim::Asked;
                true
            }
            _ => false,
        });
        wanted
    }

    fn answered(&mut self, name: &[u8], answer: Result<(), Box<ErrorReply>>) {
        if let Some(claim @ Claim::Asked) = self.known.get_mut(name) {
            *claim = answer.map_or_else(Claim::Refused, |()| Claim::InEffect);
            self.waiting -= 1;
        }
    }

    /// Those that wait are refused.
    fn cancel(&mut self) {
        for claim in self.known.values_mut().filter(|claim| claim.waits()) {
            *claim = Claim::Refused(Box::new(cancelled()));
        }
        self.waiting = 0;
    }

    /// Keeps only these, which are among them.
    fn keep(&mut self, own: &Channels) -> Vec<Name> {
        if own.len() == self.known.len() {
            return Vec::new();
        }
        let gone = self.known.extract_if(|name, _| !own.contains(&**name));
        gone.map(|(name, claim)| {
            self.waiting -= usize::from(claim.waits());
            name
        })
        .collect()
    }
}

impl Claim {
    fn waits(&self) -> bool {
        matches!(self, Self::Wanted | Self::Asked)
    }
}

/// When a statement may run.
pub(super) enum Hears {
    Now,
    /// When all that it listens to is in effect, or it is known that it notifies.
    Later,
    Never(ErrorReply),
}

impl Relay {
    /// Whether statements that do this may run, as far as it concerns channels, and what ties a client to its server; they
    /// may be `several`.
    pub(super) fn hears<'d>(
        &mut self,
        exchange: &mut Exchange,
        deeds: impl Iterator<Item = &'d Deed> + Clone,
        several: bool,
    ) -> Hears {
        // There it is refused, unless what is before it ends the block.
        let failed = exchange.pipeline.status == Status::Failed && exchange.pipeline.is_empty();
        if failed && !several {
            return Hears::Now;
        }
        if self.remembers_too_much(exchange, deeds.clone()) {
            return Hears::Never(too_many_settings());
        }
        if let Some(what) = deeds.clone().find_map(|deed| self.tie(deed))
            && let Err(error) = self.may_be_tied(exchange, what)
        {
            return Hears::Never(error);
        }
        if self.listen == Listen::Pin {
            return Hears::Now;
        }
        let hears = self.claims(deeds.clone());
        if matches!(hears, Hears::Now) && self.listen == Listen::Shared {
            let session = &mut exchange.session;
            session.listens |= deeds.clone().any(|deed| matches!(deed, Deed::Holds(What::Channel, _)));
            if deeds.clone().any(|deed| *deed == Deed::Notifies) {
                return notifies(&mut session.notifies);
            }
        }
        hears
    }

    /// Whether the client would have so many settings that they are not remembered, with what it has sent before and is not
    /// answered yet.
    fn remembers_too_much<'d>(&self, exchange: &Exchange, deeds: impl Iterator<Item = &'d Deed> + Clone) -> bool {
        if !self.tracks || sets(deeds.clone()).next().is_none() {
            return false;
        }
        let under_way =
            sets(exchange.pipeline.iter().flat_map(Owed::deeds)).map(|(name, value)| name.len() + value.len());
        let none = Own::default();
        let own = self.own.as_deref().unwrap_or(&none);
        own.bytes_with(sets(deeds)) + under_way.sum::<usize>() > SETTINGS_MAX
    }

    /// What this ties the client to its server by.
    fn tie(&self, deed: &Deed) -> Option<What> {
        match deed {
            Deed::Holds(What::Channel, _) if self.listen != Listen::Pin => None,
            Deed::Holds(what, _) => Some(*what),
            Deed::Executes(name) => self.shows_whole(name).then_some(What::Statement),
            _ => None,
        }
    }

    /// Whether it may be; then it counts among those that are, until it gives the server back.
    pub(super) fn may_be_tied(&self, exchange: &mut Exchange, what: What) -> Result<(), ErrorReply> {
        if self.refuses_ties {
            return Err(no_tie(what));
        }
        let place = &mut exchange.session.pin_place;
        if let Some(pinned) = self.pinned.as_ref().filter(|_| place.is_none()) {
            *place = Some(pinned.take().map_err(too_many_ties)?);
        }
        Ok(())
    }

    fn claims<'d>(&mut self, deeds: impl Iterator<Item = &'d Deed>) -> Hears {
        let mut later = false;
        // Without a name it is a mistake, which the server tells.
        let channels = deeds.filter_map(|deed| match deed {
            Deed::Holds(What::Channel, name) if !name.is_empty() => Some(name),
            _ => None,
        });
        for name in channels {
            if self.listen == Listen::Error {
                return Hears::Never(not_supported());
            }
            self.channels_moved = true;
            match self.claims.get_or_insert_default().needs(name) {
                Ok(in_effect) => later |= !in_effect,
                Err(error) => return Hears::Never(*error),
            }
        }
        if later { Hears::Later } else { Hears::Now }
    }

    /// The channels that are to be listened to before the client's next message is taken. Each is told once.
    pub fn wanted_channels(&mut self) -> Vec<Name> {
        self.claims.as_mut().map(|claims| claims.take_wanted()).unwrap_or_default()
    }

    /// A channel is listened to, or can't be.
    pub fn channel_answered(&mut self, channel: &[u8], answer: Result<(), Box<ErrorReply>>) {
        self.claims.iter_mut().for_each(|claims| claims.answered(channel, answer.clone()));
    }

    /// The message that waits for channels, or to notify, fails as one that is cancelled.
    pub fn cancel_channels(&mut self, exchange: Option<&mut Exchange>) {
        if let Some(Exchange { session, .. }) = exchange
            && session.notifies == Notifies::Asked
        {
            session.notifies = Notifies::Cancelled;
        }
        self.claims.iter_mut().for_each(|claims| claims.cancel());
    }

    /// Whether a statement waits for channels.
    pub fn waits_for_channels(&self) -> bool {
        self.claims.as_ref().is_some_and(|claims| claims.waiting > 0)
    }

    /// Whether [`Self::leave_channels`] may have something to say.
    #[inline]
    pub fn channels_moved(&self) -> bool {
        self.channels_moved
    }

    /// Between two transactions: the channels that were asked for and that the client does not listen to.
    pub fn leave_channels(&mut self) -> Vec<Name> {
        self.channels_moved = false;
        let Some(claims) = &mut self.claims else { return Vec::new() };
        let none = Channels::default();
        let gone = claims.keep(self.own.as_ref().map_or(&none, |own| own.channels()));
        if claims.known.is_empty() {
            self.claims = None;
        }
        gone
    }

    /// Whether the client has asked for channels.
    pub fn has_channels(&self) -> bool {
        self.claims.is_some()
    }

    /// Whether a client without a server is in no transaction.
    pub fn is_between_transactions(&self) -> bool {
        self.alone.is_none()
    }

    /// Whether a message may be a LISTEN or UNLISTEN that needs no server.
    #[inline]
    pub(super) fn may_listen(&self, input: &[u8]) -> bool {
        let begins =
            |word: &[u8]| input.get(HEADER..HEADER + word.len()).is_some_and(|it| it.eq_ignore_ascii_case(word));
        self.listen != Listen::Pin && (begins(b"listen") || begins(b"unlisten"))
    }

    /// A Query of a client without a server that is a LISTEN or UNLISTEN alone: no server is asked. `None`: it is
    /// something else. One that only begins so waits for its channels here, and not with a server.
    pub(super) fn listens_alone(&mut self, header: Header, have: &[u8], steps: &mut Steps) -> Option<Take> {
        if self.alone.is_some() || header.total > SHORT || !self.may_listen(have) {
            return None;
        }
        if have.len() < header.total {
            return Some(Take::Stop(Stop::Input));
        }
        let statements = read(&have[HEADER..], self.dialect)?;
        match self.claims(statements.iter().flatten()) {
            Hears::Now => {}
            Hears::Later => return Some(Take::Stop(Stop::Channels)),
            Hears::Never(error) => {
                self.unnamed.forget();
                steps.to_client.own(|out| error.encode(out));
                put_ready(Status::Idle, steps);
                return Some(Take::Drop);
            }
        }
        let [deeds] = &*statements else { return None };
        let (deed, tag) = match &deeds[..] {
            [deed @ Deed::Holds(What::Channel, name)] if !name.is_empty() => (deed, &b"LISTEN"[..]),
            [deed @ Deed::Lets(What::Channel, _)] => (deed, &b"UNLISTEN"[..]),
            _ => return None,
        };
        self.channels_moved = true;
        let own = self.own_session();
        own.shares_channels = true;
        own.does(deed, |_| false);
        own.commits();
        self.unnamed.forget();
        put_complete(tag, steps);
        put_ready(Status::Idle, steps);
        Some(Take::Drop)
    }

    /// A Query fails on the server, and the client reads this.
    pub(super) fn fail_query(&mut self, exchange: &mut Exchange, error: ErrorReply, steps: &mut Steps) -> Take {
        exchange.asks(|_| true);
        if matches!(self.alone.as_deref(), Some(Alone::Begun(_))) {
            self.alone = None;
        }
        self.forget_unnamed(exchange);
        poison(exchange, error, steps);
        send_sync(exchange, How::Reply, steps);
        Take::Drop
    }
}

/// Before a client first notifies on a server somebody is to take note of that.
fn notifies(notifies: &mut Notifies) -> Hears {
    match notifies {
        Notifies::Noted | Notifies::Unheard => Hears::Now,
        Notifies::No | Notifies::Asked => {
            *notifies = Notifies::Asked;
            Hears::Later
        }
        Notifies::Cancelled => {
            *notifies = Notifies::No;
            Hears::Never(cancelled())
        }
    }
}

fn cancelled() -> ErrorReply {
    ErrorReply::error(SqlState::QUERY_CANCELED, "canceling statement due to user request")
}

fn no_tie(what: What) -> ErrorReply {
    let what = match what {
        What::Temporary => "temporary tables",
        What::Cursor => "cursors WITH HOLD",
        What::Statement => "PREPARE in SQL",
        What::Channel => "LISTEN",
        What::Lock => "advisory locks of the session",
        What::Library => "LOAD",
        What::Seed => "setseed()",
        What::Connection => "connections of dblink",
        What::Replication => "replication origins, replication slots and backups",
        What::Number => "numbers of sequences",
        What::Unknown => "code that may leave anything",
    };
    ErrorReply::error(SqlState::NOT_SUPPORTED, format!("this pooler does not support {what}"))
        .hint("They would keep a server for this client alone, and it is configured not to: pin = \"error\".")
}

/// The settings that these set, with their values.
fn sets<'d>(deeds: impl Iterator<Item = &'d Deed>) -> impl Iterator<Item = (&'d [u8], &'d [u8])> {
    deeds.filter_map(|deed| match deed {
        Deed::Set(name, value) => Some((&**name, &**value)),
        _ => None,
    })
}

fn too_many_settings() -> ErrorReply {
    let text = format!(
        "The settings of a session may take {} MiB altogether, with what savepoints keep of them.",
        SETTINGS_MAX >> 20
    );
    ErrorReply::error(SqlState::LIMIT_EXCEEDED, "too many settings, or too long ones, for this pooler to remember")
        .detail(text)
        .hint("RESET those that are not needed any more, or use SET LOCAL.")
}

fn too_many_ties(most: u32) -> ErrorReply {
    ErrorReply::error(SqlState::CONFIGURATION_LIMIT, "too many servers of this pool are kept by clients")
        .hint(format!("Clients keep {most} for temporary tables, locks and the like: max_pinned_servers = {most}."))
}

fn not_supported() -> ErrorReply {
    ErrorReply::error(SqlState::NOT_SUPPORTED, "LISTEN is not supported by this pooler")
        .hint("It is configured so: listen = \"error\". Connect to the PostgreSQL server itself to listen.")
}
