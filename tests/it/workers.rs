//! Workers: connections are spread evenly, however the kernel distributes them.

use crate::support::config::Config;
use crate::support::fixture::Fixture;

/// Long-lived connections are spread about evenly over the workers, and each is served by its
/// worker.
#[tokio::test]
async fn spreads_connections_evenly_over_workers() {
    let fixture = Fixture::start(Config::minimal().replace("server", "workers = 4")).await;
    let mut held = Vec::new();
    for number in 0..64 {
        let mut conn = fixture.connect().await;
        let response = conn.request("GET", "/public/a", &[], b"").await;
        assert_eq!(response.status, 200, "{number}");
        held.push(conn);
    }
    let by_worker = fixture.gateway.connections_by_worker();
    assert_eq!((by_worker.len(), by_worker.iter().sum::<usize>()), (4, 64));
    assert!(by_worker.iter().all(|count| (13..=19).contains(count)), "{by_worker:?}");
    drop(held);
    fixture.gateway.wait_for_connections(0).await;
    assert_eq!(fixture.gateway.connections_by_worker(), [0; 4]);
}
