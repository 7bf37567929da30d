//! What HTTP runs on: the client's socket, or a TLS session over it.
//!
//! The rest of `downstream` asks this type, and never the socket, whether there is something to
//! read: a TLS session may hold decrypted bytes that the socket has already delivered.

use std::io;

use tokio_rustls::server::TlsStream;

use super::either_stream::either_stream;
use super::socket::ClientSocket;

/// The transport of one connection.
#[derive(Debug)]
pub(super) enum Transport {
    /// Without TLS.
    Plain(ClientSocket),
    /// With TLS. Boxed: a session takes a kilobyte, which connections without TLS need not reserve.
    Tls(Box<TlsStream<ClientSocket>>),
}

impl Transport {
    /// Waits until reading may return at once: with bytes, with the end of the stream or with an
    /// error.
    ///
    /// May return spuriously; a read is then pending. With TLS that happens when the client has
    /// sent a part of a record, or one without data.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again; it reads nothing.
    pub(super) async fn readable(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.readable().await,
            Self::Tls(stream) => {
                let (socket, session) = stream.get_mut();
                // An error stays in the session, and the next read returns it.
                let has_bytes = session.process_new_packets().is_ok_and(|state| state.plaintext_bytes_to_read() > 0);
                if has_bytes { Ok(()) } else { socket.readable().await }
            }
        }
    }
}

either_stream!(Transport { Plain, Tls });
