//! Dialer: opens transport connections to one server.
//!
//! The pools speak HTTP over whatever a dialer returns and know nothing about sockets.
//! A new transport is a new variant of [`UpstreamStream`] and a new branch in [`Dialer::connect`].

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::{ConnectFault, ServerAddress};
use crate::resolver::{Host, Resolver};

/// How to reach one server.
#[derive(Debug)]
pub(super) struct Dialer {
    address: ServerAddress,
    host: Host,
}

/// The address that a connection goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RemoteAddress(IpAddr);

/// An open transport connection to a server.
#[derive(Debug)]
pub(super) enum UpstreamStream {
    /// Plain TCP.
    Tcp(TcpStream),
}

impl Dialer {
    pub(super) fn new(address: ServerAddress, resolver: &Resolver) -> Self {
        let host = resolver.host(&address.host);
        Self { address, host }
    }

    pub(super) fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// Looks the server's name up again if the last result is old. Never waits.
    pub(super) fn refresh(&self) {
        self.host.refresh();
    }

    /// Whether the server still has the address that `connection` goes to.
    pub(super) fn has_address_of(&self, connection: RemoteAddress) -> bool {
        self.host.has(connection.0)
    }

    /// Resolves the server's name and connects to one of its addresses, all within `time`. An
    /// address that does not answer takes half of the time that is left, so that another one can
    /// still be tried.
    ///
    /// # Errors
    ///
    /// Why it cannot connect to the address that was tried last.
    pub(super) async fn connect(&self, time: Duration) -> Result<(UpstreamStream, RemoteAddress), ConnectFault> {
        let deadline = Instant::now() + time;
        let addresses = match timeout_at(deadline, self.host.addresses()).await {
            Ok(Ok(addresses)) => addresses.in_turn(),
            Ok(Err(_)) | Err(_) => return Err(ConnectFault::NameNotResolved),
        };
        let mut fault = ConnectFault::NameNotResolved;
        for (index, address) in addresses.iter().enumerate() {
            let remaining = deadline.saturating_duration_since(Instant::now());
            let share = share_of(remaining, index + 1 < addresses.len());
            address.backoff().begin();
            fault = match timeout(share, TcpStream::connect((address.ip(), self.address.port))).await {
                Ok(Ok(stream)) => {
                    address.backoff().succeed();
                    // Small writes must not wait for acknowledgements. Without the option a socket
                    // still works.
                    let _ = stream.set_nodelay(true);
                    return Ok((UpstreamStream::Tcp(stream), RemoteAddress(address.ip())));
                }
                Ok(Err(error)) => ConnectFault::from(&error),
                Err(_elapsed) => ConnectFault::TimedOut,
            };
            // What this machine lacks says nothing about the address.
            if fault != ConnectFault::LocalResources {
                address.backoff().fail();
            }
        }
        Err(fault)
    }
}

/// How much of the `remaining` time one attempt to connect may take: half of it if another attempt
/// could follow.
pub(super) fn share_of(remaining: Duration, others_follow: bool) -> Duration {
    if others_follow { remaining / 2 } else { remaining }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_leaves_half_of_the_time_to_those_that_can_follow() {
        let time = Duration::from_secs(2);
        assert_eq!([share_of(time, true), share_of(time, false)], [Duration::from_secs(1), time]);
    }
}
