//! An identity provider in this process: discovery document and key set, with faults on demand.
//!
//! It issues nothing. Tokens come from [`TokenBuilder`](super::token::TokenBuilder), signed with
//! the keys published here.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;

use super::server::Server;
use super::token::TestKey;
use super::{background, with_deadline};

/// An identity provider on a port of its own. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Idp {
    addr: SocketAddr,
    state: Arc<State>,
    /// Holds the address while nothing listens there: connections are refused, and no other process
    /// can take the port.
    reserved: Option<TcpSocket>,
    serving: Option<Server>,
}

#[derive(Debug)]
struct State {
    script: Mutex<Script>,
    counted: watch::Sender<Counts>,
}

#[derive(Debug)]
struct Script {
    discovery: Value,
    jwks: Value,
    headers: Vec<(String, String)>,
    mode: Mode,
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    Failing(u16),
    Hanging,
    Normal,
}

/// Requests so far. Counts each request on arrival, whatever the response.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    discovery: u64,
    jwks: u64,
}

impl Idp {
    /// Listens and publishes the shared RSA key `k1`.
    pub(crate) async fn start() -> Self {
        let mut idp = Self::reserve();
        idp.listen().await;
        idp
    }

    /// The issuer is known, but connections to it are refused until [`listen`](Self::listen).
    pub(crate) fn reserve() -> Self {
        let (addr, socket) = bind(([127, 0, 0, 1], 0).into());
        let issuer = format!("http://{addr}");
        let discovery = json!({
            "issuer": issuer,
            "jwks_uri": format!("{issuer}/jwks"),
            "token_endpoint": format!("{issuer}/token"),
            "authorization_endpoint": format!("{issuer}/authorize"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        });
        let script = Script { discovery, jwks: json!({"keys": []}), headers: Vec::new(), mode: Mode::Normal };
        let state = State { script: Mutex::new(script), counted: watch::Sender::default() };
        let idp = Self { addr, state: Arc::new(state), reserved: Some(socket), serving: None };
        idp.set_keys(&[&TestKey::rsa("k1")]);
        idp
    }

    /// Starts to listen on the reserved address; does nothing if it already listens.
    #[expect(clippy::unused_async, reason = "starting a fixture is async like starting the others")]
    pub(crate) async fn listen(&mut self) {
        let Some(socket) = self.reserved.take() else { return };
        let _runtime = background().enter();
        let listener = socket.listen(1024).expect("a bound socket can listen");
        let state = Arc::clone(&self.state);
        self.serving = Some(Server::start(listener, move |stream| serve_connection(stream, Arc::clone(&state))));
    }

    /// Breaks all connections and refuses new ones until [`listen`](Self::listen). The address
    /// stays reserved.
    pub(crate) async fn stop(&mut self) {
        let Some(serving) = self.serving.take() else { return };
        serving.stop().await;
        self.reserved = Some(bind(self.addr).1);
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn issuer(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) fn jwks_url(&self) -> String {
        format!("http://{}/jwks", self.addr)
    }

    /// Publishes the public halves of exactly these keys.
    pub(crate) fn set_keys(&self, keys: &[&TestKey]) {
        self.set_jwks(json!({"keys": keys.iter().map(|key| key.public_jwk()).collect::<Vec<_>>()}));
    }

    /// Publishes this value as the key set. A string is sent as it is, so that the document need
    /// not be JSON.
    pub(crate) fn set_jwks(&self, document: Value) {
        self.script().jwks = document;
    }

    /// The current discovery document, to be changed and passed to
    /// [`set_discovery`](Self::set_discovery).
    pub(crate) fn discovery(&self) -> Value {
        self.script().discovery.clone()
    }

    /// Publishes this value as the discovery document. A string is sent as it is.
    pub(crate) fn set_discovery(&self, document: Value) {
        self.script().discovery = document;
    }

    /// Sets a header on all responses from now on (`Cache-Control`, `Location` of a redirect).
    pub(crate) fn set_header(&self, name: &str, value: &str) {
        let mut script = self.script();
        script.headers.retain(|(given, _)| !given.eq_ignore_ascii_case(name));
        script.headers.push((name.to_owned(), value.to_owned()));
    }

    /// Responds to every request with this status and no document.
    pub(crate) fn fail_with(&self, status: u16) {
        self.script().mode = Mode::Failing(status);
    }

    /// Accepts requests and never responds to them, not even after [`recover`](Self::recover).
    pub(crate) fn hang(&self) {
        self.script().mode = Mode::Hanging;
    }

    /// Responds normally to requests that arrive from now on.
    pub(crate) fn recover(&self) {
        self.script().mode = Mode::Normal;
    }

    /// Requests for the key set so far.
    pub(crate) fn fetches(&self) -> u64 {
        self.state.counted.borrow().jwks
    }

    pub(crate) fn discovery_fetches(&self) -> u64 {
        self.state.counted.borrow().discovery
    }

    /// Waits until the key set has been requested `n` times since the start.
    pub(crate) async fn wait_for_fetches(&self, n: u64) {
        self.wait("requests for the key set", |counts| counts.jwks >= n).await;
    }

    pub(crate) async fn wait_for_discovery_fetches(&self, n: u64) {
        self.wait("requests for the discovery document", |counts| counts.discovery >= n).await;
    }

    async fn wait(&self, what: &str, enough: impl Fn(&Counts) -> bool) {
        let mut counted = self.state.counted.subscribe();
        with_deadline(what, counted.wait_for(|counts| enough(counts)))
            .await
            .expect("the sender lives as long as the fixture");
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.state.script.lock().expect("no thread panics while it holds this lock")
    }
}

fn bind(addr: SocketAddr) -> (SocketAddr, TcpSocket) {
    let socket = TcpSocket::new_v4().expect("a socket can be made");
    // Connections of an earlier listener may still be in TIME_WAIT at this address.
    socket.set_reuseaddr(true).expect("a socket takes options");
    socket.bind(addr).unwrap_or_else(|error| panic!("binding {addr}: {error}"));
    (socket.local_addr().expect("a bound socket has an address"), socket)
}

async fn serve_connection(stream: TcpStream, state: Arc<State>) {
    let service = service_fn(move |request| respond(Arc::clone(&state), request));
    // The other side sees an error of the connection too.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    let discovery = path.contains("/.well-known/");
    let jwks = path == "/jwks";
    let (mode, document, headers) = {
        let script = state.script.lock().expect("no thread panics while it holds this lock");
        let document = if discovery { &script.discovery } else { &script.jwks };
        (script.mode, document.clone(), script.headers.clone())
    };
    state.counted.send_modify(|counts| {
        counts.discovery += u64::from(discovery);
        counts.jwks += u64::from(jwks);
    });
    let status = match mode {
        Mode::Failing(status) => status,
        Mode::Hanging => std::future::pending().await,
        Mode::Normal if discovery || jwks => 200,
        Mode::Normal => 404,
    };
    let body = match document {
        _ if status != 200 => String::new(),
        Value::String(text) => text,
        document @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            document.to_string()
        }
    };
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).expect("a test sets a valid status");
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in headers {
        let name = HeaderName::try_from(name).expect("a test sets a valid field name");
        response.headers_mut().insert(name, HeaderValue::try_from(value).expect("a test sets a valid field value"));
    }
    Ok(response)
}
