use std::collections::BTreeSet;

use super::*;
use crate::pool::testing::Dice;
use crate::types::Host;
use crate::wire::error::{ErrorFields, ErrorReply, SqlState};

const LONGEST: Duration = Duration::from_secs(1);

fn node(port: u16) -> Arc<Endpoint> {
    Arc::new(Endpoint { host: Host::Name("db".into()), port })
}

fn failure(fault: Fault) -> Failure {
    Failure::Unreachable { text: "no".into(), fault }
}

/// Pools that want to log in at one node, by a clock that the test moves.
struct Crowd {
    nodes: Nodes<u64>,
    node: Arc<Endpoint>,
    now: Instant,
}

impl Crowd {
    fn new() -> Self {
        Self { nodes: Nodes::default(), node: node(1), now: Instant::now() }
    }

    fn ask(&mut self, pool: u64) -> Result<Begun, Closed> {
        self.nodes.ask(&self.node, PoolId(pool), pool, false, self.now)
    }

    fn begins(&mut self, pool: u64) -> Begun {
        self.ask(pool).expect("it may")
    }

    /// How long a pool is to wait that is turned away.
    fn waits(&mut self, pool: u64) -> u128 {
        (self.ask(pool).expect_err("it may not").until - self.now).as_millis()
    }

    /// Who is woken.
    fn ended(&mut self, begun: Begun, outcome: Outcome<'_>) -> Vec<u64> {
        let mut woken = self.nodes.ended(&self.node, begun, outcome, self.now);
        woken.sort_unstable();
        woken
    }

    fn failed(&mut self, begun: Begun, fault: Fault) -> Vec<u64> {
        self.ended(begun, Outcome::Failed(&mut failure(fault), LONGEST))
    }

    fn open(mut self) -> Self {
        let first = self.begins(0);
        self.ended(first, Outcome::Succeeded);
        self
    }
}

#[test]
fn the_first_login_at_a_node_is_a_probe_and_then_all_may() {
    let mut crowd = Crowd::new();
    let first = crowd.begins(1);
    assert_eq!(
        (first.open, crowd.waits(2), crowd.waits(3)),
        (false, FIRST_PATIENCE.as_millis(), FIRST_PATIENCE.as_millis())
    );
    assert_eq!(crowd.ended(first, Outcome::Succeeded), [2, 3]);
    assert!([2, 3, 2, 2].map(|pool| crowd.begins(pool).open).iter().all(|open| *open));
}

#[test]
fn while_a_node_takes_no_logins_one_tries_and_all_who_want_to_are_told() {
    let mut crowd = Crowd::new().open();
    let logins = [1, 1, 2, 3].map(|pool| crowd.begins(pool));
    for login in logins {
        assert_eq!(crowd.failed(login, Fault::Node), [0; 0], "nobody was turned away");
    }
    for pause in [50, 100, 200, 400, 800, 1000, 1000] {
        assert_eq!([1, 2, 3].map(|pool| crowd.waits(pool)), [pause; 3], "side by side counts once");
        crowd.now += Duration::from_millis(pause as u64);
        let probe = crowd.begins(1 + (pause as u64) % 2);
        assert!(crowd.ask(3).is_err());
        assert!(crowd.failed(probe, Fault::Node).contains(&3));
        let told = crowd.ask(3).expect_err("the node is down").outage.expect("it has failed");
        assert_eq!((told.at, told.failure.to_string()), (crowd.now, "no".into()));
        crowd.nodes.all.get_mut(&crowd.node).expect("known").last_prober = None;
    }
    crowd.now += LONGEST;
    let probe = crowd.begins(2);
    assert!(crowd.ask(1).is_err());
    assert_eq!(crowd.ended(probe, Outcome::Succeeded), [1, 3]);
    assert!([1, 1, 2, 3, 3].map(|pool| crowd.begins(pool).open).iter().all(|open| *open));
}

#[test]
fn a_turn_that_comes_to_nothing_passes_on() {
    for (fault, since) in [(None, 0), (Some(Fault::Login), 0), (Some(Fault::Unclear), 100)] {
        let mut crowd = Crowd::new().open();
        let login = crowd.begins(1);
        crowd.failed(login, Fault::Node);
        crowd.now += Duration::from_millis(50);
        let probe = crowd.begins(1);
        assert!(crowd.ask(2).is_err());
        let woken = match fault {
            None => crowd.ended(probe, Outcome::Dropped),
            Some(fault) => crowd.failed(probe, fault),
        };
        assert_eq!(woken, [2], "{fault:?}");
        crowd.now += Duration::from_millis(since);
        crowd.begins(2);
        assert!(crowd.ask(1).is_err(), "{fault:?}");
    }
}

