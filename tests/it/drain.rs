//! Drain: out of traffic first, then out of connections, then out of the process.

use crate::support::client::{self, Conn};
use crate::support::origin::Behaviour;
use crate::support::site::Site;
use crate::support::within;

async fn ready(site: &Site) -> (u16, String) {
    let answer = client::get(site.gateway.admin(), "/readyz", &[]).await;
    (answer.status, answer.text())
}

#[tokio::test]
async fn it_is_not_ready_at_once_and_still_serves_during_the_delay() {
    let site = Site::start_with("drain_delay = \"10m\"", "").await;
    assert_eq!(site.get("/token/a", &[("authorization", &site.bearer("a"))]).await.status, 200);
    assert_eq!(ready(&site).await.0, 200);
    site.gateway.drain();
    within("not ready", async { while ready(&site).await.0 != 503 {} }).await;
    assert!(ready(&site).await.1.contains("draining"));
    assert_eq!(site.get("/public/a", &[]).await.status, 200);
}

#[tokio::test]
async fn requests_under_way_are_finished_and_the_process_ends() {
    let site = Site::start("").await;
    let chunks = site.origin.stream("/public/a");
    let mut busy = Conn::open(site.gateway.addr()).await;
    busy.send("GET /public/a HTTP/1.1\r\nHost: gateway\r\n\r\n").await;
    assert_eq!(busy.read_head().await.status, 200);
    site.gateway.drain();
    // New connections are refused once the listeners are closed.
    within("closed listeners", async { while tokio::net::TcpStream::connect(site.gateway.addr()).await.is_ok() {} })
        .await;
    chunks.send("the end");
    chunks.finish();
    assert!(busy.read_until("the end").await.ends_with("the end"));
    site.gateway.wait_for_end().await;
}

#[tokio::test]
async fn an_idle_connection_may_bring_one_more_request_and_is_told_to_close() {
    let site = Site::start("").await;
    let mut idle = Conn::open(site.gateway.addr()).await;
    idle.send("GET /public/a HTTP/1.1\r\nHost: gateway\r\n\r\n").await;
    let first = idle.read_response().await;
    assert_eq!((first.status, first.header("connection")), (200, None));
    site.gateway.drain();
    within("closed listeners", async { while tokio::net::TcpStream::connect(site.gateway.addr()).await.is_ok() {} })
        .await;
    idle.send("GET /public/b HTTP/1.1\r\nHost: gateway\r\n\r\n").await;
    let last = idle.read_response().await;
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert!(idle.read_to_close().await.is_empty());
    site.gateway.wait_for_end().await;
}

#[tokio::test]
async fn what_does_not_finish_is_cut_off_after_the_timeout() {
    let site = Site::start_with("drain_timeout = \"50ms\"", "").await;
    site.origin.behave("/public/never", Behaviour::Hang);
    let mut stuck = Conn::open(site.gateway.addr()).await;
    stuck.send("GET /public/never HTTP/1.1\r\nHost: gateway\r\n\r\n").await;
    site.origin.wait_for_requests(1).await;
    site.gateway.drain();
    site.gateway.wait_for_end().await;
    assert!(stuck.read_to_close().await.is_empty(), "no answer was made up");
}
