//! The first packet of a connection.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::Criterion;
use pglifeguard::wire::message::frontend;
use pglifeguard::wire::startup::{Version, parse, parse_options};

pub(crate) fn bench(criterion: &mut Criterion) {
    let params = [
        ("user", "app"),
        ("database", "app"),
        ("client_encoding", "UTF8"),
        ("application_name", "psql"),
        ("options", "-c statement_timeout=5s"),
    ];
    let mut packet = BytesMut::new();
    let params = params.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    frontend::startup(&mut packet, Version::V3_0, params);
    let mut group = criterion.benchmark_group("startup");
    group.bench_function("packet", |bencher| bencher.iter(|| parse(black_box(&packet)).is_ok()));
    group.bench_function("options", |bencher| {
        bencher.iter(|| parse_options(black_box("-c statement_timeout=5s --search-path=a,b")).is_ok());
    });
    group.finish();
}
