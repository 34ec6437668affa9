//! Clients that log in while servers say no.

use super::*;

fn full() -> Failure {
    let reply = Arc::new(ErrorReply::fatal(SqlState::TOO_MANY_CONNECTIONS, "too many clients already"));
    Failure::Refused { reply, retry: false }
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
