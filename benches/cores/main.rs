//! What the hot paths cost without sockets: `cargo bench --bench cores`, or `-- relay` for one of them.

mod frames;
mod pool;
mod relay;
mod scram;
mod sql;
mod startup;

criterion::criterion_group!(all, frames::bench, relay::bench, pool::bench, startup::bench, scram::bench, sql::bench);
criterion::criterion_main!(all);

/// A message with its length.
pub(crate) fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a short one");
    [&[tag], &length.to_be_bytes()[..], body].concat()
}
