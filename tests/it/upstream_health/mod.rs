//! Servers that fail: which of them are avoided, for how long, and what clients get meanwhile.

mod checks;
mod circuit;
mod ejection;
mod reload;
mod switch;

use std::net::SocketAddr;

use crate::support::client;
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::origin::Origin;
use crate::support::with_deadline;

/// The public route `/NAME/*` to an upstream of these servers.
fn upstream(name: &str, servers: &[SocketAddr], keys: &str) -> Config {
    let route = format!("access = \"public\"\nupstream = \"{name}\"");
    Config::minimal().upstream(name, servers, keys).route(name, &route)
}

/// `balance = "round_robin"` and one worker, so that a test can count on whose turn it is.
fn two(one: &Origin, other: &Origin, keys: &str) -> Config {
    upstream("two", &[one.addr(), other.addr()], &format!("balance = \"round_robin\"\n{keys}")).one_worker()
}

fn up(server: &Origin) -> String {
    format!("portcullis_upstream_up{{upstream=\"two\",server=\"{}\"}}", server.addr())
}

/// Waits until the gauge of the server has this value.
async fn wait_for_up(fixture: &Fixture, server: &Origin, wanted: u64) {
    let sample = up(server);
    with_deadline(&sample, async { while fixture.gateway.count(&sample).await != wanted {} }).await;
}

/// How many of the requests that the origin has received were not health checks.
fn served(origin: &Origin) -> usize {
    origin.requests().iter().filter(|request| !request.target.starts_with("/health")).count()
}

async fn readiness(fixture: &Fixture) -> (u16, String) {
    let response = client::get(fixture.gateway.admin(), "/readyz", &[]).await;
    (response.status, response.text())
}
