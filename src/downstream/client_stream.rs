//! The stream under hyper: passes bytes through, tells the [`ConnectionState`] what moves, and catches what hyper says of its own accord.
//!
//! hyper answers a malformed request head itself, with a bare status and no body. Every refusal of the gateway is a problem document with a
//! request id, and is recorded; so hyper's own answer is not sent but kept ([`ClientStream::suppressed_response`]), and the gateway answers in its place.
//! It is told apart by time, not by looks: it is what is written while no request is being answered and all answers are out.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use super::connection_state::ConnectionState;

/// What becomes of bytes that hyper writes without a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnsolicitedWrite {
    /// Kept back: HTTP/1.1.
    Keep,
    /// Sent: HTTP/2 has settings, pings and the like.
    Send,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct ClientStream<S> {
    stream: S,
    /// Read while the protocol was told, not yet given to hyper.
    start: Vec<u8>,
    given: usize,
    state: Arc<ConnectionState>,
    unsolicited: UnsolicitedWrite,
    kept: Vec<u8>,
    ended: bool,
    /// Dropped with the wire: whoever holds the other end knows that the stream is closed, also when it has become a tunnel.
    _alive: oneshot::Sender<()>,
}

/// Resolves when the wire is gone.
pub(super) type Gone = oneshot::Receiver<()>;

impl<S> ClientStream<S> {
    pub(super) fn new(
        stream: S,
        start: Vec<u8>,
        state: Arc<ConnectionState>,
        unsolicited: UnsolicitedWrite,
    ) -> (Self, Gone) {
        let (alive, gone) = oneshot::channel();
        let wire = Self { stream, start, given: 0, state, unsolicited, kept: Vec::new(), ended: false, _alive: alive };
        (wire, gone)
    }

    /// What hyper would have answered by itself.
    pub(super) fn suppressed_response(&self) -> &[u8] {
        &self.kept
    }

    /// Whether the peer has closed its side.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The stream itself, once hyper is done with it.
    pub(super) fn into_stream(self) -> S {
        self.stream
    }

    fn keeps(&self) -> bool {
        self.unsolicited == UnsolicitedWrite::Keep && self.state.is_quiet()
    }

    fn keep(&mut self, bytes: &[u8]) -> usize {
        /// A bare status line with three fields is shorter; more is not looked at.
        const MOST: usize = 512;
        let room = MOST.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        bytes.len()
    }

    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        if written.is_pending() {
            self.state.is_blocked();
        } else {
            self.state.wrote();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.given < this.start.len() {
            let rest = &this.start[this.given..];
            let count = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..count]);
            this.given += count;
            if this.given == this.start.len() {
                this.start = Vec::new();
                this.given = 0;
            }
            if this.unsolicited == UnsolicitedWrite::Keep {
                this.state.received();
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            // In HTTP/2 what comes may be a ping's answer: only the request itself tells that one has begun.
            if this.unsolicited == UnsolicitedWrite::Keep {
                this.state.received();
            }
        } else {
            this.ended = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.keeps() {
            return Poll::Ready(Ok(self.keep(buf)));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.keeps() {
            return Poll::Ready(Ok(bufs.iter().map(|buf| self.keep(buf)).sum()));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.state.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The gateway still has to say what hyper was not allowed to.
        if !self.kept.is_empty() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
