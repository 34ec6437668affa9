//! Pools of one node that takes no logins, by a clock that only waits move.

use super::*;
use crate::config::model::LoadBalance;
use crate::pool::acquire::Acquire;
use crate::pool::now;
use crate::pool::state::Purpose;
use crate::pool::testing::Fate;

const MILLI: Duration = Duration::from_millis(1);

fn bench() -> Bench {
    two_databases(|pooler| {
        pooler.defaults.query_wait_timeout = None;
        pooler.server_login_retry = SECOND;
    })
}

/// Clients who log in: three for each of forty users.
fn crowd(bench: &Bench) -> Vec<tokio::task::JoinHandle<Result<Lease, AcquireError>>> {
    let pools = (0..40).map(|user| bench.pool(["app", "other"][user % 2], &user.to_string()));
    let login = |pool: &Arc<Pool>| pool.acquire_for(Purpose::Login, ClientId(1), now());
    pools.flat_map(|pool| [login(&pool), login(&pool), login(&pool)]).map(tokio::spawn::<Acquire>).collect()
}

fn most_at_once(bench: &Bench) -> u32 {
    bench.dial.most_under_way.load(Ordering::SeqCst)
}

#[tokio::test(start_paused = true)]
async fn over_all_pools_one_connection_probes_a_node_that_takes_none() {
    for fate in [Fate::Full, Fate::StartsUp, Fate::Unreachable] {
        let bench = bench();
        *bench.dial.fate.lock() = Some(fate);
        let clients = crowd(&bench);
        tokio::time::sleep(10 * SECOND).await;
        // 0, 50, 150, 350, 750 and 1550 ms, then one a second, and a little later where who tried last lets others go first.
        let dialed = bench.dial.dialed();
        assert!(
            (13..=15).contains(&dialed) && most_at_once(&bench) == 1,
            "{fate:?}: {dialed}, {}",
            most_at_once(&bench)
        );
        *bench.dial.fate.lock() = None;
        let back = now();
        for client in clients {
            outcome(client).await.unwrap_or_else(|error| panic!("{fate:?}: {error}"));
        }
        assert!(now() - back <= SECOND + 50 * MILLI, "{fate:?}: all at once");
        assert!(most_at_once(&bench) > 20, "{fate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_is_told_is_told_to_all_who_wait() {
    let bench = bench();
    *bench.dial.fate.lock() = Some(Fate::Full);
    let requests: Vec<_> = (0..40).map(|user| wait(&bench.pool("app", &user.to_string()))).collect();
    for request in requests {
        let error = outcome(request).await.expect_err("the node is full");
        assert!(matches!(&error, AcquireError::Refused(reply) if reply.code.as_str() == "53300"), "{error:?}");
    }
    assert_eq!(bench.dial.dialed(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_user_who_is_refused_holds_up_nobody() {
    for fates in [&[Fate::Unreachable, Fate::Refused][..], &[Fate::Refused], &[Fate::Serves, Fate::Refused]] {
        let bench = bench();
        bench.dial.expect(fates.iter().copied());
        if let [Fate::Serves, ..] = fates {
            drop(acquire(&bench.pool("app", "first")).await);
        }
        let error = outcome(wait(&bench.pool("app", "u"))).await.expect_err("it is refused");
        assert_eq!(error.to_string(), "wrong password");
        let start = now();
        drop(acquire(&bench.pool("app", "v")).await);
        assert_eq!((now(), bench.dial.dialed()), (start, fates.len() + 1), "{fates:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_becomes_of_the_one_who_tries_another_does() {
    for (what, goes_away) in [
        ("KILL", (|bench| bench.pools.kill(Some("app")).expect("it is there")) as fn(&Bench)),
        ("RECONNECT", |bench| bench.pools.reconnect(Some("app")).expect("it is there")),
        ("PAUSE", |bench| drop(tokio::spawn(bench.pools.pause(Some("app")).expect("it is there")))),
        ("a reload without it", |bench| bench.pools.apply(&config(vec![database("other", 1)], |_| ()))),
        ("a reload without its node", |bench| {
            let mut moved = database("app", 2);
            moved.endpoints.remove(0);
            bench.pools.apply(&config(vec![moved, database("other", 1)], |_| ()));
        }),
    ] {
        let bench = bench();
        bench.dial.expect([Fate::Hangs]);
        let tries = wait(&bench.pool("app", "u"));
        rest().await;
        let start = now();
        let waits = wait(&bench.pool("other", "v"));
        rest().await;
        assert_eq!((bench.dial.dialed(), waits.is_finished()), (1, false), "{what}");
        goes_away(&bench);
        assert!(outcome(waits).await.is_ok(), "{what}");
        assert_eq!(now(), start, "{what}");
        tries.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn who_tries_and_whose_client_leaves_tells_the_others_what_comes_of_it() {
    let bench = bench();
    bench.dial.expect([Fate::Hangs]);
    let leaves = wait(&bench.pool("app", "u"));
    rest().await;
    let (waits, start) = (wait(&bench.pool("app", "v")), now());
    rest().await;
    leaves.abort();
    assert!(outcome(waits).await.is_ok());
    assert!(now() - start <= SECOND, "nobody waits for it any longer");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_well_and_hangs_is_tried_by_few() {
    let bench = two_databases(|pooler| {
        pooler.defaults.query_wait_timeout = None;
        pooler.server_connect_timeout = Some(5 * SECOND);
    });
    drop(acquire(&bench.pool("app", "first")).await);
    *bench.dial.fate.lock() = Some(Fate::Hangs);
    let clients = crowd(&bench);
    tokio::time::sleep(4 * SECOND).await;
    assert_eq!(most_at_once(&bench), 40, "one for each pool: it is believed well");
    let mut seen = Vec::new();
    for _ in 0..60 {
        tokio::time::sleep(SECOND).await;
        seen.push(bench.dial.under_way.load(Ordering::SeqCst));
    }
    assert!(seen[2..].iter().all(|under_way| (1..=3).contains(under_way)), "{seen:?}");
    *bench.dial.fate.lock() = None;
    let back = now();
    for client in clients {
        assert!(outcome(client).await.is_ok());
    }
    assert!(now() - back <= 5 * SECOND, "{:?}", now() - back);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_hangs_holds_up_no_other() {
    for (unproven, waits) in [(false, Duration::ZERO), (true, SECOND)] {
        let bench = two_databases(|pooler| pooler.defaults.query_wait_timeout = None);
        if !unproven {
            drop(acquire(&bench.pool("other", "first")).await);
        }
        *bench.dial.hanging.lock() = Some("app".into());
        let _hang: Vec<_> = (0..20).map(|user| wait(&bench.pool("app", &user.to_string()))).collect();
        for seconds in [1, 20, 40, 80] {
            tokio::time::sleep(seconds * SECOND).await;
            let start = now();
            drop(acquire(&bench.pool("other", &seconds.to_string())).await);
            assert!(now() - start <= waits, "after {seconds} s, {unproven}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_one_of_several_hosts_is_full_the_next_serves() {
    for balance in [LoadBalance::Disable, LoadBalance::RoundRobin] {
        let (mut many, mut rich) = (database("app", 2), database("rich", 1));
        (many.load_balance_hosts, rich.load_balance_hosts) = (balance, balance);
        let bench = Bench::new(config(vec![many, rich], |pooler| pooler.defaults.query_wait_timeout = None));
        let held = acquire(&bench.pool("rich", "u")).await;
        bench.dial.expect([Fate::Full]);
        for user in ["one", "two", "three"] {
            let start = now();
            drop(acquire(&bench.pool("app", user)).await);
            assert_eq!(now(), start, "{user}, {balance:?}");
        }
        release(held);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_node_has_room_for_a_pool_without_a_server_where_another_has_one_at_rest() {
    let bench = bench();
    let rich = bench.pool("app", "rich");
    let (one, two) = (acquire(&rich).await, acquire(&rich).await);
    release(one);
    release(two);
    tokio::time::sleep(SECOND).await;
    // The second time the place of the one that makes room is not free yet.
    bench.dial.expect([Fate::Full, Fate::Full, Fate::Serves]);
    let start = now();
    let lease = outcome(wait(&bench.pool("other", "poor"))).await.expect("what rests makes room");
    assert_eq!((bench.dial.dialed(), rich.connections(), now() - start), (5, 1, 20 * MILLI));
    assert_eq!(bench.dial.connected(), 2);
    release(lease);
    tokio::time::sleep(SECOND).await;
    bench.dial.expect([Fate::Full]);
    let guest = bench.pools.dial_beside(&rich).await.expect("one that rests makes room");
    assert_eq!((bench.dial.connected(), rich.connections()), (2, 0), "whosever it is");
    drop(guest);
}

#[tokio::test(start_paused = true)]
async fn a_full_node_is_tried_with_one_more_each_second_and_not_held_to_be_down() {
    let bench = bench();
    let lease = acquire(&bench.pool("app", "rich")).await;
    *bench.dial.fate.lock() = Some(Fate::Full);
    let poor = wait(&bench.pool("other", "poor"));
    tokio::time::sleep(10 * SECOND).await;
    assert!((9..=12).contains(&bench.dial.dialed()), "{}", bench.dial.dialed());
    assert!(!poor.is_finished(), "it waits for a place, as below a limit");
    *bench.dial.fate.lock() = None;
    let start = now();
    assert!(outcome(poor).await.is_ok());
    assert!(now() - start <= SECOND);
    release(lease);
}

#[tokio::test(start_paused = true)]
async fn an_order_to_connect_anew_skips_the_pause() {
    let bench = two_databases(|pooler| pooler.server_login_retry = 60 * SECOND);
    *bench.dial.fate.lock() = Some(Fate::Unreachable);
    let client = wait(&bench.pool("app", "u"));
    tokio::time::sleep(30 * SECOND).await;
    *bench.dial.fate.lock() = None;
    let start = now();
    bench.pools.reconnect(Some("app")).expect("it is there");
    drop(outcome(client).await);
    assert_eq!(now(), start);
}
