//! Upstreams on Unix sockets.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use tokio::net::UnixListener;
use tokio::task::AbortHandle;

use crate::support::background;
use crate::support::config::Config;
use crate::support::echo::{self, Protocol};
use crate::support::fixture::Fixture;
use crate::support::temporary::TempDir;

/// An echo service on a Unix socket, until dropped.
struct UnixServer(AbortHandle);

impl UnixServer {
    async fn start(path: &Path, protocol: Protocol) -> Self {
        let path = path.to_owned();
        let listener = background().spawn(async move { UnixListener::bind(path) }).await;
        let listener = listener.expect("binding does not panic").expect("the path is free");
        let accepting = background().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                background().spawn(echo::serve(stream, protocol, "unix".to_owned()));
            }
        });
        Self(accepting.abort_handle())
    }
}

impl Drop for UnixServer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn config(socket: &Path, keys: &str) -> Config {
    Config::minimal()
        .append(&format!("[upstreams.app]\nservers = [\"unix:{}\"]\n{keys}\n", socket.display()))
        .route("app", "access = \"public\"\nupstream = \"app\"")
}

#[tokio::test]
async fn requests_reach_a_unix_socket_in_either_protocol() {
    let directory = TempDir::new();
    for (protocol, keys, version, target, host) in [
        (Protocol::Http1, "", "HTTP/1.1", "/app/1?q", json!("client.example")),
        (Protocol::Http1, "host = \"upstream\"", "HTTP/1.1", "/app/1?q", json!("localhost")),
        (Protocol::Http2, "protocol = \"http2\"", "HTTP/2.0", "http://client.example/app/1?q", json!(null)),
    ] {
        let path = directory.path().join("app.sock");
        let _server = UnixServer::start(&path, protocol).await;
        let fixture = Fixture::start(config(&path, keys)).await;
        for body in ["first", "second"] {
            let response = fixture.request("POST", "/app/1?q", &[("Host", "client.example")], body.as_bytes()).await;
            let expected = json!({ "server": "unix", "protocol": version, "method": "POST", "target": target, "host": host, "body": body });
            assert_eq!((response.status, response.json()), (200, expected), "{keys}");
            let line = fixture.gateway.access_line_of(&response).await;
            assert_eq!(line["server"], format!("unix:{}", path.display()), "{keys}");
        }
        std::fs::remove_file(&path).expect("the socket exists");
    }
}

#[tokio::test]
async fn a_tunnel_passes_through_a_unix_socket() {
    let directory = TempDir::new();
    let path = directory.path().join("app.sock");
    let _server = UnixServer::start(&path, Protocol::Http1).await;
    let fixture = Fixture::start(config(&path, "")).await;
    let mut conn = fixture.connect().await;
    conn.send("GET /app/ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert_eq!(conn.read_response().await.status, 101);
    conn.send("ping").await;
    assert_eq!(conn.read_bytes(4).await, b"ping");
}

/// A server that is restarted binds a new socket.
#[tokio::test]
async fn a_socket_that_is_missing_fails_with_its_reason_until_it_is_back() {
    let directory = TempDir::new();
    let path = directory.path().join("app.sock");
    let fixture = Fixture::start(config(&path, "")).await;
    let response = fixture.get("/app/1", &[]).await;
    let line = fixture.gateway.access_line_of(&response).await;
    let seen = ["code", "reason", "blame"].map(|field| line[field].as_str().unwrap_or(""));
    assert_eq!((response.status, seen), (502, ["upstream_unreachable", "the socket does not exist", "upstream"]));
    let failures =
        format!("portcullis_upstream_connect_failures_total{{upstream=\"app\",server=\"unix:{}\"}}", path.display());
    assert_eq!(fixture.gateway.count(&failures).await, 1);
    let _server = UnixServer::start(&path, Protocol::Http1).await;
    assert_eq!(fixture.get("/app/1", &[]).await.status, 200);
}

#[tokio::test]
async fn check_online_connects_to_unix_sockets() {
    let directory = TempDir::new();
    let [open, missing] = ["open.sock", "missing.sock"].map(|name| directory.path().join(name));
    let _server = UnixServer::start(&open, Protocol::Http1).await;
    let file = directory.write(
        "gateway.toml",
        format!(
            "[upstreams.app]\nservers = [\"unix:{}\", \"unix:{}\"]\n[[routes]]\npath = \"/*\"\naccess = \"public\"\nupstream = \"app\"\n",
            open.display(),
            missing.display()
        ),
    );
    let check = Command::new(env!("CARGO_BIN_EXE_portcullis")).args(["check", "--online", "-c"]).arg(file).output();
    let output = check.expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("\nupstream app unix:{}: ok\n", open.display())), "{text}");
    let failed = format!("\nFAILED  upstream app unix:{}: the socket does not exist\n", missing.display());
    assert!(text.contains(&failed), "{text}");
}
