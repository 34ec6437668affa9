use super::*;
use crate::pool::testing::{Fate, acquire, outcome, release, rest, two_databases, wait};
use crate::wire::error::{ClientError, SqlState};

#[tokio::test(start_paused = true)]
async fn pause_waits_for_lent_servers_and_holds_everybody_until_resume() {
    let bench = two_databases(|_| ());
    let (pool, other) = (bench.pool("app", "u"), bench.pool("other", "u"));
    let lease = acquire(&pool).await;
    release(acquire(&other).await);
    let paused = tokio::spawn(bench.pools.pause(Some("app")).expect("it is there"));
    rest().await;
    assert!(!paused.is_finished());
    let waiter = wait(&pool);
    drop(acquire(&other).await); // the other is not paused
    release(lease);
    paused.await.expect("no panic").expect("all is quiet");
    rest().await;
    assert!(!waiter.is_finished());
    assert_eq!((pool.connections(), bench.pools.databases()["app"].paused), (0, true));
    let named = CommandError::NotPaused { by_name: vec!["app".into()] };
    assert_eq!(named.reply().detail.as_deref(), Some("Paused by themselves: \"app\"."));
    assert_eq!(bench.pools.resume(None), Err(named));
    assert_eq!(bench.pools.resume(Some("app")), Ok(()));
    release(outcome(waiter).await.expect("a server"));
    assert_eq!(bench.pools.resume(Some("app")), Err(CommandError::DatabaseNotPaused("app".into())));
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_everything_holds_new_pools_and_logins_under_way_are_given_up() {
    let bench = two_databases(|_| ());
    bench.dial.expect([Fate::Hangs]);
    let pool = bench.pool("app", "u");
    let waiter = wait(&pool);
    rest().await;
    bench.pools.pause(None).expect("not paused yet").await.expect("all is quiet");
    rest().await;
    assert_eq!(bench.pools.pause(None).err(), Some(CommandError::AlreadyPaused));
    assert_eq!(bench.pools.pause(Some("app")).err(), Some(CommandError::AlreadyPaused));
    assert_eq!(bench.pools.kill(Some("app")), Err(CommandError::AlreadyPaused));
    assert_eq!(pool.connections(), 0, "no login goes on");
    let later = wait(&bench.pool("other", "u"));
    rest().await;
    assert!(!waiter.is_finished() && !later.is_finished());
    bench.pools.resume(None).expect("paused");
    assert!(outcome(waiter).await.is_ok() && outcome(later).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_pause_is_told_that_resume_ended_it() {
    for database in [None, Some("app")] {
        let bench = two_databases(|_| ());
        let lease = acquire(&bench.pool("app", "u")).await;
        let paused = tokio::spawn(bench.pools.pause(database).expect("it is there"));
        rest().await;
        bench.pools.resume(database).expect("paused");
        // Another one, before the first has looked, is none of its business.
        let again = tokio::spawn(bench.pools.pause(database).expect("it was resumed"));
        let ended = paused.await.expect("no panic").expect_err("a server is in use");
        assert_eq!(ended.to_string(), "PAUSE was ended by RESUME");
        assert_eq!(ended.reply().code, SqlState::QUERY_CANCELED);
        rest().await;
        assert!(!again.is_finished());
        release(lease);
        again.await.expect("no panic").expect("all is quiet");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_as_long_as_one_who_asked_for_it_is_there_or_was_told_that_it_does() {
    let bench = two_databases(|_| ());
    let pool = bench.pool("app", "u");
    let lease = acquire(&pool).await;
    let first = bench.pools.pause(Some("app")).expect("it is there");
    let second = tokio::spawn(bench.pools.pause(Some("app")).expect("it is there"));
    drop(first);
    let waiter = wait(&pool);
    rest().await;
    assert!(!second.is_finished(), "a server is in use");
    release(lease);
    second.await.expect("no panic").expect("all is quiet");
    drop(bench.pools.pause(Some("app")).expect("it is there"));
    rest().await;
    assert!(bench.pools.is_paused("app") && !waiter.is_finished(), "somebody was told that it is paused");
    bench.pools.resume(Some("app")).expect("paused");
    assert!(outcome(waiter).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_pause_ends_with_the_last_who_asked_for_it() {
    for database in [None, Some("app")] {
        let bench = two_databases(|_| ());
        let pool = bench.pool("app", "u");
        let lease = acquire(&pool).await;
        let mut asked = vec![bench.pools.pause(database).expect("it is there")];
        asked.extend(bench.pools.pause(database).ok()); // that of everything can be had once
        let waiter = wait(&pool);
        drop(asked);
        assert!(!bench.pools.is_paused("app"));
        release(lease);
        assert!(outcome(waiter).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_a_pause_takes_back_no_other() {
    for database in [None, Some("app")] {
        let bench = two_databases(|_| ());
        let lease = acquire(&bench.pool("app", "u")).await;
        let given_up = bench.pools.pause(database).expect("it is there");
        bench.pools.resume(database).expect("paused");
        let again = tokio::spawn(bench.pools.pause(database).expect("it was resumed"));
        drop(given_up);
        rest().await;
        assert!(bench.pools.is_paused("app") && !again.is_finished());
        release(lease);
        again.await.expect("no panic").expect("all is quiet");
    }
}

#[tokio::test(start_paused = true)]
async fn what_kill_and_a_signal_pause_stays_when_who_paused_before_gives_up() {
    let bench = two_databases(|_| ());
    let _lease = acquire(&bench.pool("app", "u")).await;
    let given_up = bench.pools.pause(Some("app")).expect("it is there");
    bench.pools.kill(Some("app")).expect("it is there");
    drop(given_up);
    assert!(bench.pools.is_paused("app"));
    let given_up = bench.pools.pause(None).expect("not paused yet");
    bench.pools.pause_until_resume().expect("nobody was told that it is");
    drop(given_up);
    assert!(bench.pools.is_pooler_paused());
    assert_eq!(bench.pools.pause_until_resume(), Err(CommandError::AlreadyPaused));
}