#[test]
fn one_users_trouble_closes_no_node() {
    for fault in [Fault::Login, Fault::Unclear] {
        let mut crowd = Crowd::new().open();
        let logins = [1, 2].map(|pool| crowd.begins(pool));
        let mut failure = failure(fault);
        let woken = crowd.ended(logins[0], Outcome::Failed(&mut failure, LONGEST));
        assert_eq!((woken, failure.fault()), (vec![], Fault::Login), "the pool makes its own pause");
        assert!(crowd.begins(3).open);
    }
    let mut crowd = Crowd::new();
    let first = crowd.begins(1);
    assert_eq!((crowd.waits(2), crowd.failed(first, Fault::Login)), (FIRST_PATIENCE.as_millis(), vec![2]));
    assert!(crowd.begins(2).open, "it answers");
    let mut crowd = Crowd::new();
    let (first, mut silent) = (crowd.begins(1), failure(Fault::Unclear));
    crowd.ended(first, Outcome::Failed(&mut silent, LONGEST));
    assert_eq!((silent.fault(), crowd.begins(2).open), (Fault::Node, true), "who has not tried yet may");
    assert!(!crowd.begins(1).open);
    let mut crowd = Crowd::new();
    let first = crowd.begins(1);
    crowd.failed(first, Fault::Node);
    crowd.now += Duration::from_millis(50);
    let probe = crowd.begins(2);
    assert_eq!((crowd.failed(probe, Fault::Unclear), crowd.waits(1)), (vec![], 100), "it is known to be down");
}

#[test]
fn a_node_that_was_well_and_is_silent_to_several_pools_is_probed_by_one_at_a_time() {
    let mut crowd = Crowd::new().open();
    let logins = [1, 1, 2, 3].map(|pool| crowd.begins(pool));
    crowd.failed(logins[0], Fault::Unclear);
    crowd.failed(logins[1], Fault::Unclear);
    assert!(crowd.begins(4).open, "it may be the one pool's trouble");
    crowd.failed(logins[2], Fault::Unclear);
    let probe = crowd.begins(1);
    assert!(!probe.open);
    let turned_away = crowd.ask(2).expect_err("another tries");
    assert!(turned_away.outage.is_none(), "it may be a database that hangs: nobody else is told of a failure");
    let first = crowd.begins(4);
    assert!(first.open, "who has not tried yet does not wait for those who have");
    let mut silent = failure(Fault::Unclear);
    assert_eq!(crowd.ended(probe, Outcome::Failed(&mut silent, LONGEST)), [2]);
    assert_eq!((silent.fault(), crowd.begins(2).open), (Fault::Node, false), "nor is a silent probe an answer");
    crowd.failed(first, Fault::Unclear);
    assert_eq!(crowd.waits(4), FIRST_PATIENCE.as_millis());
    crowd.ended(logins[3], Outcome::Succeeded);
    assert!(crowd.begins(4).open, "it takes logins again");
}

#[test]
fn silence_to_two_pools_proves_nothing_if_a_login_succeeds_between() {
    let mut crowd = Crowd::new().open();
    let logins = [1, 2, 3].map(|pool| crowd.begins(pool));
    crowd.failed(logins[0], Fault::Unclear);
    crowd.ended(logins[1], Outcome::Succeeded);
    crowd.failed(logins[2], Fault::Unclear);
    assert!(crowd.begins(4).open);
}

#[test]
fn a_login_that_began_before_the_failure_proves_nothing() {
    let mut crowd = Crowd::new().open();
    let (slow, quick) = (crowd.begins(1), crowd.begins(2));
    crowd.failed(quick, Fault::Node);
    crowd.ended(slow, Outcome::Succeeded);
    assert_eq!(crowd.waits(3), 50);
}

#[test]
fn who_has_tried_last_lets_others_go_first_and_who_hurries_skips_the_pause() {
    let mut crowd = Crowd::new().open();
    let login = crowd.begins(1);
    crowd.failed(login, Fault::Node);
    crowd.now += Duration::from_millis(50);
    let probe = crowd.begins(1);
    assert!(crowd.ask(2).is_err());
    crowd.failed(probe, Fault::Node);
    assert_eq!((crowd.waits(1), crowd.waits(2), crowd.waits(1)), (100, 100, 150));
    crowd.now += Duration::from_millis(100);
    assert_eq!(crowd.waits(1), 50);
    let probe = crowd.begins(2);
    assert_eq!(crowd.failed(probe, Fault::Node), [1]);
    let (node, now) = (crowd.node.clone(), crowd.now);
    assert!(crowd.nodes.ask(&node, PoolId(1), 1, true, now).is_ok());
    assert!(crowd.nodes.ask(&node, PoolId(2), 2, true, now).is_err(), "a probe is under way");
}

