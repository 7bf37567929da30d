//! Load balancing over the servers of an upstream: in turn, by requests in flight, by a key.

use std::collections::BTreeSet;

use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::origin::Origin;

/// Two or more origins as one upstream, with a public route `/many/*` and one for callers,
/// `/callers/*`.
struct Servers {
    origins: Vec<Origin>,
    fixture: Fixture,
}

impl Servers {
    /// Starts origins with these weights.
    async fn start(balance: &str, weights: &[u32]) -> Self {
        let mut origins = Vec::new();
        let mut servers = Vec::new();
        for weight in weights {
            let origin = Origin::start().await;
            servers.push(format!("{{ url = \"http://{}\", weight = {weight} }}", origin.addr()));
            origins.push(origin);
        }
        let config = Config::minimal()
            .append(&format!("[upstreams.many]\nservers = [{}]\nbalance = \"{balance}\"", servers.join(", ")))
            .route("many", "access = \"public\"\nupstream = \"many\"")
            .route("callers", "upstream = \"many\"");
        Self { origins, fixture: Fixture::start(config).await }
    }

    /// How many requests each origin has received.
    fn counts(&self) -> Vec<usize> {
        self.origins.iter().map(|origin| origin.requests().len()).collect()
    }

    /// Which origin receives a request with these headers.
    async fn receiver(&self, path: &str, headers: &[(&str, &str)]) -> usize {
        let before = self.counts();
        let response = self.fixture.get(path, headers).await;
        assert_eq!(response.status, 200, "{}", response.text());
        let after = self.counts();
        (0..before.len()).find(|origin| after[*origin] > before[*origin]).expect("one of them received it")
    }
}

#[tokio::test]
async fn round_robin_gives_every_server_its_turns() {
    let servers = Servers::start("round_robin", &[1, 3]).await;
    for _ in 0..8 {
        servers.receiver("/many/1", &[]).await;
    }
    assert_eq!(servers.counts(), [2, 6]);
}

/// The requests of all workers count, on both sides.
#[tokio::test]
async fn least_request_avoids_a_server_that_is_busy_in_any_worker() {
    let servers = Servers::start("least_request", &[1, 1]).await;
    let streams: Vec<_> = servers.origins.iter().map(|origin| origin.stream("/many/stream")).collect();
    let mut long = servers.fixture.connect().await;
    long.send("GET /many/stream HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(long.read_head().await.status, 200);
    let busy = servers.counts();
    // On one connection, so that each request has ended before the next begins.
    let mut conn = servers.fixture.connect().await;
    for _ in 0..20 {
        conn.send("GET /many/1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(conn.read_response().await.status, 200);
    }
    let more: Vec<usize> = servers.counts().iter().zip(&busy).map(|(after, before)| after - before).collect();
    assert_eq!(more, if busy == [1, 0] { [0, 20] } else { [20, 0] }, "busy: {busy:?}");
    drop(streams);
}

#[tokio::test]
async fn requests_with_the_same_key_go_to_the_same_server() {
    let servers = Servers::start("hash:header:X-Tenant", &[1, 1, 1]).await;
    let mut used = BTreeSet::new();
    for tenant in 0..20 {
        let tenant = format!("tenant-{tenant}");
        let first = servers.receiver("/many/1", &[("X-Tenant", &tenant)]).await;
        for _ in 0..3 {
            assert_eq!(servers.receiver("/many/2", &[("X-Tenant", &tenant)]).await, first, "{tenant}");
        }
        used.insert(first);
    }
    assert!(used.len() > 1, "different keys go to different servers");
    let without = servers.receiver("/many/1", &[]).await;
    assert_eq!(servers.receiver("/many/1", &[]).await, without, "without the header, the address counts");
}

#[tokio::test]
async fn a_caller_keeps_its_server() {
    let servers = Servers::start("hash:subject", &[1, 1, 1]).await;
    let mut used = BTreeSet::new();
    for caller in 0..20 {
        let subject = format!("caller-{caller}");
        let token = servers.fixture.bearer(&subject);
        let first = servers.receiver("/callers/1", &[("Authorization", &token)]).await;
        // Another token of the same caller.
        let other = servers.fixture.token().claim("sub", &*subject).claim("jti", "other").to_bearer();
        assert_ne!(token, other);
        assert_eq!(servers.receiver("/callers/1", &[("Authorization", &other)]).await, first, "{subject}");
        used.insert(first);
    }
    assert!(used.len() > 1, "different callers go to different servers");
    let anonymous = servers.receiver("/many/1", &[]).await;
    assert_eq!(servers.receiver("/many/1", &[]).await, anonymous, "anonymous callers go by their address");
}

#[tokio::test]
async fn a_client_address_keeps_its_server() {
    let servers = Servers::start("hash:ip", &[1, 1, 1]).await;
    let first = servers.receiver("/many/1", &[]).await;
    for _ in 0..10 {
        assert_eq!(servers.receiver("/many/2", &[("X-Tenant", "other")]).await, first);
    }
}

/// A client that chooses one key for all of its requests chooses one server; that one
/// passes on what exceeds its share.
#[tokio::test]
async fn one_popular_key_does_not_get_all_requests_to_one_server() {
    let servers = Servers::start("hash:header:X-Tenant", &[1, 1]).await;
    let key = "popular";
    let mut held = Vec::new();
    for number in 0..10 {
        let path = format!("/many/{number}");
        let streams: Vec<_> = servers.origins.iter().map(|origin| origin.stream(&path)).collect();
        let mut conn = servers.fixture.connect().await;
        conn.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Tenant: {key}\r\n\r\n")).await;
        assert_eq!(conn.read_head().await.status, 200);
        held.push((conn, streams));
    }
    let counts = servers.counts();
    assert!(counts.iter().all(|count| (3..=7).contains(count)), "{counts:?} of ten requests in flight");
    drop(held);
}
