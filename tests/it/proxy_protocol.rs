//! PROXY protocol: the client that a trusted proxy names, before anything else on the connection.
//!
//! 127.0.0.1 is the proxy; 127.0.0.2 is a client that connects directly.

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use rustls_pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::certificates::CertificateFiles;
use crate::support::client::{Conn, h2};
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::origin::Behaviour;
use crate::support::process::ChildGuard;
use crate::support::temporary::TempDir;
use crate::support::tls::TlsClient;
use crate::support::{skip, with_deadline};

const TRUSTED: &str = "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]";
const REQUEST: &str = "GET /public/a HTTP/1.1\r\nHost: gateway\r\n\r\n";

/// Version 2 for a client at 192.0.2.2, with an extension.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xc0\0\x02\x02\xc6\x33\x64\x01\xdc\x04\x01\xbb\x04\0\x01\0";

async fn start(lines: &str) -> Fixture {
    Fixture::start(Config::minimal().add("server", &format!("{TRUSTED}\n{lines}"))).await
}

fn v1(client: &str) -> String {
    format!("PROXY TCP4 {client} 198.51.100.1 56324 443\r\n")
}

fn refused(reason: &str) -> String {
    format!("portcullis_proxy_headers_refused_total{{reason=\"{reason}\"}}")
}

