//! A real nginx as the upstream: streaming, keep-alive and responses without a body, with an
//! independent HTTP implementation.

use crate::support::client;
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::nginx::Nginx;
use crate::support::origin::Origin;

async fn start(origin: &Origin) -> Option<(Nginx, Fixture)> {
    let nginx = Nginx::start(origin.addr()).await?;
    let config = Config::minimal()
        .one_worker()
        .upstream("nginx", &[nginx.addr()], "keep_alive = \"50s\"")
        .route("nginx", "path = \"/*\"\naccess = \"public\"\nupstream = \"nginx\"");
    Some((nginx, Fixture::start(config).await))
}

fn connections(state: &str) -> String {
    format!("portcullis_upstream_connections{{upstream=\"nginx\",state=\"{state}\"}}")
}

/// 8 MiB stream through complete, over both protocols and concurrently.
#[tokio::test]
async fn large_responses_stream_through_complete() {
    let origin = Origin::start().await;
    let Some((nginx, fixture)) = start(&origin).await else { return };
    let addr = fixture.gateway.addr();
    let h2 = client::h2(addr).await;
    let (one, two, three) = tokio::join!(
        client::get(addr, "/big", &[]),
        h2.get("/big", &[]),
        h2.get("/big", &[("Range", "bytes=100-199")]),
    );
    for (name, response, status, length) in
        [("HTTP/1.1", one, 200, Nginx::BIG_BYTES), ("HTTP/2", two, 200, Nginx::BIG_BYTES), ("a range", three, 206, 100)]
    {
        assert_eq!((response.status, response.body.len()), (status, length), "{name}");
        assert_eq!(response.header("content-length"), Some(&*length.to_string()), "{name}");
        assert!(response.body.iter().all(|byte| *byte == b'x'), "{name}");
    }
    assert_eq!(nginx.error_log(), "");
}

/// Responses without a body leave the connection usable: `HEAD`, 304, and the requests after them
/// share one connection on each side.
#[tokio::test]
async fn one_connection_carries_responses_with_and_without_a_body() {
    let origin = Origin::start().await;
    let Some((nginx, fixture)) = start(&origin).await else { return };
    let mut conn = fixture.connect().await;
    let head = conn.request("HEAD", "/big", &[], b"").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some(&*Nginx::BIG_BYTES.to_string())));
    let tag = head.header("etag").expect("nginx sends an ETag for files").to_owned();
    for round in 0..3 {
        let document = conn.request("GET", "/orders/1", &[], b"").await;
        assert_eq!((document.status, &*document.text()), (200, Nginx::DOCUMENT), "{round}");
        let unchanged = conn.request("GET", "/big", &[("If-None-Match", &tag)], b"").await;
        assert_eq!((unchanged.status, unchanged.header("etag")), (304, Some(&*tag)), "{round}");
        assert_eq!(conn.request("HEAD", "/orders/1", &[], b"").await.status, 200, "{round}");
        assert_eq!(conn.request("POST", "/orders/1", &[], b"ignored by a return").await.status, 200, "{round}");
    }
    let samples = fixture.gateway.metrics().await;
    assert_eq!((samples.count(&connections("idle")), samples.count(&connections("active"))), (1, 0));
    assert_eq!(samples.count(r#"portcullis_upstream_retries_total{upstream="nginx",reason="stale"}"#), 0);
    assert_eq!(nginx.error_log(), "");
}

/// A body streams through nginx to the origin behind it and back, chunk by chunk.
#[tokio::test]
async fn chunks_arrive_as_they_are_sent() {
    let origin = Origin::start().await;
    let Some((_nginx, fixture)) = start(&origin).await else { return };
    let chunks = origin.stream("/proxied/stream");
    let mut conn = fixture.connect().await;
    conn.send("POST /proxied/stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nup\r\n").await;
    origin.wait_until("the first piece", |all| all.iter().any(|request| request.body == "up")).await;
    conn.send("0\r\n\r\n").await;
    assert_eq!(conn.read_head().await.status, 200);
    for piece in ["one", "two"] {
        chunks.send(piece);
        conn.read_until(piece).await;
    }
    chunks.finish();
    conn.read_until("0\r\n\r\n").await;
}
