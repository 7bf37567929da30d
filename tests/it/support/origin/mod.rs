//! An upstream in this process: records what it receives, echoes it, and misbehaves on paths for
//! which a test asks for that.
//!
//! hyper serves it, so header names arrive in lower case and fields of one name are adjacent. Where
//! exact bytes matter, use [`RawOrigin`](super::raw_origin::RawOrigin).

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};

use self::behaviour::ResponseBody;
pub(crate) use self::behaviour::{Behaviour, Chunks};
use super::server::{Server, bind};
use super::{background, with_deadline};

mod behaviour;

/// How much of a request's body is recorded and echoed, in bytes. The rest is only counted.
const KEPT_BYTES: usize = 64 * 1024;

/// A request as the origin received it.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct RecordedRequest {
    pub(crate) method: String,
    /// As in the request line.
    pub(crate) target: String,
    /// `HTTP/1.1`.
    pub(crate) version: String,
    pub(crate) headers: Vec<(String, String)>,
    /// Its first 64 KiB.
    pub(crate) body: String,
    /// In bytes, so far.
    pub(crate) body_length: u64,
    /// Whether the body has ended properly.
    pub(crate) complete: bool,
}

impl RecordedRequest {
    /// The first field of that name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        super::wire::find(&self.headers, name)
    }
}

/// Connections accepted so far, and those still open.
#[derive(Clone, Copy, Debug, Default)]
struct Connections {
    accepted: usize,
    open: usize,
}

/// An upstream on a port of its own. Dropping it stops it.
///
/// On a path without a [`Behaviour`] it responds with 200 and the [`RecordedRequest`] as JSON, once
/// the request's body has ended.
#[derive(Debug)]
pub(crate) struct Origin {
    addr: SocketAddr,
    state: Arc<State>,
    serving: Server,
}

#[derive(Debug, Default)]
struct State {
    behaviours: Mutex<BTreeMap<String, Behaviour>>,
    received: watch::Sender<Vec<RecordedRequest>>,
    connections: watch::Sender<Connections>,
}

impl Origin {
    pub(crate) async fn start() -> Self {
        let state = Arc::new(State::default());
        let (listener, addr) = bind().await;
        let shared = Arc::clone(&state);
        let serving =
            Server::start(listener, move |stream| serve_connection(stream, ConnectionGuard::new(Arc::clone(&shared))));
        Self { addr, state, serving }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sets the behaviour for exactly this path (without query) from now on.
    pub(crate) fn behave(&self, path: &str, behaviour: Behaviour) {
        let mut behaviours = self.state.behaviours.lock().expect("no thread panics while it holds this lock");
        behaviours.insert(path.to_owned(), behaviour);
    }

    /// The next request for this path gets 200 and a body that the test sends in chunks.
    pub(crate) fn stream(&self, path: &str) -> Chunks {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.behave(path, Behaviour::Stream(receiver));
        Chunks(sender)
    }

    /// The next request for this path gets 200, without a body, when the test sends or drops.
    pub(crate) fn delay(&self, path: &str) -> oneshot::Sender<()> {
        let (sender, receiver) = oneshot::channel();
        self.behave(path, Behaviour::Delayed(receiver));
        sender
    }

    /// All requests so far. A request is recorded as soon as its head is complete.
    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        self.state.received.borrow().clone()
    }

    /// Waits until there are `n` requests, and returns all.
    pub(crate) async fn wait_for_requests(&self, n: usize) -> Vec<RecordedRequest> {
        self.wait_until("requests at the origin", |received| received.len() >= n).await
    }

    /// Waits until `enough` holds for the recorded requests. Body bytes are recorded as they
    /// arrive.
    pub(crate) async fn wait_until(
        &self,
        what: &str,
        enough: impl Fn(&[RecordedRequest]) -> bool,
    ) -> Vec<RecordedRequest> {
        let mut received = self.state.received.subscribe();
        let seen = with_deadline(what, received.wait_for(|received| enough(received))).await;
        seen.expect("the sender lives as long as the fixture").clone()
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.borrow().accepted
    }

    pub(crate) fn open_connections(&self) -> usize {
        self.state.connections.borrow().open
    }

    /// Stops, and waits until its connections are closed: until then, it could respond to requests.
    pub(crate) async fn stop(self) {
        let Self { state, serving, .. } = self;
        serving.stop().await;
        let mut connections = state.connections.subscribe();
        let closed =
            with_deadline("the end of the origin's connections", connections.wait_for(|now| now.open == 0)).await;
        closed.expect("its sender is in scope");
    }

