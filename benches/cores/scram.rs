//! SCRAM-SHA-256: the server's side of a login, and the derivation that is done once per password.

use std::hint::black_box;

use criterion::Criterion;
use pglifeguard::wire::scram::client::{self, Mechanism, ScramCredential};
use pglifeguard::wire::scram::{Nonce, SHA_256, ScramKeys, ScramVerifier, server};

pub(crate) fn bench(criterion: &mut Criterion) {
    let keys = ScramKeys::from_password(b"secret", b"salt of sixteen.", 4096);
    let verifier = keys.verifier();
    let (first, last) = client_words(&keys, &verifier);
    let mut group = criterion.benchmark_group("scram");
    group.bench_function("verify a client", |bencher| {
        bencher.iter(|| {
            let (next, _) = server::AwaitFirst::new(verifier.clone(), None)
                .answer(false, black_box(first.as_bytes()), &nonce(2))
                .expect("well-formed");
            next.finish(last.as_bytes()).expect("the right password")
        });
    });
    group.bench_function("derive keys, 4096 iterations", |bencher| {
        bencher.iter(|| ScramKeys::from_password(black_box(b"secret"), b"salt of sixteen.", 4096));
    });
    group.finish();
}

fn nonce(byte: u8) -> Nonce {
    Nonce::from_random([byte; 18])
}

/// What a client with these keys says.
fn client_words(keys: &ScramKeys, verifier: &ScramVerifier) -> (String, String) {
    let mechanism = Mechanism::choose(&[SHA_256.as_bytes()], None).expect("it is offered");
    let (client, first) = client::AwaitFirst::new(ScramCredential::Keys(keys.clone()), mechanism, nonce(1));
    let (_, answer) = server::AwaitFirst::new(verifier.clone(), None)
        .answer(false, first.as_bytes(), &nonce(2))
        .expect("well-formed");
    let (_, last) = client.answer(answer.as_bytes()).expect("well-formed");
    (first, last)
}
