use super::*;
use crate::pool::failure::Fault;
use crate::pool::gate::HoldReason;
use crate::pool::testing::settings;
use crate::wire::error::{ErrorReply, SqlState};

mod logins;
mod model;
mod neighbours;

/// Servers and clients are numbers; what the machine says is written down in words.
struct Pool {
    state: PoolState<u32, u32>,
    now: Instant,
    next_server: u32,
    tickets: Vec<(u32, Ticket)>,
}

impl Pool {
    fn new(change: impl FnOnce(&mut PoolSettings)) -> Self {
        let mut settings = settings(2);
        change(&mut settings);
        let state = PoolState::new(Arc::new(settings), 1);
        Self { state, now: Instant::now(), next_server: 1, tickets: Vec::new() }
    }

    /// Lets `event` happen and says what follows.
    fn on(&mut self, event: impl FnOnce(&mut PoolState<u32, u32>, Instant, &mut Actions<u32, u32>)) -> String {
        let mut out = Actions::new();
        event(&mut self.state, self.now, &mut out);
        words(&out)
    }

    fn came(&mut self, client: u32) -> String {
        self.came_for(Purpose::Request, client)
    }

    fn came_for(&mut self, purpose: Purpose, client: u32) -> String {
        let mut out = Actions::new();
        match self.state.came(client, purpose, self.now, &mut out) {
            Ok(ticket) => self.tickets.push((client, ticket)),
            Err(error) => return error.to_string(),
        }
        words(&out)
    }

    /// Begins as many logins as are wanted.
    fn logins(&mut self) -> Vec<Slot> {
        let mut slots = Vec::new();
        while self.state.wants(self.now).is_some() {
            slots.push(self.state.begin_login());
        }
        slots
    }

    fn opened(&mut self, slot: Slot) -> String {
        let server = self.next_server;
        self.next_server += 1;
        self.on(|state, now, out| state.opened(slot, server, now, out))
    }

    fn returned(&mut self, slot: Slot, server: u32) -> String {
        self.on(|state, now, out| state.returned(slot, server, now, out))
    }

    /// `count` servers at rest: server 1, 2, …
    fn with_idle(mut self, count: u32) -> Self {
        for _ in 0..count {
            let slot = self.state.begin_login();
            self.opened(slot);
        }
        self
    }

    fn take_all(&mut self) {
        while self.take().is_some() {}
    }

    fn take(&mut self) -> Option<(Slot, u32)> {
        self.state.take(self.now)
    }

    fn pass(&mut self, time: Duration) -> String {
        self.now += time;
        self.on(|state, now, out| state.on_time(now, out))
    }

    fn until_wake(&self) -> Option<Duration> {
        self.state.next_wake(self.now).map(|at| at - self.now)
    }
}

fn words(out: &Actions<u32, u32>) -> String {
    let words: Vec<String> = out
        .iter()
        .map(|action| match action {
            Action::Hand { server, waiter, .. } => format!("{server}→{waiter}"),
            Action::Check { server, .. } => format!("check {server}"),
            Action::Close { server, reason, .. } => format!("close {server}: {}", reason.as_str()),
            Action::Refuse { waiter, error } => format!("refuse {waiter}: {error}"),
        })
        .collect();
    words.join(", ")
}

const SECOND: Duration = Duration::from_secs(1);

fn refusal(retry: bool) -> Failure {
    let reply = Arc::new(ErrorReply::fatal(SqlState::INVALID_PASSWORD, "wrong password"));
    Failure::Refused { reply, retry, fault: Fault::Login }
}

/// What all pools of a node suffer.
fn of_node() -> Failure {
    Failure::Unreachable { text: "node down".into(), fault: Fault::Node }
}

fn unreachable() -> Failure {
    Failure::Unreachable { text: "connect failed".into(), fault: Fault::Login }
}

