//! Unix sockets that clients connect to: who the client is, how connections are spread and counted,
//! and what happens to the file.

use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::temporary::TempDir;
use crate::support::with_deadline;

/// A gateway with this share of the connections for each client, that listens on a TCP port and on
/// the returned Unix socket.
async fn start(directory: &TempDir, share: u32) -> (PathBuf, Fixture) {
    let path = directory.path().join("http.sock");
    let listen = format!("listen = [\"127.0.0.1:0\", \"unix:{}\"]", path.display());
    let config =
        Config::minimal().replace("server", &listen).add("server", &format!("max_connections_per_client = {share}"));
    (path, Fixture::start(config).await)
}

async fn connect(path: &Path) -> UnixStream {
    with_deadline("a connection", UnixStream::connect(path)).await.expect("the gateway listens")
}

/// Sends a request and reads the status line of its response.
async fn status(stream: &mut UnixStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("the gateway reads");
    let mut received = Vec::new();
    with_deadline("a response head", async {
        while !received.ends_with(b"\r\n\r\n") {
            received.push(stream.read_u8().await.expect("a response"));
        }
    })
    .await;
    let head = String::from_utf8_lossy(&received).into_owned();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let length = length.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("no length: {head}"));
    let mut body = vec![0; length];
    with_deadline("a body", stream.read_exact(&mut body)).await.expect("a whole body");
    head.lines().next().unwrap_or_default().to_owned()
}

fn request(header: &str) -> String {
    format!("GET /public/a HTTP/1.1\r\nHost: gateway\r\n{header}\r\n")
}

/// Threats RL-1 and C3: the socket's permissions say who may connect, so its peers are trusted.
#[tokio::test]
async fn the_client_is_what_the_peer_of_the_socket_reports_or_the_loopback_address() {
    let directory = TempDir::new();
    let (path, fixture) = start(&directory, 100).await;
    for (number, (header, client, forwarded_for)) in [
        ("", "127.0.0.1", "127.0.0.1"),
        ("X-Forwarded-For: 203.0.113.9\r\n", "203.0.113.9", "203.0.113.9, 127.0.0.1"),
        ("X-Forwarded-For: 1.2.3.4, 203.0.113.9\r\n", "203.0.113.9", "203.0.113.9, 127.0.0.1"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(status(&mut connect(&path).await, &request(header)).await, "HTTP/1.1 200 OK", "{header}");
        let lines = fixture.gateway.wait_for_access_lines(number + 1).await;
        assert_eq!(lines[number]["client"], client, "{header}");
        assert_eq!(fixture.origin.requests()[number].header("x-forwarded-for"), Some(forwarded_for), "{header}");
    }
    // The same field from a TCP client, which is not trusted.
    let response = fixture.get("/public/a", &[("X-Forwarded-For", "203.0.113.9")]).await;
    assert_eq!(fixture.gateway.access_line_of(&response).await["client"], "127.0.0.1");
}

/// One worker accepts, and all of them serve.
#[tokio::test]
async fn connections_to_a_unix_socket_are_spread_over_the_workers() {
    let directory = TempDir::new();
    let (path, fixture) = start(&directory, 100).await;
    let mut held = Vec::new();
    for _ in 0..32 {
        let mut stream = connect(&path).await;
        assert_eq!(status(&mut stream, &request("")).await, "HTTP/1.1 200 OK");
        held.push(stream);
    }
    let by_worker = fixture.gateway.connections_by_worker();
    assert!(by_worker.len() == 2 && by_worker.iter().all(|count| (14..=18).contains(count)), "{by_worker:?}");
}

/// Threat DO-4: a proxy's connections over the socket do not count against the clients that share
/// the loopback address.
#[tokio::test]
async fn the_peers_of_a_unix_socket_are_exempt_from_the_share_of_a_client() {
    let directory = TempDir::new();
    let (path, fixture) = start(&directory, 1).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(&path).await;
        assert_eq!(status(&mut stream, &request("")).await, "HTTP/1.1 200 OK");
        held.push(stream);
    }
    assert_eq!(fixture.get("/public/a", &[]).await.status, 200);
    assert_eq!(status(&mut held[0], &request("")).await, "HTTP/1.1 200 OK");
    assert_eq!(fixture.gateway.count("portcullis_connections_refused_total").await, 0);
}

#[tokio::test]
async fn the_file_goes_when_the_gateway_drains_or_stops() {
    let directory = TempDir::new();
    let (path, fixture) = start(&directory, 100).await;
    fixture.gateway.drain();
    fixture.gateway.wait_for_end().await;
    assert!(!path.exists(), "drained");
    let (path, fixture) = start(&directory, 100).await;
    assert!(path.exists());
    fixture.gateway.stop().await;
    assert!(!path.exists(), "stopped");
}
