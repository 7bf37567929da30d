//! An upstream that is only a socket: records every byte it receives and responds with bytes from
//! the test.
//!
//! For responses that no HTTP library would send, and to see exactly what the gateway sent.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::server::{Server, bind};
use super::wire::{Body, Framing, Head};
use super::with_deadline;

/// What happens when a complete request has arrived on any connection.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Response(Vec<u8>),
    ResponseAndClose(Vec<u8>),
    Close,
    /// Resets the connection.
    Reset,
    /// 200 with the request's own head, as it was received, as the body.
    Echo,
}

impl Step {
    pub(crate) fn response(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Response(bytes.into())
    }

    pub(crate) fn response_and_close(bytes: impl Into<Vec<u8>>) -> Self {
        Self::ResponseAndClose(bytes.into())
    }
}

/// A socket on a port of its own. Dropping it stops it.
///
/// Each complete request takes the next [`Step`], on whatever connection it arrives. After the last
/// step, requests are recorded but get no response.
#[derive(Debug)]
pub(crate) struct RawOrigin {
    addr: SocketAddr,
    state: Arc<State>,
    _serving: Server,
}

#[derive(Debug)]
struct State {
    steps: Mutex<VecDeque<Step>>,
    /// Per connection, in the order they were accepted.
    received: watch::Sender<Vec<Vec<u8>>>,
}

impl RawOrigin {
    pub(crate) async fn start(steps: impl IntoIterator<Item = Step>) -> Self {
        let steps = Mutex::new(steps.into_iter().collect());
        let state = Arc::new(State { steps, received: watch::Sender::default() });
        let (listener, addr) = bind().await;
        let shared = Arc::clone(&state);
        let serving =
            Server::start(listener, move |stream| serve_connection(stream, shared.accepted(), Arc::clone(&shared)));
        Self { addr, state, _serving: serving }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The bytes so far, one text per connection.
    pub(crate) fn received(&self) -> Vec<String> {
        texts(&self.state.received.borrow())
    }

    /// The complete requests so far, as this upstream reads the bytes: with their framing,
    /// connection by connection.
    pub(crate) fn requests(&self) -> Vec<String> {
        let mut requests = Vec::new();
        for mut bytes in self.state.received.borrow().iter().map(Vec::as_slice) {
            while let Some(length) = request_length(bytes) {
                requests.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
                bytes = &bytes[length..];
            }
        }
        requests
    }

    /// Waits until `enough` holds for the received bytes.
    pub(crate) async fn wait_until(&self, what: &str, enough: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut received = self.state.received.subscribe();
        let seen = with_deadline(what, received.wait_for(|received| enough(&texts(received)))).await;
        texts(&seen.expect("the sender lives as long as the fixture"))
    }
}

fn texts(received: &[Vec<u8>]) -> Vec<String> {
    received.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
}

impl State {
    /// Adds an entry for the bytes of a new connection, and returns its index.
    fn accepted(&self) -> usize {
        let mut index = 0;
        self.received.send_modify(|all| {
            index = all.len();
            all.push(Vec::new());
        });
        index
    }
}

async fn serve_connection(mut stream: TcpStream, index: usize, state: Arc<State>) {
    let mut pending = Vec::new();
    loop {
        let before = pending.len();
        if !matches!(stream.read_buf(&mut pending).await, Ok(1..)) {
            return;
        }
        state.received.send_modify(|all| all[index].extend_from_slice(&pending[before..]));
        while let Some(length) = request_length(&pending) {
            let request: Vec<u8> = pending.drain(..length).collect();
            let step = state.steps.lock().expect("no thread panics while it holds this lock").pop_front();
            let (bytes, close) = match step {
                Some(Step::Response(bytes)) => (bytes, false),
                Some(Step::ResponseAndClose(bytes)) => (bytes, true),
                Some(Step::Close) => (Vec::new(), true),
                Some(Step::Reset) => {
                    // A socket that must not wait for its last bytes is reset when it is closed.
                    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                    (Vec::new(), true)
                }
                Some(Step::Echo) => (echo(&request), false),
                None => break,
            };
            if stream.write_all(&bytes).await.is_err() || close {
                return;
            }
        }
    }
}

fn echo(request: &[u8]) -> Vec<u8> {
    let head = &request[..Head::parse(request).map_or(0, |head| head.length)];
    [format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", head.len()).as_bytes(), head].concat()
}

/// The length of the first request, once it is complete.
fn request_length(bytes: &[u8]) -> Option<usize> {
    let head = Head::parse(bytes)?;
    let body = Body::parse(head.framing(Framing::Length(0)), &bytes[head.length..], false)?;
    Some(head.length + body.length)
}