#[test]
fn the_server_that_rested_last_is_lent_first_and_with_round_robin_last() {
    for (round_robin, first, second) in [(false, 2, 1), (true, 1, 2)] {
        let mut pool = Pool::new(|settings| settings.server_round_robin = round_robin).with_idle(2);
        assert_eq!(pool.take().map(|(_, server)| server), Some(first));
        assert_eq!(pool.take().map(|(_, server)| server), Some(second));
        assert_eq!(pool.take(), None);
    }
}

#[test]
fn who_came_first_is_served_first_and_nobody_overtakes() {
    let mut pool = Pool::new(|_| ()).with_idle(1);
    let (slot, server) = pool.take().expect("one rests");
    assert_eq!((pool.came(1), pool.came(2), pool.came(3)), Default::default());
    let ticket = pool.tickets[1].1;
    assert_eq!(pool.state.left(ticket), Some(2));
    assert_eq!(pool.state.left(ticket), None, "it left already");
    assert_eq!(pool.returned(slot, server), "1→1");
    assert_eq!(pool.take(), None, "3 waits");
    assert_eq!(pool.returned(slot, server), "1→3");
    assert_eq!(pool.returned(slot, server), "");
    assert_eq!(pool.take(), Some((slot, server)));
}

#[test]
fn the_first_login_is_a_probe_and_then_more_with_each_server() {
    let mut pool = Pool::new(|settings| settings.pool_size = 9);
    for client in 1..=8 {
        pool.came(client);
    }
    let probe = pool.logins();
    assert_eq!(probe.len(), 1);
    assert_eq!(pool.opened(probe[0]), "1→1");
    let logins = pool.logins();
    assert_eq!(logins.len(), 2, "seven wait");
    assert_eq!((pool.opened(logins[0]), pool.opened(logins[1])), ("2→2".into(), "3→3".into()));
    assert_eq!(pool.logins().len(), 4, "five wait");
    pool.returned(probe[0], 1);
    pool.returned(probe[0], 1);
    assert_eq!(pool.logins().len(), 0, "four are under way for the other three");
}

#[test]
fn a_pool_is_never_larger_than_it_may_be() {
    let mut pool = Pool::new(|_| ()).with_idle(2);
    pool.take_all();
    pool.came(1);
    assert_eq!(pool.logins(), []);
}

#[test]
fn the_reserve_is_for_those_who_waited_long() {
    let mut pool = Pool::new(|settings| settings.reserve_pool_size = 2).with_idle(2);
    pool.take_all();
    pool.came(1);
    pool.now += SECOND;
    pool.came(2);
    assert_eq!(pool.until_wake(), Some(4 * SECOND));
    pool.pass(4 * SECOND);
    assert!(pool.state.wants(pool.now).is_some_and(|wants| wants.from_reserve));
    let logins = pool.logins();
    assert_eq!(logins.len(), 1, "2 has waited for four seconds only");
    assert_eq!(pool.until_wake(), Some(SECOND));
    pool.pass(SECOND);
    assert_eq!(pool.logins().len(), 1);
    assert_eq!(pool.opened(logins[0]), "3→1");
    pool.came(3);
    pool.pass(10 * SECOND);
    assert_eq!(pool.logins(), [], "the reserve is used up");
}

#[test]
fn without_a_timeout_there_is_no_reserve() {
    let mut pool = Pool::new(|settings| (settings.reserve_pool_size, settings.reserve_pool_timeout) = (2, None));
    pool = pool.with_idle(2);
    pool.take_all();
    pool.came(1);
    pool.pass(60 * SECOND);
    assert_eq!(pool.logins(), []);
}

#[test]
fn clients_give_up_exactly_after_query_wait_timeout() {
    let mut pool = Pool::new(|settings| settings.query_wait_timeout = Some(3 * SECOND)).with_idle(2);
    pool.take_all();
    pool.came(1);
    pool.now += SECOND;
    pool.came(2);
    assert_eq!(pool.until_wake(), Some(2 * SECOND));
    assert_eq!(pool.pass(2 * SECOND), "refuse 1: query_wait_timeout");
    assert_eq!(pool.until_wake(), Some(SECOND));
    assert_eq!(pool.pass(SECOND), "refuse 2: query_wait_timeout");
    assert_eq!(pool.until_wake(), None);
}

