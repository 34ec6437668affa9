use std::time::Duration;

use super::*;
use crate::pool::testing::Dice;
use crate::types::Host;

fn claim(database: &str, user: &str, port: u16) -> Claim {
    let node = Arc::new(Endpoint { host: Host::Name("db".into()), port });
    Claim { database: database.into(), user: user.into(), node }
}

fn ask(pool: u64, claim: &Claim, caps: Caps, since: Option<Instant>) -> Ask<u64> {
    Ask { pool: PoolId(pool), claim: claim.clone(), caps, since, starving: true, handle: pool }
}

#[test]
fn each_limit_counts_what_it_is_for() {
    let held = [claim("a", "u", 1), claim("a", "v", 1), claim("b", "u", 2)];
    for (caps, wanted, expected) in [
        (Caps { database: Some(2), ..Caps::default() }, claim("a", "w", 3), Err(Scarce::Database)),
        (Caps { database: Some(3), ..Caps::default() }, claim("a", "w", 3), Ok(())),
        (Caps { user: Some(2), ..Caps::default() }, claim("c", "u", 3), Err(Scarce::User)),
        (Caps { user: Some(2), ..Caps::default() }, claim("c", "v", 3), Ok(())),
        (Caps { node: Some(2), ..Caps::default() }, claim("c", "w", 1), Err(Scarce::Node)),
        (Caps { node: Some(2), ..Caps::default() }, claim("c", "w", 2), Ok(())),
        (Caps::default(), claim("a", "u", 1), Ok(())),
    ] {
        let mut limits = Limits::default();
        for claim in &held {
            assert_eq!(limits.ask(ask(0, claim, Caps::default(), None)), Ok(()));
        }
        assert_eq!(limits.ask(ask(9, &wanted, caps, None)), expected, "{wanted:?}");
    }
}

#[test]
fn a_free_place_goes_to_whose_client_waits_longest() {
    let now = Instant::now();
    let later = |seconds| Some(now + Duration::from_secs(seconds));
    let caps = Caps { database: Some(1), ..Caps::default() };
    let of = |user| claim("a", user, 1);
    let mut limits = Limits::default();
    assert_eq!(limits.ask(ask(0, &of("z"), caps, later(0))), Ok(()));
    assert_eq!(limits.ask(ask(1, &of("b"), caps, later(9))), Err(Scarce::Database));
    assert_eq!(limits.ask(ask(2, &of("c"), caps, later(5))), Err(Scarce::Database));
    assert_eq!(limits.next(), None);
    limits.give_back(&of("z"), false, now);
    assert_eq!(limits.next(), Some(2), "not the first by name or by asking");
    assert_eq!(limits.ask(ask(1, &of("b"), caps, later(9))), Err(Scarce::Database), "the place is another's");
    assert_eq!(limits.ask(ask(0, &of("z"), caps, later(99))), Err(Scarce::Database), "and not for who had it");
    assert_eq!(limits.ask(ask(2, &of("c"), caps, later(5))), Ok(()));
    limits.withdraw(PoolId(1));
    limits.give_back(&of("c"), false, now);
    assert_eq!(limits.next(), Some(0));
}

#[test]
fn who_is_stopped_by_another_limit_blocks_nobody() {
    let now = Instant::now();
    let mut limits = Limits::default();
    let caps = Caps { database: Some(2), user: Some(1), node: None };
    assert_eq!(limits.ask(ask(0, &claim("x", "u", 1), caps, None)), Ok(()));
    assert_eq!(limits.ask(ask(1, &claim("a", "u", 1), caps, Some(now))), Err(Scarce::User));
    let younger = Some(now + Duration::from_secs(1));
    assert_eq!(limits.ask(ask(2, &claim("a", "v", 1), caps, younger)), Ok(()));
    assert_eq!(limits.helped_by(&claim("x", "u", 1)), Some(1));
    assert_eq!(limits.helped_by(&claim("a", "w", 1)), None, "a place of the database helps nobody");
}

#[test]
fn who_starves_and_is_passed_over_has_another_pool_asked_again() {
    let now = Instant::now();
    let later = |seconds| Some(now + Duration::from_secs(seconds));
    let caps = Caps { database: Some(1), ..Caps::default() };
    let of = |user| claim("a", user, 1);
    let (rich, old, young) =
        (ask(0, &of("u"), caps, None), ask(1, &of("v"), caps, later(1)), ask(2, &of("w"), caps, later(2)));
    let mut limits = Limits::default();
    assert_eq!(limits.ask(rich), Ok(()));
    assert!(!limits.owe(PoolId(2)), "it is not in the queue");
    assert_eq!(limits.ask(young.clone()), Err(Scarce::Database));
    assert_eq!([limits.owe(PoolId(2)), limits.owe(PoolId(2))], [true, false]);
    assert_eq!(limits.unowed(&of("u")), None);
    assert_eq!(limits.ask(old.clone()), Err(Scarce::Database));
    assert_eq!(limits.unowed(&of("u")), Some(1));
    limits.give_back(&of("u"), false, now);
    assert_eq!(limits.ask(old), Ok(()), "it waits longer");
    assert_eq!(limits.unowed(&of("v")), Some(2), "what was made for it went elsewhere");
    assert!(limits.owe(PoolId(2)));
    limits.give_back(&of("v"), false, now);
    assert_eq!(limits.ask(young), Ok(()));
    assert_eq!(limits.owed, []);
    let has_servers = Ask { starving: false, ..ask(3, &of("x"), caps, later(0)) };
    assert_eq!(limits.ask(has_servers.clone()), Err(Scarce::Database));
    assert!(!limits.owe(PoolId(3)) && limits.unowed(&of("w")).is_none());
    assert_eq!(limits.ask(ask(4, &of("y"), caps, later(4))), Err(Scarce::Database));
    limits.give_back(&of("w"), false, now);
    assert_eq!(limits.next(), Some(4), "it has no server at all");
    assert_eq!(limits.ask(has_servers), Err(Scarce::Database));
}

