//! Servers that fail: which of them are avoided, for how long, and what clients get meanwhile.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::server::{Server, bind};
use crate::support::with_deadline;

/// How a [`Switch`] treats connections.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// Closes them at once, which the gateway counts as a failure to connect.
    Close,
    /// Keeps them without a byte: connecting takes until the mode changes.
    Hold,
    /// Serves HTTP/2.
    Serve,
}

/// An HTTP/2 server that a test switches between health and failure. With HTTP/2, a connection is
/// open only once the server's settings have arrived, so that connecting can be made to fail and to
/// hang.
struct Switch {
    addr: SocketAddr,
    mode: watch::Sender<Mode>,
    held: watch::Sender<usize>,
    _server: Server,
}

impl Switch {
    async fn start(mode: Mode) -> Self {
        let (listener, addr) = bind().await;
        let (mode, held) = (watch::Sender::new(mode), watch::Sender::new(0));
        let shared = (mode.clone(), held.clone());
        let server = Server::start(listener, move |stream| {
            let (mode, held) = shared.clone();
            async move {
                let mut mode = mode.subscribe();
                let first = *mode.borrow();
                match first {
                    Mode::Close => {}
                    Mode::Hold => {
                        held.send_modify(|count| *count += 1);
                        let _ = mode.wait_for(|now| *now != Mode::Hold).await;
                        held.send_modify(|count| *count -= 1);
                    }
                    Mode::Serve => serve(stream).await,
                }
            }
        });
        Self { addr, mode, held, _server: server }
    }

    fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    async fn wait_for_held(&self, wanted: usize) {
        let mut held = self.held.subscribe();
        with_deadline("held connections", held.wait_for(|count| *count == wanted)).await.expect("the switch lives");
    }
}

async fn serve(stream: TcpStream) {
    async fn respond(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        Ok(Response::new(Full::from("ok")))
    }
    let connection = http2::Builder::new(TokioExecutor::new());
    // It ends with an error when the gateway closes early.
    let _ = connection.serve_connection(TokioIo::new(stream), service_fn(respond)).await;
}

/// The public route `/NAME/*` to an upstream of these servers.
fn upstream(name: &str, servers: &[SocketAddr], keys: &str) -> Config {
    let route = format!("access = \"public\"\nupstream = \"{name}\"");
    Config::minimal().upstream(name, servers, keys).route(name, &route)
}

/// `upstream_unavailable`: a dead upstream is tried by one request at a time, so that the others do
/// not wait for the same failure. Threat DO-11.
#[tokio::test]
async fn while_no_server_is_up_one_request_at_a_time_tries_and_the_others_get_503_at_once() {
    let server = Switch::start(Mode::Close).await;
    let keys = "protocol = \"http2\"\nconnect_timeout = \"30s\"";
    let fixture = Fixture::start(upstream("dead", &[server.addr], keys)).await;
    for request in 0..5 {
        let response = fixture.get("/dead/1", &[]).await;
        assert_eq!((response.status, &response.json()["code"]), (502, &json!("upstream_unreachable")), "{request}");
    }
    server.set(Mode::Hold);
    let mut probe = fixture.connect().await;
    probe.send("GET /dead/probe HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.wait_for_held(1).await;
    for request in 0..3 {
        let response = fixture.get("/dead/2", &[]).await;
        assert_eq!((response.status, &response.json()["code"]), (503, &json!("upstream_unavailable")), "{request}");
        assert_eq!(response.header("retry-after"), Some("1"));
        let line = fixture.gateway.access_line_of(&response).await;
        assert_eq!((&line["upstream"], line.get("server")), (&json!("dead"), None), "none was tried");
        assert_eq!(line["blame"], "upstream");
    }
    assert_eq!(*server.held.borrow(), 1, "no other request has connected");
    server.set(Mode::Serve);
    assert_eq!(probe.read_response().await.status, 502, "the held connection is closed");
    for request in 0..3 {
        assert_eq!(fixture.get("/dead/3", &[]).await.status, 200, "{request}: it has recovered");
    }
}

/// A client that leaves while its request is the one that tries makes room for the next one.
#[tokio::test]
async fn a_request_that_is_given_up_while_it_tries_lets_the_next_one_try() {
    let server = Switch::start(Mode::Close).await;
    let keys = "protocol = \"http2\"\nconnect_timeout = \"30s\"";
    let fixture = Fixture::start(upstream("dead", &[server.addr], keys)).await;
    for _ in 0..3 {
        assert_eq!(fixture.get("/dead/1", &[]).await.status, 502);
    }
    server.set(Mode::Hold);
    let mut leaving = fixture.connect().await;
    leaving.send("GET /dead/probe HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.wait_for_held(1).await;
    assert_eq!(fixture.get("/dead/2", &[]).await.status, 503);
    drop(leaving);
    let lines = fixture.gateway.wait_for_access_lines(5).await;
    assert_eq!(lines[4]["status"], 499, "{lines:?}");
    server.set(Mode::Serve);
    assert_eq!(fixture.get("/dead/3", &[]).await.status, 200);
}
