//! A request and its answer through the relay, and rows that it only passes on.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput};
use pglifeguard::server::statements::Statements;
use pglifeguard::session::relay::table::Table;
use pglifeguard::session::relay::{Attached, Exchange, Relay, Steps, Stop};
use pglifeguard::wire::params::ParamSet;

use super::frame;

/// A client with a server.
struct Pair {
    relay: Relay,
    exchange: Exchange,
    params: ParamSet,
    matched: Option<ParamSet>,
    assigned: Option<ParamSet>,
    statements: Statements,
    steps: Steps,
}

impl Pair {
    fn new() -> Self {
        let mut params = ParamSet::default();
        params.set("TimeZone", b"UTC");
        Self {
            relay: Relay::new(Arc::new(Table::default()), params.clone(), i32::MAX as usize, true),
            exchange: Exchange::default(),
            params,
            matched: None,
            assigned: None,
            statements: Statements::new(200),
            steps: Steps::default(),
        }
    }

    /// One read of each side, as the pump does them; the server goes at the end.
    fn exchange(&mut self, request: &[u8], answer: &[u8]) {
        self.begin(request);
        self.hear(answer);
        assert!(self.exchange.settled());
        self.relay.part(&self.exchange);
        self.exchange.reset();
    }

    fn begin(&mut self, request: &[u8]) {
        let Self { relay, exchange, params, matched, assigned, statements, steps } = self;
        steps.clear();
        assert_eq!(relay.from_client(None, request, steps).stop, Stop::NeedServer);
        let fed = relay.from_client(Some(Attached { exchange, params, matched, assigned, statements }), request, steps);
        assert_eq!(fed.consumed, request.len());
    }

    fn hear(&mut self, answer: &[u8]) {
        let Self { relay, exchange, params, matched, assigned, statements, steps } = self;
        steps.clear();
        let mut server = Attached { exchange, params, matched, assigned, statements };
        let heard = relay.from_server(&mut server, answer, steps).expect("an answer to what was asked");
        assert_eq!(heard.consumed, answer.len());
    }
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let row = frame(b'D', b"\0\x01\0\0\0\x04\0\0\0\x01");
    let [done, ready] = [frame(b'C', b"SELECT 1\0"), frame(b'Z', b"I")];
    let mut group = criterion.benchmark_group("relay");
    let query = frame(b'Q', b"SELECT abalance FROM pgbench_accounts WHERE aid = 12;\0");
    let answer = [&frame(b'T', &[0; 30])[..], &row, &done, &ready].concat();
    let mut pair = Pair::new();
    group.bench_function("simple query", |bencher| bencher.iter(|| pair.exchange(black_box(&query), &answer)));

    let parse = [frame(b'P', b"P_0\0SELECT 1\0\0\0"), frame(b'S', b"")].concat();
    pair.exchange(&parse, &[frame(b'1', b""), ready.clone()].concat());
    let bind = frame(b'B', b"\0P_0\0\0\0\0\x01\0\0\0\x0212\0\0");
    let request = [bind, frame(b'D', b"P\0"), frame(b'E', b"\0\0\0\0\0"), frame(b'S', b"")].concat();
    let answer = [&frame(b'2', b"")[..], &frame(b'T', &[0; 30]), &row, &done, &ready].concat();
    group.bench_function("prepared query", |bencher| bencher.iter(|| pair.exchange(black_box(&request), &answer)));

    let rows = row.repeat(64 * 1024 / row.len());
    pair.begin(&query);
    group.throughput(Throughput::Bytes(rows.len() as u64));
    group.bench_function("64 KiB of small rows", |bencher| bencher.iter(|| pair.hear(black_box(&rows))));
    group.finish();
}
