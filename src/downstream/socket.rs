//! The client's socket: every byte of a downstream connection passes through [`ClientSocket`].
//!
//! It is a TCP or a Unix socket, and the rest of `downstream` does not see the difference:
//! readiness, half-close and hand-over between workers work the same for both.

use std::io;

use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

use super::either_stream::either_stream;

/// The socket of one client, registered with the runtime of the current thread.
#[derive(Debug)]
pub(super) enum ClientSocket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix stream socket.
    Unix(UnixStream),
}

/// The socket of one client on its way to another worker, registered with no runtime.
#[derive(Debug)]
pub(super) enum DetachedSocket {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// A Unix stream socket.
    Unix(std::os::unix::net::UnixStream),
}

impl ClientSocket {
    /// An accepted TCP connection. Sets `TCP_NODELAY`, because a response must not wait until the
    /// client acknowledges the previous segment.
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
            Self::Unix(stream) => stream.readable().await,
        }
    }

    /// Waits for bytes and copies the first of them into `buf`; they stay unread. Returns how many
    /// there are: 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// Those of recv(2).
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again; it reads nothing.
    pub(super) async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.peek(buf).await,
            Self::Unix(stream) => {
                let mut peek = || Ok(rustix::net::recv(stream, &mut *buf, RecvFlags::PEEK)?.0);
                stream.async_io(Interest::READABLE, &mut peek).await
            }
        }
    }

    /// Takes the socket away from the runtime of this thread.
    ///
    /// # Errors
    ///
    /// An error of the runtime.
    pub(super) fn detach(self) -> io::Result<DetachedSocket> {
        Ok(match self {
            Self::Tcp(stream) => DetachedSocket::Tcp(stream.into_std()?),
            Self::Unix(stream) => DetachedSocket::Unix(stream.into_std()?),
        })
    }
}

impl DetachedSocket {
    /// Registers the socket with the runtime of this thread.
    ///
    /// # Errors
    ///
    /// An error of the runtime.
    pub(super) fn attach(self) -> io::Result<ClientSocket> {
        Ok(match self {
            Self::Tcp(stream) => ClientSocket::Tcp(TcpStream::from_std(stream)?),
            Self::Unix(stream) => ClientSocket::Unix(UnixStream::from_std(stream)?),
        })
    }
}

either_stream!(ClientSocket { Tcp, Unix });

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::IoSlice;
    use std::pin::pin;
    use std::task::Poll;

    use tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A client and the gateway's end, over each kind of socket.
    async fn pairs() -> [(&'static str, ClientSocket, ClientSocket); 2] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let tcp = ClientSocket::tcp(listener.accept().await.unwrap().0);
        let (unix_client, unix) = UnixStream::pair().unwrap();
        [("TCP", ClientSocket::Tcp(client), tcp), ("Unix", ClientSocket::Unix(unix_client), ClientSocket::Unix(unix))]
    }

    async fn is_readable_now(socket: &ClientSocket) -> bool {
        let mut readable = pin!(socket.readable());
        poll_fn(|cx| Poll::Ready(readable.as_mut().poll(cx).is_ready())).await
    }

    #[tokio::test]
    async fn a_tcp_socket_sends_without_delay() {
        let [(_, _client, socket), _] = pairs().await;
        let ClientSocket::Tcp(stream) = socket else { panic!("not a TCP socket") };
        assert!(stream.nodelay().unwrap());
    }

    #[tokio::test]
    async fn a_socket_is_readable_when_it_has_bytes_and_when_the_client_has_closed() {
        for (name, mut client, mut socket) in pairs().await {
            let mut byte = [0; 1];
            // A socket may be reported readable without a reason, until a read finds nothing.
            let read = poll_fn(|cx| Poll::Ready(pin!(socket.read(&mut byte)).poll(cx).map(drop))).await;
            assert!(read.is_pending() && !is_readable_now(&socket).await, "{name}: the client has sent nothing");
            client.write_all(b"x").await.unwrap();
            socket.readable().await.unwrap();
            assert_eq!(socket.read(&mut byte).await.unwrap(), 1, "{name}");
            drop(client);
            socket.readable().await.unwrap();
            assert_eq!(socket.read(&mut byte).await.unwrap(), 0, "{name}");
        }
    }

    #[tokio::test]
    async fn peeking_waits_for_bytes_and_leaves_them_unread() {
        for (name, mut client, mut socket) in pairs().await {
            let mut bytes = [0; 8];
            let peeked = poll_fn(|cx| Poll::Ready(pin!(socket.peek(&mut bytes)).poll(cx).map(drop))).await;
            assert!(peeked.is_pending(), "{name}: the client has sent nothing");
            client.write_all(b"first").await.unwrap();
            for _ in 0..2 {
                assert_eq!(socket.peek(&mut bytes).await.unwrap(), 5, "{name}");
                assert_eq!(&bytes[..5], b"first", "{name}");
            }
            assert_eq!(socket.peek(&mut bytes[..2]).await.unwrap(), 2, "{name}: no more than there is room for");
            socket.read_exact(&mut bytes[..5]).await.unwrap();
            drop(client);
            assert_eq!(socket.peek(&mut bytes).await.unwrap(), 0, "{name}: the client has closed");
        }
    }

    #[tokio::test]
    async fn a_client_that_has_closed_its_sending_side_still_reads() {
        for (name, mut client, mut socket) in pairs().await {
            client.shutdown().await.unwrap();
            assert_eq!(socket.read(&mut [0; 1]).await.unwrap(), 0, "{name}");
            let slices = [IoSlice::new(b"la"), IoSlice::new(b"st")];
            assert!(socket.is_write_vectored(), "{name}");
            assert_eq!(socket.write_vectored(&slices).await.unwrap(), 4, "{name}");
            socket.shutdown().await.unwrap();
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, b"last", "{name}");
        }
    }

    #[tokio::test]
    async fn a_socket_goes_to_another_runtime_with_its_unread_bytes() {
        for (name, mut client, socket) in pairs().await {
            client.write_all(b"first").await.unwrap();
            socket.readable().await.unwrap();
            let detached = socket.detach().unwrap();
            let elsewhere = move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
                runtime.block_on(async {
                    let mut socket = detached.attach().unwrap();
                    let mut bytes = [0; 5];
                    socket.read_exact(&mut bytes).await.unwrap();
                    socket.write_all(&bytes).await.unwrap();
                });
            };
            tokio::task::spawn_blocking(elsewhere).await.unwrap();
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, b"first", "{name}");
        }
    }
}
