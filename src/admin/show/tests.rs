use std::time::{Instant, UNIX_EPOCH};

use super::*;
use crate::admin::averages::Averages;
use crate::types::{ClientId, Endpoint, Host, ServerId};

/// Columns as `columns.txt` writes them.
fn notation(columns: &[Column]) -> String {
    let letter = |kind| match kind {
        Type::Text => 't',
        Type::Int4 => 'i',
        Type::Int8 => 'q',
        Type::Numeric => 'N',
    };
    columns.iter().map(|column| format!("{} {}", column.name, letter(column.kind))).collect::<Vec<_>>().join(", ")
}

/// A row as psql would print it; NULL as `~`.
fn line(row: &[Cell]) -> String {
    let text = |cell: &Cell| match cell {
        Cell::Null => "~".to_owned(),
        Cell::Text(text) => text.to_string(),
        Cell::Number(number) => number.to_string(),
    };
    row.iter().map(text).collect::<Vec<_>>().join("|")
}

fn lines(table: &Table) -> Vec<String> {
    for row in &table.rows {
        assert_eq!(row.len(), table.columns.len(), "{}", line(row));
    }
    table.rows.iter().map(|row| line(row)).collect()
}

fn key() -> PoolKey {
    PoolKey { database: "app".into(), user: "alice".into() }
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

#[test]
fn columns_are_pgbouncers_by_name_type_and_order() {
    let shown = [
        ("CLIENTS", CLIENTS),
        ("SERVERS", SERVERS),
        ("POOLS", POOLS),
        ("DATABASES", DATABASES),
        ("USERS", USERS),
        ("STATS", STATS),
        ("STATS_TOTALS", STATS_TOTALS),
        ("STATS_AVERAGES", STATS_AVERAGES),
        ("TOTALS", TOTALS),
        ("LISTS", LISTS),
        ("CONFIG", CONFIG),
        ("VERSION", VERSION),
        ("STATE", STATE),
    ];
    let golden = include_str!("columns.txt").lines().filter(|line| !line.starts_with('#'));
    let ours: Vec<_> = shown.iter().map(|(name, columns)| format!("{name}: {}", notation(columns))).collect();
    assert_eq!(ours, golden.collect::<Vec<_>>());
}

fn client(id: u64) -> ClientRow {
    ClientRow {
        id: ClientId(id),
        key: key(),
        user: "alias".into(),
        state: ClientState::Waiting,
        addr: "10.0.0.1".into(),
        port: 5001,
        local_addr: "10.0.0.2".into(),
        local_port: 6432,
        connected_at: at(0),
        requested_at: at(61),
        wait_us: 2_000_007,
        link: None,
        remote_pid: 0,
        tls: "TLSv1.3/TLS_AES_256_GCM_SHA384".into(),
        application_name: "psql".into(),
        prepared_statements: 3,
        pins: 0b1001,
    }
}

#[test]
fn clients_show_who_they_are_and_what_they_wait_for() {
    let idle = ClientRow {
        state: ClientState::Idle,
        addr: "unix".into(),
        wait_us: 0,
        remote_pid: 99,
        tls: "".into(),
        pins: 0,
        ..client(18)
    };
    let active = ClientRow { state: ClientState::Active, link: Some(ServerId(255)), wait_us: 0, pins: 0, ..client(19) };
    assert_eq!(
        lines(&clients(vec![active, idle, client(17)])),
        [
            "C|alias|app|none|waiting|10.0.0.1|5001|10.0.0.2|6432|2027-01-15 08:00:00 UTC|2027-01-15 08:01:01 UTC|2|7|0|0x11||0|TLSv1.3/TLS_AES_256_GCM_SHA384|psql|3|17|temporary_object,listen",
            "C|alias|app|none|idle|unix|5001|10.0.0.2|6432|2027-01-15 08:00:00 UTC|2027-01-15 08:01:01 UTC|0|0|0|0x12||99||psql|3|18|",
            "C|alias|app|none|active|10.0.0.1|5001|10.0.0.2|6432|2027-01-15 08:00:00 UTC|2027-01-15 08:01:01 UTC|0|0|0|0x13|0xff|0|TLSv1.3/TLS_AES_256_GCM_SHA384|psql|3|19|",
        ]
    );
}

#[test]
fn servers_show_their_client_and_their_backend() {
    let server = ServerRow {
        id: ServerId(9),
        key: key(),
        state: ServerState::Login,
        endpoint: Endpoint { host: Host::Name("db".into()), port: 5432 },
        addr: "10.0.0.9".into(),
        port: 5432,
        local_addr: "10.0.0.2".into(),
        local_port: 40_000,
        connected_at: at(0),
        requested_at: at(1),
        close_needed: true,
        link: Some(ClientId(17)),
        remote_pid: 4711,
        tls: "".into(),
        application_name: "teller".into(),
        prepared_statements: 5,
        pins: 1 << Pin::Lock as u16,
    };
    assert_eq!(
        lines(&servers(vec![server])),
        [
            "S|alice|app|none|new|10.0.0.9|5432|10.0.0.2|40000|2027-01-15 08:00:00 UTC|2027-01-15 08:00:01 UTC|0|0|1|0x9|0x11|4711||teller|5|9|advisory_lock"
        ]
    );
}

#[test]
fn pools_and_databases_include_the_consoles_own_in_order() {
    let waiting = PoolRow {
        key: PoolKey { database: "zoo".into(), user: "bob".into() },
        cl_waiting: 4,
        sv_active: 2,
        maxwait: Duration::from_micros(3_000_250),
        pool_mode: PoolMode::Transaction,
        load_balance_hosts: Some("round-robin"),
        ..console_pool(0)
    };
    let app = PoolRow { key: key(), pool_mode: PoolMode::Session, ..console_pool(7) };
    assert_eq!(
        lines(&pools(vec![waiting, app], 1)),
        [
            "app|alice|7|0|0|0|0|0|0|0|0|0|0|0|0|session|~",
            "pgbouncer|pgbouncer|1|0|0|0|0|0|0|0|0|0|0|0|0|statement|~",
            "zoo|bob|0|4|0|0|2|0|0|0|0|0|0|3|250|transaction|round-robin",
        ]
    );
    let counts = Counts { listen_port: 6432, ..Counts::default() };
    let app = DatabaseRow {
        name: "app".into(),
        host: Some("10.0.0.1,10.0.0.2".into()),
        port: 5432,
        database: "app_prod".into(),
        force_user: None,
        pool_size: 25,
        reserve_pool_size: 5,
        server_lifetime: Duration::from_secs(3600),
        pool_mode: None,
        load_balance_hosts: Some("disable"),
        max_connections: 50,
        current_connections: 12,
        paused: true,
        ..console_database(&counts, 300)
    };
    assert_eq!(
        lines(&databases(vec![app], &counts, 1)),
        [
            "app|10.0.0.1,10.0.0.2|5432|app_prod|~|25|0|5|3600|~|disable|50|12|0|300|1|0",
            "pgbouncer|~|6432|pgbouncer|pgbouncer|2|0|0|0|statement|~|0|0|0|1|0|0",
        ]
    );
}

#[test]
fn users_pad_their_sizes_as_pgbouncer_does() {
    let alice = UserRow {
        name: "alice".into(),
        pool_size: Some(30),
        pool_mode: Some(PoolMode::Session),
        max_user_connections: 40,
        current_client_connections: 2,
        ..UserRow::default()
    };
    assert_eq!(lines(&users(vec![alice.clone()])), ["alice|       30||session|40|0|0|2", "pgbouncer|||~|0|0|0|0"]);
    let named_so = UserRow { name: CONSOLE.into(), ..alice };
    assert_eq!(lines(&users(vec![named_so])).len(), 1);
}

#[test]
fn lists_config_state_and_version_have_their_rows() {
    let counts = Counts { max_client_conn: 100, used_clients: 30, used_servers: 8, users: 3, ..Counts::default() };
    let shown = lines(&lists(&counts, 2, 5));
    assert_eq!(shown[..4], ["databases|2", "users|3", "peers|0", "pools|5"]);
    assert_eq!(
        shown[5..10],
        ["free_clients|70", "used_clients|30", "login_clients|0", "free_servers|0", "used_servers|8"]
    );
    assert_eq!(shown.len(), 14);
    let setting = |key, changeable| ShownSetting { key, value: "1".into(), default: "0".into(), changeable };
    assert_eq!(lines(&config(vec![setting("z", true), setting("a", false)])), ["a|1|0|no", "z|1|0|yes"]);
    assert_eq!(lines(&state(true)), ["active|no", "paused|yes", "suspended|no"]);
    assert!(lines(&version())[0].starts_with("PgBouncer 1.25.2 (pglifeguard "));
}

#[test]
fn stats_have_a_row_per_database_and_totals_add_them_up() {
    let start = Instant::now();
    let mut averages = Averages::new(start);
    let figures = |n: u64| Figures(std::array::from_fn(|at| n + at as u64));
    let sample = with_console(ByDatabase::from([("app".into(), figures(100))]), figures(0));
    averages.sample(start + Duration::from_secs(10), sample.clone());
    assert_eq!(
        lines(&stats(&sample, &averages)),
        [
            "app|100|101|102|103|104|105|106|107|108|109|110|111|10|10|10|10|10|1|1|10|10|10|11|11",
            "pgbouncer|0|1|2|3|4|5|6|7|8|9|10|11|0|0|0|0|0|5|3|0|0|0|1|1",
        ]
    );
    assert_eq!(lines(&stats_totals(&sample))[0], "app|100|101|102|103|104|105|106|107|108|109|110|111");
    assert_eq!(lines(&stats_averages(&sample, &averages))[0], "app|10|10|10|10|10|1|1|10|10|10|11|11");
    let sums = lines(&totals(&sample, &averages));
    assert_eq!(sums.len(), 24);
    assert_eq!(
        [&*sums[0], &sums[3], &sums[11], &sums[12], &sums[17]],
        [
            "total_server_assignment_count|100",
            "total_client_bytes|106",
            "total_client_login_count|122",
            "avg_server_assignment_count|10",
            "avg_xact_time|1",
        ]
    );
}
