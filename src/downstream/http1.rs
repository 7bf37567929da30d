//! HTTP/1.1 on one connection, and the answers to what never became a request.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::socket::ClientSocket;
use bytes::Bytes;
use http::{Response, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::client_stream::{ClientStream, UnsolicitedWrite};
use super::connection::{self, ConnectionEnd, HttpConnection};
use super::connection_state::{Awaiting, ConnectionState, RequestGuard};
use super::service::respond;
use crate::gateway::response::body::Body;
use crate::gateway::response::refusal::{Framing, Refusal};
use crate::gateway::{Gateway, Peer, ServerSettings};
use crate::primitives::coalescing_stream::CoalescingStream;
use crate::primitives::shutdown::{Phase, Shutdown};

/// hyper's smallest read buffer.
const MIN_BUFFER_BYTES: usize = 8192;

pub(super) async fn serve(
    stream: ClientSocket,
    start: Vec<u8>,
    opened: Instant,
    peer: Peer,
    settings: ServerSettings,
    gateway: &Rc<Gateway>,
    shutdown: Shutdown,
) {
    let state = ConnectionState::new(opened, settings.timeouts);
    let (mut stream, mut start) = (stream, start);
    loop {
        match converse(stream, start, &state, &peer, &settings, gateway, &shutdown).await {
            // An empty line in front of a request means nothing (RFC 9112 §2.2), and is no reason not to rest.
            Some((idle, unread)) => {
                let begins = unread.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(unread.len());
                (stream, start) = (idle, unread[begins..].to_vec());
            }
            None => return,
        }
        // The beginning of a request has come already: its time runs.
        if start.is_empty() && !park(&stream, &state, &shutdown).await {
            return;
        }
    }
}

/// Serves requests until the connection is over, or until it has been idle for a while: then it returns, with what was read of the next
/// request, and can be taken up again.
async fn converse(
    stream: ClientSocket,
    start: Vec<u8>,
    state: &Arc<ConnectionState>,
    peer: &Peer,
    settings: &ServerSettings,
    gateway: &Rc<Gateway>,
    shutdown: &Shutdown,
) -> Option<(ClientSocket, Bytes)> {
    let service = service_fn(|request| respond(gateway, state.begin_request(), request, peer));
    let max_head = settings.max_header_size;
    let (wire, gone) =
        ClientStream::new(CoalescingStream::new(stream), start, Arc::clone(state), UnsolicitedWrite::Keep);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The line has the time: hyper's own timer would make no difference between waiting for a request and for its rest.
        .header_read_timeout(None)
        .max_header_size(max_head)
        .max_buf_size(max_head.max(MIN_BUFFER_BYTES))
        .serve_connection(TokioIo::new(wire), service)
        .with_upgrades();
    let mut connection = Box::pin(connection);
    let end = connection::serve_connection(connection.as_mut(), state, shutdown).await;
    let Some(parts) = Pin::into_inner(connection).into_parts() else {
        // It has become a tunnel: no longer ours to serve, but still a connection that is open. It counts as an exchange without end, or
        // the wire would take what the tunnel writes for hyper's own words and keep it.
        let _tunnel = state.begin_request();
        let _ = gone.await;
        return None;
    };
    let wire = parts.io.into_inner();
    let refusal = refusal(&end, &wire);
    let client_is_there = !wire.has_ended();
    let mut stream = wire.into_stream().into_inner();
    if matches!(end, ConnectionEnd::Idle) && client_is_there {
        return Some((stream, parts.read_buf));
    }
    if let Some(refusal) = refusal {
        write(&mut stream, gateway.refuse(refusal, peer)).await;
    }
    if client_is_there && !matches!(end, ConnectionEnd::Stopped) {
        linger(stream).await;
    }
    None
}

/// Awaiting for the next request without anything that serving one takes: hyper's buffers are four times what the connection is besides.
///
/// Returns whether to go on: a client that says nothing within `idle_timeout`, or that has closed, is done with.
async fn park(stream: &ClientSocket, state: &ConnectionState, shutdown: &Shutdown) -> bool {
    let mut shutdown = shutdown.clone();
    let timeout = state.deadline().unwrap_or_else(Instant::now);
    tokio::select! {
        readable = timeout_at(timeout, stream.readable()) => matches!(readable, Ok(Ok(()))),
        // Its last call is hyper's to hear.
        () = shutdown.reached(Phase::Draining) => true,
    }
}

/// What is to be said to a client whose request never came to be.
fn refusal<S>(end: &ConnectionEnd, wire: &ClientStream<S>) -> Option<Refusal> {
    match end {
        ConnectionEnd::Done => match wire.suppressed_response().get(9..12) {
            // Nothing, or an interim answer that came too late to matter.
            None | Some([b'1', ..]) => None,
            Some(b"431") => Some(Refusal::HeadTooLarge),
            Some(b"414") => Some(Refusal::UriTooLong),
            Some(_) => Some(Refusal::Framing(Framing::MalformedHead)),
        },
        ConnectionEnd::Overdue(Awaiting::Head) => Some(Refusal::ClientTimeout),
        ConnectionEnd::Idle
        | ConnectionEnd::Overdue(Awaiting::Request | Awaiting::Nothing)
        | ConnectionEnd::Stopped => None,
    }
}

/// Writes an answer past hyper, which has given the connection up: a head, a body of known length, close.
async fn write(stream: &mut ClientSocket, response: Response<Body>) {
    /// The client has shown that it does not keep to the rules; it is not waited for.
    const TIMEOUT: Duration = Duration::from_secs(1);
    let (parts, mut body) = response.into_parts();
    let mut text = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            text.extend_from_slice(&data);
        }
    }
    let reason = parts.status.canonical_reason().unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", parts.status.as_u16()).into_bytes();
    let own = [header::CONNECTION, header::CONTENT_LENGTH];
    for (name, value) in parts.headers.iter().filter(|(name, _)| !own.contains(name)) {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("content-length: {}\r\nconnection: close\r\n\r\n", text.len()).as_bytes());
    bytes.extend_from_slice(&text);
    // A client that does not read its answer has none.
    let _ = timeout(TIMEOUT, stream.write_all(&bytes)).await;
}

/// Closes so that the client can read the answer. Closing with unread bytes makes the kernel send a reset, which may overtake what was
/// sent before (RFC 9112 §9.6); so our side is closed first, and what still comes is read and dropped, a bounded amount for a bounded time.
async fn linger(mut stream: ClientSocket) {
    const TIMEOUT: Duration = Duration::from_secs(1);
    const MAX_BYTES: usize = 1024 * 1024;
    if stream.shutdown().await.is_err() {
        return;
    }
    let _ = timeout(TIMEOUT, async {
        let mut dropped = 0;
        let mut buffer = vec![0; 16 * 1024];
        while dropped < MAX_BYTES {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => dropped += count,
            }
        }
    })
    .await;
}

impl<S> HttpConnection for http1::UpgradeableConnection<TokioIo<ClientStream<CoalescingStream<ClientSocket>>>, S>
where
    S: HttpService<Incoming, ResBody = Body<RequestGuard>, Error = Infallible>,
{
    const CAN_PARK: bool = true;

    fn poll_connection(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Future::poll(self, cx)
    }

    fn close_gracefully(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
