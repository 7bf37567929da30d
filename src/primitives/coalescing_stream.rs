//! Coalescing writes: sends the head and a short body of a message with one plain write.
//!
//! hyper writes the head of a message and its body with one vectored write. In the kernel a
//! vectored write costs more than a plain one, by more than it takes to copy a few hundred bytes
//! into one buffer. Long writes stay vectored.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longest write that is copied into one buffer. Enough for a usual head and a short body.
const MAX_COALESCED_BYTES: usize = 2 * 1024;

/// A stream that turns short vectored writes into plain ones. It buffers nothing between calls.
#[derive(Debug)]
pub(crate) struct CoalescingStream<S>(S);

impl<S> CoalescingStream<S> {
    /// Wraps `stream`.
    pub(crate) fn new(stream: S) -> Self {
        Self(stream)
    }

    /// The wrapped stream. No data is lost, since none is buffered here.
    pub(crate) fn into_inner(self) -> S {
        self.0
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for CoalescingStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CoalescingStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.0);
        if let [only] = bufs {
            return stream.poll_write(cx, only);
        }
        let mut buffer = [0; MAX_COALESCED_BYTES];
        let mut length = 0;
        for buf in bufs {
            let Some(target) = buffer.get_mut(length..length + buf.len()) else {
                return stream.poll_write_vectored(cx, bufs);
            };
            target.copy_from_slice(buf);
            length += buf.len();
        }
        stream.poll_write(cx, &buffer[..length])
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Accepts at most `max` bytes per write and records the kind of each write.
    struct Sink {
        max: usize,
        calls: Vec<(&'static str, Vec<u8>)>,
    }

    impl Sink {
        fn accept(&mut self, kind: &'static str, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(self.max);
            self.calls.push((kind, bytes[..count].to_vec()));
            Poll::Ready(Ok(count))
        }
    }

    impl AsyncWrite for Sink {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.accept("plain", buf)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
            self.accept("vectored", &all)
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn short_vectored_writes_become_plain_and_long_ones_stay_vectored() {
        let (head, long) = (vec![b'h'; 500], vec![b'b'; MAX_COALESCED_BYTES]);
        for (name, pieces, max, kind, count) in [
            ("one short piece", vec![&head[..]], 9_000, "plain", 500),
            ("one long piece", vec![&long[..]], 9_000, "plain", MAX_COALESCED_BYTES),
            ("two that fit", vec![&head[..], &long[..MAX_COALESCED_BYTES - 500]], 9_000, "plain", MAX_COALESCED_BYTES),
            ("a partial write", vec![&head[..], b"body"], 502, "plain", 502),
            (
                "one byte too many",
                vec![&head[..], &long[..MAX_COALESCED_BYTES - 499]],
                9_000,
                "vectored",
                MAX_COALESCED_BYTES + 1,
            ),
            ("none", vec![], 9_000, "plain", 0),
        ] {
            let mut stream = CoalescingStream::new(Sink { max, calls: Vec::new() });
            let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let written = poll_fn(|cx| Pin::new(&mut stream).poll_write_vectored(cx, &slices)).await.unwrap();
            let all = pieces.concat();
            assert_eq!(written, count, "{name}");
            assert_eq!(stream.into_inner().calls, [(kind, all[..count].to_vec())], "{name}");
        }
    }
}