#[test]
fn a_probe_that_hangs_is_not_waited_for_for_long() {
    let mut crowd = Crowd::new();
    let first = crowd.begins(1);
    assert_eq!(crowd.waits(2), FIRST_PATIENCE.as_millis());
    crowd.now += FIRST_PATIENCE;
    let others = [2, 3, 4].map(|pool| crowd.begins(pool));
    assert!(others.iter().all(|begun| begun.open), "who has not tried yet may");
    for login in others {
        crowd.failed(login, Fault::Unclear);
    }
    for (pool, seconds) in [(2, 2), (3, 4), (4, 8), (2, 16), (3, 16)] {
        let probe = crowd.begins(pool);
        assert!(!probe.open);
        let waiting = 2 + (pool - 1) % 3;
        assert_eq!(crowd.waits(waiting), u128::from(seconds) * 1000, "{pool}");
        crowd.now += Duration::from_secs(seconds);
    }
    assert_eq!(crowd.ended(first, Outcome::Succeeded), [4]);
}

#[test]
fn who_does_not_wait_is_told_why_it_may_not_try() {
    let mut crowd = Crowd::new();
    let first = crowd.begins(1);
    let (node, now) = (crowd.node.clone(), crowd.now);
    assert!(crowd.nodes.ask_at_once(&node, now).is_ok(), "nobody knows");
    crowd.failed(first, Fault::Node);
    assert!(crowd.nodes.ask_at_once(&node, now).is_err());
    crowd.now += Duration::from_millis(50);
    let probe = crowd.nodes.ask_at_once(&node, crowd.now).expect("the pause is over");
    assert!(crowd.ask(1).is_err(), "it is the one that tries");
    assert_eq!(crowd.ended(probe, Outcome::Succeeded), [1]);
}

#[test]
fn nodes_that_are_gone_are_forgotten_and_nobody_waits_for_them() {
    let mut crowd = Crowd::new();
    let first = crowd.begins(1);
    assert!(crowd.ask(2).is_err());
    assert_eq!(crowd.nodes.retain(|node| node.port != 1), [2]);
    assert_eq!(crowd.ended(first, Outcome::Succeeded), [0; 0]);
    assert!(crowd.nodes.all.is_empty());
}

