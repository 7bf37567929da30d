//! HTTP/2 with prior knowledge on one connection.
//!
//! hyper and h2 limit floods of frames. This file sets the limits whose defaults are too loose:
//! concurrent streams, the size of a request head, the send buffer and the time to acknowledge a
//! ping.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;

use super::client_stream::{ClientStream, UnsolicitedWrites};
use super::connection_context::ConnectionContext;
use super::connection_state::Awaiting;
use super::http_connection::{ConnectionEnd, HttpConnection, serve_connection};
use super::http2_streams::{StreamBody, StreamExecutor, Streams};
use super::service::respond;
use super::transport::Transport;

/// Concurrent streams per connection.
const MAX_STREAMS: u32 = 100;

/// How long closing an idle connection may take: sending GOAWAY and waiting for the client to
/// close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Response bytes that h2 buffers for each stream whose client reads slowly: times [`MAX_STREAMS`]
/// for each connection.
const MAX_SEND_BUFFER_BYTES: usize = 64 * 1024;

/// How often the connection sends a ping, to find out whether the client is still there.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long the client may take to acknowledge a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves a connection until it is closed. `buffered` holds the bytes read during protocol
/// detection.
pub(super) async fn serve(socket: Transport, buffered: Vec<u8>, context: &ConnectionContext) {
    let ConnectionContext { gateway, peer, state, shutdown, .. } = context;
    state.await_first_request();
    let streams = Streams::new(context.timeouts, context.metrics.clone(), shutdown.clone());
    let service = service_fn(|request| {
        let (streams, progress) = (Rc::clone(&streams), streams.begin());
        respond(gateway, state.begin_request(), request, peer, move |body| StreamBody::new(body, progress, &streams))
    });
    let (stream, _closed) = ClientStream::new(socket, buffered, Arc::clone(state), UnsolicitedWrites::Send);
    let mut connection = pin!(
        http2::Builder::new(StreamExecutor(Rc::clone(&streams)))
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            // WebSockets (RFC 8441).
            .enable_connect_protocol()
            .max_header_list_size(max_header_list_size(context.max_header_size))
            .max_send_buf_size(MAX_SEND_BUFFER_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    let served = streams.while_within_limit(serve_connection(connection.as_mut(), context)).await;
    let served = if served.is_some() {
        served
    } else {
        tracing::info!(client = %peer.address().ip(), "an HTTP/2 client cancels too many requests: sending GOAWAY");
        connection.as_mut().close_gracefully();
        streams.while_within_limit(serve_connection(connection.as_mut(), context)).await
    };
    // Otherwise the client ignores GOAWAY, and the connection is closed without further notice.
    let Some(end) = served else { return };
    if matches!(end, ConnectionEnd::TimedOut(Awaiting::FirstRequest | Awaiting::Request)) {
        // If the client has just sent a request, GOAWAY tells it that the gateway has not processed
        // it.
        connection.as_mut().close_gracefully();
        let _ = timeout(CLOSE_TIMEOUT, poll_fn(|cx| connection.as_mut().poll_connection(cx))).await;
    }
}

/// The limit above which h2 itself rejects a request, with a bare 431. Below it the gateway checks
/// `max_header_size` and responds with a problem document, so this limit is about twice as high;
/// HTTP/2 also counts 32 bytes for each field in addition to its name and value (RFC 9113 §6.5.2).
fn max_header_list_size(max_header_size: usize) -> u32 {
    u32::try_from(max_header_size).unwrap_or(u32::MAX / 4).saturating_mul(2).saturating_add(8192)
}

impl<S> HttpConnection for http2::Connection<TokioIo<ClientStream<Transport>>, S, StreamExecutor>
where
    S: HttpService<Incoming, ResBody = StreamBody, Error = Infallible>,
    S::Future: Unpin + 'static,
{
    const CAN_PARK: bool = false;
    const HEAD_ANNOUNCES_CLOSE: bool = false;

    fn poll_connection(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Future::poll(self, cx)
    }

    fn close_gracefully(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
