//! The stream of a connection to a server: TCP, TLS over TCP, or a Unix domain socket.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::tls_fault::TlsFault;

/// An open connection to a server. The pools speak HTTP over it and know nothing about sockets.
#[derive(Debug)]
pub(super) enum UpstreamStream {
    /// TCP without TLS.
    Tcp(PlainStream<TcpStream>),
    /// A Unix domain socket, without TLS.
    Unix(PlainStream<UnixStream>),
    /// TLS over TCP. Boxed, so that connections without TLS stay small.
    Tls(Box<SecureStream>),
}

/// A connection without TLS.
#[derive(Debug)]
pub(super) struct PlainStream<S> {
    socket: S,
    /// Whether the server has sent a byte.
    has_begun: bool,
}

/// A connection with TLS.
#[derive(Debug)]
pub(super) struct SecureStream {
    session: TlsStream<TcpStream>,
    rejection: Rejection,
    /// The error of a write to a connection that the server has closed, until it is returned.
    write_error: Option<io::Error>,
}

/// Why the server has rejected the gateway's certificate, once it has: in TLS 1.3 it says so only
/// after the handshake, as its answer to whatever is sent first. hyper and h2 do not pass such an
/// error on as it was.
#[derive(Clone, Debug, Default)]
pub(super) struct Rejection(Arc<OnceLock<TlsFault>>);

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

impl SecureStream {
    pub(super) fn new(session: TlsStream<TcpStream>, rejection: Rejection) -> Self {
        Self { session, rejection, write_error: None }
    }
}

impl Rejection {
    /// The reason; `None` as long as the server has not rejected the certificate.
    pub(super) fn fault(&self) -> Option<TlsFault> {
        self.0.get().copied()
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

impl AsyncRead for SecureStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.session).poll_read(cx, buf));
        if let Some(fault) = read.as_ref().err().and_then(TlsFault::of_read) {
            // Only the first error says why.
            let _ = self.rejection.0.set(fault);
        }
        Poll::Ready(read)
    }
}

impl SecureStream {
    /// Passes on what a write has returned. If the server has closed the connection, it first reads
    /// what the server has sent before: that may say why. A socket that is broken does not let the
    /// read wait for long.
    fn written<T>(&mut self, written: io::Result<T>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        match written {
            Err(error) if is_closed(&error) => {
                self.write_error = Some(error);
                self.poll_broken(cx).map(Err)
            }
            written => Poll::Ready(written),
        }
    }

    /// The error of an earlier write, once what the server has sent before is read.
    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let mut byte = [0];
        // Nothing that is read here would reach a reader: the write error ends the connection.
        let _ = ready!(Pin::new(&mut *self).poll_read(cx, &mut ReadBuf::new(&mut byte)));
        Poll::Ready(self.write_error.take().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()))
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
    )
}

impl AsyncWrite for SecureStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.write_error.is_some() {
            return self.poll_broken(cx).map(Err);
        }
        let written = ready!(Pin::new(&mut self.session).poll_write(cx, buf));
        self.written(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.write_error.is_some() {
            return self.poll_broken(cx).map(Err);
        }
        let written = ready!(Pin::new(&mut self.session).poll_write_vectored(cx, bufs));
        self.written(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.session.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_error.is_some() {
            return self.poll_broken(cx).map(Err);
        }
        let flushed = ready!(Pin::new(&mut self.session).poll_flush(cx));
        self.written(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.session).poll_shutdown(cx)
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(&mut stream.socket).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(&mut stream.socket).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
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
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.socket.is_write_vectored(),
            Self::Unix(stream) => stream.socket.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(&mut stream.socket).poll_flush(cx),
            Self::Unix(stream) => Pin::new(&mut stream.socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(&mut stream.socket).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(&mut stream.socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
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

    #[test]
    fn a_connection_that_the_server_has_closed_is_told_from_other_failures() {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, InvalidData, TimedOut};
        for (kind, expected) in [
            (BrokenPipe, true),
            (ConnectionReset, true),
            (ConnectionAborted, true),
            (InvalidData, false),
            (TimedOut, false),
        ] {
            assert_eq!(is_closed(&kind.into()), expected, "{kind:?}");
        }
    }
}
