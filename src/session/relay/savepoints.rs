//! The savepoints of a transaction, and what takes back what was changed behind them: each change, by its inverse. A copy
//! of all at each savepoint would cost the square of their number; it is made where the changes are more than what is there.

use std::sync::Arc;

use super::own::Channels;
use crate::sql::deeds::{Name, What};
use crate::wire::params::{Change, ParamSet};

/// Something that only its server has.
pub(super) type Thing = (What, Name);

/// What a rollback puts back. A copy costs nothing, until one of both is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) settings: ParamSet,
    pub(super) things: Arc<Vec<Thing>>,
    /// Apart from the others, of which nobody has thousands.
    pub(super) channels: Arc<Channels>,
    /// Reported settings that were reset, and that its server is to have as it asked for them at its login.
    pub(super) reset: Arc<Vec<Name>>,
}

impl Held {
    /// How many settings and other things there are.
    pub(super) fn len(&self) -> usize {
        self.settings.len() + self.things.len() + self.channels.len() + self.reset.len()
    }
}

/// The inverse of one change.
#[derive(Debug)]
pub(super) enum Step {
    /// A setting was changed.
    Setting(Change),
    /// All settings were these.
    Settings(ParamSet),
    /// These were reset.
    Reset(Arc<Vec<Name>>),
    /// The last thing was added.
    AddedThing,
    /// This thing was at this place.
    RemovedThing(usize, Thing),
    /// This channel was added.
    AddedChannel(Arc<[u8]>),
    /// This one was removed.
    RemovedChannel(Arc<[u8]>),
    /// All channels were these.
    Channels(Arc<Channels>),
    /// All was this.
    All(Held),
}

impl Step {
    /// How many bytes of settings it keeps, about.
    fn bytes(&self) -> usize {
        match self {
            Self::Setting(change) => change.bytes(),
            Self::Settings(settings) => settings.bytes(),
            Self::All(held) => held.settings.bytes(),
            Self::Reset(_) | Self::AddedThing | Self::RemovedThing(..) => 0,
            Self::AddedChannel(_) | Self::RemovedChannel(_) | Self::Channels(_) => 0,
        }
    }

    fn take_back(self, held: &mut Held) {
        match self {
            Self::Setting(change) => held.settings.take_back(change),
            Self::Settings(settings) => held.settings = settings,
            Self::Reset(reset) => held.reset = reset,
            Self::AddedThing => _ = Arc::make_mut(&mut held.things).pop(),
            Self::RemovedThing(at, thing) => Arc::make_mut(&mut held.things).insert(at, thing),
            Self::AddedChannel(name) => _ = Arc::make_mut(&mut held.channels).remove(&name),
            Self::RemovedChannel(name) => _ = Arc::make_mut(&mut held.channels).insert(name),
            Self::Channels(channels) => held.channels = channels,
            Self::All(all) => *held = all,
        }
    }
}

/// The savepoints of a transaction, the last one last.
#[derive(Debug, Default)]
pub(super) struct Savepoints {
    /// Each with how many steps there were, and how many bytes they took.
    all: Vec<(Name, usize, usize)>,
    /// What was done behind the first.
    steps: Vec<Step>,
    /// What they take.
    bytes: usize,
}

impl Savepoints {
    /// SAVEPOINT.
    pub(super) fn add(&mut self, name: &Name) {
        self.all.push((name.clone(), self.steps.len(), self.bytes));
    }

    /// RELEASE. `held` is what there is now.
    pub(super) fn release(&mut self, name: &[u8], held: &Held) {
        if let Some(at) = self.position(name) {
            self.all.truncate(at);
            self.shorten(held);
        }
    }

    /// ROLLBACK TO. Returns whether there is such a savepoint.
    pub(super) fn roll_back_to(&mut self, name: &[u8], held: &mut Held) -> bool {
        let Some(at) = self.position(name) else { return false };
        self.all.truncate(at + 1);
        let (_, mark, bytes) = self.all[at];
        self.take_back(mark, bytes, held);
        true
    }

    /// The transaction is over.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// This takes back what was just done, and led to what is `held` now.
    pub(super) fn note(&mut self, step: Step, held: &Held) {
        if !self.all.is_empty() {
            self.push(step);
            self.shorten(held);
        }
    }

    /// What the steps take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn push(&mut self, step: Step) {
        self.bytes += step.bytes();
        self.steps.push(step);
    }

    fn take_back(&mut self, mark: usize, bytes: usize, held: &mut Held) {
        self.steps.drain(mark..).rev().for_each(|step| step.take_back(held));
        self.bytes = bytes;
    }

    /// Has what is behind the last savepoint cost no more than a few copies of all that is there.
    fn shorten(&mut self, held: &Held) {
        let Some(&(_, mark, bytes)) = self.all.last() else {
            return self.clear();
        };
        let (steps, taken) = (self.steps.len() - mark, self.bytes - bytes);
        let too_much = || taken > LITTLE && steps > 1 && taken > 2 * held.settings.bytes() + LITTLE;
        if steps > 2 * held.len() + FEW || too_much() {
            let mut before = held.clone();
            self.take_back(mark, bytes, &mut before);
            self.push(Step::All(before));
        }
    }

    /// How much is remembered.
    #[cfg(test)]
    pub(super) fn steps(&self) -> usize {
        self.steps.len()
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        self.all.iter().rposition(|(known, ..)| **known == *name)
    }
}

/// So many steps are not worth a copy.
const FEW: usize = 16;
/// So many bytes are not, either.
const LITTLE: usize = 16 * 1024;
