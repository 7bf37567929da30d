//! HTTP/2 with prior knowledge on one connection.
//!
//! Floods of frames are held by hyper's and h2's own timeouts, set here where the default is looser than the contract: streams at a time, the
//! size of a head, the timeout for a ping's answer.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::socket::ClientSocket;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Instant, timeout};

use super::client_stream::{ClientStream, UnsolicitedWrite};
use super::connection::{self, ConnectionEnd, HttpConnection};
use super::connection_state::{Awaiting, ConnectionState};
use super::service::respond;
use super::stall_timeout::StallTimeoutBody;
use crate::gateway::{Gateway, Peer, ServerSettings};
use crate::primitives::local_executor::LocalExecutor;
use crate::primitives::shutdown::Shutdown;

/// Requests that one connection may have under way.
const MAX_STREAMS: u32 = 100;

/// How long an idle connection may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// What is kept for a stream whose client takes its time, in bytes: times [`MAX_STREAMS`], for each connection.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// How often a connection is asked whether its peer is still there, and how long the answer may take.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

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
    let stall_timeout = settings.timeouts.body_idle;
    let service = service_fn(|request| {
        let answered = respond(gateway, state.begin_request(), request, &peer);
        async move { answered.await.map(|response| response.map(|body| StallTimeoutBody::new(body, stall_timeout))) }
    });
    // Beyond twice the limit h2 answers by itself with a bare 431; up to there the gateway does, with a problem document. Each field counts 32 more
    // here than on the wire (RFC 9113 §6.5.2).
    let max_head =
        u32::try_from(settings.max_header_size).unwrap_or(u32::MAX / 4).saturating_mul(2).saturating_add(8192);
    let (wire, _gone) = ClientStream::new(stream, start, state.clone(), UnsolicitedWrite::Send);
    let mut connection = pin!(
        http2::Builder::new(LocalExecutor::default())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(max_head)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .serve_connection(TokioIo::new(wire), service)
    );
    let end = connection::serve_connection(connection.as_mut(), &state, &shutdown).await;
    if matches!(end, ConnectionEnd::Overdue(Awaiting::Request)) {
        // A request that is on its way learns from GOAWAY that it was not taken.
        connection.as_mut().close_gracefully();
        let _ = timeout(GOODBYE, poll_fn(|cx| connection.as_mut().poll_connection(cx))).await;
    }
}

impl<S> HttpConnection for http2::Connection<TokioIo<ClientStream<ClientSocket>>, S, LocalExecutor>
where
    S: HttpService<Incoming, ResBody = StallTimeoutBody, Error = Infallible>,
    S::Future: 'static,
{
    const CAN_PARK: bool = false;

    fn poll_connection(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Future::poll(self, cx)
    }

    fn close_gracefully(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
