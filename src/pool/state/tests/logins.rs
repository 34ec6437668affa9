//! Clients that log in while servers say no.

use super::*;

fn full() -> Failure {
    let reply = Arc::new(ErrorReply::fatal(SqlState::TOO_MANY_CONNECTIONS, "too many clients already"));
    Failure::Refused { reply, retry: false, fault: Fault::Login }
}

#[test]
fn a_login_waits_for_a_server_that_is_down_or_says_no_for_now_and_not_for_one_that_refuses() {
    for (failure, waits) in [(unreachable(), true), (refusal(true), true), (full(), true), (refusal(false), false)] {
        let mut pool = Pool::new(|_| ());
        pool.came(1);
        let login = pool.logins()[0];
        pool.on(|state, now, out| state.failed(login, &failure, now, out));
        assert_ne!(pool.came(2), "", "a request is refused at once");
        assert_eq!(pool.came_for(Purpose::Login, 3).is_empty(), waits, "{failure:?}");
    }
}

#[test]
fn a_full_server_is_told_to_requests_and_waited_for_by_logins() {
    let mut pool = Pool::new(|_| ());
    pool.came(1);
    pool.came_for(Purpose::Login, 2);
    pool.came(3);
    let login = pool.logins()[0];
    let told = "refuse 1: too many clients already, refuse 3: too many clients already";
    assert_eq!(pool.on(|state, now, out| state.failed(login, &full(), now, out)), told);
    pool.pass(Duration::from_millis(50));
    let probe = pool.logins();
    assert_eq!(pool.on(|state, now, out| state.failed(probe[0], &full(), now, out)), "");
    assert!(matches!(pool.state.wait_cause(), WaitCause::Refused(_)));
    pool.pass(Duration::from_millis(100));
    let probe = pool.logins();
    assert_eq!(pool.opened(probe[0]), "1→2");
}

fn node_full() -> Failure {
    let reply = Arc::new(ErrorReply::fatal(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already"));
    Failure::Refused { reply, retry: false, fault: Fault::Node }
}

#[test]
fn a_failure_of_the_node_makes_no_pause_of_the_pools_own() {
    let mut pool = Pool::new(|_| ());
    pool.came_for(Purpose::Login, 1);
    for _ in 0..5 {
        let login = pool.logins();
        assert_eq!(login.len(), 1, "when it may try is not for it to say");
        pool.on(|state, now, out| state.failed(login[0], &node_full(), now, out));
    }
    pool.on(|state, now, out| state.shut_out(None, Some(now + SECOND), out));
    assert_eq!(pool.until_wake(), Some(SECOND));
}

#[test]
fn who_is_shut_out_hears_once_what_the_node_says_and_waits_when_it_is_open_again() {
    let mut pool = Pool::new(|_| ());
    pool.came(1);
    pool.came_for(Purpose::Login, 2);
    let (begun, failure) = (pool.now, node_full());
    let shut_out =
        |pool: &mut Pool, at| pool.on(|state, now, out| state.shut_out(Some((&failure, at)), Some(now + SECOND), out));
    assert_eq!(shut_out(&mut pool, begun), "refuse 1: sorry, too many clients already");
    let cached = "server login has been failing, cached error: sorry, too many clients already (server_login_retry)";
    assert_eq!(pool.came(3), cached);
    pool.now += SECOND;
    pool.on(|state, now, _| state.probe_now(now));
    assert_eq!((pool.came(4).as_str(), pool.state.hurries()), ("", true));
    assert_eq!(shut_out(&mut pool, begun), "", "it was told that before");
    assert_eq!((pool.state.waiting(), pool.state.hurries()), (2, true));
    let again = pool.now;
    assert_eq!(shut_out(&mut pool, again), "refuse 4: sorry, too many clients already");
    assert!(!pool.state.hurries() && matches!(pool.state.wait_cause(), WaitCause::Refused(_)));
    pool.on(|state, _, _| state.node_opened());
    assert_eq!((pool.came(5).as_str(), pool.state.is_failing()), ("", false));
    let login = pool.logins();
    assert_eq!(pool.opened(login[0]), "1→2");
}

#[test]
fn that_the_node_is_open_does_not_end_a_pause_of_the_pools_own() {
    let mut pool = Pool::new(|_| ());
    pool.came(1);
    let login = pool.logins()[0];
    pool.on(|state, now, out| state.failed(login, &refusal(true), now, out));
    pool.on(|state, _, _| state.node_opened());
    assert_eq!((pool.logins().len(), pool.until_wake()), (0, Some(Duration::from_millis(50))));
}
