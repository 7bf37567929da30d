//! The client's socket, whatever protects it: every byte of a downstream connection passes through
//! [`ClientSocket`].
//!
//! Today it is a plain TCP socket; a TLS session will be a second variant. The rest of `downstream`
//! asks this type, and never the kernel, whether there is something to read: a TLS session may hold
//! decrypted bytes that the kernel has already delivered.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The socket of one client.
#[derive(Debug)]
pub(super) enum ClientSocket {
    /// TCP without TLS.
    Tcp(TcpStream),
}

impl ClientSocket {
    /// Takes over an accepted TCP connection. Sets `TCP_NODELAY`, because a response must not wait
    /// until the client acknowledges the previous segment.
    pub(super) fn tcp(stream: TcpStream) -> Self {
        // A socket that does not accept the option works without it.
        let _ = stream.set_nodelay(true);
        Self::Tcp(stream)
    }

    /// Waits until reading would return at once: with bytes, with the end of the stream or with an
    /// error.
    ///
    /// May return without a reason; a read may then be pending.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again; it reads nothing.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
        }
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, ClientSocket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, ClientSocket::tcp(listener.accept().await.unwrap().0))
    }

    async fn is_readable_now(socket: &ClientSocket) -> bool {
        let mut readable = pin!(socket.readable());
        poll_fn(|cx| Poll::Ready(readable.as_mut().poll(cx).is_ready())).await
    }

    #[tokio::test]
    async fn a_socket_sends_without_delay() {
        let (_client, socket) = pair().await;
        let ClientSocket::Tcp(stream) = socket;
        assert!(stream.nodelay().unwrap());
    }

    #[tokio::test]
    async fn a_socket_is_readable_when_it_has_bytes_and_when_the_client_has_closed() {
        let (mut client, mut socket) = pair().await;
        let mut byte = [0; 1];
        // A socket may be reported readable without a reason, until a read finds nothing.
        let read = poll_fn(|cx| Poll::Ready(pin!(socket.read(&mut byte)).poll(cx).map(drop))).await;
        assert!(read.is_pending() && !is_readable_now(&socket).await, "the client has sent nothing");
        client.write_all(b"x").await.unwrap();
        socket.readable().await.unwrap();
        assert_eq!(socket.read(&mut byte).await.unwrap(), 1);
        drop(client);
        socket.readable().await.unwrap();
        assert_eq!(socket.read(&mut byte).await.unwrap(), 0);
    }
}
