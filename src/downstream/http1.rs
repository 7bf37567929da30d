//! HTTP/1.1 on one connection: requests, parking between them, and error responses to bytes that
//! never became a request.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout, timeout_at};

use super::client_stream::{ClientStream, UnsolicitedWrites};
use super::connection_context::ConnectionContext;
use super::connection_state::{Awaiting, RequestGuard};
use super::http_connection::{ConnectionEnd, HttpConnection, serve_connection};
use super::linger::linger;
use super::service::respond;
use super::transport::Transport;
use crate::gateway::response::body::Body;
use crate::gateway::response::refusal::{FramingFault, Refusal};
use crate::primitives::coalescing_stream::CoalescingStream;
use crate::primitives::shutdown::Phase;

/// The smallest limit that hyper accepts for its read buffer.
const MIN_BUFFER_BYTES: usize = 8192;

/// Serves a connection until it is closed. `buffered` holds the bytes read during protocol
/// detection.
pub(super) async fn serve(mut socket: Transport, mut buffered: Vec<u8>, context: &ConnectionContext) {
    loop {
        let Some(idle) = serve_until_idle(socket, buffered, context).await else { return };
        // Empty lines before a request carry no meaning (RFC 9112 §2.2), so the connection can be
        // parked in spite of them.
        let is_line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let head_start = idle.unread.iter().position(|byte| !is_line_end(byte)).unwrap_or(idle.unread.len());
        (socket, buffered) = (idle.socket, idle.unread[head_start..].to_vec());
        // If the next request has begun, its header timeout is running.
        if buffered.is_empty() && !park(&mut socket, context).await {
            return;
        }
    }
}

/// A connection that can be parked.
struct IdleConnection {
    socket: Transport,
    /// Bytes that hyper has read and not used.
    unread: Bytes,
}

/// Serves requests until the connection is idle. Returns `None` once it is closed.
async fn serve_until_idle(socket: Transport, buffered: Vec<u8>, context: &ConnectionContext) -> Option<IdleConnection> {
    let ConnectionContext { gateway, peer, state, .. } = context;
    let service = service_fn(|request| respond(gateway, state.begin_request(), request, peer, |body| body));
    let socket = CoalescingStream::new(socket);
    let (stream, closed) = ClientStream::new(socket, buffered, Arc::clone(state), UnsolicitedWrites::Suppress);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // `state` has the header timeout: hyper's own would not distinguish waiting for a request
        // from waiting for the rest of one.
        .header_read_timeout(None)
        .max_header_size(context.max_header_size)
        .max_buf_size(context.max_header_size.max(MIN_BUFFER_BYTES))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = Box::pin(connection);
    let end = serve_connection(connection.as_mut(), context).await;
    let Some(parts) = Pin::into_inner(connection).into_parts() else {
        // The connection was upgraded to a tunnel, which passes its bytes elsewhere, but it is
        // still open. It counts as a request in progress: the stream would otherwise take the
        // tunnel's bytes for hyper's unsolicited writes and suppress them.
        let _tunnel = state.begin_request();
        let _ = closed.await;
        return None;
    };
    let stream = parts.io.into_inner();
    let refusal = refusal(&end, &stream);
    let client_has_closed = stream.has_ended();
    let mut socket = stream.into_inner().into_inner();
    if matches!(end, ConnectionEnd::Idle) && !client_has_closed {
        return Some(IdleConnection { socket, unread: parts.read_buf });
    }
    if let Some(refusal) = refusal {
        write_response(&mut socket, gateway.refuse(refusal, peer)).await;
    }
    if !client_has_closed && !matches!(end, ConnectionEnd::Stopped) {
        linger(socket).await;
    }
    None
}

/// Waits for the next request without hyper's buffers, which take four times the memory of the rest
/// of the connection.
///
/// Returns `false` if the connection is to be closed: it has failed, the client has sent nothing
/// within `idle_timeout`, or a limit on connections is reached.
async fn park(socket: &mut Transport, context: &ConnectionContext) -> bool {
    let mut shutdown = context.shutdown.clone();
    let deadline = context.state.deadline().unwrap_or_else(Instant::now);
    let mut idle = context.idle.list();
    tokio::select! {
        biased;
        readable = timeout_at(deadline, socket.readable()) => matches!(readable, Ok(Ok(()))),
        // The connection stays open for one more request, which takes hyper.
        () = shutdown.reached(Phase::Draining) => true,
        () = idle.closed() => false,
    }
}

/// The refusal for bytes that never became a request, or `None` if the connection is closed without
/// a response.
fn refusal<S>(end: &ConnectionEnd, stream: &ClientStream<S>) -> Option<Refusal> {
    match end {
        ConnectionEnd::Finished if stream.found_two_framings() => Some(Refusal::Framing(FramingFault::TwoFramings)),
        // The status code, at a fixed place in the response's first line.
        ConnectionEnd::Finished => match stream.suppressed_response().get(9..12) {
            // hyper wrote nothing, or an interim response that came too late to matter.
            None | Some([b'1', ..]) => None,
            Some(b"414") => Some(Refusal::UriTooLong),
            Some(b"431") => Some(Refusal::HeadTooLarge),
            Some(_) => Some(Refusal::Framing(FramingFault::MalformedHead)),
        },
        ConnectionEnd::TimedOut(Awaiting::Head) => Some(Refusal::ClientTimeout),
        ConnectionEnd::Idle
        | ConnectionEnd::Stopped
        | ConnectionEnd::TimedOut(Awaiting::FirstRequest | Awaiting::Nothing | Awaiting::Request) => None,
    }
}

/// Writes a response without hyper, which has given up the connection: the head with
/// `Content-Length` and `Connection: close`, then the body.
async fn write_response(socket: &mut Transport, response: Response<Body>) {
    /// Short, because this client has already violated the protocol or been too slow.
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
    let framing = [header::CONNECTION, header::CONTENT_LENGTH];
    for (name, value) in parts.headers.iter().filter(|(name, _)| !framing.contains(name)) {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("content-length: {}\r\nconnection: close\r\n\r\n", text.len()).as_bytes());
    bytes.extend_from_slice(&text);
    // The connection is closed next, whether or not the client has read the response.
    let _ = timeout(TIMEOUT, socket.write_all(&bytes)).await;
}

impl<S> HttpConnection for http1::UpgradeableConnection<TokioIo<ClientStream<CoalescingStream<Transport>>>, S>
where
    S: HttpService<Incoming, ResBody = Body<RequestGuard>, Error = Infallible>,
{
    const CAN_PARK: bool = true;
    const HEAD_ANNOUNCES_CLOSE: bool = true;

    fn poll_connection(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Future::poll(self, cx)
    }

    fn close_gracefully(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
