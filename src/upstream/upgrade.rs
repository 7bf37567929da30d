//! Protocol upgrades: a tunnel of bytes between client and upstream (RFC 9110 §7.8), such as a
//! WebSocket.
//!
//! Opened only after authorization and only after the upstream's 101. Until then no byte of the new
//! protocol is forwarded; from then on nothing is inspected.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::response::{ExchangeGuard, UpgradedConnection};
use crate::primitives::shutdown::{Phase, Shutdown};

/// How long a tunnel may stay idle. WebSocket clients ping every minute or so, so a peer that
/// is silent for a quarter of an hour is gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// How much one tunnel has carried so far. Clones share the counts, so that they can be read after
/// the tunnel is dropped.
#[derive(Clone, Debug, Default)]
pub(crate) struct BytesTransferred(Rc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    up: Cell<u64>,
    down: Cell<u64>,
}

impl BytesTransferred {
    /// Bytes from the client.
    #[must_use]
    pub(crate) fn up(&self) -> u64 {
        self.0.up.get()
    }

    /// Bytes from the upstream.
    #[must_use]
    pub(crate) fn down(&self) -> u64 {
        self.0.down.get()
    }
}

/// Both ends of a tunnel that is about to open.
#[derive(Debug)]
pub(crate) struct Tunnel {
    /// The client's connection.
    pub client: OnUpgrade,
    /// The upstream's 101 response and connection.
    pub upstream: Box<UpgradedConnection>,
}

impl Tunnel {
    /// Forwards bytes in both directions and counts them in `transferred`. Returns when either side
    /// closes, after 15 to 30 minutes without a byte, after `lifetime`, or when the process stops.
    ///
    /// The caller sets `lifetime` to that of the token that authorized the tunnel.
    pub(crate) async fn relay(self, lifetime: Option<Duration>, mut shutdown: Shutdown, transferred: BytesTransferred) {
        let UpgradedConnection { response, guard } = *self.upstream;
        let ExchangeGuard { lease, in_flight: _in_flight } = guard;
        let _permit = lease.into_permit();
        let (Ok(client), Ok(upstream)) = (self.client.await, hyper::upgrade::on(response).await) else {
            return;
        };
        let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        let mut client = CountedStream { inner: &mut client, transferred: transferred.clone() };
        let lifetime_over = async {
            match lifetime {
                Some(lifetime) => tokio::time::sleep(lifetime).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut upstream) => {}
            () = lifetime_over => {}
            () = idle(&transferred) => {}
            () = shutdown.reached(Phase::Stopped) => {}
        }
    }
}

/// Checks once per [`IDLE_TIMEOUT`] whether a byte has passed, so an idle tunnel ends after one to
/// two timeouts: a peer that has vanished must not hold a connection forever.
async fn idle(transferred: &BytesTransferred) {
    let mut before = (transferred.up(), transferred.down());
    loop {
        tokio::time::sleep(IDLE_TIMEOUT).await;
        let now = (transferred.up(), transferred.down());
        if now == before {
            return;
        }
        before = now;
    }
}

/// The client's stream, which counts what is read from it and written to it.
struct CountedStream<'a, S> {
    inner: &'a mut S,
    transferred: BytesTransferred,
}

mod io {
    use std::io::{IoSlice, Result};
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::CountedStream;

    impl<S: AsyncRead + Unpin> AsyncRead for CountedStream<'_, S> {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
            let before = buf.filled().len();
            ready!(Pin::new(&mut *self.inner).poll_read(cx, buf))?;
            let count = (buf.filled().len() - before) as u64;
            self.transferred.0.up.update(|up| up + count);
            Poll::Ready(Ok(()))
        }
    }

    impl<S: AsyncWrite + Unpin> AsyncWrite for CountedStream<'_, S> {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
            let written = ready!(Pin::new(&mut *self.inner).poll_write(cx, buf))?;
            self.transferred.0.down.update(|down| down + written as u64);
            Poll::Ready(Ok(written))
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
            Pin::new(&mut *self.inner).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
            Pin::new(&mut *self.inner).poll_shutdown(cx)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<Result<usize>> {
            let written = ready!(Pin::new(&mut *self.inner).poll_write_vectored(cx, bufs))?;
            self.transferred.0.down.update(|down| down + written as u64);
            Poll::Ready(Ok(written))
        }

        fn is_write_vectored(&self) -> bool {
            self.inner.is_write_vectored()
        }
    }
}
