//! Memory of idle clients: a fresh pooler, resident memory before, so many clients that logged in and asked once, and
//! resident memory after.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Config, NoTls};

use crate::accounting::{Books, resident_kib};
use crate::contest::Contest;
use crate::pooler::Pooler;
use crate::postgres::{DATABASE, PASSWORD, USER};
use crate::results::{Figures, Results};
use crate::workload::Measure;
use crate::{Result, was_interrupted};

/// Logins at the same time.
const LOGINS: usize = 16;
/// All logins of a step together.
const PATIENCE: Duration = Duration::from_secs(300);
/// Descriptors that the bench needs beside its clients.
const SPARE_FILES: u64 = 100;

/// Measures every contestant with every number of clients that the limit of open files permits.
pub(crate) fn run(contest: &Contest<'_>, file_limit: u64, results: &mut Results) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (possible, too_many): (Vec<u32>, Vec<u32>) =
        contest.args.idle_clients.iter().partition(|clients| u64::from(**clients) + SPARE_FILES <= file_limit);
    for clients in too_many {
        results.failures.push(format!("idle-{clients}: not measured, only {file_limit} files may be open"));
    }
    for (number, contestant) in contest.contestants.iter().enumerate() {
        let mut pooler = contest.stable.start(contestant)?;
        let measured = runtime.block_on(measure(&mut pooler, &possible, |clients, kib, remark| {
            let workload = format!("idle-{clients}");
            println!("{workload:<14} {:<24} {kib:>7.1} KiB per client; {remark}", contestant.name);
            results.add(&workload, number, 0, Figures::from([(Measure::Memory, kib)]));
            results.remarks.push(format!("{workload}, {}: {remark}", contestant.name));
        }));
        if was_interrupted() {
            return Err("interrupted".into());
        }
        if let Err(error) = measured {
            let failure = format!("idle, {}: {error}\n{}", contestant.name, pooler.log_tail());
            eprintln!("FAILED {failure}");
            results.failures.push(failure);
        }
    }
    Ok(())
}

/// Reports clients, KiB per client and a remark for each number of clients.
async fn measure(pooler: &mut Pooler, steps: &[u32], mut report: impl FnMut(u32, f64, String)) -> Result<()> {
    let mut config = Config::new();
    config.host("127.0.0.1").port(pooler.port()).dbname(DATABASE).user(USER).password(PASSWORD);
    config.connect_timeout(Duration::from_secs(30));
    let config = Arc::new(config);
    // The first client brings what is there once: pool, server connections, buffers.
    let mut clients = log_in(&config, 1).await?;
    let before = settled(pooler.pid()).await?;
    for step in steps {
        let begun = Instant::now();
        let missing = (*step as usize + 1).saturating_sub(clients.len());
        clients.extend(within(PATIENCE, log_in(&config, missing)).await??);
        let logins = begun.elapsed();
        let after = settled(pooler.pid()).await?;
        let awake = idle_cpu(pooler.pid()).await?;
        let begun = Instant::now();
        within(PATIENCE, ask_all(&clients)).await??;
        let remark = format!(
            "{before} KiB before, {after} KiB after; logins took {:.1} s, one query each {:.1} s; {:.1} ms CPU per second when idle",
            logins.as_secs_f64(),
            begun.elapsed().as_secs_f64(),
            awake.as_secs_f64() * 1e3,
        );
        report(*step, after.saturating_sub(before) as f64 / f64::from(*step), remark);
    }
    Ok(())
}

/// Clients that have logged in and asked once.
async fn log_in(config: &Arc<Config>, count: usize) -> Result<Vec<Client>> {
    let turns = Arc::new(Semaphore::new(LOGINS));
    let mut logins = JoinSet::new();
    for _ in 0..count {
        let (config, turns) = (Arc::clone(config), Arc::clone(&turns));
        logins.spawn(async move {
            let _turn = turns.acquire().await?;
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(connection); // ends with its client; the client's next query tells when it broke
            client.simple_query("select 1").await?;
            Result::Ok(client)
        });
    }
    logins.join_all().await.into_iter().collect()
}

/// All are still served.
async fn ask_all(clients: &[Client]) -> Result<()> {
    for client in clients {
        client.simple_query("select 1").await?;
    }
    Ok(())
}

/// Resident memory once it has stopped changing, in KiB.
async fn settled(pid: u32) -> Result<u64> {
    let mut last = resident_kib(pid)?;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let now = resident_kib(pid)?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}

/// CPU time in one second in which no client does anything.
async fn idle_cpu(pid: u32) -> Result<Duration> {
    let before = Books::read(pid)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(Books::read(pid)?.since(&before).cpu)
}

async fn within<T>(patience: Duration, work: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(patience, work).await.map_err(|_| format!("not done within {patience:?}").into())
}
