//! A real nginx as the upstream: streaming, kept-alive connections and bodiless answers as other people's HTTP has them.

use crate::support::client::{self, Conn};
use crate::support::nginx::Nginx;
use crate::support::origin::Origin;
use crate::support::site::Site;

async fn site(origin: &Origin) -> Option<(Nginx, Site)> {
    let nginx = Nginx::start(origin.addr()).await?;
    let more = format!(
        "[upstreams.nginx]\nservers = [\"http://{}\"]\nkeep_alive = \"50s\"\n[[routes]]\nname = \"nginx\"\npath = \"/*\"\naccess = \"public\"\nupstream = \"nginx\"\n",
        nginx.addr()
    );
    let site = Site::start_with("workers = 1", &more).await;
    Some((nginx, site))
}

fn connections(state: &str) -> String {
    format!("portcullis_upstream_connections{{upstream=\"nginx\",state=\"{state}\"}}")
}

/// 8 MiB stream through whole, over both protocols and beside each other.
#[tokio::test]
async fn large_answers_stream_through_whole() {
    let origin = Origin::start().await;
    let Some((nginx, site)) = site(&origin).await else { return };
    let addr = site.gateway.addr();
    let h2 = client::h2(addr).await;
    let (one, two, three) = tokio::join!(
        client::get(addr, "/big", &[]),
        h2.get("/big", &[]),
        h2.get("/big", &[("Range", "bytes=100-199")]),
    );
    for (name, answer, status, length) in
        [("HTTP/1.1", one, 200, Nginx::BIG_BYTES), ("HTTP/2", two, 200, Nginx::BIG_BYTES), ("a range", three, 206, 100)]
    {
        assert_eq!((answer.status, answer.body.len()), (status, length), "{name}");
        assert_eq!(answer.header("content-length"), Some(&*length.to_string()), "{name}");
        assert!(answer.body.iter().all(|byte| *byte == b'x'), "{name}");
    }
    assert_eq!(nginx.error_log(), "");
}

/// Bodiless answers leave the connection where it was: `HEAD`, 304, and what follows them, all on one connection each way.
#[tokio::test]
async fn one_connection_carries_answers_with_and_without_body() {
    let origin = Origin::start().await;
    let Some((nginx, site)) = site(&origin).await else { return };
    let mut conn = Conn::open(site.gateway.addr()).await;
    let head = conn.request("HEAD", "/big", &[], b"").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some(&*Nginx::BIG_BYTES.to_string())));
    let tag = head.header("etag").expect("nginx tags files").to_owned();
    for round in 0..3 {
        let document = conn.request("GET", "/orders/1", &[], b"").await;
        assert_eq!((document.status, &*document.text()), (200, Nginx::DOCUMENT), "{round}");
        let unchanged = conn.request("GET", "/big", &[("If-None-Match", &tag)], b"").await;
        assert_eq!((unchanged.status, unchanged.header("etag")), (304, Some(&*tag)), "{round}");
        assert_eq!(conn.request("HEAD", "/orders/1", &[], b"").await.status, 200, "{round}");
        assert_eq!(conn.request("POST", "/orders/1", &[], b"ignored by a return").await.status, 200, "{round}");
    }
    let samples = site.gateway.metrics().await;
    assert_eq!((samples.count(&connections("idle")), samples.count(&connections("active"))), (1, 0));
    assert_eq!(samples.count(r#"portcullis_upstream_retries_total{upstream="nginx"}"#), 0);
    assert_eq!(nginx.error_log(), "");
}

/// A body streams through nginx to the origin behind it and back, piece by piece.
#[tokio::test]
async fn pieces_arrive_as_they_are_sent() {
    let origin = Origin::start().await;
    let Some((_nginx, site)) = site(&origin).await else { return };
    let chunks = origin.stream("/proxied/stream");
    let mut conn = Conn::open(site.gateway.addr()).await;
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
