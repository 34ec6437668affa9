//! What the portals that a client has bound may do when they are executed, as far as it matters to what is sent behind
//! that, or to a client whose server is lost. Where a portal may be one of several, it is taken for any of them.

use std::sync::Arc;

use smallvec::SmallVec;

use super::exchange::Exchange;
use super::tracking::unclear_deeds;
use super::words::Effect;
use crate::sql::deeds::{Deed, Deeds};

/// What a statement may do: to what is sent behind it, and to the session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Does {
    /// To others.
    pub effect: Effect,
    /// To the session.
    pub deeds: Option<Arc<Deeds>>,
}

impl Does {
    /// Nothing that matters but this to others.
    pub fn effect(effect: Effect) -> Self {
        Self { effect, deeds: None }
    }

    /// It may be anything.
    pub fn anything() -> Self {
        Self { effect: Effect::Any, deeds: Some(Arc::new(unclear_deeds())) }
    }

    /// What it does to the session, if anything.
    pub fn deeds(&self) -> Option<&[Deed]> {
        self.deeds.as_deref().map(|deeds| &deeds[..])
    }

    fn is_nothing(&self) -> bool {
        self.effect == Effect::Plain && self.deeds.is_none()
    }
}

/// The portals of one transaction. Whether their Binds have gone well is not known.
#[derive(Debug, Default)]
pub struct Portals {
    unnamed: Does,
    /// The unnamed one was executed since it was bound.
    executed: bool,
    /// In which implicit transaction it was bound, by number.
    within: u64,
    /// Those that may do more than nothing that matters.
    named: SmallVec<[Named; 1]>,
    /// There are more of those.
    more: bool,
}

#[derive(Debug)]
struct Named {
    name: Box<[u8]>,
    does: Does,
    /// It was executed since it was bound.
    executed: bool,
    /// In which implicit transaction it was bound last.
    within: u64,
}

/// So many are told apart.
const NAMED_MAX: usize = 32;

impl Portals {
    /// A portal is bound to a statement that may do this, in the implicit transaction of this number.
    pub fn bind(&mut self, portal: &[u8], does: Does, within: u64) {
        if portal.is_empty() {
            self.within = within;
            // Should this Bind fail, and a savepoint save the transaction, there is the old one.
            let replaces = self.executed || !self.unnamed.effect.may_end();
            self.unnamed = if replaces { does } else { either(&self.unnamed, does) };
            self.executed = false;
            return;
        }
        if let Some(known) = self.named.iter_mut().find(|known| *known.name == *portal) {
            // One of the two Binds fails, unless a Close stands between them, which may fail as well.
            known.does = either(&known.does, does);
            known.executed = false;
            known.within = within;
        } else if !does.is_nothing() && self.named.len() < NAMED_MAX {
            self.named.push(Named { name: portal.into(), does, executed: false, within });
        } else {
            self.more |= !does.is_nothing();
        }
    }

    /// What executing it for the first time does to the session, if it was not executed yet.
    pub fn would_do(&self, portal: &[u8]) -> Option<Arc<Deeds>> {
        let named = || self.named.iter().find(|known| *known.name == *portal);
        let (does, executed) = match portal {
            b"" => (&self.unnamed, self.executed),
            _ => named().map(|known| (&known.does, known.executed))?,
        };
        does.deeds.clone().filter(|_| !executed)
    }

    /// What executing it may do.
    pub fn execute(&mut self, portal: &[u8]) -> Does {
        if portal.is_empty() {
            return executed(&self.unnamed, &mut self.executed);
        }
        if let Some(known) = self.named.iter_mut().find(|known| *known.name == *portal) {
            return executed(&known.does, &mut known.executed);
        }
        if self.more { Does::anything() } else { Does::default() }
    }

    /// Whether something may be done that nobody has executed: FETCH runs the portals of others.
    pub fn may_be_fetched(&self) -> bool {
        self.more || self.named.iter().any(|known| !known.executed && known.does.deeds.is_some())
    }

    /// A Bind or an Execute may not have been carried out in the implicit transaction of this number. What was bound behind
    /// that is what it is.
    pub fn doubt(&mut self, within: u64) {
        if self.within <= within {
            self.unnamed = Does::anything();
            self.executed = false;
        }
        // One that was bound again may be the old one.
        let doubtful = self.named.iter_mut().filter(|known| known.within <= within);
        doubtful.for_each(|known| known.does = Does::anything());
    }