    /// Waits until exactly `n` connections are open. Upgraded connections count until they close.
    pub(crate) async fn wait_for_open_connections(&self, n: usize) {
        let mut connections = self.state.connections.subscribe();
        let seen = with_deadline("open connections at the origin", connections.wait_for(|now| now.open == n)).await;
        seen.expect("the sender lives as long as the fixture");
    }
}

/// Counts a connection as open until it is dropped.
struct ConnectionGuard(Arc<State>);

impl ConnectionGuard {
    fn new(state: Arc<State>) -> Self {
        state.connections.send_modify(|now| *now = Connections { accepted: now.accepted + 1, open: now.open + 1 });
        Self(state)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.connections.send_modify(|now| now.open -= 1);
    }
}

async fn serve_connection(stream: TcpStream, guard: ConnectionGuard) {
    let guard = Arc::new(guard);
    let service = service_fn(move |request| respond(Arc::clone(&guard), request));
    // Ends with an error when a test asks for misbehaviour, and when the gateway closes early.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

/// An error closes the connection at once, without a response.
async fn respond(guard: Arc<ConnectionGuard>, mut request: Request<Incoming>) -> io::Result<Response<ResponseBody>> {
    let state = Arc::clone(&guard.0);
    let index = record_head(&state, &request);
    let behaviour = {
        let mut behaviours = state.behaviours.lock().expect("no thread panics while it holds this lock");
        let path = request.uri().path();
        match behaviours.get(path) {
            // These serve one response only.
            Some(Behaviour::Delayed(_) | Behaviour::Stream(_)) => behaviours.remove(path),
            Some(behaviour) => behaviour.copy(),
            None => None,
        }
    };
    match behaviour {
        Some(Behaviour::Upgrade) => {
            let upgraded = hyper::upgrade::on(&mut request);
            let protocol = request.headers().get(http::header::UPGRADE).cloned();
            let accept = request.headers().get(http::header::SEC_WEBSOCKET_KEY).map(websocket_accept);
            background().spawn(echo(upgraded, guard));
            let mut response = Response::new(ResponseBody::nothing());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("upgrade"));
            if let Some(protocol) = protocol {
                response.headers_mut().insert(http::header::UPGRADE, protocol);
            }
            if let Some(accept) = accept {
                response.headers_mut().insert(http::header::SEC_WEBSOCKET_ACCEPT, accept);
            }
            Ok(response)
        }
        Some(behaviour) => {
            if !behaviour.is_early() {
                record_body(&state, index, request.into_body()).await?;
            }
            behaviour.respond().await
        }
        None => {
            record_body(&state, index, request.into_body()).await?;
            let received = state.received.borrow()[index].clone();
            let echo = Behaviour::response(200, &[("content-type", "application/json")], json!(received).to_string());
            echo.respond().await
        }
    }
}

/// Records the head of a request; returns its index.
fn record_head(state: &State, request: &Request<Incoming>) -> usize {
    let received = RecordedRequest {
        method: request.method().to_string(),
        target: request.uri().to_string(),
        version: format!("{:?}", request.version()),
        headers: pairs(request.headers()),
        ..RecordedRequest::default()
    };
    let mut index = 0;
    state.received.send_modify(|all| {
        index = all.len();
        all.push(received);
    });
    index
}

fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

async fn record_body(state: &State, index: usize, mut body: Incoming) -> io::Result<()> {
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(io::Error::other).map(Frame::into_data)? {
            let room = KEPT_BYTES - kept.len();
            kept.extend_from_slice(&data[..room.min(data.len())]);
            state.received.send_modify(|all| {
                all[index].body = String::from_utf8_lossy(&kept).into_owned();
                all[index].body_length += data.len() as u64;
            });
        }
    }
    state.received.send_modify(|all| all[index].complete = true);
    Ok(())
}

/// The proof that a server has read the key of a WebSocket (RFC 6455 §4.2.2).
fn websocket_accept(key: &http::HeaderValue) -> http::HeaderValue {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
    use base64::Engine as _;
    let text = [key.as_bytes(), b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    let proof = base64::engine::general_purpose::STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text));
    http::HeaderValue::try_from(proof).expect("base64 is a valid value")
}

/// After an upgrade: echoes every byte until the other side ends.
async fn echo(upgraded: OnUpgrade, guard: Arc<ConnectionGuard>) {
    if let Ok(upgraded) = upgraded.await {
        let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
        let _ = tokio::io::copy(&mut from, &mut to).await;
        // Half-closes the connection; the other side may already have closed it.
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut to).await;
    }
    drop(guard);
}