#[test]
fn while_a_server_fails_one_probes_with_growing_pauses() {
    let mut pool = Pool::new(|settings| settings.pool_size = 9);
    (1..=5).for_each(|client| drop(pool.came(client)));
    for pause in [50, 100, 200, 400, 800] {
        let logins = pool.logins();
        assert_eq!(logins.len(), 1);
        assert_eq!(pool.on(|state, now, out| state.failed(logins[0], &unreachable(), now, out)), "");
        assert_eq!(pool.logins(), []);
        assert_eq!(pool.until_wake(), Some(Duration::from_millis(pause)));
        pool.pass(Duration::from_millis(pause));
    }
    let probe = pool.logins();
    assert_eq!(pool.opened(probe[0]), "1→1");
    assert_eq!(pool.logins().len(), 2);
}

#[test]
fn what_a_server_says_at_login_reaches_all_who_wait_unless_it_only_starts_up() {
    for (failure, others, expected) in [
        (refusal(false), 0, "refuse 1: wrong password, refuse 2: wrong password"),
        (refusal(true), 0, ""),
        (unreachable(), 0, ""),
        (refusal(false), 1, ""), // another server works
    ] {
        let mut pool = Pool::new(|_| ()).with_idle(others);
        pool.take();
        pool.came(1);
        pool.came(2);
        let logins = pool.logins();
        assert_eq!(pool.on(|state, now, out| state.failed(logins[0], &failure, now, out)), expected, "{failure:?}");
    }
}

#[test]
fn a_new_client_of_a_failing_pool_fails_fast_and_makes_it_try_again() {
    let mut pool = Pool::new(|_| ());
    pool.came(1);
    let login = pool.logins()[0];
    pool.on(|state, now, out| state.failed(login, &refusal(false), now, out));
    let fast = "server login has been failing, cached error: wrong password (server_login_retry)";
    assert_eq!(pool.came(2), fast);
    assert_eq!(pool.until_wake(), Some(Duration::from_millis(50)));
    pool.pass(Duration::from_millis(50));
    let probe = pool.logins();
    assert_eq!((probe.len(), pool.logins().len()), (1, 0));
    assert_eq!(pool.came(3), fast, "a probe is not a server");
    assert_eq!(pool.opened(probe[0]), "");
    assert_eq!(pool.take().map(|(_, server)| server), Some(1));
    assert_eq!(pool.came(4), "");
}

#[test]
fn who_asks_after_a_failing_pool_makes_it_try_again_when_it_may() {
    let mut pool = Pool::new(|_| ());
    pool.on(|state, _, _| state.ask_probe());
    assert_eq!(pool.logins().len(), 0, "nobody has tried, so nothing failed");
    pool.came(1);
    let login = pool.logins()[0];
    pool.on(|state, now, out| state.failed(login, &refusal(false), now, out));
    assert_eq!(pool.until_wake(), None, "nobody asks");
    pool.on(|state, _, _| state.ask_probe());
    assert_eq!((pool.logins().len(), pool.until_wake()), (0, Some(Duration::from_millis(50))));
    pool.pass(Duration::from_millis(50));
    let probe = pool.logins();
    pool.on(|state, _, _| state.ask_probe());
    assert_eq!((probe.len(), pool.logins().len()), (1, 0));
    assert_eq!(pool.opened(probe[0]), "");
    assert_eq!((pool.state.is_failing(), pool.logins().len()), (false, 0), "one was enough");
}