    /// The transaction is over, and they with it.
    pub fn clear(&mut self) {
        // Whatever is added must be named here.
        let Self { unnamed, executed, within, named, more } = self;
        *unnamed = Does::default();
        (*executed, *within, *more) = (false, 0, false);
        named.clear();
    }
}

impl Exchange {
    /// A portal is bound to a statement that may do this.
    #[inline]
    pub(super) fn binds(&mut self, portal: &[u8], does: Does) {
        self.portals.bind(portal, does, self.pipeline.noted());
    }
}

/// What a portal does that is executed, perhaps not for the first time: then it goes on, or does nothing, or the first time
/// has failed.
fn executed(does: &Does, before: &mut bool) -> Does {
    let again = std::mem::replace(before, true) && does.deeds.is_some();
    if again { Does { effect: does.effect, ..Does::anything() } } else { does.clone() }
}

/// Bound again, a portal has another effect, or the old one if that fails; what it does to the session it does only if
/// it has not failed.
fn either(one: &Does, other: Does) -> Does {
    let effect = if one.effect == other.effect { other.effect } else { Effect::Any };
    Does { effect, ..other }
}

#[cfg(test)]
mod tests {
    use super::super::ending::Ending;
    use super::*;

    const COMMIT: Effect = Effect::Ends(Ending::Commits);

    #[test]
    fn a_portal_is_what_it_was_bound_to() {
        let mut portals = Portals::default();
        portals.bind(b"", Does::effect(COMMIT), 0);
        portals.bind(b"a", Does::effect(Effect::Copies), 0);
        portals.bind(b"b", Does::effect(Effect::Plain), 0);
        let executed = [&b""[..], b"a", b"b", b"c"].map(|portal| portals.execute(portal).effect);
        assert_eq!(executed, [COMMIT, Effect::Copies, Effect::Plain, Effect::Plain]);
        portals.clear();
        assert_eq!([portals.execute(b"").effect, portals.execute(b"a").effect], [Effect::Plain; 2]);
    }

    #[test]
    fn one_that_is_bound_again_may_be_either() {
        let mut portals = Portals::default();
        portals.bind(b"a", Does::effect(COMMIT), 0);
        portals.bind(b"a", Does::effect(COMMIT), 0);
        assert_eq!(portals.execute(b"a").effect, COMMIT);
        portals.bind(b"a", Does::effect(Effect::Plain), 0);
        assert_eq!(portals.execute(b"a").effect, Effect::Any);
        portals.bind(b"", Does::effect(COMMIT), 0);
        portals.bind(b"", Does::effect(Effect::Plain), 0);
        assert_eq!(portals.execute(b"").effect, Effect::Any);
        portals.bind(b"", Does::effect(Effect::Plain), 0);
        assert_eq!(portals.execute(b"").effect, Effect::Plain, "it was executed before");
    }

    #[test]
    fn what_is_executed_again_does_nothing_that_is_known() {
        let does = Does { effect: Effect::Plain, deeds: Some(Arc::new(Deeds::from_elem(Deed::ResetAll, 1))) };
        let mut portals = Portals::default();
        for portal in [&b""[..], b"a"] {
            portals.bind(portal, does.clone(), 0);
            assert_eq!(portals.would_do(portal), does.deeds);
            assert_eq!([portals.execute(portal), portals.execute(portal)].map(|does| does.deeds), {
                [does.deeds.clone(), Does::anything().deeds]
            });
            assert_eq!(portals.would_do(portal), None);
            portals.bind(portal, does.clone(), 0);
            assert_eq!(portals.execute(portal), does);
        }
        assert!(!portals.may_be_fetched());
        portals.bind(b"b", does.clone(), 0);
        assert!(portals.may_be_fetched());
        portals.bind(b"", does.clone(), 1);
        portals.bind(b"c", does.clone(), 1);
        portals.doubt(0);
        assert_eq!([b"b", &b""[..], b"c"].map(|portal| portals.execute(portal)), {
            [Does::anything(), does.clone(), does.clone()]
        });
        portals.doubt(1);
        assert_eq!([&b""[..], b"c"].map(|portal| portals.execute(portal)), [Does::anything(), Does::anything()]);
    }

    #[test]
    fn of_too_many_the_rest_may_do_anything() {
        let mut portals = Portals::default();
        for n in 0..=NAMED_MAX {
            portals.bind(format!("p{n}").as_bytes(), Does::effect(COMMIT), 0);
        }
        assert_eq!([portals.execute(b"p0").effect, portals.execute(b"other").effect], [COMMIT, Effect::Any]);
    }
}
