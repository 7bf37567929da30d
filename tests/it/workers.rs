//! Workers: connections are shared out among them, however the kernel throws.

use crate::support::client::Conn;
use crate::support::gateway::{Gateway, minimal};
use crate::support::idp::Idp;
use crate::support::origin::Origin;

/// Connections that stay are about as many on each worker, and each is served where it is.
#[tokio::test]
async fn connections_do_not_pile_up_on_one_worker() {
    let (idp, origin) = (Idp::start().await, Origin::start().await);
    let toml = minimal(&idp.issuer(), origin.addr()).replace("workers = 2", "workers = 4");
    let gateway = Gateway::start(&toml).await;
    let mut held = Vec::new();
    for number in 0..64 {
        let mut conn = Conn::open(gateway.addr()).await;
        let answer = conn.request("GET", "/public/a", &[], b"").await;
        assert_eq!(answer.status, 200, "{number}");
        held.push(conn);
    }
    let by_worker = gateway.connections_by_worker();
    assert_eq!((by_worker.len(), by_worker.iter().sum::<usize>()), (4, 64));
    assert!(by_worker.iter().all(|count| (13..=19).contains(count)), "{by_worker:?}");
    drop(held);
    gateway.wait_for_connections(0).await;
    assert_eq!(gateway.connections_by_worker(), [0; 4]);
}
