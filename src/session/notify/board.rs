//! Who listens to what on one notification connection, and what that is to be told: LISTEN for a channel that somebody
//! wants, UNLISTEN for one that nobody wants any more, in batches of which one is under way at a time.
//!
//! A client's LISTEN is in effect when a batch with that channel is answered, though others may have listened before:
//! whatever was committed before is answered before the batch, and is not for this client.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use hashbrown::{HashMap, HashSet};

use crate::sql::deeds::push_quoted;
use crate::types::ClientId;

/// A channel's name, in the encoding of the connection.
pub type Channel = Arc<[u8]>;

/// A batch has at most so many statements: it must fit into the socket's buffers, for nothing is read while it is written.
const BATCH: usize = 100;

/// Who listens to what.
#[derive(Debug)]
pub struct Board {
    channels: HashMap<Channel, Heard, foldhash::fast::RandomState>,
    clients: HashMap<ClientId, Vec<Channel>, foldhash::fast::RandomState>,
    /// Something is to be sent for these, or was.
    queue: VecDeque<Channel>,
    /// The batch under way, and which of it are LISTENs.
    under_way: Vec<(Channel, bool)>,
    /// So many go into the next batch: after one that failed each goes alone, to find which it was.
    most: usize,
    /// The claims that are not in effect yet, by their numbers.
    waiting: BTreeMap<u64, (Instant, ClientId, Channel)>,
    /// How many claims there have been.
    claims: u64,
    /// They listened when the connection was lost, and have not been told.
    missing: HashSet<ClientId, foldhash::fast::RandomState>,
}

#[derive(Debug, Default)]
struct Heard {
    /// The server listens.
    there: bool,
    listeners: Vec<(ClientId, Claim)>,
}

/// How far a client's LISTEN is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    Wanted(u64),
    /// It is in the batch under way.
    Sent(u64),
    InEffect,
}

impl Claim {
    fn unsend(&mut self) {
        if let Self::Sent(number) = *self {
            *self = Self::Wanted(number);
        }
    }

    fn is_sent(self) -> bool {
        matches!(self, Self::Sent(_))
    }
}

/// What a batch that the server refuses means.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// One of several was refused: each is sent again alone.
    Unclear,
    /// These LISTENs are refused.
    Refused(Vec<(ClientId, Channel)>),
    /// Clients listen already to what is refused now: the connection serves them no more.
    Useless,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            channels: HashMap::default(),
            clients: HashMap::default(),
            queue: VecDeque::new(),
            under_way: Vec::new(),
            most: BATCH,
            waiting: BTreeMap::new(),
            claims: 0,
            missing: HashSet::default(),
        }
    }
}

impl Board {
    /// A client wants to listen. Returns whether it does already.
    pub fn listens(&mut self, client: ClientId, channel: &[u8], now: Instant) -> bool {
        let channel = self.channels.get_key_value(channel).map_or_else(|| channel.into(), |(name, _)| Arc::clone(name));
        let heard = self.channels.entry(Arc::clone(&channel)).or_default();
        if let Some((_, claim)) = heard.listeners.iter().find(|(known, _)| *known == client) {
            return *claim == Claim::InEffect;
        }
        self.claims += 1;
        heard.listeners.push((client, Claim::Wanted(self.claims)));
        self.clients.entry(client).or_default().push(Arc::clone(&channel));
        self.waiting.insert(self.claims, (now, client, Arc::clone(&channel)));
        self.queue.push_back(channel);
        false
    }

    /// A client wants to listen no more.
    pub fn leaves(&mut self, client: ClientId, channel: &[u8]) {
        if let Some(channels) = self.clients.get_mut(&client) {
            channels.retain(|known| **known != *channel);
            if channels.is_empty() {
                self.clients.remove(&client);
                self.missing.remove(&client);
            }
        }
        self.drops(client, channel);
    }

    /// The same of all its channels.
    pub fn goes(&mut self, client: ClientId) {
        for channel in self.clients.remove(&client).unwrap_or_default() {
            self.drops(client, &channel);
        }
        self.missing.remove(&client);
    }

    fn drops(&mut self, client: ClientId, channel: &[u8]) {
        let Some((channel, heard)) = self.channels.get_key_value_mut(channel) else { return };
        for (_, claim) in heard.listeners.extract_if(.., |(known, _)| *known == client) {
            if let Claim::Wanted(number) | Claim::Sent(number) = claim {
                self.waiting.remove(&number);
            }
        }
        if heard.listeners.is_empty() {
            self.queue.push_back(Arc::clone(channel));
        }
    }

    /// Who hears what is said on a channel.
    pub fn listeners(&self, channel: &[u8]) -> impl Iterator<Item = ClientId> {
        let listeners = self.channels.get(channel).map_or(&[][..], |heard| &heard.listeners);
        listeners.iter().filter(|(_, claim)| *claim == Claim::InEffect).map(|(client, _)| *client)
    }

    /// A channel's name as it is shared.
    pub fn name(&self, channel: &[u8]) -> Option<Channel> {
        self.channels.get_key_value(channel).map(|(name, _)| Arc::clone(name))
    }

    /// Whether nobody listens or wants to.
    pub fn is_deserted(&self) -> bool {
        self.clients.is_empty()
    }

