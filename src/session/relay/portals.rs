//! What the portals that a client has bound may do when they are executed, as far as it matters to what is sent behind
//! that, or to a client whose server is lost. Where a portal may be one of several, it is taken for any of them.

use smallvec::SmallVec;

use super::words::Effect;

/// The portals of one transaction. Whether their Binds have gone well is not known.
#[derive(Debug, Default)]
pub struct Portals {
    unnamed: Effect,
    /// The unnamed one was executed since it was bound.
    executed: bool,
    /// Those that may do more than nothing that matters.
    named: SmallVec<[(Box<[u8]>, Effect); 1]>,
    /// There are more of those.
    more: bool,
}

/// So many are told apart.
const NAMED_MAX: usize = 32;

impl Portals {
    /// A portal is bound to a statement that may do this.
    pub fn bind(&mut self, portal: &[u8], effect: Effect) {
        if portal.is_empty() {
            // Should this Bind fail, and a savepoint save the transaction, there is the old one.
            let replaces = self.executed || !self.unnamed.may_end();
            self.unnamed = if replaces { effect } else { either(self.unnamed, effect) };
            self.executed = false;
            return;
        }
        if let Some((_, known)) = self.named.iter_mut().find(|(known, _)| **known == *portal) {
            // One of the two Binds fails, unless a Close stands between them, which may fail as well.
            *known = either(*known, effect);
        } else if effect != Effect::Plain && self.named.len() < NAMED_MAX {
            self.named.push((portal.into(), effect));
        } else {
            self.more |= effect != Effect::Plain;
        }
    }

    /// What executing it may do.
    pub fn execute(&mut self, portal: &[u8]) -> Effect {
        if portal.is_empty() {
            self.executed = true;
            return self.unnamed;
        }
        let known = self.named.iter().find(|(known, _)| **known == *portal).map(|(_, effect)| *effect);
        known.unwrap_or(if self.more { Effect::Any } else { Effect::Plain })
    }

    /// A Bind or an Execute may not have been carried out.
    pub fn doubt(&mut self) {
        self.unnamed = Effect::Any;
        self.executed = false;
    }

    /// The transaction is over, and they with it.
    pub fn clear(&mut self) {
        // Whatever is added must be named here.
        let Self { unnamed, executed, named, more } = self;
        *unnamed = Effect::Plain;
        (*executed, *more) = (false, false);
        named.clear();
    }
}

fn either(one: Effect, other: Effect) -> Effect {
    if one == other { one } else { Effect::Any }
}

#[cfg(test)]
mod tests {
    use super::super::ending::Ending;
    use super::*;

    const COMMIT: Effect = Effect::Ends(Ending::Commits);

    #[test]
    fn a_portal_is_what_it_was_bound_to() {
        let mut portals = Portals::default();
        portals.bind(b"", COMMIT);
        portals.bind(b"a", Effect::Copies);
        portals.bind(b"b", Effect::Plain);
        let executed = [&b""[..], b"a", b"b", b"c"].map(|portal| portals.execute(portal));
        assert_eq!(executed, [COMMIT, Effect::Copies, Effect::Plain, Effect::Plain]);
        portals.clear();
        assert_eq!([portals.execute(b""), portals.execute(b"a")], [Effect::Plain; 2]);
    }

    #[test]
    fn one_that_is_bound_again_may_be_either() {
        let mut portals = Portals::default();
        portals.bind(b"a", COMMIT);
        portals.bind(b"a", COMMIT);
        assert_eq!(portals.execute(b"a"), COMMIT);
        portals.bind(b"a", Effect::Plain);
        assert_eq!(portals.execute(b"a"), Effect::Any);
        portals.bind(b"", COMMIT);
        portals.bind(b"", Effect::Plain);
        assert_eq!(portals.execute(b""), Effect::Any);
        portals.bind(b"", Effect::Plain);
        assert_eq!(portals.execute(b""), Effect::Plain, "it was executed before");
    }

    #[test]
    fn of_too_many_the_rest_may_do_anything() {
        let mut portals = Portals::default();
        for n in 0..=NAMED_MAX {
            portals.bind(format!("p{n}").as_bytes(), COMMIT);
        }
        assert_eq!([portals.execute(b"p0"), portals.execute(b"other")], [COMMIT, Effect::Any]);
    }
}
