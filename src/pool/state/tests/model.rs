//! Random runs against the dullest pool one can write: a list of who has which server, and a queue.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::pool::places::LEAST_STAY;
use crate::pool::testing::Dice;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    Resting,
    With(u32),
    Checked,
}

struct Model {
    state: PoolState<u32, u32>,
    settings: PoolSettings,
    now: Instant,
    dice: Dice,
    servers: BTreeMap<u32, (Slot, Where)>,
    logins: Vec<Slot>,
    queue: VecDeque<(u32, Ticket)>,
    next: u32,
    shrunk: bool,
    served: u32,
    /// Until when servers stay that other pools were not told of.
    staying: BTreeMap<Slot, Instant>,
    /// By when each server has stayed long enough.
    stays: BTreeMap<u32, Instant>,
    evicted: u32,
    shut_outs: u32,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut settings = settings(1 + dice.roll(4) as u32);
        settings.reserve_pool_size = dice.roll(3) as u32;
        settings.min_pool_size = dice.roll(3) as u32;
        settings.server_round_robin = dice.roll(2) == 0;
        settings.server_check_delay = Duration::from_secs([0, 1, 30][dice.roll(3)]);
        settings.server_lifetime = Duration::from_secs([0, 20, 3600][dice.roll(3)]);
        settings.server_idle_timeout = Some(Duration::from_secs(15));
        settings.query_wait_timeout = [None, Some(Duration::from_secs(20))][dice.roll(2)];
        let state = PoolState::new(Arc::new(settings.clone()), 1);
        Self {
            state,
            settings,
            now: Instant::now(),
            dice,
            servers: BTreeMap::new(),
            logins: Vec::new(),
            queue: VecDeque::new(),
            next: 1,
            shrunk: false,
            served: 0,
            staying: BTreeMap::new(),
            stays: BTreeMap::new(),
            evicted: 0,
            shut_outs: 0,
        }
    }

    fn step(&mut self) {
        let mut out = Actions::new();
        match self.dice.roll(24) {
            0..=4 => self.client_comes(&mut out),
            5..=9 => self.server_returns(&mut out),
            10 => self.server_is_lost(&mut out),
            11..=13 => self.login_ends(&mut out),
            14 => self.client_leaves(),
            15 | 16 => self.check_ends(&mut out),
            17 => self.gate(&mut out),
            18 => self.order(&mut out),
            19 => self.evict(&mut out),
            _ => {
                let millis = [1, 60, 300, 2000, 20_000][self.dice.roll(5)];
                self.now += Duration::from_millis(millis);
                self.state.on_time(self.now, &mut out);
                self.others_are_told();
            }
        }
        self.carry_out(out);
        self.begin_logins();
        self.check();
    }

    fn client_comes(&mut self, out: &mut Actions<u32, u32>) {
        let client = self.next;
        self.next += 1;
        if let Some((slot, server)) = self.state.take(self.now) {
            assert!(self.queue.is_empty(), "{client} overtook");
            assert!(self.state.gate().is_open());
            self.lend(slot, server, client);
        } else if let Ok(ticket) = self.state.came(client, Purpose::Request, self.now, out) {
            self.queue.push_back((client, ticket));
        }
    }

    fn lend(&mut self, slot: Slot, server: u32, client: u32) {
        let (known, place) = self.servers.get_mut(&server).expect("a server that was opened");
        assert_eq!(*known, slot);
        assert!(!matches!(place, Where::With(_)), "{server} is lent already");
        *place = Where::With(client);
        self.served += 1;
    }

    fn of(&self, wanted: impl Fn(Where) -> bool) -> Vec<(u32, Slot)> {
        self.servers.iter().filter(|(_, (_, place))| wanted(*place)).map(|(id, (slot, _))| (*id, *slot)).collect()
    }

    fn server_returns(&mut self, out: &mut Actions<u32, u32>) {
        let lent = self.of(|place| matches!(place, Where::With(_)));
        let Some((server, slot)) = self.dice.pick(&lent) else { return };
        self.servers.insert(server, (slot, Where::Resting));
        self.state.returned(slot, server, self.now, out);
    }

    fn server_is_lost(&mut self, out: &mut Actions<u32, u32>) {
        let lent = self.of(|place| matches!(place, Where::With(_)));
        let Some((server, slot)) = self.dice.pick(&lent) else { return };
        self.servers.remove(&server);
        self.state.gone(slot, self.now, out);
    }

    fn check_ends(&mut self, out: &mut Actions<u32, u32>) {
        let checked = self.of(|place| place == Where::Checked);
        let Some((server, slot)) = self.dice.pick(&checked) else { return };
        if self.dice.roll(3) == 0 {
            self.servers.remove(&server);
            self.state.gone(slot, self.now, out);
        } else {
            self.servers.insert(server, (slot, Where::Resting));
            self.state.returned(slot, server, self.now, out);
        }
    }

    fn login_ends(&mut self, out: &mut Actions<u32, u32>) {
        let Some(slot) = self.logins.pop() else { return };
        match self.dice.roll(16) {
            0 => self.state.failed(slot, &of_node(), self.now, out),
            3 => self.state.failed(slot, &unreachable(), self.now, out),
            1 => self.state.failed(slot, &refusal(self.dice.roll(2) == 0), self.now, out),
            2 => self.state.login_dropped(slot, self.now, out),
            _ => {
                let server = self.next;
                self.next += 1;
                self.servers.insert(server, (slot, Where::Resting));
                self.state.opened(slot, server, self.now, out);
                self.staying.insert(slot, self.now + LEAST_STAY);
                self.stays.insert(server, self.now + LEAST_STAY);
            }
        }
    }

    /// Whatever has stayed long enough by now is told, and nothing else. (A place that was given to another server in the
    /// meantime is told twice.)
    fn others_are_told(&mut self) {
        let told = self.state.stayed(self.now);
        let due: Vec<Slot> =
            self.staying.iter().filter(|(_, until)| **until <= self.now).map(|(slot, _)| *slot).collect();
        assert!(due.iter().all(|slot| told.contains(slot)), "{due:?} {told:?}");
        assert!(self.state.stayed(self.now).is_empty(), "once");
        self.staying.retain(|_, until| *until > self.now);
    }

    fn client_leaves(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        let at = self.dice.roll(self.queue.len());
        let (client, ticket) = self.queue.remove(at).expect("it is in the queue");
        assert_eq!(self.state.left(ticket), Some(client));
    }

    fn gate(&mut self, out: &mut Actions<u32, u32>) {
        let reason = [HoldReason::DatabasePaused, HoldReason::PoolerPaused][self.dice.roll(2)];
        if self.dice.roll(8) == 0 {
            self.state.hold(reason, out);
        } else {
            self.state.release(reason, self.now, out);
        }
    }

    fn order(&mut self, out: &mut Actions<u32, u32>) {
        match self.dice.roll(5) {
            0 => self.state.raise_generation(self.now, out),
            1 => self.state.kill(self.now, out),
            2 => self.state.set_wanted(self.dice.roll(2) == 0),
            3 => drop(self.state.ask_to_yield(self.now)),
            _ => {
                self.settings.pool_size = 1 + self.dice.roll(4) as u32;
                self.shrunk = true;
                self.state.set_settings(Arc::new(self.settings.clone()), 1, self.now, out);
            }
        }
    }

    fn evict(&mut self, out: &mut Actions<u32, u32>) {
        let victim = self.state.evictable(self.now).next().map(|server| server.slot);
        if let Some(slot) = victim {
            assert!(self.queue.is_empty());
            assert!(self.state.evict(slot, out));
        }
    }

    fn carry_out(&mut self, out: Actions<u32, u32>) {
        for action in out {
            match action {
                Action::Hand { slot, server, waiter } => {
                    assert!(self.state.gate().is_open());
                    assert_eq!(self.queue.pop_front().map(|(client, _)| client), Some(waiter), "out of turn");
                    self.lend(slot, server, waiter);
                }
                Action::Check { slot, server } => {
                    assert_eq!(self.servers.insert(server, (slot, Where::Checked)), Some((slot, Where::Resting)));
                }
                Action::Close { slot, server, reason } => {
                    if reason == CloseReason::Evicted {
                        assert!(self.stays[&server] <= self.now, "it has hardly come");
                        self.evicted += 1;
                    }
                    assert_eq!(self.servers.remove(&server), Some((slot, Where::Resting)));
                }
                Action::Refuse { waiter, .. } => {
                    assert_eq!(self.queue.pop_front().map(|(client, _)| client), Some(waiter), "out of turn");
                }
            }
        }
    }

    fn begin_logins(&mut self) {
        while let Some(wants) = self.state.wants(self.now) {
            if self.dice.roll(32) == 0 {
                return self.shut_out();
            }
            let size = self.settings.pool_size + self.settings.reserve_pool_size;
            assert!(self.state.counts().total() < size, "over the limit");
            assert!(wants.logins <= 4);
            self.logins.push(self.state.begin_login());
        }
    }

    /// All hosts are left to others for now.
    fn shut_out(&mut self) {
        let until = self.now + Duration::from_millis([1, 500, 15_000][self.dice.roll(3)]);
        let failed = self.now - Duration::from_millis([0, 1, 100][self.dice.roll(3)]);
        let failure = [None, Some(of_node()), Some(refusal(false))][self.dice.roll(3)].clone();
        let mut out = Actions::new();
        self.state.shut_out(failure.as_ref().map(|failure| (failure, failed)), Some(until), &mut out);
        self.carry_out(out);
        let waits = self.state.waiting() > 0 && self.state.gate().is_open();
        assert!(!waits || self.state.next_wake(self.now).is_some_and(|at| at <= until), "it would not look again");
        self.shut_outs += 1;
    }

    /// What must hold after every step.
    fn check(&self) {
        let counts = self.state.counts();
        assert_eq!(counts.login as usize, self.logins.len());
        assert_eq!(counts.active as usize, self.of(|place| matches!(place, Where::With(_))).len());
        assert_eq!(counts.idle as usize, self.of(|place| place == Where::Resting).len());
        assert_eq!(counts.tested as usize, self.of(|place| place == Where::Checked).len());
        assert_eq!(self.state.waiting() as usize, self.queue.len());
        if !self.shrunk {
            assert!(counts.total() <= self.settings.pool_size + self.settings.reserve_pool_size);
        }
        if self.state.gate().is_paused() {
            assert_eq!(counts.idle, 0, "a pause leaves nothing at rest");
        } else if !self.queue.is_empty() {
            self.check_nobody_waits_in_vain();
        }
        if let Some(first) = self.staying.values().filter(|until| **until > self.now).min() {
            assert!(self.state.next_wake(self.now).is_some_and(|at| at <= *first), "nobody will tell others");
        }
        if let (false, Some(_)) = (self.queue.is_empty(), self.settings.query_wait_timeout) {
            assert!(self.state.next_wake(self.now).is_some(), "nobody will tell them that they waited too long");
        }
    }

    /// Somebody waits at an open gate: something must be on its way, or be going to happen.
    fn check_nobody_waits_in_vain(&self) {
        let counts = self.state.counts();
        assert_eq!(counts.idle, self.state.used(self.now), "a server rests that could be lent");
        let on_its_way = counts.active + counts.tested + counts.login;
        if counts.idle > 0 {
            assert!(counts.tested + counts.login >= self.state.waiting(), "nobody checks what rests");
        }
        // A server of a failing pool is probed when its time comes; all else was begun at once.
        let later = self.state.next_wake(self.now).is_some();
        assert!(on_its_way > 0 || later, "nothing will ever come");
    }
}

#[test]
fn random_runs_agree_with_the_model() {
    let (mut served, mut evicted, mut shut_outs) = (0, 0, 0);
    for seed in 0..5000 {
        let run = std::panic::catch_unwind(|| {
            let mut model = Model::new(seed);
            (0..300).for_each(|_| model.step());
            (model.served, model.evicted, model.shut_outs)
        });
        let run = run.unwrap_or_else(|_| panic!("seed {seed}"));
        (served, evicted, shut_outs) = (served + run.0, evicted + run.1, shut_outs + run.2);
    }
    let reached = served > 100_000 && evicted > 2000 && shut_outs > 2000;
    assert!(reached, "the runs must reach what they are to test: {served}, {evicted}, {shut_outs}");
}
