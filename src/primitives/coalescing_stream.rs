//! CoalescingStream writes: a head and a short body leave in one plain write.
//!
//! hyper hands the head of a message and the body behind it to the socket as a list of pieces. For the kernel a list is dearer than one
//! piece, by more than it costs to copy a few hundred bytes together. Long pieces go as they are.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Up to so many bytes are copied together: a usual head and a short body.
const ROOM_BYTES: usize = 2 * 1024;

/// See the module's text.
#[derive(Debug)]
pub struct CoalescingStream<S>(S);

impl<S> CoalescingStream<S> {
    /// Around `stream`.
    pub fn new(stream: S) -> Self {
        Self(stream)
    }

    /// The stream itself. Nothing is held back here.
    pub fn into_inner(self) -> S {
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
        let mut room = [0; ROOM_BYTES];
        let mut length = 0;
        for buf in bufs {
            let Some(place) = room.get_mut(length..length + buf.len()) else {
                return stream.poll_write_vectored(cx, bufs);
            };
            place.copy_from_slice(buf);
            length += buf.len();
        }
        stream.poll_write(cx, &room[..length])
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

    /// Takes what it is given, at most `most` bytes at a time, and remembers how it was given.
    struct Sink {
        most: usize,
        calls: Vec<(&'static str, Vec<u8>)>,
    }

    impl Sink {
        fn take(&mut self, how: &'static str, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(self.most);
            self.calls.push((how, bytes[..count].to_vec()));
            Poll::Ready(Ok(count))
        }
    }

    impl AsyncWrite for Sink {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.take("one", buf)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
            self.take("list", &all)
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
    async fn short_pieces_go_as_one_and_long_ones_as_they_are() {
        let (head, long) = (vec![b'h'; 500], vec![b'b'; ROOM_BYTES]);
        for (name, pieces, most, how, count) in [
            ("one short piece", vec![&head[..]], 9_000, "one", 500),
            ("one long piece", vec![&long[..]], 9_000, "one", ROOM_BYTES),
            ("two that fit", vec![&head[..], &long[..ROOM_BYTES - 500]], 9_000, "one", ROOM_BYTES),
            ("two of which a part is taken", vec![&head[..], b"body"], 502, "one", 502),
            ("one byte too many", vec![&head[..], &long[..ROOM_BYTES - 499]], 9_000, "list", ROOM_BYTES + 1),
            ("none", vec![], 9_000, "one", 0),
        ] {
            let mut gathered = CoalescingStream::new(Sink { most, calls: Vec::new() });
            let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let written = poll_fn(|cx| Pin::new(&mut gathered).poll_write_vectored(cx, &slices)).await.unwrap();
            let all = pieces.concat();
            assert_eq!(written, count, "{name}");
            assert_eq!(gathered.into_inner().calls, [(how, all[..count].to_vec())], "{name}");
        }
    }
}