    /// How many clients listen or want to.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Whether a batch is under way.
    pub fn is_waiting(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// The next batch, if there is something to send and none is under way.
    pub fn batch(&mut self) -> Option<Vec<u8>> {
        if self.is_waiting() {
            return None;
        }
        let mut text = Vec::new();
        while self.under_way.len() < self.most
            && let Some(channel) = self.queue.pop_front()
        {
            let twice = self.under_way.iter().any(|(known, _)| Arc::ptr_eq(known, &channel));
            let Some(heard) = self.channels.get_mut(&channel).filter(|_| !twice) else { continue };
            if heard.listeners.is_empty() && !heard.there {
                self.channels.remove(&channel);
                continue;
            }
            let mut wanted = false;
            for (_, claim) in &mut heard.listeners {
                if let Claim::Wanted(number) = *claim {
                    (*claim, wanted) = (Claim::Sent(number), true);
                }
            }
            let listens = !heard.listeners.is_empty();
            if listens && heard.there && !wanted {
                continue;
            }
            write(&mut text, if listens { b"LISTEN " } else { b"UNLISTEN " }, &channel);
            self.under_way.push((channel, listens));
        }
        if self.queue.is_empty() {
            self.most = BATCH;
        }
        (!text.is_empty()).then_some(text)
    }

    /// The batch is carried out: these LISTENs are in effect.
    pub fn answered(&mut self) -> Vec<(ClientId, Channel)> {
        let mut in_effect = Vec::new();
        for (channel, listens) in std::mem::take(&mut self.under_way) {
            let Some(heard) = self.channels.get_mut(&channel) else { continue };
            heard.there = listens;
            for (client, claim) in &mut heard.listeners {
                let Claim::Sent(number) = *claim else { continue };
                *claim = Claim::InEffect;
                self.waiting.remove(&number);
                in_effect.push((*client, Arc::clone(&channel)));
            }
            match (listens, heard.listeners.is_empty()) {
                // Everybody has left meanwhile, or somebody has come.
                (true, true) | (false, false) => self.queue.push_back(channel),
                (false, true) => _ = self.channels.remove(&channel),
                (true, false) => {}
            }
        }
        in_effect
    }

    /// The server has refused the batch.
    pub fn refused(&mut self) -> Failure {
        let under_way = std::mem::take(&mut self.under_way);
        if under_way.len() > 1 {
            self.most = 1;
            for (channel, _) in under_way.into_iter().rev() {
                self.unsend(&channel);
                self.queue.push_front(channel);
            }
            return Failure::Unclear;
        }
        let Some((channel, true)) = under_way.into_iter().next() else { return Failure::Useless };
        let Some(heard) = self.channels.get(&channel) else { return Failure::Refused(Vec::new()) };
        if heard.listeners.iter().any(|(_, claim)| *claim == Claim::InEffect) {
            return Failure::Useless;
        }
        let sent = heard.listeners.iter().filter(|(_, claim)| claim.is_sent());
        let refused: Vec<_> = sent.map(|(client, _)| (*client, Arc::clone(&channel))).collect();
        refused.iter().for_each(|(client, channel)| self.leaves(*client, channel));
        // Who has come meanwhile has its own turn.
        self.queue.push_back(channel);
        Failure::Refused(refused)
    }

    fn unsend(&mut self, channel: &[u8]) {
        if let Some(heard) = self.channels.get_mut(channel) {
            heard.listeners.iter_mut().for_each(|(_, claim)| claim.unsend());
        }
    }

    /// The connection is lost: all is to be asked for again, and who listened will be told.
    pub fn lost(&mut self) {
        self.under_way.clear();
        self.queue.clear();
        self.most = BATCH;
        self.channels.retain(|_, heard| !heard.listeners.is_empty());
        for (channel, heard) in &mut self.channels {
            heard.there = false;
            self.queue.push_back(Arc::clone(channel));
            for (client, claim) in &mut heard.listeners {
                claim.unsend();
                if *claim == Claim::InEffect {
                    self.missing.insert(*client);
                }
            }
        }
    }

    /// Once all is in effect again: who is to be told that something may be missing.
    pub fn missing(&mut self) -> impl Iterator<Item = ClientId> + use<> {
        let again = self.queue.is_empty() && self.under_way.is_empty();
        let missing = if again { std::mem::take(&mut self.missing) } else { HashSet::default() };
        missing.into_iter()
    }

    /// Since when the oldest LISTEN waits.
    pub fn waits_since(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(_, (since, ..))| *since)
    }

    /// Gives up the LISTENs that have waited since then or longer.
    pub fn give_up(&mut self, since: Instant) -> Vec<(ClientId, Channel)> {
        let mut given_up = Vec::new();
        while self.waits_since().is_some_and(|waits| waits <= since)
            && let Some((_, (_, client, channel))) = self.waiting.pop_first()
        {
            self.leaves(client, &channel);
            given_up.push((client, channel));
        }
        given_up
    }
}

/// Appends a statement.
fn write(text: &mut Vec<u8>, verb: &[u8], channel: &[u8]) {
    text.extend_from_slice(verb);
    push_quoted(channel, text);
    text.extend_from_slice(b"; ");
}

#[cfg(test)]
mod tests;
