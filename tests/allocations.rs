//! A limit on the cost of a request that needs no timer: the number of allocations per request.
//!
//! A test program of its own, because the counting allocator is global.

#[path = "../benches/rig/mod.rs"]
mod rig;
#[path = "it/support/token.rs"]
#[expect(dead_code, reason = "the integration tests use all of it")]
mod token;

use std::alloc::System;

use rig::{Features, Rig};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Requests that the counts are averaged over.
const REQUESTS: usize = 1_000;

/// The counts as last measured. Lower them when a change saves allocations; raising one needs a
/// reason.
const ROWS: [(&str, Features, Token, u16, usize); 4] = [
    ("a cached token", Features { access_log: false, cors_and_limit: false }, Token::Known, 200, 17),
    ("with access log, CORS and a limit", Features { access_log: true, cors_and_limit: true }, Token::Known, 200, 22),
    ("an expired token", Features { access_log: false, cors_and_limit: false }, Token::Expired, 401, 54),
    ("a new token for each request", Features { access_log: false, cors_and_limit: false }, Token::New, 200, 100),
];

#[derive(Clone, Copy)]
enum Token {
    Expired,
    Known,
    New,
}

#[test]
fn a_request_makes_no_more_allocations_than_recorded() {
    for (name, features, token, status, max) in ROWS {
        let mut rig = Rig::start(features);
        let requests: Vec<Vec<u8>> = match token {
            Token::Expired => vec![Rig::request(&rig.expired_token("alice"))],
            Token::Known => vec![Rig::request(&rig.token("alice"))],
            Token::New => (0..2 * REQUESTS).map(|number| Rig::request(&rig.token(&format!("user-{number}")))).collect(),
        };
        let mut next_requests = requests.iter().cycle();
        let mut run = |rig: &mut Rig| {
            for request in next_requests.by_ref().take(REQUESTS) {
                assert_eq!(rig.round_trip(request), status, "{name}");
            }
        };
        run(&mut rig);
        let region = Region::new(ALLOCATOR);
        run(&mut rig);
        let counted = region.change();
        // Rounded to the nearest integer: allocations that are shared by several requests leave a
        // fraction that differs from run to run.
        let per_request = (counted.allocations + counted.reallocations + REQUESTS / 2) / REQUESTS;
        println!(
            "{name}: {per_request} allocations ({} in all), {} bytes",
            counted.allocations + counted.reallocations,
            counted.bytes_allocated / REQUESTS
        );
        assert!(per_request <= max, "{name}: {per_request} allocations per request, at most {max} allowed");
    }
}
