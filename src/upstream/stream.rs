//! The stream of a connection to a server: TCP or a Unix domain socket.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// An open connection to a server. The pools speak HTTP over it and know nothing about sockets.
#[derive(Debug)]
pub(super) enum UpstreamStream {
    /// TCP without TLS.
    Tcp(PlainStream<TcpStream>),
    /// A Unix domain socket, without TLS.
    Unix(PlainStream<UnixStream>),
}

/// A connection without TLS.
#[derive(Debug)]
pub(super) struct PlainStream<S> {
    socket: S,
    /// Whether the server has sent a byte.
    has_begun: bool,
}

/// The error of a read from a server that answers a plain connection in TLS: `servers` has an
/// `http://` URL for a port that expects `https://`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerSpeaksTls;

impl fmt::Display for ServerSpeaksTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the server speaks TLS")
    }
}

impl std::error::Error for ServerSpeaksTls {}

impl<S> PlainStream<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { socket, has_begun: false }
    }
}

/// Whether a response begins with a TLS record: an alert or a handshake message of any version
/// (RFC 8446 §5.1). HTTP/1.1 begins with a letter and HTTP/2 with the length of a SETTINGS frame,
/// whose first byte is zero.
fn is_tls_record(bytes: &[u8]) -> bool {
    matches!(bytes, [21 | 22, 3, ..])
}

impl<S: AsyncRead + Unpin> AsyncRead for PlainStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        if !self.has_begun {
            self.has_begun = true;
            if is_tls_record(&buf.filled()[before..]) {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, ServerSpeaksTls)));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(&mut stream.socket).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(&mut stream.socket).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(&mut stream.socket).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(&mut stream.socket).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.socket.is_write_vectored(),
            Self::Unix(stream) => stream.socket.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(&mut stream.socket).poll_flush(cx),
            Self::Unix(stream) => Pin::new(&mut stream.socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(&mut stream.socket).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(&mut stream.socket).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tls_record_is_told_from_a_response() {
        for (name, bytes, expected) in [
            ("an alert", &[21, 3, 3, 0, 2, 2, 70][..], true),
            ("a handshake message", &[22, 3, 1], true),
            ("HTTP/1.1", b"HTTP/1.1 200 OK", false),
            ("HTTP/2 SETTINGS", &[0, 0, 18, 4, 0], false),
            ("one byte", &[21], false),
            ("nothing", &[], false),
        ] {
            assert_eq!(is_tls_record(bytes), expected, "{name}");
        }
    }
}
