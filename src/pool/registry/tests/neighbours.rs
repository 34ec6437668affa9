//! Pools that contend for the places of a shared limit, by a clock that only waits move.

use super::*;

/// Clients of one user: each takes a server for 2 ms, and comes again after `pause`.
struct Crowd {
    clients: Vec<tokio::task::JoinHandle<()>>,
    waits: Arc<Mutex<Vec<Duration>>>,
}

impl Crowd {
    fn of(pool: &Arc<Pool>, clients: u64, pause: Duration) -> Self {
        let waits = Arc::default();
        let client = || tokio::spawn(come_and_go(Arc::clone(pool), Arc::clone(&waits), pause));
        Self { clients: (0..clients).map(|_| client()).collect(), waits }
    }

    /// How often somebody was served, and the longest wait.
    fn leave(self) -> (usize, Duration) {
        self.clients.iter().for_each(tokio::task::JoinHandle::abort);
        let waits = self.waits.lock();
        (waits.len(), waits.iter().max().copied().unwrap_or_default())
    }
}

async fn come_and_go(pool: Arc<Pool>, waits: Arc<Mutex<Vec<Duration>>>, pause: Duration) {
    loop {
        let came = now();
        let lease = acquire(&pool).await;
        waits.lock().push(now() - came);
        tokio::time::sleep(Duration::from_millis(2)).await;
        release(lease);
        tokio::time::sleep(pause).await;
    }
}

fn contended(limit: u32) -> Bench {
    two_databases(|pooler| {
        pooler.defaults.max_db_connections = Some(limit);
        pooler.defaults.default_pool_size = 20;
    })
}

const MILLI: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_place_changes_hands_seldom_and_nobody_waits_long() {
    // Clients of each pool with their pause, places, the longest wait of any, and the most logins in ten seconds.
    for (crowds, limit, longest, logins) in [
        // One small client beside a busy pool: its server leaves after each stay, and it gets one at once when it comes.
        (&[(20, 0), (1, 50)][..], 4, 120 * MILLI, 220),
        (&[(20, 0), (1, 50)], 1, 250 * MILLI, 110),
        (&[(8, 2), (8, 2)], 4, 120 * MILLI, 410),
        (&[(2, 2), (2, 2)], 2, 250 * MILLI, 210),
        (&[(4, 2), (4, 2)], 1, 250 * MILLI, 110),
        (&[(4, 2), (4, 2), (4, 2), (4, 2), (4, 2)], 2, 600 * MILLI, 210),
        // Each in its turn.
        (&[(1, 1), (1, 1), (1, 1), (1, 1), (1, 1), (1, 1)], 1, 650 * MILLI, 110),
    ] {
        let bench = contended(limit);
        let crowd = |(user, (clients, pause)): (usize, &(u64, u32))| {
            Crowd::of(&bench.pool("app", &user.to_string()), *clients, *pause * MILLI)
        };
        let all: Vec<Crowd> = crowds.iter().enumerate().map(crowd).collect();
        tokio::time::sleep(10 * SECOND).await;
        let came_of_it: Vec<_> = all.into_iter().map(Crowd::leave).collect();
        let dialed = bench.dial.dialed();
        let fair = came_of_it.iter().all(|(served, wait)| *served > 50 && *wait <= longest);
        assert!(fair && dialed <= logins, "{crowds:?} below {limit}: {came_of_it:?}, {dialed} logins");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_as_soon_as_a_server_has_stayed() {
    let bench = contended(1);
    let (full, empty) = (bench.pool("app", "u"), bench.pool("app", "v"));
    release(acquire(&full).await);
    let start = now();
    tokio::time::advance(40 * MILLI).await;
    drop(acquire(&empty).await);
    assert_eq!((now() - start, full.connections()), (LEAST_STAY, 0));
}

#[tokio::test(start_paused = true)]
async fn all_who_starve_are_told_when_servers_have_stayed() {
    let bench = contended(2);
    let [busy, one, two] = ["u", "v", "w"].map(|user| bench.pool("app", user));
    let held = [acquire(&busy).await, acquire(&busy).await];
    let waiters = [wait(&one), wait(&two)];
    let more = [wait(&busy), wait(&busy)];
    tokio::time::sleep(LEAST_STAY).await;
    rest().await;
    let start = now();
    held.into_iter().for_each(release);
    let [first, second] = waiters;
    let got = (outcome(first).await.expect("a server"), outcome(second).await.expect("a server"));
    assert_eq!((now() - start, busy.connections()), (Duration::ZERO, 0));
    assert!(more.iter().all(|waiter| !waiter.is_finished()));
    drop(got);
}
