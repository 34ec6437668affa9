//! Servers that other pools get.

use super::*;
use crate::pool::places::LEAST_STAY;

fn evictable(pool: &Pool) -> Vec<Slot> {
    pool.state.evictable(pool.now).map(|server| server.slot).collect()
}

#[test]
fn a_neighbour_gets_a_resting_server_but_not_one_that_is_waited_for() {
    let mut pool = Pool::new(|_| ()).with_idle(2);
    pool.pass(LEAST_STAY);
    let victim = evictable(&pool)[0];
    assert_eq!(pool.on(|state, _, out| assert!(state.evict(victim, out))), "close 1: evicted");
    assert!(!pool.state.evict(victim, &mut Actions::new()), "it is gone");
    pool.pass(31 * SECOND);
    assert_eq!(evictable(&pool).len(), 1, "not checked, but nobody waits");
    pool.came(1);
    assert_eq!(evictable(&pool), []);
}

#[test]
fn a_server_is_closed_for_a_neighbour_that_starves() {
    let mut pool = Pool::new(|_| ()).with_idle(2);
    pool.pass(LEAST_STAY);
    let (slot, server) = pool.take().expect("two rest");
    pool.came(1);
    assert!(pool.state.ask_to_yield(pool.now));
    assert_eq!(pool.returned(slot, server), "close 2: evicted");
    assert_eq!(pool.take().map(|(_, server)| server), None, "1 has the other");
    assert_eq!([(); 2].map(|()| pool.state.ask_to_yield(pool.now)), [true, false], "it is one");
}

#[test]
fn a_server_stays_for_a_while_after_its_login_and_then_others_are_told() {
    let mut pool = Pool::new(|_| ()).with_idle(1);
    let almost = LEAST_STAY - Duration::from_millis(1);
    let (old, server) = pool.take().expect("it rests");
    pool.pass(almost);
    assert!(!pool.state.ask_to_yield(pool.now), "it has hardly come");
    assert_eq!((pool.returned(old, server), evictable(&pool)), (String::new(), Vec::new()));
    assert_eq!((pool.state.stayed(pool.now).len(), pool.until_wake()), (0, Some(Duration::from_millis(1))));
    let mut pool = pool.with_idle(1);
    pool.pass(Duration::from_millis(1));
    assert_eq!((pool.state.stayed(pool.now).as_slice(), evictable(&pool)), ([old].as_slice(), vec![old]));
    assert_eq!((pool.state.stayed(pool.now).len(), pool.until_wake()), (0, Some(almost)), "each is told once");
    // The one that comes back first is not the one that may be closed.
    pool.take_all();
    assert_eq!([(); 2].map(|()| pool.state.ask_to_yield(pool.now)), [true, false]);
    let young = Slot::of(1);
    assert_eq!((pool.returned(young, 2), pool.returned(old, 1)), (String::new(), "close 1: evicted".to_owned()));
}
