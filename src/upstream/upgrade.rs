//! Protocol upgrades: once both sides agreed to switch, bytes are passed on and nothing is looked at (RFC 9110 §7.8).
//!
//! Reached only after authorisation, and only when the upstream has answered 101: until then not a byte of the new protocol moves.

use std::time::Duration;

use http::Response;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::balance::InFlight;
use super::pool::Lease;
use crate::primitives::shutdown::{Phase, Shutdown};

/// What one tunnel carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Bytes from the client.
    pub up: u64,
    /// Bytes from the upstream.
    pub down: u64,
}

/// Both ends of a tunnel that is about to open.
#[derive(Debug)]
pub struct Tunnel {
    /// The client's side.
    pub client: OnUpgrade,
    /// The upstream's 101.
    pub upstream: Response<Incoming>,
    /// Its slot at the upstream.
    pub lease: Lease,
    /// Its place in the server's count.
    pub in_flight: InFlight,
}

impl Tunnel {
    /// Passes bytes both ways until one side ends, `lifetime` is over or the process stops.
    ///
    /// The permission for the tunnel is the caller's token, so it does not outlive it.
    pub async fn carry(self, lifetime: Option<Duration>, mut shutdown: Shutdown) -> Carried {
        let _slot = self.lease.into_permit();
        let _in_flight = self.in_flight;
        let (Ok(client), Ok(upstream)) = (self.client.await, hyper::upgrade::on(self.upstream).await) else {
            return Carried::default();
        };
        let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        let mut counted = Counting { inner: &mut client, read: 0, written: 0 };
        let over = async {
            match lifetime {
                Some(lifetime) => tokio::time::sleep(lifetime).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut counted, &mut upstream) => {}
            () = over => {}
            () = shutdown.reached(Phase::Stopped) => {}
        }
        Carried { up: counted.read, down: counted.written }
    }
}

/// Counts what passes, so that a tunnel that is cut off still has its figures.
struct Counting<'a, S> {
    inner: &'a mut S,
    read: u64,
    written: u64,
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
            self.read += (buf.filled().len() - before) as u64;
            Poll::Ready(Ok(()))
        }
    }

    impl<S: AsyncWrite + Unpin> AsyncWrite for Counting<'_, S> {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
            let written = ready!(Pin::new(&mut *self.inner).poll_write(cx, buf))?;
            self.written += written as u64;
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
            self.written += written as u64;
            Poll::Ready(Ok(written))
        }

        fn is_write_vectored(&self) -> bool {
            self.inner.is_write_vectored()
        }
    }
}