/// Pools that ask, get, give back and lose interest at random. No limit is ever exceeded, the queue is served by age,
/// and whoever is told that there is a place finds one.
#[test]
fn a_server_that_was_full_is_shared_as_below_a_limit() {
    let now = Instant::now();
    let of = |user| claim("a", user, 1);
    let mut limits = Limits::default();
    assert!(!limits.refused(&of("u").node, now), "none of ours is there");
    for user in ["u", "v", "w"] {
        assert_eq!(limits.ask(ask(0, &of(user), Caps::default(), None)), Ok(()));
    }
    limits.connected(&of("u").node);
    limits.connected(&of("v").node);
    assert!(limits.refused(&of("w").node, now));
    limits.give_back(&of("w"), false, now);
    let wanted = ask(1, &of("x"), Caps::default(), Some(now));
    assert_eq!(limits.ask(wanted.clone()), Err(Scarce::Server));
    assert_eq!((limits.next(), limits.helped_by(&of("u"))), (None, Some(1)));
    assert_eq!(limits.ask(ask(2, &claim("a", "x", 2), Caps::default(), None)), Ok(()), "another node");
    assert!(!limits.was_just_freed(&of("u").node, now));
    limits.give_back(&of("u"), true, now);
    assert!(limits.was_just_freed(&of("u").node, now));
    assert_eq!(limits.ask(wanted.clone()), Ok(()));
    assert_eq!(limits.ask(wanted.clone()), Err(Scarce::Server));
    limits.on_time(now + Duration::from_secs(1));
    assert_eq!(limits.ask(wanted.clone()), Ok(()), "one more is tried");
    assert_eq!(limits.ask(wanted), Err(Scarce::Server));
}

#[test]
fn random_pools_never_exceed_a_limit_and_none_is_forgotten() {
    let mut granted = 0;
    for seed in 0..400 {
        let mut dice = Dice::new(seed);
        let caps = Caps {
            database: [None, Some(3)][dice.roll(2)],
            user: [None, Some(2)][dice.roll(2)],
            node: [None, Some(4)][dice.roll(2)],
        };
        let claims: Vec<Claim> =
            (0..6).map(|pool| claim(["a", "b"][pool % 2], ["u", "v", "w"][pool % 3], 1 + (pool as u16) % 2)).collect();
        let mut limits: Limits<u64> = Limits::default();
        let mut held: Vec<usize> = Vec::new();
        let start = Instant::now();
        for step in 0..300 {
            let pool = dice.roll(claims.len());
            match dice.roll(6) {
                0 | 1 => {
                    let since = start + Duration::from_secs(dice.roll(1000) as u64);
                    let ask = ask(pool as u64, &claims[pool], caps, Some(since));
                    if limits.ask(Ask { starving: !held.contains(&pool), ..ask }).is_ok() {
                        held.push(pool);
                        granted += 1;
                    }
                }
                2 if !held.is_empty() => {
                    let pool = held.swap_remove(dice.roll(held.len()));
                    limits.give_back(&claims[pool], false, start);
                }
                3 => limits.withdraw(PoolId(pool as u64)),
                4 => drop(limits.owe(PoolId(pool as u64))),
                _ => {}
            }
            settle(&mut limits, &mut held);
            let queued = |pool: &PoolId| limits.queue.iter().any(|ask| ask.pool == *pool);
            assert!(limits.owed.iter().all(queued), "seed {seed} step {step}");
            for claim in &claims {
                let count = |same: fn(&Claim, &Claim) -> bool| {
                    held.iter().filter(|&&pool| same(&claims[pool], claim)).count() as u32
                };
                let counts = (
                    count(|a, b| a.database == b.database),
                    count(|a, b| a.user == b.user),
                    count(|a, b| a.node == b.node),
                );
                assert_eq!(limits.held(claim), counts, "seed {seed} step {step}");
                assert!(caps.database.is_none_or(|cap| counts.0 <= cap), "seed {seed} step {step}");
                assert!(caps.user.is_none_or(|cap| counts.1 <= cap), "seed {seed} step {step}");
                assert!(caps.node.is_none_or(|cap| counts.2 <= cap), "seed {seed} step {step}");
            }
        }
    }
    assert!(granted > 1000, "{granted}");
}

/// Everybody who is told so asks again, and must succeed; afterwards nobody in the queue could be served.
fn settle(limits: &mut Limits<u64>, held: &mut Vec<usize>) {
    while let Some(pool) = limits.next() {
        let queued = limits.queue.iter().find(|ask| ask.pool == PoolId(pool)).expect("it is in the queue");
        let again = queued.clone();
        assert_eq!(limits.ask(again), Ok(()));
        held.push(pool as usize);
    }
    assert!(limits.queue.iter().all(|ask| limits.full(ask).is_some()));
}
