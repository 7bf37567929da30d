//! The stream that hyper reads from and writes to: passes bytes through, reports reads and writes
//! to the [`ConnectionState`], and holds back what hyper writes on its own initiative.
//!
//! hyper rejects a malformed request head itself, with a status line and no body. Every rejection
//! by the gateway is a problem document with a request id, and is recorded. So this stream
//! suppresses hyper's response ([`ClientStream::suppressed_response`]), and the gateway sends one
//! of its own. Such a response is identified by timing, not by content: hyper writes it while no
//! request is in progress and every earlier response has been sent.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use super::connection_state::ConnectionState;

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
    /// Bytes read during protocol detection, which hyper reads first.
    buffered: Vec<u8>,
    /// How many of them hyper has read.
    consumed: usize,
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
        buffered: Vec<u8>,
        state: Arc<ConnectionState>,
        unsolicited: UnsolicitedWrites,
    ) -> (Self, StreamClosed) {
        let (sender, closed) = oneshot::channel();
        let suppressed = Vec::new();
        let stream =
            Self { inner, buffered, consumed: 0, state, unsolicited, suppressed, ended: false, _closed: sender };
        (stream, closed)
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
        if this.consumed < this.buffered.len() {
            let remaining = &this.buffered[this.consumed..];
            let count = remaining.len().min(buf.remaining());
            buf.put_slice(&remaining[..count]);
            this.consumed += count;
            if this.consumed == this.buffered.len() {
                this.buffered = Vec::new();
                this.consumed = 0;
            }
            this.report_read();
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            this.report_read();
        } else {
            this.ended = true;
        }
        Poll::Ready(Ok(()))
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
