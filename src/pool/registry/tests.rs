use std::time::Duration;

use super::*;
use crate::config::model::User;
use crate::pool::commands::CommandError;
use crate::pool::lease::Lease;
use crate::pool::places::LEAST_STAY;
use crate::pool::stats::{ServerState, Tally};
use crate::pool::testing::{Bench, acquire, config, database, outcome, release, rest, two_databases, wait};
use crate::pool::{AcquireError, CloseReason};
use crate::types::{ClientId, Secret};

mod neighbours;
mod probes;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn what_was_ordered_goes_with_its_database() {
    let bench = two_databases(|_| ());
    let lease = acquire(&bench.pool("app", "u")).await;
    let paused = tokio::spawn(bench.pools.pause(Some("app")).expect("it is there"));
    bench.pools.disable(Some("app")).expect("it is there");
    rest().await;
    bench.pools.apply(&config(vec![database("other", 1)], |_| ()));
    let ended = paused.await.expect("no panic").expect_err("it is not paused");
    assert_eq!(ended.to_string(), "PAUSE was ended by a reload without the database");
    release(lease);
    bench.pools.apply(&config(vec![database("app", 1), database("other", 1)], |_| ()));
    assert!(!bench.pools.is_paused("app") && !bench.pools.is_disabled("app"));
    release(acquire(&bench.pool("app", "u")).await);
    // An entry that stays keeps what was ordered.
    bench.pools.pause(Some("app")).expect("it is there").await.expect("all is quiet");
    bench.pools.apply(&config(vec![database("app", 2)], |_| ()));
    assert!(bench.pools.is_paused("app"));
}

