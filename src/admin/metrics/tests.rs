use super::*;
use crate::types::PoolKey;

fn snapshot() -> Snapshot {
    let pool = |database: &str, waiting| PoolRow {
        key: PoolKey { database: database.into(), user: "alice".into() },
        cl_waiting: waiting,
        maxwait: Duration::from_millis(1500),
        ..show::console_pool(3)
    };
    let counts = Counts { max_client_conn: 100, used_clients: 30, ..Counts::default() };
    let wait = |n| HistogramSnapshot { buckets: vec![(128, n), (1_048_576, n)], sum_us: 2_500_000, count: 3 * n };
    let histograms = |n| Histograms { wait: wait(n), ..Histograms::default() };
    Snapshot {
        pools: vec![pool("b\"\\\nb", 2), pool("app", 1)],
        databases: vec![DatabaseRow {
            name: "app".into(),
            host: Some("db".into()),
            ..show::console_database(&counts, 0)
        }],
        totals: ByDatabase::from([("app".into(), Figures([1, 2, 3, 4, 5, 6_000_000, 7, 8, 9, 10, 11, 12]))]),
        histograms: vec![("app".into(), histograms(1)), ("app".into(), histograms(2))],
        counts,
    }
}

#[test]
fn series_have_the_names_and_labels_that_dashboards_use() {
    let text = render(&snapshot());
    for line in [
        "# TYPE pgbouncer_pools_client_waiting_connections gauge",
        "pgbouncer_up 1",
        "pgbouncer_free_clients 70",
        "pgbouncer_pools 2",
        "pgbouncer_pools_client_active_connections{database=\"app\",user=\"alice\"} 3",
        "pgbouncer_pools_client_waiting_connections{database=\"b\\\"\\\\\\nb\",user=\"alice\"} 2",
        "pgbouncer_pools_client_maxwait_seconds{database=\"app\",user=\"alice\"} 1.5",
        "pgbouncer_databases_pool_size{name=\"app\",host=\"db\",port=\"0\",database=\"pgbouncer\",force_user=\"pgbouncer\",pool_mode=\"statement\"} 2",
        "# TYPE pgbouncer_stats_totals_queries_pooled_total counter",
        "pgbouncer_stats_totals_queries_pooled_total{database=\"app\"} 3",
        "pgbouncer_stats_queries_pooled_total{database=\"app\"} 3",
        "pgbouncer_stats_totals_server_in_transaction_seconds_total{database=\"app\"} 6",
        "pgbouncer_stats_client_wait_seconds_total{database=\"app\"} 0.000008",
        "pglifeguard_database_logins_total{database=\"app\"} 12",
        "# TYPE pglifeguard_client_wait_seconds histogram",
        "pglifeguard_client_wait_seconds_bucket{database=\"app\",le=\"0.000128\"} 3",
        "pglifeguard_client_wait_seconds_bucket{database=\"app\",le=\"1.048576\"} 6",
        "pglifeguard_client_wait_seconds_bucket{database=\"app\",le=\"+Inf\"} 9",
        "pglifeguard_client_wait_seconds_sum{database=\"app\"} 5",
        "pglifeguard_client_wait_seconds_count{database=\"app\"} 9",
        "pglifeguard_query_seconds_count{database=\"app\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
}

#[test]
fn every_metric_of_the_list_is_described_once() {
    let text = render(&snapshot());
    for metric in names::SNAPSHOT {
        let head = format!("# HELP {} ", metric.name);
        assert_eq!(text.lines().filter(|line| line.starts_with(&head)).count(), 1, "{}", metric.name);
    }
}

#[test]
fn the_number_of_series_is_bounded_and_nothing_is_lost() {
    let mut snapshot = snapshot();
    let few = render(&snapshot).lines().count();
    for n in 0..3000u32 {
        let name: Arc<str> = format!("z{n:04}").into();
        let key = PoolKey { database: name.clone(), user: "bob".into() };
        let maxwait = Duration::from_secs(n.into());
        snapshot.pools.push(PoolRow { key, cl_active: 1, maxwait, ..show::console_pool(0) });
        snapshot.databases.push(DatabaseRow { name: name.clone(), ..snapshot.databases[0].clone() });
        snapshot.totals.insert(name.clone(), Figures([1; 12]));
        snapshot.histograms.push((name, Histograms::default()));
    }
    let text = render(&snapshot);
    let lines = text.lines().count();
    assert!(lines < few + 12 * POOLS_MAX + (6 + 22 + 9) * DATABASES_MAX + 100, "{lines}");
    for line in [
        "pgbouncer_pools_client_active_connections{database=\"other\",user=\"other\"} 2502",
        "pgbouncer_pools_client_maxwait_seconds{database=\"other\",user=\"other\"} 2999",
        "pgbouncer_stats_totals_queries_pooled_total{database=\"other\"} 2801",
        "pgbouncer_databases_pool_size{name=\"other\",host=\"\",port=\"\",database=\"\",force_user=\"\",pool_mode=\"\"} 5602",
        "pglifeguard_query_seconds_count{database=\"other\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing");
    }
}

#[test]
fn names_that_clients_made_up_have_no_series() {
    let mut snapshot = snapshot();
    let row = |database: &Arc<str>, user: &str, known| PoolRow {
        key: PoolKey { database: database.clone(), user: user.into() },
        cl_waiting: 1,
        known,
        ..show::console_pool(0)
    };
    let (made_up, real) = (Arc::from("aaa"), Arc::from("real"));
    snapshot.pools.extend([row(&made_up, "bob", false), row(&real, "bob", true), row(&real, "stranger", false)]);
    for name in [&made_up, &real] {
        snapshot.databases.push(DatabaseRow { name: name.clone(), ..snapshot.databases[0].clone() });
    }
    let text = render(&snapshot);
    assert!(!text.contains("aaa") && !text.contains("stranger"), "{text}");
    assert!(text.contains("pgbouncer_databases_pool_size{name=\"real\""), "{text}");
    let line = "pgbouncer_pools_client_waiting_connections{database=\"other\",user=\"other\"} 2";
    assert!(text.contains(line), "who waits is counted all the same");
}
