//! Load on an upstream while one of its servers dies and comes back: no client sees an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;

use crate::support::client::Conn;
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::origin::Origin;

/// Clients that send one request after the other, each on its connection.
struct Load {
    clients: JoinSet<usize>,
    is_over: Arc<AtomicBool>,
}

impl Load {
    fn start(fixture: &Fixture, clients: usize) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        let client = |number: usize| {
            let (addr, is_over) = (fixture.gateway.addr(), Arc::clone(&is_over));
            async move {
                let (mut connection, mut sent) = (Conn::open(addr).await, 0);
                while !is_over.load(Ordering::Relaxed) {
                    connection.send(&format!("GET /two/{number}/{sent} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
                    let response = connection.read_response().await;
                    assert_eq!(response.status, 200, "client {number}, request {sent}: {}", response.text());
                    sent += 1;
                }
                sent
            }
        };
        Self { clients: (0..clients).map(client).collect(), is_over }
    }

    /// Ends the load. Returns how many requests were answered.
    async fn end(self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        self.clients.join_all().await.into_iter().sum()
    }
}

/// Idempotent requests on the connections of a server that dies go to the other one, and so does
/// everything after them.
#[tokio::test]
async fn a_server_that_dies_under_load_costs_no_request() {
    let (one, other) = (Origin::start().await, Origin::start().await);
    let config = Config::minimal()
        .upstream("two", &[one.addr(), other.addr()], "")
        .route("two", "access = \"public\"\nupstream = \"two\"");
    let fixture = Fixture::start(config).await;
    let load = Load::start(&fixture, 8);
    one.wait_for_requests(200).await;
    other.wait_for_requests(200).await;
    let died_after = other.requests().len();
    let failed = format!("portcullis_upstream_connect_failures_total{{upstream=\"two\",server=\"{}\"}}", other.addr());
    drop(other);
    fixture.gateway.wait_for_metric(&failed, 1.0).await;
    one.wait_for_requests(one.requests().len() + 500).await;
    let answered = load.end().await;
    assert!(answered >= one.requests().len() + died_after - 8, "{answered}: each was answered by a server");
}