#[tokio::test(start_paused = true)]
async fn kill_refuses_who_waits_closes_what_rests_and_leaves_the_database_paused() {
    let bench = two_databases(|pooler| pooler.defaults.default_pool_size = 2);
    let pool = bench.pool("app", "u");
    let leases = [acquire(&pool).await, acquire(&pool).await];
    let waiter = wait(&pool);
    rest().await;
    bench.pools.kill(Some("app")).expect("it is there");
    assert_eq!(outcome(waiter).await.err(), Some(AcquireError::Killed));
    assert!(leases.iter().all(Lease::close_needed));
    leases.into_iter().for_each(release);
    rest().await;
    assert_eq!((pool.connections(), bench.dial.connected()), (0, 0));
    let waiter = wait(&pool);
    rest().await;
    assert!(!waiter.is_finished());
    bench.pools.resume(Some("app")).expect("paused");
    assert!(outcome(waiter).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn reconnect_replaces_servers_as_they_come_back() {
    let bench = two_databases(|_| ());
    let pool = bench.pool("app", "u");
    let (held, rested) = (acquire(&pool).await, acquire(&pool).await);
    let id = held.shared.id;
    release(rested);
    assert!(pool.welcome().is_some());
    bench.pools.reconnect(Some("app")).expect("it is there");
    assert_eq!((pool.welcome(), pool.connections()), (None, 1));
    assert!(held.close_needed());
    let closed = tokio::spawn(bench.pools.wait_close(Some("app")).expect("it is there"));
    rest().await;
    assert!(!closed.is_finished());
    assert!(bench.pools.server_rows(now())[0].close_needed);
    release(held);
    closed.await.expect("no panic");
    let lease = acquire(&pool).await;
    assert!(lease.shared.id != id && !lease.close_needed() && pool.welcome().is_some());
}

#[tokio::test(start_paused = true)]
async fn orders_that_make_no_sense_are_refused_in_words_that_scripts_know() {
    let bench = two_databases(|_| ());
    let pools = &bench.pools;
    for (error, text) in [
        (pools.pause(Some("none")).err(), "no such database: none"),
        (pools.pause(Some("pgbouncer")).err(), "cannot pause admin db: pgbouncer"),
        (pools.kill(Some("pgbouncer")).err(), "cannot kill admin db: pgbouncer"),
        (pools.reconnect(Some("pgbouncer")).err(), "cannot reconnect admin db: pgbouncer"),
        (pools.wait_close(Some("pgbouncer")).err(), "cannot wait in admin db: pgbouncer"),
        (pools.disable(None).err(), "a database is required"),
        (pools.enable(Some("none")).err(), "no such database: none"),
        (pools.resume(None).err(), "pooler is not paused/suspended"),
        (pools.resume(Some("app")).err(), "database app is not paused"),
    ] {
        assert_eq!(error.map(|error| error.to_string()).as_deref(), Some(text));
    }
    pools.disable(Some("app")).expect("it is there");
    assert!(pools.is_disabled("app") && pools.databases()["app"].disabled);
    pools.enable(Some("app")).expect("it is there");
    assert!(!pools.is_disabled("app"));
}

#[tokio::test(start_paused = true)]
async fn at_the_end_who_waits_is_refused_and_servers_are_closed_as_they_come_back() {
    let bench = two_databases(|pooler| pooler.defaults.default_pool_size = 1);
    let pool = bench.pool("app", "u");
    let lease = acquire(&pool).await;
    let waiter = wait(&pool);
    rest().await;
    let end = tokio::spawn(bench.pools.shutdown());
    assert_eq!(outcome(waiter).await.err(), Some(AcquireError::ShuttingDown));
    rest().await;
    assert!(!end.is_finished());
    assert_eq!(bench.pools.resume(None), Err(CommandError::ShuttingDown));
    assert_eq!(wait(&bench.pool("other", "u")).await.expect("no panic").err(), Some(AcquireError::ShuttingDown));
    lease.release_after_reset(now(), &mut Tally::default());
    end.await.expect("no panic");
    rest().await;
    assert_eq!(bench.dial.connected(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_pools_closes_everything() {
    let bench = two_databases(|_| ());
    let pool = bench.pool("app", "u");
    release(acquire(&pool).await);
    let lease = acquire(&pool).await;
    let Bench { pools, dial, .. } = bench;
    drop(pools);
    drop(lease);
    rest().await;
    assert_eq!((dial.connected(), Arc::strong_count(&pool)), (0, 1), "no task keeps it");
}

#[tokio::test(start_paused = true)]
async fn a_reload_ends_pools_whose_database_is_gone_and_drops_their_totals() {
    let bench = two_databases(|_| ());
    let pool = bench.pool("app", "u");
    let lease = acquire(&pool).await;
    let presence = pool.client_came();
    bench.pools.apply(&config(vec![database("other", 1)], |_| ()));
    assert_eq!(wait(&pool).await.expect("no panic").err(), Some(AcquireError::DatabaseRemoved));
    assert!(lease.close_needed());
    lease.release(now(), &mut Tally { queries: 1, ..Tally::default() });
    assert!(bench.pools.totals().is_empty());
    bench.pools.apply(&config(vec![database("app", 1), database("other", 1)], |_| ()));
    drop(presence);
    assert!(bench.pools.totals().is_empty(), "one that comes back under the name is another");
    rest().await;
    assert_eq!((Arc::strong_count(&pool), bench.pools.pool_rows(now()).len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_makes_way_for_another_of_its_database_leaves_its_totals() {
    let bench = two_databases(|_| ());
    let pool = bench.pool("app", "u");
    let presence = pool.client_came();
    assert_eq!(bench.pools.totals()["app"].client_logins, 0, "its login may fail");
    presence.logged_in();
    pool.tally(&mut Tally { queries: 1, ..Tally::default() });
    let mut forced = database("app", 1);
    forced.forced_user = Some("one".into());
    bench.pools.apply(&config(vec![forced, database("other", 1)], |_| ()));
    for _ in 0..2 {
        let totals = bench.pools.totals();
        assert_eq!((totals["app"].sums.queries, totals["app"].client_logins), (1, 1), "counted once");
    }
    drop(presence);
    let totals = bench.pools.totals();
    assert_eq!((totals["app"].sums.queries, totals["app"].client_logins), (1, 1));
    assert_eq!(bench.pools.totals(), totals, "counted once");
}

#[tokio::test(start_paused = true)]
async fn a_reload_replaces_servers_only_where_they_are_reached_in_another_way() {
    let bench = two_databases(|_| ());
    let pools = [bench.pool("app", "u"), bench.pool("other", "u")];
    let leases = [acquire(&pools[0]).await, acquire(&pools[1]).await];
    let mut moved = database("app", 1);
    moved.dbname = Some("elsewhere".into());
    let after = config(vec![moved, database("other", 1)], |pooler| pooler.defaults.default_pool_size = 7);
    bench.pools.apply(&after);
    assert_eq!(leases.each_ref().map(Lease::close_needed), [true, false]);
    assert_eq!(pools.each_ref().map(|pool| pool.settings().pool_size), [7, 7]);
    leases.into_iter().for_each(release);
    drop(acquire(&pools[0]).await);
    let names: Vec<_> = bench.dial.requests.lock().iter().map(|request| request.dbname.to_string()).collect();
    assert_eq!(names, ["app", "other", "elsewhere"]);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_changes_the_user_ends_the_pool() {
    let bench = two_databases(|_| ());
    let pool = bench.pool("app", "u");
    let mut forced = database("app", 1);
    forced.forced_user = Some("one".into());
    bench.pools.apply(&config(vec![forced, database("other", 1)], |_| ()));
    assert_eq!(wait(&pool).await.expect("no panic").err(), Some(AcquireError::DatabaseChanged));
    assert_eq!(&*bench.pool("app", "u").key().user, "one");
}

#[tokio::test(start_paused = true)]
async fn a_forced_user_serves_all_and_keeps_its_minimum_without_clients() {
    let mut app = database("app", 1);
    app.forced_user = Some("one".into());
    app.forced_password = Some(Secret::new("p"));
    app.min_pool_size = Some(2);
    let bench = Bench::new(config(vec![app], |_| ()));
    rest().await;
    assert_eq!(bench.dial.connected(), 2);
    let pool = bench.pool("app", "u");
    assert!(Arc::ptr_eq(&pool, &bench.pool("app", "v")));
    assert_eq!(bench.dial.requests.lock()[0].credential, Credential::Plain(Secret::new("p")));
    let lease = pool.try_acquire(ClientId(1), now()).expect("two rest");
    lease.discard(CloseReason::ServerLost, &mut Tally::default());
    rest().await;
    assert_eq!(bench.dial.connected(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_minimum_without_forced_user_begins_with_the_first_client() {
    let bench = two_databases(|pooler| pooler.defaults.min_pool_size = 1);
    let pool = bench.pool("app", "u");
    rest().await;
    assert_eq!(bench.dial.connected(), 0);
    let presence = pool.client_came();
    rest().await;
    assert_eq!((bench.dial.connected(), pool.clients()), (1, 1));
    drop(presence);
    assert_eq!(pool.clients(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_database_makes_room_with_the_server_that_was_unused_longest() {
    let bench = two_databases(|pooler| pooler.defaults.max_db_connections = Some(2));
    let [first, second, third] = ["u", "v", "w"].map(|user| bench.pool("app", user));
    release(acquire(&first).await);
    tokio::time::sleep(SECOND).await;
    release(acquire(&second).await);
    let lease = acquire(&third).await;
    assert_eq!([&first, &second, &third].map(|pool| pool.connections()), [0, 1, 1]);
    tokio::time::sleep(LEAST_STAY).await;
    // Nothing rests now: whoever comes next waits for the first that does.
    let other = acquire(&second).await;
    let waiter = wait(&first);
    rest().await;
    assert!(!waiter.is_finished());
    let start = now();
    release(other);
    release(outcome(waiter).await.expect("a server"));
    assert_eq!(now(), start, "at once");
    assert_eq!([&first, &second, &third].map(|pool| pool.connections()), [1, 0, 1]);
    release(lease);
    assert_eq!(bench.dial.connected(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pool_without_any_server_gets_one_from_a_busy_neighbour() {
    for (limit, users) in [("db", ["u", "v"]), ("user", ["u", "u"]), ("node", ["u", "v"])] {
        let bench = two_databases(|pooler| match limit {
            "db" => pooler.defaults.max_db_connections = Some(2),
            "user" => pooler.defaults.max_user_connections = Some(2),
            _ => pooler.max_node_connections = Some(2),
        });
        let busy = bench.pool("app", users[0]);
        let starving = bench.pool(if limit == "db" { "app" } else { "other" }, users[1]);
        let held = [acquire(&busy).await, acquire(&busy).await];
        let own = [wait(&busy), wait(&busy), wait(&busy)];
        rest().await;
        let waiter = wait(&starving);
        tokio::time::sleep(LEAST_STAY).await;
        rest().await;
        let [one, _two] = held;
        release(one);
        rest().await;
        assert!(waiter.is_finished() && own.iter().all(|own| !own.is_finished()), "{limit}");
        release(outcome(waiter).await.expect("a server"));
        tokio::time::sleep(LEAST_STAY).await;
        rest().await;
        assert!(own[0].is_finished(), "it is not kept where nobody waits");
        assert!(bench.dial.connected() <= 2, "{limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waited_in_vain_for_a_shared_limit_is_told_which() {
    let bench = two_databases(|pooler| pooler.defaults.max_db_connections = Some(1));
    let _lease = acquire(&bench.pool("app", "u")).await;
    let error = wait(&bench.pool("app", "v")).await.expect("no panic").expect_err("it is full");
    assert!(format!("{error:?}").contains("max_db_connections"), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn rows_tell_who_does_what() {
    let bench = two_databases(|_| ());
    let pool = bench.pool("app", "u");
    let presence = [pool.client_came(), pool.client_came(), pool.client_came()];
    let lease = acquire(&pool).await;
    release(acquire(&pool).await);
    let lent = acquire(&pool).await;
    let waiter = wait(&pool);
    rest().await;
    tokio::time::advance(5 * SECOND).await;
    let row = &bench.pools.pool_rows(now())[0];
    assert_eq!((row.cl_active, row.cl_waiting, row.sv_active, row.maxwait), (2, 1, 2, 5 * SECOND));
    release(lent);
    release(outcome(waiter).await.expect("a server"));
    let states: Vec<_> = bench.pools.server_rows(now()).iter().map(|row| (row.id, row.state, row.link)).collect();
    let (active, idle) = (ServerState::Active, ServerState::Idle);
    assert_eq!(states, [(ServerId(1), active, Some(ClientId(1))), (ServerId(2), idle, None)]);
    tokio::time::sleep(40 * SECOND).await;
    assert_eq!(bench.pools.server_rows(now())[1].state, ServerState::Used);
    let status = &bench.pools.databases()["app"];
    assert_eq!((status.current_connections, status.current_client_connections), (2, 3));
    assert_eq!(bench.pools.users()["u"].current_connections, 2);
    drop((lease, presence));
}

#[tokio::test(start_paused = true)]
async fn a_pool_without_any_server_asks_the_one_that_got_what_it_had_asked_for() {
    let bench = two_databases(|pooler| pooler.defaults.max_db_connections = Some(1));
    let [rich, older, younger] = ["u", "v", "w"].map(|user| bench.pool("app", user));
    let start = now();
    let held = acquire(&rich).await;
    let mut waiters = Vec::new();
    for pool in [&older, &younger, &older] {
        waiters.push(wait(pool));
        rest().await;
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    let [first, starving, second] = waiters.try_into().expect("three");
    release(held);
    let got = outcome(first).await.expect("a server");
    assert_eq!(older.connections(), 1);
    let since = now();
    tokio::time::sleep(LEAST_STAY).await;
    rest().await;
    release(got);
    release(outcome(starving).await.expect("a server"));
    release(outcome(second).await.expect("a server"));
    assert_eq!((since - start, now() - since), (LEAST_STAY, 2 * LEAST_STAY), "nobody waits for longer");
}

#[tokio::test(start_paused = true)]
async fn pools_of_automatic_databases_go_when_nobody_used_them_for_long() {
    let bench = Bench::new(config(vec![database("*", 1), database("app", 1)], |pooler| {
        pooler.autodb_idle_timeout = Some(60 * SECOND);
    }));
    let (automatic, used) = (bench.pool("x", "u"), bench.pool("y", "u"));
    bench.pool("app", "u");
    let presence = used.client_came();
    presence.logged_in();
    drop(acquire(&automatic).await);
    assert_eq!(&*bench.dial.requests.lock()[0].dbname, "x");
    assert!(bench.pools.totals().contains_key("x"));
    for _ in 0..3 {
        bench.pools.retire_unused(now());
        tokio::time::sleep(30 * SECOND).await;
    }
    bench.pools.retire_unused(now());
    let names: Vec<_> = bench.pools.pool_rows(now()).iter().map(|row| row.key.database.to_string()).collect();
    assert_eq!(names, ["app", "y"]);
    let totals: Vec<_> = bench.pools.totals().keys().map(ToString::to_string).collect();
    assert_eq!(totals, ["app", "y"]);
    drop(presence);
    bench.pool("never", "u");
    let retry = bench.pool("never", "u").settings().server_login_retry;
    bench.pools.retire_unused(now());
    let known = |name: &str| {
        let rows = bench.pools.pool_rows(now());
        rows.iter().find(|row| &*row.key.database == name).map(|row| row.known)
    };
    assert_eq!(["never", "y", "app"].map(known), [Some(false), Some(true), Some(true)]);
    assert!(!bench.pools.totals().contains_key("never"), "it is only a name so far");
    tokio::time::sleep(retry).await;
    bench.pools.retire_unused(now());
    assert!(!bench.pools.pool_rows(now()).iter().any(|row| &*row.key.database == "never"), "it has had no server");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_while_only_the_minimum_is_asked_for_is_served_as_a_client() {
    let bench = two_databases(|pooler| {
        pooler.defaults.max_db_connections = Some(1);
        pooler.defaults.min_pool_size = 1;
    });
    let (full, empty) = (bench.pool("app", "u"), bench.pool("app", "v"));
    release(acquire(&full).await);
    let presence = empty.client_came();
    rest().await;
    assert_eq!(empty.connections(), 0, "a minimum evicts nobody");
    tokio::time::sleep(LEAST_STAY).await;
    let start = now();
    release(acquire(&empty).await);
    assert_eq!((now() - start, full.connections()), (Duration::ZERO, 0));
    drop(presence);
}

#[tokio::test(start_paused = true)]
async fn settings_of_users_count_in_the_pool() {
    let mut config = (*config(vec![database("app", 1)], |_| ())).clone();
    config.users.insert("u".into(), User { pool_size: Some(9), ..User::default() });
    let bench = Bench::new(Arc::new(config));
    assert_eq!(bench.pool("app", "u").settings().pool_size, 9);
    assert_eq!(bench.pool("app", "v").settings().pool_size, 2);
}
