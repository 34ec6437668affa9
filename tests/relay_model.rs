//! The relay against a model: random clients that share few servers read what each would read from its own.
//! `RELAY_MODEL_RUNS` runs more of them, `RELAY_MODEL_SEED` one; a seed that failed becomes a row.

mod relay_support;

use relay_support::script::{Random, Script, script, with_block};
use relay_support::world::{Done, Setup, run};

fn scripts(random: &mut Random) -> Vec<Script> {
    (0..1 + random.below(4)).map(|client| script(random, client)).collect()
}

fn setup(random: &mut Random) -> Setup {
    Setup {
        servers: 1 + random.below(3),
        prepared_max: 1 + u32::try_from(random.below(3)).expect("small"),
        reports_at_once: random.chance(15),
        losses: None,
    }
}

/// Leaves out what is not needed for the failure.
fn shrink(mut scripts: Vec<Script>, setup: Setup, seed: u64) -> (Vec<Script>, String) {
    // A transaction does not see the unnamed statement of an earlier one: no script relies on it before parts are left out.
    let other = |why: &String| why.contains("portal \"") || why.contains("25001");
    let fails = |scripts: &[Script]| {
        (seed..seed + 25).find_map(|seed| run(scripts, setup, seed).err().filter(|why| !other(why)))
    };
    let Some(mut why) = fails(&scripts) else { return (scripts, "not smaller".to_owned()) };
    loop {
        let smaller = smaller(&scripts).into_iter().find_map(|less| fails(&less).map(|why| (less, why)));
        let Some((less, because)) = smaller else { return (scripts, why) };
        (scripts, why) = (less, because);
    }
}

fn smaller(scripts: &[Script]) -> Vec<Vec<Script>> {
    let mut all = Vec::new();
    for client in 0..scripts.len() {
        if scripts.len() > 1 {
            let mut less = scripts.to_vec();
            less.remove(client);
            all.push(less);
        }
        if scripts[client].vanishes_after.is_some() {
            let mut less = scripts.to_vec();
            less[client].vanishes_after = None;
            all.push(less);
        }
        let bursts = scripts[client].bursts.len() - 1;
        for burst in 0..bursts {
            let mut less = scripts.to_vec();
            less[client].bursts.remove(burst);
            all.push(less);
        }
        for burst in 0..bursts {
            for part in 0..scripts[client].bursts[burst].parts.len() {
                let mut less = scripts.to_vec();
                less[client].bursts[burst].parts.remove(part);
                all.push(less);
            }
        }
    }
    all
}

fn check(seed: u64, losses: Option<usize>) -> Done {
    let mut random = Random::new(seed);
    let setup = Setup { losses, ..setup(&mut random) };
    let mut scripts = scripts(&mut random);
    if losses.is_some() {
        let clients = scripts.into_iter().enumerate();
        scripts = clients.map(|(client, script)| with_block(&mut random, client, script)).collect();
    }
    match run(&scripts, setup, seed) {
        Ok(done) => done,
        Err(first) => {
            let (scripts, why) = shrink(scripts, setup, seed);
            let shown: Vec<_> =
                scripts.iter().enumerate().map(|(at, it)| format!("client {at}: {}", it.show())).collect();
            panic!("seed {seed}: {first}\nsmallest: {why}\n{setup:?}\n{}", shown.join(""));
        }
    }
}

/// `None` where only one seed was asked for.
fn runs(losses: Option<usize>, count: u64) -> Option<Done> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("RELAY_MODEL_SEED") {
        check(seed, losses);
        return None;
    }
    let add = |all: Done, one: Done| Done {
        given_back: all.given_back + one.given_back,
        lost: all.lost + one.lost,
        committed: all.committed + one.committed,
    };
    let seeds = 1..=number("RELAY_MODEL_RUNS").unwrap_or(count);
    Some(seeds.map(|seed| check(seed, losses)).fold(Done::default(), add))
}

#[test]
fn a_client_cannot_tell_shared_servers_from_its_own() {
    let Some(done) = runs(None, 1500) else { return };
    assert!(done.given_back > 1000, "the runs prove nothing: {done:?}");
}

/// Of the loss of its server a client reads what it is owed, and goes on with a failed block, or without one.
#[test]
fn a_client_goes_on_without_the_server_that_it_lost() {
    let Some(done) = runs(Some(60), 1000) else { return };
    assert!(done.lost > 500 && done.committed > 5, "the runs prove nothing: {done:?}");
}
