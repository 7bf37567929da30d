//! Complete requests through the gateway, with their allocations: `cargo bench --bench pipeline`.
//!
//! Client, gateway and origin share one thread and loopback (see `rig`), so the times include the
//! kernel and a few system calls of both peers. They serve to compare one change with another.
//! `make bench-compare` compares the gateway with other proxies.

mod rig;
#[path = "../tests/it/support/token.rs"]
#[expect(dead_code, reason = "the integration tests use all of it")]
mod token;

use divan::{AllocProfiler, Bencher};
use rig::{Features, Rig};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const NO_FEATURES: Features = Features { access_log: false, cors_and_limit: false };

/// A token with a cached verdict.
#[divan::bench]
fn known_token(bencher: Bencher<'_, '_>) {
    let mut rig = Rig::start(NO_FEATURES);
    let request = Rig::request(&rig.token("alice"));
    bencher.bench_local(|| assert_eq!(rig.round_trip(&request), 200));
}

/// The same with access log, CORS and a rate limit on the caller.
#[divan::bench]
fn known_token_with_all_features(bencher: Bencher<'_, '_>) {
    let mut rig = Rig::start(Features { access_log: true, cors_and_limit: true });
    let request = Rig::request(&rig.token("alice"));
    bencher.bench_local(|| assert_eq!(rig.round_trip(&request), 200));
}

/// Each token is new and is verified.
#[divan::bench(sample_count = 50, sample_size = 20)]
fn new_token(bencher: Bencher<'_, '_>) {
    let mut rig = Rig::start(NO_FEATURES);
    let requests: Vec<Vec<u8>> = (0..2_000).map(|n| Rig::request(&rig.token(&format!("user-{n}")))).collect();
    let mut requests = requests.iter();
    bencher.bench_local(|| assert_eq!(rig.round_trip(requests.next().expect("more tokens than iterations")), 200));
}

/// Refused as expired, before any public-key operation.
#[divan::bench]
fn expired_token(bencher: Bencher<'_, '_>) {
    let mut rig = Rig::start(NO_FEATURES);
    let request = Rig::request(&rig.expired_token("alice"));
    bencher.bench_local(|| assert_eq!(rig.round_trip(&request), 401));
}

/// Refused without a token to look at.
#[divan::bench]
fn no_token(bencher: Bencher<'_, '_>) {
    let mut rig = Rig::start(NO_FEATURES);
    let request = b"GET /orders/1 HTTP/1.1\r\nHost: api.example\r\n\r\n";
    bencher.bench_local(|| assert_eq!(rig.round_trip(request), 401));
}
