//! The stream that hyper reads from and writes to: passes bytes through, reports reads and writes
//! to the [`ConnectionState`], and holds back what hyper writes on its own initiative.
//!
//! hyper rejects a malformed request head itself, with a status line and no body. Every rejection
//! by the gateway is a problem document with a request id, and is recorded. So this stream
//! suppresses hyper's response ([`ClientStream::suppressed_response`]), and the gateway sends one
//! of its own. Such a response is identified by timing, not by content: hyper writes it while no
//! request is in progress and every earlier response has been sent.
//!
//! In HTTP/1.1, hyper reads request heads through a [`HeadFilter`].

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use super::connection_state::ConnectionState;
use super::head_filter::{Filtered, HeadFilter};

/// What the stream does with bytes that hyper writes while no request is in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnsolicitedWrites {
    /// Sends them: HTTP/2 has settings, pings and other frames of the connection.
    Send,
    /// Holds them back: in HTTP/1.1 they are a response to a malformed head.
    Suppress,
}

/// A client's socket as hyper sees it.
#[derive(Debug)]
pub(super) struct ClientStream<S> {
    inner: S,
    /// Bytes that hyper reads first: read during protocol detection, or changed by `heads`.
    buffered: Vec<u8>,
    /// How many of them hyper has read.
    consumed: usize,
    heads: HeadFilter,
    state: Arc<ConnectionState>,
    unsolicited: UnsolicitedWrites,
    suppressed: Vec<u8>,
    ended: bool,
    /// Never sent to. Dropped with the stream, which completes [`StreamClosed`].
    _closed: oneshot::Sender<()>,
}

/// Completes when the stream is dropped, also if it was upgraded to a tunnel and hyper has given it
/// away.
pub(super) type StreamClosed = oneshot::Receiver<()>;

impl<S> ClientStream<S> {
    pub(super) fn new(
        inner: S,
        mut buffered: Vec<u8>,
        state: Arc<ConnectionState>,
        unsolicited: UnsolicitedWrites,
    ) -> (Self, StreamClosed) {
        let (sender, closed) = oneshot::channel();
        let mut stream = Self {
            inner,
            buffered: Vec::new(),
            consumed: 0,
            heads: HeadFilter::default(),
            state,
            unsolicited,
            suppressed: Vec::new(),
            ended: false,
            _closed: sender,
        };
        let unchanged = stream.filter(&buffered);
        buffered.truncate(unchanged);
        buffered.append(&mut stream.buffered);
        stream.buffered = buffered;
        (stream, closed)
    }

    /// Whether a request head was held back because it states two framings.
    pub(super) fn found_two_framings(&self) -> bool {
        self.heads.found_two_framings()
    }

    /// The response that hyper would have sent on its own initiative; empty if there was none.
    pub(super) fn suppressed_response(&self) -> &[u8] {
        &self.suppressed
    }

    /// Whether the client has closed its sending side.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The underlying stream, once hyper has finished with it.
    pub(super) fn into_inner(self) -> S {
        self.inner
    }

    /// Looks for request heads in bytes that were read. Returns how many of them hyper may read as
    /// they are; in place of the others it reads `buffered`.
    fn filter(&mut self, bytes: &[u8]) -> usize {
        match self.unsolicited {
            UnsolicitedWrites::Send => bytes.len(),
            UnsolicitedWrites::Suppress => {
                let Filtered { unchanged, rest } = self.heads.filter(bytes, self.state.is_tunnel());
                (self.buffered, self.consumed) = (rest, 0);
                unchanged
            }
        }
    }

    fn is_write_suppressed(&self) -> bool {
        self.unsolicited == UnsolicitedWrites::Suppress && self.state.has_sent_all_responses()
    }

    /// Holds `bytes` back and returns their number, as if they were written.
    fn suppress(&mut self, bytes: &[u8]) -> usize {
        /// Enough for hyper's response, of which only the status is read.
        const MAX_BYTES: usize = 512;
        let room = MAX_BYTES.saturating_sub(self.suppressed.len());
        self.suppressed.extend_from_slice(&bytes[..bytes.len().min(room)]);
        bytes.len()
    }