#[test]
fn a_failing_pool_that_has_servers_tries_again_beside_them() {
    let mut pool = Pool::new(|_| ()).with_idle(1);
    assert!(pool.take().is_some());
    pool.came(2);
    let login = pool.logins()[0];
    pool.on(|state, now, out| state.failed(login, &refusal(true), now, out));
    assert_eq!(pool.returned(Slot::of(0), 1), "1→2");
    pool.pass(SECOND);
    assert_eq!((pool.state.is_failing(), pool.logins().len()), (true, 0));
    pool.on(|state, _, _| state.ask_probe());
    assert_eq!(pool.logins().len(), 1);
}

#[test]
fn a_failure_of_long_ago_refuses_nobody() {
    let mut pool = Pool::new(|_| ());
    pool.came(1);
    let login = pool.logins()[0];
    pool.on(|state, now, out| state.failed(login, &refusal(false), now, out));
    pool.pass(15 * SECOND);
    assert_eq!(pool.came(2), "");
    assert_eq!(pool.logins().len(), 1);
}

#[test]
fn a_server_that_rested_long_is_checked_before_it_is_lent() {
    let mut pool = Pool::new(|_| ()).with_idle(2);
    pool.pass(31 * SECOND);
    assert_eq!((pool.take(), pool.state.used(pool.now)), (None, 2));
    assert_eq!(pool.came(1), "check 2");
    assert_eq!(pool.logins(), []);
    let slot = Slot::of(1);
    assert_eq!(pool.returned(slot, 2), "2→1");
    assert_eq!(pool.returned(slot, 2), "");
    assert_eq!(pool.take(), Some((slot, 2)), "it is fresh again");
}

#[test]
fn when_a_check_fails_the_next_is_checked_and_then_one_is_opened() {
    let mut pool = Pool::new(|_| ()).with_idle(2);
    pool.pass(31 * SECOND);
    assert_eq!(pool.came(1), "check 2");
    assert_eq!(pool.on(|state, now, out| state.gone(Slot::of(1), now, out)), "check 1");
    assert_eq!(pool.until_wake(), Some(Duration::from_millis(250)));
    pool.pass(Duration::from_millis(250));
    assert_eq!(pool.logins().len(), 1, "a check that takes long is not waited for");
    assert_eq!(pool.on(|state, now, out| state.gone(Slot::of(0), now, out)), "");
}

#[test]
fn with_a_delay_of_zero_each_use_is_preceded_by_a_check() {
    let mut pool = Pool::new(|settings| settings.server_check_delay = Duration::ZERO).with_idle(1);
    assert_eq!(pool.take(), None);
    assert_eq!(pool.came(1), "check 1");
    assert_eq!(pool.returned(Slot::of(0), 1), "1→1");
    pool.came(2);
    assert_eq!(pool.returned(Slot::of(0), 1), "check 1");
    let mut unchecked = Pool::new(|settings| {
        settings.server_check_delay = Duration::ZERO;
        settings.server_check_query = CheckQuery::Off;
    })
    .with_idle(1);
    unchecked.pass(SECOND);
    assert!(unchecked.take().is_some());
}

#[test]
fn a_pause_closes_what_rests_and_lets_nobody_through_until_resume() {
    let mut pool = Pool::new(|_| ()).with_idle(2);
    let (slot, server) = pool.take().expect("two rest");
    assert_eq!(pool.on(|state, _, out| state.hold(HoldReason::DatabasePaused, out)), "close 1: pause mode");
    pool.on(|state, _, out| state.hold(HoldReason::PoolerPaused, out));
    assert_eq!((pool.take(), pool.came(1), pool.logins()), (None, String::new(), vec![]));
    assert_eq!(pool.returned(slot, server), "close 2: pause mode");
    assert_eq!(pool.on(|state, now, out| state.release(HoldReason::PoolerPaused, now, out)), "");
    assert_eq!(pool.logins(), [], "the other reason still holds");
    pool.on(|state, now, out| state.release(HoldReason::DatabasePaused, now, out));
    let login = pool.logins();
    assert_eq!(login.len(), 1);
    assert_eq!(pool.opened(login[0]), "3→1");
}