/// Threat RL-9.
#[tokio::test]
async fn the_client_is_the_one_that_the_header_names() {
    let fixture = start("max_connections_per_client = 100").await;
    let forged = "X-Forwarded-For: 203.0.113.9\r\n";
    for (number, (header, fields, client, forwarded_for)) in [
        (v1("192.0.2.1").into_bytes(), "", "192.0.2.1", "192.0.2.1"),
        (v1("192.0.2.1").into_bytes(), forged, "192.0.2.1", "192.0.2.1"),
        (V2.to_vec(), forged, "192.0.2.2", "192.0.2.2"),
        (b"PROXY TCP6 ::ffff:192.0.2.3 ::1 1 2\r\n".to_vec(), "", "192.0.2.3", "192.0.2.3"),
        // A client that the proxy does not know is not trusted, although the proxy is.
        (b"PROXY UNKNOWN\r\n".to_vec(), forged, "127.0.0.1", "127.0.0.1"),
        // A proxy behind the proxy.
        (v1("10.0.0.7").into_bytes(), forged, "203.0.113.9", "203.0.113.9, 10.0.0.7"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut conn = fixture.connect().await;
        let request = REQUEST.replace("\r\n\r\n", &format!("\r\n{fields}\r\n"));
        conn.send([&header[..], request.as_bytes()].concat()).await;
        let response = conn.read_response().await;
        assert_eq!(response.status, 200, "{number}");
        assert_eq!(fixture.gateway.access_line_of(&response).await["client"], client, "{number}");
        assert_eq!(fixture.origin.requests()[number].header("x-forwarded-for"), Some(forwarded_for), "{number}");
    }
}

#[tokio::test]
async fn the_header_counts_for_all_requests_of_the_connection() {
    let fixture = start("max_connections_per_client = 100").await;
    let mut conn = fixture.connect().await;
    conn.send(v1("192.0.2.1")).await;
    for _ in 0..2 {
        let response = conn.request("GET", "/public/a", &[], b"").await;
        assert_eq!(fixture.gateway.access_line_of(&response).await["client"], "192.0.2.1");
    }
}

/// Threat RL-9: whether a header is expected depends on the peer's address alone.
#[tokio::test]
async fn a_connection_that_breaks_the_rule_for_its_peer_is_closed_without_a_response() {
    let fixture = start("max_connections_per_client = 100").await;
    for (name, host, bytes, reason) in [
        ("a proxy without a header", 1, REQUEST.to_owned(), "missing"),
        ("a malformed header", 1, format!("PROXY TCP4 192.0.2.1\r\n{REQUEST}"), "malformed"),
        ("an endless header", 1, format!("PROXY UNKNOWN {}", "x".repeat(200)), "too_long"),
        ("two headers", 1, v1("192.0.2.1") + &v1("192.0.2.2") + REQUEST, ""),
        ("a stranger with a header", 2, v1("192.0.2.1") + REQUEST, "untrusted"),
    ] {
        let mut conn = Conn::open_as(host, fixture.gateway.addr()).await;
        conn.send(bytes).await;
        let received = String::from_utf8_lossy(&conn.read_to_close().await).into_owned();
        if reason.is_empty() {
            assert!(received.starts_with("HTTP/1.1 400 "), "{name}: {received}");
        } else {
            assert_eq!(received, "", "{name}");
            assert_eq!(fixture.gateway.count(&refused(reason)).await, 1, "{name}");
        }
    }
    let mut direct = Conn::open_as(2, fixture.gateway.addr()).await;
    let response = direct.request("GET", "/public/a", &[], b"").await;
    assert_eq!(response.status, 200, "a client that connects directly");
    assert_eq!(fixture.gateway.access_line_of(&response).await["client"], "127.0.0.2");
    assert_eq!(fixture.origin.requests().len(), 1, "nothing else was forwarded");
}

/// Threat DO-4: the share is that of the client, not that of the proxy.
#[tokio::test]
async fn a_connection_counts_against_the_client_that_the_header_names() {
    let fixture = start("max_connections_per_client = 1").await;
    fixture.origin.behave("/public/hang", Behaviour::Hang);
    let hanging = REQUEST.replace("/public/a", "/public/hang");
    let mut first = fixture.connect().await;
    first.send(v1("192.0.2.1") + &hanging).await;
    fixture.origin.wait_for_requests(1).await;
    let mut second = fixture.connect().await;
    second.send(v1("192.0.2.1") + REQUEST).await;
    assert_eq!(second.read_to_close().await, b"", "the client has its one connection");
    assert_eq!(fixture.gateway.count("portcullis_connections_refused_total").await, 1);
    let mut other = fixture.connect().await;
    other.send(v1("192.0.2.2") + REQUEST).await;
    assert_eq!(other.read_response().await.status, 200, "another client behind the same proxy");
    drop(first);
    fixture.gateway.wait_for_connections(1).await;
    let mut next = fixture.connect().await;
    next.send(v1("192.0.2.1") + REQUEST).await;
    assert_eq!(next.read_response().await.status, 200, "the share was given back");
}

/// Threat DO-1.
#[tokio::test]
async fn a_header_that_does_not_come_is_bounded_by_the_header_timeout() {
    let fixture = start("header_timeout = \"50ms\"").await;
    let mut slow = fixture.connect().await;
    slow.send("PROXY TCP4 192.0.2.1").await;
    assert_eq!(slow.read_to_close().await, b"");
    assert_eq!(fixture.gateway.count(&refused("timeout")).await, 1);
    let mut silent_stranger = Conn::open_as(2, fixture.gateway.addr()).await;
    assert_eq!(silent_stranger.read_to_close().await, b"");
    assert_eq!(fixture.gateway.count(&refused("timeout")).await, 1, "it need not send a header");
}

/// The header comes first, then TLS, then HTTP.
#[tokio::test]
async fn the_header_comes_before_tls() {
    let files = CertificateFiles::localhost("a");
    let fixture = start(&files.tls(&["a"])).await;
    let addr = fixture.gateway.addr();
    let mut stream = TcpStream::connect(addr).await.expect("the gateway listens");
    stream.write_all(V2).await.expect("the gateway reads");
    let name = ServerName::try_from("localhost").expect("a name");
    let connecting = TlsClient::new("localhost").connector().connect(name, stream);
    let session = with_deadline("a TLS handshake", connecting).await.expect("a TLS handshake");
    let response = Conn::over(session, addr, addr).request("GET", "/public/a", &[], b"").await;
    assert_eq!(response.status, 200);
    assert_eq!(fixture.gateway.access_line_of(&response).await["client"], "192.0.2.2");
    TlsClient::new("localhost").try_connect(addr).await.expect_err("a proxy that sends no header");
    assert_eq!(fixture.gateway.count(&refused("missing")).await, 1);
}

#[tokio::test]
async fn a_reload_turns_the_protocol_on_for_new_connections() {
    let trusting = Config::minimal().add("server", "trusted_proxies = [\"127.0.0.1\"]");
    let fixture = Fixture::start(trusting.clone()).await;
    let mut before = fixture.connect().await;
    assert_eq!(before.request("GET", "/public/a", &[], b"").await.status, 200);
    fixture.reload(trusting.add("server", "proxy_protocol = true")).await;
    assert_eq!(before.request("GET", "/public/a", &[], b"").await.status, 200);
    let mut after = fixture.connect().await;
    after.send(v1("192.0.2.1") + REQUEST).await;
    assert_eq!(after.read_response().await.status, 200);
}

/// A real `HAProxy` that relays TCP to `gateway` and writes this version of the header. `None` if
/// it is not installed.
async fn haproxy(gateway: SocketAddr, option: &str) -> Option<(ChildGuard, SocketAddr)> {
    let directory = TempDir::new();
    for _ in 0..5 {
        let chosen = TcpListener::bind(("127.0.0.1", 0)).expect("there is a free port");
        let addr = chosen.local_addr().expect("a bound socket has an address");
        drop(chosen);
        let config = directory.write(
            "haproxy.cfg",
            format!(
                "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
                 listen relay\n  bind {addr}\n  server gateway {gateway} {option}\n"
            ),
        );
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(config).env("PATH", "/usr/sbin:/usr/local/sbin:/usr/bin:/bin");
        let Ok(child) = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
            skip("HAProxy", "it is not installed");
            return None;
        };
        let mut child = ChildGuard(child);
        // Another program may take the chosen port first; then HAProxy ends.
        let listens = with_deadline("HAProxy's start", async {
            loop {
                if TcpStream::connect(addr).await.is_ok() {
                    break true;
                }
                if !matches!(child.0.try_wait(), Ok(None)) {
                    break false;
                }
                tokio::task::yield_now().await;
            }
        });
        if listens.await {
            return Some((child, addr));
        }
    }
    panic!("HAProxy found no free port");
}

/// An independent sender of both versions, over HTTP/1.1 and HTTP/2.
#[tokio::test]
async fn a_real_haproxy_names_its_clients() {
    let fixture = start("max_connections_per_client = 100").await;
    for option in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id,crc32c"] {
        let Some((_haproxy, addr)) = haproxy(fixture.gateway.addr(), option).await else { return };
        let mut conn = Conn::open_as(7, addr).await;
        for _ in 0..2 {
            let response = conn.request("GET", "/public/a", &[], b"").await;
            assert_eq!(response.status, 200, "{option}");
            assert_eq!(fixture.gateway.access_line_of(&response).await["client"], "127.0.0.7", "{option}");
        }
        let response = h2(addr).await.get("/public/a", &[]).await;
        assert_eq!(response.status, 200, "{option}, over HTTP/2");
    }
    for reason in ["missing", "malformed", "too_long", "untrusted"] {
        assert_eq!(fixture.gateway.count(&refused(reason)).await, 0, "{reason}");
    }
}
