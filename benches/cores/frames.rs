//! Headers of a stream of rows, and the names at the front of a Bind.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use pglifeguard::wire::frame::{bind_head, header};

use super::frame;

pub(crate) fn bench(criterion: &mut Criterion) {
    let rows = frame(b'D', &[b"\0\x01\0\0\0\x20", &[b'x'; 32][..]].concat()).repeat(1000);
    let mut group = criterion.benchmark_group("frames");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("1000 headers", |bencher| {
        bencher.iter(|| {
            let (mut rest, mut frames) = (black_box(&rows[..]), 0);
            while let Ok(Some(head)) = header(rest, i32::MAX as usize) {
                rest = &rest[head.total..];
                frames += 1;
            }
            frames
        });
    });
    group.throughput(Throughput::Elements(1));
    let bind = frame(b'B', b"\0P_0\0\0\0\0\x01\0\0\0\x0212\0\0");
    group.bench_function("names of a Bind", |bencher| bencher.iter(|| bind_head(black_box(&bind), bind.len()).is_ok()));
    group.finish();
}
