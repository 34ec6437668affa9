//! What the portals that a client has bound may do when they are executed, as far as it matters to what is sent behind
//! that, or to a client whose server is lost. Where a portal may be one of several, it is taken for any of them.

use std::sync::Arc;

use smallvec::SmallVec;

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
    /// Those that may do more than nothing that matters.
    named: SmallVec<[(Box<[u8]>, Does); 1]>,
    /// There are more of those.
    more: bool,
}

/// So many are told apart.
const NAMED_MAX: usize = 32;

impl Portals {
    /// A portal is bound to a statement that may do this.
    pub fn bind(&mut self, portal: &[u8], does: Does) {
        if portal.is_empty() {
            // Should this Bind fail, and a savepoint save the transaction, there is the old one.
            let replaces = self.executed || !self.unnamed.effect.may_end();
            self.unnamed = if replaces { does } else { either(&self.unnamed, does) };
            self.executed = false;
            return;
        }
        if let Some((_, known)) = self.named.iter_mut().find(|(known, _)| **known == *portal) {
            // One of the two Binds fails, unless a Close stands between them, which may fail as well.
            *known = either(known, does);
        } else if !does.is_nothing() && self.named.len() < NAMED_MAX {
            self.named.push((portal.into(), does));
        } else {
            self.more |= !does.is_nothing();
        }
    }

    /// What executing it may do.
    pub fn execute(&mut self, portal: &[u8]) -> Does {
        if portal.is_empty() {
            self.executed = true;
            return self.unnamed.clone();
        }
        let known = self.named.iter().find(|(known, _)| **known == *portal).map(|(_, does)| does.clone());
        known.unwrap_or_else(|| if self.more { Does::anything() } else { Does::default() })
    }

    /// A Bind or an Execute may not have been carried out.
    pub fn doubt(&mut self) {
        self.unnamed = Does::anything();
        self.executed = false;
    }

    /// The transaction is over, and they with it.
    pub fn clear(&mut self) {
        // Whatever is added must be named here.
        let Self { unnamed, executed, named, more } = self;
        *unnamed = Does::default();
        (*executed, *more) = (false, false);
        named.clear();
    }
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
        portals.bind(b"", Does::effect(COMMIT));
        portals.bind(b"a", Does::effect(Effect::Copies));
        portals.bind(b"b", Does::effect(Effect::Plain));
        let executed = [&b""[..], b"a", b"b", b"c"].map(|portal| portals.execute(portal).effect);
        assert_eq!(executed, [COMMIT, Effect::Copies, Effect::Plain, Effect::Plain]);
        portals.clear();
        assert_eq!([portals.execute(b"").effect, portals.execute(b"a").effect], [Effect::Plain; 2]);
    }

    #[test]
    fn one_that_is_bound_again_may_be_either() {
        let mut portals = Portals::default();
        portals.bind(b"a", Does::effect(COMMIT));
        portals.bind(b"a", Does::effect(COMMIT));
        assert_eq!(portals.execute(b"a").effect, COMMIT);
        portals.bind(b"a", Does::effect(Effect::Plain));
        assert_eq!(portals.execute(b"a").effect, Effect::Any);
        portals.bind(b"", Does::effect(COMMIT));
        portals.bind(b"", Does::effect(Effect::Plain));
        assert_eq!(portals.execute(b"").effect, Effect::Any);
        portals.bind(b"", Does::effect(Effect::Plain));
        assert_eq!(portals.execute(b"").effect, Effect::Plain, "it was executed before");
    }

    #[test]
    fn of_too_many_the_rest_may_do_anything() {
        let mut portals = Portals::default();
        for n in 0..=NAMED_MAX {
            portals.bind(format!("p{n}").as_bytes(), Does::effect(COMMIT));
        }
        assert_eq!([portals.execute(b"p0").effect, portals.execute(b"other").effect], [COMMIT, Effect::Any]);
    }
}