    fn read_buffered(&mut self, buf: &mut ReadBuf<'_>) {
        let remaining = &self.buffered[self.consumed..];
        let count = remaining.len().min(buf.remaining());
        buf.put_slice(&remaining[..count]);
        self.consumed += count;
        if self.consumed == self.buffered.len() {
            self.buffered = Vec::new();
            self.consumed = 0;
        }
    }

    fn report_write(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Pending => self.state.write_blocked(),
            Poll::Ready(Ok(count)) => self.state.write_completed(*count as u64),
            Poll::Ready(Err(_)) => self.state.write_completed(0),
        }
    }

    fn report_read(&self) {
        // In HTTP/2 the bytes may be a ping or its acknowledgement, so only hyper knows when a
        // request begins.
        if self.unsolicited == UnsolicitedWrites::Suppress {
            self.state.bytes_received();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        loop {
            if this.consumed < this.buffered.len() {
                this.read_buffered(buf);
            } else if this.heads.found_two_framings() {
                // The end of the stream. hyper has the beginning of the head in its buffer, so it
                // reads no more before it has sent all earlier responses; it then fails without
                // closing the socket.
                return Poll::Ready(Ok(()));
            } else {
                ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
                if buf.filled().len() == before {
                    this.ended = true;
                    return Poll::Ready(Ok(()));
                }
                let unchanged = this.filter(&buf.filled()[before..]);
                buf.set_filled(before + unchanged);
            }
            // Otherwise hyper would take it for the end of the stream.
            if buf.filled().len() > before {
                this.report_read();
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_write_suppressed() {
            return Poll::Ready(Ok(self.suppress(buf)));
        }
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.report_write(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_write_suppressed() {
            return Poll::Ready(Ok(bufs.iter().map(|buf| self.suppress(buf)).sum()));
        }
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.report_write(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.state.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The gateway still sends its own response in place of the suppressed one.
        if !self.suppressed.is_empty() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::gateway::runtime::ClientTimeouts;

    /// A client, and its stream before the first request.
    fn connection(unsolicited: UnsolicitedWrites) -> (DuplexStream, ClientStream<DuplexStream>) {
        let timeout = Duration::from_secs(30);
        let timeouts = ClientTimeouts { header: timeout, idle: timeout, body_idle: timeout, min_body_rate: None };
        let (client, inner) = duplex(64);
        let state = ConnectionState::new(Instant::now(), timeouts);
        (client, ClientStream::new(inner, Vec::new(), state, unsolicited).0)
    }

    #[tokio::test(start_paused = true)]
    async fn hypers_end_of_the_connection_is_held_back_together_with_its_response() {
        for (unsolicited, expected) in [(UnsolicitedWrites::Suppress, "ours"), (UnsolicitedWrites::Send, "hyper's")] {
            let (mut client, mut stream) = connection(unsolicited);
            stream.write_all(b"hyper's").await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(stream.suppressed_response().is_empty(), unsolicited == UnsolicitedWrites::Send);
            let mut inner = stream.into_inner();
            if unsolicited == UnsolicitedWrites::Suppress {
                inner.write_all(b"ours").await.unwrap();
                inner.shutdown().await.unwrap();
            }
            let mut received = String::new();
            timeout(Duration::from_secs(1), client.read_to_string(&mut received)).await.expect("an end").unwrap();
            assert_eq!(received, expected);
        }
    }

    /// hyper takes a read of no bytes for the end of the stream.
    #[tokio::test]
    async fn a_read_brings_bytes_wherever_a_target_was_cut_into_pieces() {
        let request = b"GET /?\"<\" HTTP/1.1\r\n\r\n";
        for at in 1..request.len() {
            let (mut client, mut stream) = connection(UnsolicitedWrites::Suppress);
            let mut passed = Vec::new();
            for piece in [&request[..at], &request[at..]] {
                client.write_all(piece).await.unwrap();
                let before = passed.len();
                assert!(stream.read_buf(&mut passed).await.unwrap() > 0, "cut at {at}");
                assert!(passed.len() > before);
            }
            drop(client);
            stream.read_to_end(&mut passed).await.unwrap();
            assert_eq!(String::from_utf8(passed).unwrap(), "GET /?%22%3C%22 HTTP/1.1\r\n\r\n", "cut at {at}");
            assert!(stream.has_ended(), "cut at {at}");
        }
    }
}
