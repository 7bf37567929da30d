//! One HTTP/1.1 connection to a server: carries one request at a time.

use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;

use super::MAX_RESPONSE_HEAD_BYTES;
use super::pending_response::PendingResponse;
use crate::primitives::coalescing_stream::CoalescingStream;
use crate::primitives::lazy_timer::LazyTimer;
use crate::upstream::body::RequestBody;
use crate::upstream::dialer::{Connected, Destination, Dialer};
use crate::upstream::stream::Rejection;
use crate::upstream::{ConnectFault, Protocol};

/// An open connection. Once it is dropped, hyper finishes what it is writing and closes the socket.
#[derive(Debug)]
pub(in crate::upstream) struct Http1Connection {
    pub(in crate::upstream) sender: SendRequest<RequestBody>,
    /// The response to the request that was sent last.
    pub(in crate::upstream) pending: PendingResponse,
    /// Times the wait for a response head. Consecutive requests on the connection share it.
    pub(in crate::upstream) timer: LazyTimer,
    /// Whether it has carried a request before.
    pub(in crate::upstream) is_reused: bool,
    /// Where it goes.
    pub(super) destination: Destination,
    /// Whether the server has rejected the gateway's certificate.
    pub(in crate::upstream) rejection: Rejection,
    permit: Arc<OwnedSemaphorePermit>,
    task: AbortHandle,
}

impl Http1Connection {
    /// Connects to a server within `time`, with TLS for HTTP/1.1 only. `permit` is held until the
    /// socket is closed.
    pub(super) async fn open(
        dialer: &Dialer,
        permit: OwnedSemaphorePermit,
        time: Duration,
    ) -> Result<Self, ConnectFault> {
        Self::start(dialer.connect(Protocol::Http1, time).await?, permit).await
    }

    /// Begins to speak HTTP/1.1 on an open connection.
    pub(super) async fn start(connected: Connected, permit: OwnedSemaphorePermit) -> Result<Self, ConnectFault> {
        let Connected { stream, destination, rejection, version: _ } = connected;
        let (sender, connection) = Builder::new()
            .max_buf_size(MAX_RESPONSE_HEAD_BYTES)
            // hyper's buffer may take in more than its maximum at once, so the head has its own
            // limit. The number of header lines stays at hyper's own limit of a hundred: with any
            // other, hyper allocates for each response.
            .max_header_size(MAX_RESPONSE_HEAD_BYTES)
            .handshake(TokioIo::new(CoalescingStream::new(stream)))
            .await
            .map_err(|_| ConnectFault::Closed)?;
        let permit = Arc::new(permit);
        let held_permit = Arc::clone(&permit);
        let task = tokio::task::spawn_local(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "upstream connection ended");
            }
            drop(held_permit);
        });
        let (pending, timer) = (PendingResponse::none(), LazyTimer::default());
        Ok(Self { sender, pending, timer, is_reused: false, destination, rejection, permit, task: task.abort_handle() })
    }

    /// Closes the socket at once. A drop alone would let hyper first finish an upload or read a
    /// response that no longer has a client.
    pub(in crate::upstream) fn abort(self) {
        self.task.abort();
    }

    /// The permit of a connection that has become a tunnel: hyper's task for it has ended, its
    /// socket has not.
    pub(in crate::upstream) fn into_permit(self) -> Arc<OwnedSemaphorePermit> {
        self.permit
    }
}