#[test]
fn a_server_says_in_words_whether_it_is_full_or_one_user_is() {
    for (code, message, fault) in [
        (SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already", Fault::Node),
        (
            SqlState::TOO_MANY_CONNECTIONS,
            "remaining connection slots are reserved for roles with the SUPERUSER attribute",
            Fault::Node,
        ),
        (SqlState::TOO_MANY_CONNECTIONS, "too many connections for role \"app\"", Fault::Login),
        (SqlState::TOO_MANY_CONNECTIONS, "too many connections for database \"app\"", Fault::Login),
        (SqlState::CANNOT_CONNECT_NOW, "the database system is starting up", Fault::Node),
        (SqlState::INVALID_PASSWORD, "password authentication failed", Fault::Login),
        (SqlState::INVALID_AUTHORIZATION, "no pg_hba.conf entry", Fault::Login),
    ] {
        assert_eq!(Fault::of_reply(&ErrorReply::fatal(code, message)), fault, "{message}");
    }
    // In any language.
    let said = |routine: &str| {
        let body = [b"C53300\0Mtut mir leid, schon zu viele Verbindungen\0R", routine.as_bytes(), b"\0\0"].concat();
        Fault::of_reply(&ErrorFields::parse(&body).reply(ErrorReply::fatal(SqlState::CONNECTION_FAILURE, "")))
    };
    assert_eq!(["InitProcess", "InitPostgres", "BackendInitialize"].map(said), [Fault::Node; 3]);
    assert_eq!(["InitializeSessionUserId", "CheckMyDatabase", ""].map(said), [Fault::Login; 3]);
}

/// What the machine is compared with: pools of one node, each of which wants to log in or does not, and has logins under
/// way.
struct Model {
    crowd: Crowd,
    dice: Dice,
    /// Logins under way, whether the node was open when they began, and when that was.
    logins: Vec<(Begun, Instant)>,
    /// Pools that were turned away and neither woken since nor past the time they were told.
    turned_away: BTreeSet<u64>,
    until: Vec<Option<Instant>>,
    /// What the node does with logins at the moment.
    takes: bool,
    /// It has failed, and no login that began after that has succeeded.
    down: bool,
    /// The last attempt that began before the last failure.
    last_before: Option<AttemptId>,
    last: Option<AttemptId>,
    granted: u32,
    probes: u32,
}

impl Model {
    fn new(seed: u64) -> Self {
        Self {
            crowd: Crowd::new(),
            dice: Dice::new(seed),
            logins: Vec::new(),
            turned_away: BTreeSet::new(),
            until: vec![None; 6],
            takes: seed.is_multiple_of(2),
            down: false,
            last_before: None,
            last: None,
            granted: 0,
            probes: 0,
        }
    }

    fn step(&mut self) {
        match self.dice.roll(10) {
            0..=3 => {
                let pool = self.dice.roll(6) as u64;
                self.ask(pool);
            }
            4..=6 => self.end(),
            7 => self.takes = self.dice.roll(3) > 0,
            _ => {
                self.crowd.now += Duration::from_millis([1, 60, 500, 16_000][self.dice.roll(4)]);
                self.look_again();
            }
        }
        self.check();
    }

    fn ask(&mut self, pool: u64) {
        let now = self.crowd.now;
        self.turned_away.remove(&pool);
        match self.crowd.ask(pool) {
            Ok(begun) => {
                let waited_for = |begun: &Begun, at: &Instant| !begun.open && now < *at + FIRST_PATIENCE;
                let others = self.logins.iter().filter(|(begun, at)| waited_for(begun, at)).count();
                assert!(begun.open || others == 0, "two at once at a node that takes none");
                assert!(!begun.open || !self.down, "it is not known to take any");
                self.logins.push((begun, now));
                self.last = Some(begun.id);
                self.granted += 1;
                self.probes += u32::from(!begun.open);
            }
            Err(closed) => {
                assert!(closed.until > now, "it would ask again at once");
                assert_eq!(closed.outage.is_some(), self.down);
                self.turned_away.insert(pool);
                self.until[pool as usize] = Some(closed.until);
            }
        }
    }

    fn end(&mut self) {
        if self.logins.is_empty() {
            return;
        }
        let at = self.dice.roll(self.logins.len());
        let (begun, _) = self.logins.swap_remove(at);
        let woken = match (self.dice.roll(8), self.takes) {
            (0, _) => self.crowd.ended(begun, Outcome::Dropped),
            (1, _) => self.crowd.failed(begun, Fault::Login),
            (2, _) => self.be_silent(begun),
            (_, true) => return self.succeed(begun),
            (_, false) => {
                (self.down, self.last_before) = (true, self.last);
                self.crowd.failed(begun, Fault::Node)
            }
        };
        woken.into_iter().for_each(|pool| self.ask(pool));
    }

    fn be_silent(&mut self, begun: Begun) -> Vec<u64> {
        let mut failure = failure(Fault::Unclear);
        let woken = self.crowd.ended(begun, Outcome::Failed(&mut failure, LONGEST));
        if failure.fault() == Fault::Node && !self.crowd.nodes.all[&self.crowd.node].is_in_doubt() {
            (self.down, self.last_before) = (true, self.last);
        }
        woken
    }

    fn succeed(&mut self, begun: Begun) {
        if Some(begun.id) > self.last_before {
            self.down = false;
        }
        let woken = self.crowd.ended(begun, Outcome::Succeeded);
        woken.into_iter().for_each(|pool| self.ask(pool));
    }

    /// Whose time has come asks again.
    fn look_again(&mut self) {
        let due = |pool: &u64| self.until[*pool as usize].is_some_and(|until| until <= self.crowd.now);
        let due: Vec<u64> = self.turned_away.iter().copied().filter(due).collect();
        due.into_iter().for_each(|pool| self.ask(pool));
    }

    /// Whoever was turned away has something to wait for: a probe, whose end wakes it, or a time that it was told.
    fn check(&self) {
        for pool in &self.turned_away {
            let known = &self.crowd.nodes.all[&self.crowd.node];
            assert!(known.queue.iter().any(|(queued, _)| queued.0 == *pool), "nobody will wake {pool}");
            assert!(!known.health.is_well(), "{pool} waits at an open node");
            assert!(self.until[*pool as usize].is_some_and(|until| until > self.crowd.now), "{pool} missed its time");
        }
    }

    /// The node takes logins from now on: everybody gets in.
    fn recover(mut self) {
        self.takes = true;
        while let Some((begun, _)) = self.logins.pop() {
            self.succeed(begun);
        }
        (0..6).for_each(|pool| self.ask(pool));
        for _ in 0..3 {
            while let Some((begun, _)) = self.logins.pop() {
                self.succeed(begun);
            }
            self.crowd.now += LONGEST;
            self.look_again();
        }
        assert_eq!(self.turned_away, BTreeSet::new());
    }
}

#[test]
fn random_pools_never_probe_side_by_side_and_none_is_forgotten() {
    let (mut granted, mut probes) = (0, 0);
    for seed in 0..2000 {
        let run = std::panic::catch_unwind(|| {
            let mut model = Model::new(seed);
            (0..200).for_each(|_| model.step());
            let reached = (model.granted, model.probes);
            model.recover();
            reached
        });
        let run = run.unwrap_or_else(|_| panic!("seed {seed}"));
        (granted, probes) = (granted + run.0, probes + run.1);
    }
    assert!(granted > 50_000 && probes > 10_000, "the runs must reach what they are to test: {granted}, {probes}");
}
