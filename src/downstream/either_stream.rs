//! Streams that are one of two kinds, and read and write as the kind that they are.

/// Implements `AsyncRead` and `AsyncWrite` for an enum whose two variants each hold a stream.
macro_rules! either_stream {
    ($either:ident { $one:ident, $other:ident }) => {
        impl tokio::io::AsyncRead for $either {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                match self.get_mut() {
                    Self::$one(stream) => std::pin::Pin::new(stream).poll_read(cx, buf),
                    Self::$other(stream) => std::pin::Pin::new(stream).poll_read(cx, buf),
                }
            }
        }

        impl tokio::io::AsyncWrite for $either {
            fn poll_write(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                match self.get_mut() {
                    Self::$one(stream) => std::pin::Pin::new(stream).poll_write(cx, buf),
                    Self::$other(stream) => std::pin::Pin::new(stream).poll_write(cx, buf),
                }
            }

            fn poll_write_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                match self.get_mut() {
                    Self::$one(stream) => std::pin::Pin::new(stream).poll_write_vectored(cx, bufs),
                    Self::$other(stream) => std::pin::Pin::new(stream).poll_write_vectored(cx, bufs),
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    Self::$one(stream) => stream.is_write_vectored(),
                    Self::$other(stream) => stream.is_write_vectored(),
                }
            }

            fn poll_flush(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                match self.get_mut() {
                    Self::$one(stream) => std::pin::Pin::new(stream).poll_flush(cx),
                    Self::$other(stream) => std::pin::Pin::new(stream).poll_flush(cx),
                }
            }

            fn poll_shutdown(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                match self.get_mut() {
                    Self::$one(stream) => std::pin::Pin::new(stream).poll_shutdown(cx),
                    Self::$other(stream) => std::pin::Pin::new(stream).poll_shutdown(cx),
                }
            }
        }
    };
}

pub(super) use either_stream;