#[test]
fn a_login_that_ends_in_a_pause_or_after_a_change_is_closed() {
    let mut pool = Pool::new(|_| ());
    pool.came(1);
    let login = pool.logins();
    pool.on(|state, _, out| state.hold(HoldReason::DatabasePaused, out));
    assert_eq!(pool.opened(login[0]), "close 1: pause mode");
    pool.on(|state, now, out| state.release(HoldReason::DatabasePaused, now, out));
    let login = pool.logins();
    pool.on(PoolState::raise_generation);
    assert_eq!(pool.opened(login[0]), "close 2: database configuration changed");
    assert_eq!(pool.logins().len(), 1, "1 still waits");
}

#[test]
fn kill_refuses_who_waits_and_leaves_nothing() {
    let mut pool = Pool::new(|_| ()).with_idle(2);
    let (slot, server) = pool.take().expect("two rest");
    let (other, _) = pool.take().expect("one rests");
    pool.came(1);
    pool.on(|state, now, out| state.gone(other, now, out));
    pool.on(|state, _, out| state.hold(HoldReason::DatabasePaused, out));
    assert_eq!(pool.on(PoolState::kill), "refuse 1: database removed");
    assert_eq!(pool.came(2), "", "it waits for RESUME");
    assert_eq!(pool.returned(slot, server), "close 2: database removed");
}

#[test]
fn the_end_is_told_to_all() {
    for (end, error, reason) in [
        (End::DatabaseRemoved, "database removed", "database removed"),
        (End::DatabaseChanged, "database configuration changed", "database configuration changed"),
        (End::ShuttingDown, "server shutting down", "server shutting down"),
    ] {
        let mut pool = Pool::new(|_| ()).with_idle(2);
        let (slot, server) = pool.take().expect("two rest");
        assert_eq!(pool.on(|state, _, out| state.end(end, out)), format!("close 1: {reason}"));
        assert_eq!(pool.came(1), error);
        assert_eq!(pool.returned(slot, server), format!("close 2: {reason}"));
        assert_eq!((pool.logins(), pool.until_wake()), (vec![], None));
    }
}

#[test]
fn a_smaller_pool_shrinks_as_servers_come_back_and_a_larger_one_grows_at_once() {
    let mut pool = Pool::new(|settings| settings.pool_size = 3).with_idle(3);
    let lent = [pool.take(), pool.take(), pool.take()].map(|taken| taken.expect("three rest"));
    let resize = |size| {
        move |state: &mut PoolState<u32, u32>, now, out: &mut _| {
            state.set_settings(Arc::new(settings(size)), 1, now, out);
        }
    };
    pool.on(resize(2));
    pool.came(1);
    assert_eq!(pool.returned(lent[0].0, lent[0].1), "close 3: too many servers in the pool");
    assert_eq!(pool.returned(lent[1].0, lent[1].1), "2→1");
    pool.came(2);
    assert_eq!(pool.logins(), []);
    pool.on(resize(5));
    assert_eq!(pool.logins().len(), 1);
}

#[test]
fn the_minimum_is_kept_while_somebody_wants_it() {
    let mut pool = Pool::new(|settings| (settings.pool_size, settings.min_pool_size) = (5, 3));
    assert_eq!(pool.logins(), []);
    pool.state.set_wanted(true);
    let probe = pool.logins();
    assert_eq!(probe.len(), 1);
    pool.opened(probe[0]);
    assert_eq!(pool.logins().len(), 2);
    assert_eq!(pool.logins(), []);
}

#[test]
fn servers_are_closed_for_age_one_at_a_time_as_they_come_back() {
    let mut pool = Pool::new(|_| ()).with_idle(2);
    let lent = [pool.take(), pool.take()].map(|taken| taken.expect("two rest"));
    pool.now += Duration::from_secs(3600);
    assert_eq!(pool.returned(lent[0].0, lent[0].1), "close 2: server lifetime over");
    assert_eq!(pool.returned(lent[1].0, lent[1].1), "");
}
