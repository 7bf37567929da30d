//! Protocol upgrades: once both sides agreed to switch, bytes are passed on and nothing is looked at (RFC 9110 §7.8).
//!
//! Reached only after authorisation, and only when the upstream has answered 101: until then not a byte of the new protocol moves.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::exchange::{ExchangeGuard, UpgradedConnection};
use crate::primitives::shutdown::{Phase, Shutdown};

/// How long a tunnel may carry nothing at all. WebSocket clients ping every minute or so; a quarter of an hour is silence.
const MAX_SILENCE: Duration = Duration::from_secs(15 * 60);

/// What one tunnel has carried so far. Clones share the figures, so that they are known also of a tunnel that is dropped.
#[derive(Clone, Debug, Default)]
pub struct BytesTransferred(Rc<Figures>);

#[derive(Debug, Default)]
struct Figures {
    up: Cell<u64>,
    down: Cell<u64>,
}

impl BytesTransferred {
    /// Bytes from the client.
    #[must_use]
    pub fn up(&self) -> u64 {
        self.0.up.get()
    }

    /// Bytes from the upstream.
    #[must_use]
    pub fn down(&self) -> u64 {
        self.0.down.get()
    }
}

/// Both ends of a tunnel that is about to open.
#[derive(Debug)]
pub struct Tunnel {
    /// The client's side.
    pub client: OnUpgrade,
    /// The upstream's 101, and the connection.
    pub upstream: Box<UpgradedConnection>,
}

impl Tunnel {
    /// Passes bytes both ways until one side ends, both are silent for long, `lifetime` is over or the process stops; counts them in `carried`.
    ///
    /// The permission for the tunnel is the caller's token, so it does not outlive it.
    pub async fn relay(self, lifetime: Option<Duration>, mut shutdown: Shutdown, carried: BytesTransferred) {
        let UpgradedConnection { upstream, guard } = *self.upstream;
        let ExchangeGuard { lease, in_flight: _in_flight } = guard;
        let _slot = lease.into_permit();
        let (Ok(client), Ok(upstream)) = (self.client.await, hyper::upgrade::on(upstream).await) else {
            return;
        };
        let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        let mut counted = Counting { inner: &mut client, carried };
        let over = async {
            match lifetime {
                Some(lifetime) => tokio::time::sleep(lifetime).await,
                None => std::future::pending().await,
            }
        };
        let figures = counted.carried.clone();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut counted, &mut upstream) => {}
            () = over => {}
            () = silence(&figures) => {}
            () = shutdown.reached(Phase::Stopped) => {}
        }
    }
}

/// Resolves when nothing has passed for [`MAX_SILENCE`], looked at that often: a peer that has vanished keeps no slot for ever.
async fn silence(carried: &BytesTransferred) {
    let mut before = (carried.up(), carried.down());
    loop {
        tokio::time::sleep(MAX_SILENCE).await;
        let now = (carried.up(), carried.down());
        if now == before {
            return;
        }
        before = now;
    }
}

/// Counts what passes.
struct Counting<'a, S> {
    inner: &'a mut S,
    carried: BytesTransferred,
}

mod io {
    use std::io::{IoSlice, Result};
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::Counting;

    impl<S: AsyncRead + Unpin> AsyncRead for Counting<'_, S> {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
            let before = buf.filled().len();
            ready!(Pin::new(&mut *self.inner).poll_read(cx, buf))?;
            let count = (buf.filled().len() - before) as u64;
            self.carried.0.up.update(|up| up + count);
            Poll::Ready(Ok(()))
        }
    }

    impl<S: AsyncWrite + Unpin> AsyncWrite for Counting<'_, S> {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
            let written = ready!(Pin::new(&mut *self.inner).poll_write(cx, buf))?;
            self.carried.0.down.update(|down| down + written as u64);
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
            self.carried.0.down.update(|down| down + written as u64);
            Poll::Ready(Ok(written))
        }

        fn is_write_vectored(&self) -> bool {
            self.inner.is_write_vectored()
        }
    }
}
