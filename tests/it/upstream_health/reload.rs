//! Reloads: what they keep of the servers that stay.

use super::{served, two, up, upstream, wait_for_up};
use crate::support::fixture::Fixture;
use crate::support::origin::{Behaviour, Origin};
use crate::support::with_deadline;

/// What a reload does not change is kept: connections and health of the servers that stay.
#[tokio::test]
async fn a_reload_keeps_servers_that_stay_and_follows_the_checks() {
    let (one, other, third) = (Origin::start().await, Origin::start().await, Origin::start().await);
    other.behave("/health", Behaviour::response(503, &[], ""));
    let three = |keys: &str| {
        let keys = format!("balance = \"round_robin\"\n{keys}");
        upstream("two", &[third.addr(), one.addr(), other.addr()], &keys).one_worker()
    };
    let send = async |fixture: &Fixture, requests| {
        for _ in 0..requests {
            assert_eq!(fixture.get("/two/1", &[]).await.status, 200);
        }
        [served(&one), served(&other), served(&third)]
    };
    let fixture = Fixture::start(two(&one, &other, "")).await;
    assert_eq!(send(&fixture, 4).await, [2, 2, 0]);
    fixture.reload(three("slow_start = \"0s\"")).await;
    assert_eq!(send(&fixture, 6).await, [4, 4, 2]);
    assert_eq!([one.connections(), other.connections()], [1, 1], "the same ones as before the reload");

    let checked = "slow_start = \"0s\"\nhealth = { path = \"/health\", interval = \"100ms\" }";
    fixture.reload(two(&one, &other, checked)).await;
    wait_for_up(&fixture, &other, 0).await;
    fixture.reload(three(&format!("{checked}\neject = \"off\""))).await;
    assert_eq!(fixture.gateway.count(&up(&other)).await, 0, "known from before the reload");
    assert_eq!(send(&fixture, 4).await, [6, 4, 4]);
    fixture.reload(three("")).await;
    assert_eq!(fixture.gateway.count(&up(&other)).await, 1, "it is no longer checked");
}

#[tokio::test]
async fn the_metrics_of_a_server_end_with_it() {
    let (one, other) = (Origin::start().await, Origin::start().await);
    // A pool outlives the last configuration of its server by up to that time.
    let keep_alive = "keep_alive = \"50ms\"";
    let fixture = Fixture::start(two(&one, &other, keep_alive)).await;
    for _ in 0..2 {
        assert_eq!(fixture.get("/two/1", &[]).await.status, 200);
    }
    assert_eq!(fixture.gateway.count(&up(&other)).await, 1);
    fixture.reload(upstream("two", &[one.addr()], keep_alive).one_worker()).await;
    // The worker learns of the reload with its next request.
    assert_eq!(fixture.get("/two/1", &[]).await.status, 200);
    let is_gone = async || fixture.gateway.metrics().await.get(&up(&other)).is_none();
    with_deadline("the end of the gauge", async { while !is_gone().await {} }).await;
}
