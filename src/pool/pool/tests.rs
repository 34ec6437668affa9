use std::path::Path;
use std::task::Poll;

use super::*;
use crate::config::model::Config;
use crate::config::users::Userlist;
use crate::pool::connector::Dial;
use crate::pool::credential::stored_credential;
use crate::pool::testing::{Bench, Fate, config, database, rest};
use crate::wire::scram::ScramKeys;

const SECOND: Duration = Duration::from_secs(1);

fn client(number: u64) -> ClientId {
    ClientId(number)
}

async fn acquire(pool: &Arc<Pool>) -> Lease {
    pool.acquire(client(1), now()).await.expect("a server")
}

fn release(lease: Lease) {
    lease.release(now(), &mut Tally::default());
}

/// Polls once.
fn poll(acquire: &mut Acquire) -> Option<Result<Lease, AcquireError>> {
    match Pin::new(acquire).poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_is_opened_lent_and_lent_again() {
    let bench = Bench::simple(|_| ());
    let pool = bench.pool("app", "u");
    assert!(pool.try_acquire(client(1), now()).is_none());
    let lease = acquire(&pool).await;
    let (id, link) = (lease.shared.id, lease.shared.link.load(Ordering::Relaxed));
    assert_eq!(link, 1);
    let mut tally = Tally { queries: 3, ..Tally::default() };
    lease.release(now(), &mut tally);
    assert_eq!(tally, Tally::default());
    let lease = pool.try_acquire(client(2), now()).expect("it rests");
    assert_eq!(lease.shared.id, id);
    assert_eq!(bench.pools.totals()["app"].sums.queries, 3);
    assert_eq!(
        pool.welcome().and_then(|params| params.get("server_version").map(<[u8]>::to_vec)),
        Some(b"18.1".into())
    );
}

/// Three clients in the queue of a pool of one, each of which goes away before, between or after the hand-overs:
/// whoever stays is served, in order, and the server is never lost.
#[tokio::test(start_paused = true)]
async fn clients_may_go_away_at_any_moment() {
    for plan in 0..64_usize {
        let leaves_at = [plan % 4, plan / 4 % 4, plan / 16 % 4];
        let bench = Bench::simple(|pooler| pooler.defaults.default_pool_size = 1);
        let pool = bench.pool("app", "u");
        let mut lease = Some(acquire(&pool).await);
        let mut queue: Vec<_> = (0..3).map(|number| Some(pool.acquire(client(number), now()))).collect();
        for round in 0..3 {
            // Round 0: before anything is handed over. 1: handed over and not polled. 2: after a poll.
            for (waiter, &leaves) in queue.iter_mut().zip(&leaves_at) {
                if let (Some(acquire), true) = (waiter.as_mut(), round == 2)
                    && let Some(outcome) = poll(acquire)
                {
                    assert!(lease.is_none(), "{leaves_at:?}: two have one server");
                    lease = Some(outcome.expect("a server"));
                }
                if leaves == round {
                    *waiter = None;
                }
            }
            if round == 0 {
                let left = leaves_at.iter().filter(|&&leaves| leaves == 0).count() as u32;
                assert_eq!(pool.waiting(), 3 - left, "who left is no longer in the queue");
            }
            if let Some(lease) = lease.take() {
                release(lease);
            }
        }
        let mut served = 0;
        for waiter in queue.iter_mut().flatten() {
            if let Some(outcome) = poll(waiter) {
                release(outcome.expect("a server"));
                served += 1;
            }
        }
        queue.clear();
        let lease = pool.try_acquire(client(9), now());
        assert!(lease.is_some(), "{leaves_at:?}: the server is lost, {served} were served");
        assert_eq!(bench.dial.dialed(), 1, "{leaves_at:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_lease_closes_its_server_and_the_next_gets_another() {
    let bench = Bench::simple(|pooler| pooler.defaults.default_pool_size = 1);
    let pool = bench.pool("app", "u");
    let lease = acquire(&pool).await;
    let waiter = tokio::spawn(pool.acquire(client(2), now()));
    rest().await;
    drop(lease);
    let lease = waiter.await.expect("no panic").expect("a server");
    rest().await;
    assert_eq!((bench.dial.dialed(), bench.dial.connected()), (2, 1));
    lease.discard(CloseReason::ServerLost, &mut Tally::default());
    rest().await;
    assert_eq!(bench.dial.connected(), 0, "nobody waits");
}

#[tokio::test(start_paused = true)]
async fn clients_that_wait_too_long_are_told_exactly_then() {
    let bench = Bench::simple(|pooler| pooler.defaults.query_wait_timeout = Some(3 * SECOND));
    let pool = bench.pool("app", "u");
    let _held = [acquire(&pool).await, acquire(&pool).await];
    let start = now();
    let error = pool.acquire(client(3), start).await.expect_err("both are lent");
    assert_eq!(now() - start, 3 * SECOND);
    assert!(matches!(error, AcquireError::TimedOut { waited, .. } if waited == 3 * SECOND), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_reaches_all_who_wait_and_then_new_ones_fail_fast() {
    let bench = Bench::simple(|_| ());
    bench.dial.expect([Fate::Refused]);
    let pool = bench.pool("app", "u");
    let waiters: Vec<_> = (0..5).map(|number| pool.acquire(client(number), now())).collect();
    for waiter in waiters {
        let error = waiter.await.expect_err("refused");
        assert!(matches!(&error, AcquireError::Refused(reply) if reply.code.as_str() == "28P01"), "{error:?}");
    }
    assert_eq!(bench.dial.dialed(), 1);
    let error = pool.acquire(client(9), now()).await.expect_err("it has been failing");
    assert!(matches!(error, AcquireError::LoginFailing { .. }), "{error:?}");
    tokio::time::sleep(SECOND).await;
    drop(acquire(&pool).await);
}

#[tokio::test(start_paused = true)]
async fn clients_wait_on_while_the_server_is_down_or_starts_up() {
    let bench = Bench::simple(|_| ());
    bench.dial.expect([Fate::Unreachable, Fate::StartsUp, Fate::Unreachable, Fate::StartsUp]);
    let pool = bench.pool("app", "u");
    let start = now();
    drop(acquire(&pool).await);
    let waited = now() - start;
    assert!(waited >= Duration::from_millis(750) && waited < SECOND, "50 + 100 + 200 + 400 ms: {waited:?}");
    assert_eq!(bench.dial.dialed(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_hangs_is_given_up() {
    let bench = Bench::simple(|_| ());
    bench.dial.expect([Fate::Hangs]);
    let pool = bench.pool("app", "u");
    let start = now();
    drop(acquire(&pool).await);
    assert!(now() - start >= 15 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hung_up_while_idle_is_not_lent() {
    let bench = Bench::simple(|_| ());
    let pool = bench.pool("app", "u");
    let leases = [acquire(&pool).await, acquire(&pool).await];
    let first = leases[0].shared.id;
    leases.into_iter().for_each(release);
    bench.dial.ends.lock()[1].abort();
    rest().await;
    tokio::time::advance(Duration::from_millis(20)).await;
    let lease = pool.try_acquire(client(1), now()).expect("one is left");
    assert_eq!((lease.shared.id, bench.dial.dialed()), (first, 2));
    release(lease);
    bench.dial.ends.lock()[0].abort();
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(pool.connections(), 0, "found without anybody asking");
}

#[tokio::test(start_paused = true)]
async fn a_server_is_reset_before_the_next_client_and_closed_if_that_fails() {
    for (fate, same) in [(Fate::Serves, true), (Fate::Complains, false), (Fate::Mute, false)] {
        let bench = Bench::simple(|pooler| pooler.defaults.default_pool_size = 1);
        bench.dial.expect([fate]);
        let pool = bench.pool("app", "u");
        let mut lease = acquire(&pool).await;
        lease.statements.insert(crate::server::statements::StatementId(1));
        let id = lease.shared.id;
        let waiter = tokio::spawn(pool.acquire(client(2), now()));
        rest().await;
        lease.release_after_reset(now(), &mut Tally::default());
        assert_eq!(pool.lock().state.counts().tested, 1);
        let lease = waiter.await.expect("no panic").expect("a server");
        assert_eq!(lease.shared.id == id, same, "{fate:?}");
        assert!(lease.statements.is_empty(), "DISCARD ALL ran");
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_idle_server_is_checked_before_it_is_lent() {
    for (fate, same) in [(Fate::Serves, true), (Fate::Mute, false)] {
        let bench = Bench::simple(|_| ());
        bench.dial.expect([fate]);
        let pool = bench.pool("app", "u");
        let lease = acquire(&pool).await;
        let id = lease.shared.id;
        release(lease);
        tokio::time::sleep(40 * SECOND).await;
        assert!(pool.try_acquire(client(1), now()).is_none());
        let start = now();
        let lease = acquire(&pool).await;
        assert_eq!(lease.shared.id == id, same, "{fate:?}");
        assert!(now() - start < SECOND, "a mute server is not waited for");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_in_quarantine_comes_back_only_when_the_cancel_has_landed() {
    for (landed, reset_too) in [(true, false), (true, true), (false, false)] {
        let bench = Bench::simple(|pooler| pooler.defaults.default_pool_size = 1);
        let pool = bench.pool("app", "u");
        let lease = acquire(&pool).await;
        let id = lease.shared.id;
        let cancel = async move {
            tokio::time::sleep(SECOND).await;
            landed
        };
        let start = now();
        lease.quarantine(cancel, reset_too, now(), &mut Tally::default());
        let row = &bench.pools.pool_rows(now())[0];
        assert_eq!((row.sv_being_canceled, row.sv_active), (1, 0));
        let lease = acquire(&pool).await;
        assert!(now() - start >= SECOND);
        assert_eq!(lease.shared.id == id, landed);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_client_proved_opens_servers_from_then_on_but_never_replaces_a_password() {
    let secret = |text: &str| crate::types::Secret::new(text.as_bytes());
    let keys = |text: &str| Credential::ScramKeys(ScramKeys::from_password(text.as_bytes(), b"salt", 1));
    let bench = Bench::simple(|_| ());
    let pool = bench.pool("app", "u");
    let known = || pool.lock().target.credential.clone();
    pool.learn(keys("a"));
    pool.learn(keys("b"));
    pool.learn(Credential::None);
    assert_eq!(known(), keys("b"));
    pool.learn(Credential::Plain(secret("p")));
    pool.learn(keys("c"));
    assert_eq!(known(), Credential::Plain(secret("p")));
    drop(acquire(&pool).await);
    assert_eq!(bench.dial.requests.lock()[0].credential, Credential::Plain(secret("p")));
}

/// Clients on several threads take, hold, drop and give back; some go away while they wait. A server with two
/// clients, or a client that is never served, fails the test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_never_share_a_server_and_none_waits_for_ever() {
    let bench = Bench::simple(|pooler| pooler.defaults.default_pool_size = 3);
    let pool = bench.pool("app", "u");
    let users: Arc<[AtomicU32; 4096]> = Arc::new([const { AtomicU32::new(0) }; 4096]);
    let tasks: Vec<_> =
        (1..=24_u64).map(|number| tokio::spawn(busy_client(number, pool.clone(), users.clone()))).collect();
    let all = async {
        for task in tasks {
            task.await.expect("no panic");
        }
    };
    tokio::time::timeout(60 * SECOND, all).await.expect("nobody waits for ever");
    let counts = pool.lock().state.counts();
    assert_eq!((counts.active, pool.waiting()), (0, 0));
}

async fn busy_client(number: u64, pool: Arc<Pool>, users: Arc<[AtomicU32; 4096]>) {
    let mut dice = crate::pool::testing::Dice::new(number);
    for _ in 0..300 {
        let mut acquire = pool.acquire(client(number), now());
        if dice.roll(4) == 0 {
            let _ = poll(&mut acquire).map(|outcome| release(outcome.expect("a server")));
            continue;
        }
        let lease = acquire.await.expect("a server");
        let user = &users[lease.shared.id.0 as usize];
        assert_eq!(user.fetch_add(1, Ordering::SeqCst), 0, "two clients on one server");
        assert!(pool.connections() <= 3);
        if dice.roll(2) == 0 {
            tokio::task::yield_now().await;
        }
        user.fetch_sub(1, Ordering::SeqCst);
        match dice.roll(20) {
            0 => drop(lease),
            1 => lease.release_after_reset(now(), &mut Tally::default()),
            _ => release(lease),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_dial_trait_is_object_safe_and_a_lease_can_cross_threads() {
    fn is_send<T: Send>() {}
    is_send::<Lease>();
    is_send::<Acquire>();
    is_send::<Arc<dyn Dial>>();
}

#[tokio::test(start_paused = true)]
async fn what_a_client_proved_by_an_older_user_list_is_not_learned() {
    let listing = |users: &str| {
        let mut config = Arc::into_inner(config(vec![database("app", 1)], |_| ())).expect("it is ours alone");
        config.userlist = Arc::new(Userlist::parse(Path::new("users"), users.as_bytes()).0);
        Arc::new(config)
    };
    let (before, after) = (listing("\"u\" \"old\"\n\"v\" \"old\"\n"), listing("\"u\" \"new\"\n"));
    let bench = Bench::new(before.clone());
    let come = |user: &str, list: &Config| {
        let stored = list.userlist.get(user);
        bench.pools.get_or_create(&"app".into(), &user.into(), stored, stored_credential(stored)).expect("it is there")
    };
    let plain = |password: &str| Credential::Plain(crate::types::Secret::new(password.as_bytes()));
    let known = |pool: &Pool| pool.lock().target.credential.clone();
    assert_eq!(known(&come("u", &before)), plain("old"));
    bench.pools.apply(&after);
    assert_eq!(known(&come("u", &before)), plain("new"));
    assert_eq!(known(&come("v", &before)), Credential::None, "it is not listed any more");
    assert_eq!(known(&come("u", &after)), plain("new"));
}
