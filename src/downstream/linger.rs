//! The end of an HTTP/1.1 connection whose client may still send (RFC 9112 §9.6).
//!
//! Closing a socket with unread bytes makes the kernel send a reset, which may overtake the last
//! response. So the sending side is closed first, and what the client still sends is read and
//! dropped, within limits.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// How long the client may go on sending.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How much the client may go on sending, in bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// Bytes of one read.
const BUFFER_BYTES: usize = 16 * 1024;

/// Closes `socket` so that its client can still read the last response.
pub(super) async fn linger(mut socket: impl AsyncRead + AsyncWrite + Unpin) {
    if socket.shutdown().await.is_err() {
        return;
    }
    let _ = timeout(TIMEOUT, async {
        let mut dropped = 0;
        let mut buffer = vec![0; BUFFER_BYTES];
        while dropped < MAX_BYTES {
            match socket.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => dropped += count,
            }
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{DuplexStream, ReadBuf, duplex};
    use tokio::time::Instant;

    use super::*;

    /// A client and the socket of the gateway, which holds as much as one read takes.
    fn pair() -> (DuplexStream, DuplexStream) {
        duplex(BUFFER_BYTES)
    }

    #[tokio::test(start_paused = true)]
    async fn the_client_reads_the_end_and_may_go_on_sending() {
        let (mut client, socket) = pair();
        let before = Instant::now();
        let sending = async {
            assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0, "the end of what the gateway sends");
            client.write_all(&vec![b'x'; 10 * BUFFER_BYTES]).await.unwrap();
            drop(client);
        };
        tokio::join!(linger(socket), sending);
        assert_eq!(before.elapsed(), Duration::ZERO, "it ends when the client has closed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_close_has_a_second() {
        let (_client, socket) = pair();
        let before = Instant::now();
        linger(socket).await;
        assert_eq!(before.elapsed(), TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_may_not_send_without_end() {
        let (mut client, socket) = pair();
        let before = Instant::now();
        let all = vec![b'x'; MAX_BYTES];
        let (sent, ()) = tokio::join!(client.write_all(&all), linger(socket));
        sent.unwrap();
        assert_eq!(before.elapsed(), Duration::ZERO, "it has sent all that it may");
        client.write_all(b"x").await.unwrap_err();
    }

    /// A socket that is broken for writing and would be read for ever.
    struct Broken;

    impl AsyncRead for Broken {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Broken {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_broken_is_not_waited_for() {
        let before = Instant::now();
        linger(Broken).await;
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
}
