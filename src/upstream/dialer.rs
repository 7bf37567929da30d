//! Dialer: opens transport connections to one server.
//!
//! The pools speak HTTP over whatever a dialer returns and know nothing about addresses or sockets.
//! A new transport is a new variant of [`UpstreamStream`] and a new branch in [`Dialer::connect`].

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{ServerAddress, UpstreamError};

/// How to reach one server.
#[derive(Debug)]
pub(super) struct Dialer {
    address: ServerAddress,
    connect_timeout: Duration,
}

/// An open transport connection to a server.
#[derive(Debug)]
pub(super) enum UpstreamStream {
    /// Plain TCP.
    Tcp(TcpStream),
}

impl Dialer {
    pub(super) fn new(address: ServerAddress, connect_timeout: Duration) -> Self {
        Self { address, connect_timeout }
    }

    pub(super) fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// Also bounds what a protocol adds to connecting, such as the exchange of settings in HTTP/2.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Resolves the server's name and connects, both within `connect_timeout`.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Unreachable`].
    pub(super) async fn connect(&self) -> Result<UpstreamStream, UpstreamError> {
        let ServerAddress { host, port, authority } = &self.address;
        let stream = match timeout(self.connect_timeout, TcpStream::connect((host.as_str(), *port))).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(server = ?authority, %error, "cannot connect to the upstream");
                return Err(UpstreamError::Unreachable);
            }
            Err(_elapsed) => {
                tracing::debug!(server = ?authority, "connecting to the upstream timed out");
                return Err(UpstreamError::Unreachable);
            }
        };
        // Small writes must not wait for acknowledgements. Without the option a socket still works.
        let _ = stream.set_nodelay(true);
        Ok(UpstreamStream::Tcp(stream))
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
