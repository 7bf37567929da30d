//! Protocol detection on a connection without TLS: HTTP/2 begins with a preface that no HTTP/1 request can be (RFC 9113 §3.4).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How much is read at once. A whole usual request head, so that telling protocols apart costs no further system call.
const FIRST_READ_BYTES: usize = 4 * 1024;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Reads until the protocol is told; returns it with the bytes read so far.
///
/// # Errors
///
/// What reading brings, and [`io::ErrorKind::UnexpectedEof`] when the peer closes before the protocol is told.
pub(super) async fn protocol(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(Protocol, Vec<u8>)> {
    let mut start = Vec::with_capacity(FIRST_READ_BYTES);
    loop {
        if stream.read_buf(&mut start).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let compared = start.len().min(PREFACE.len());
        if start[..compared] != PREFACE[..compared] {
            return Ok((Protocol::Http1, start));
        }
        if compared == PREFACE.len() {
            return Ok((Protocol::Http2, start));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(parts: &[&[u8]]) -> io::Result<(Protocol, Vec<u8>)> {
        let (mut client, mut server) = tokio::io::duplex(1024);
        for part in parts {
            tokio::io::AsyncWriteExt::write_all(&mut client, part).await.unwrap();
        }
        drop(client);
        protocol(&mut server).await
    }

    #[tokio::test]
    async fn the_preface_tells_http_2_and_everything_else_is_http_1() {
        for (name, bytes, expected) in [
            ("a request", &b"GET / HTTP/1.1\r\n"[..], Protocol::Http1),
            ("a request that begins like the preface", b"PRI * HTTP/1.1\r\n", Protocol::Http1),
            ("one letter", b"X", Protocol::Http1),
            ("the preface", PREFACE, Protocol::Http2),
        ] {
            let (protocol, start) = told(&[bytes]).await.unwrap();
            assert_eq!((protocol, &start[..]), (expected, bytes), "{name}");
        }
    }

    #[tokio::test]
    async fn half_a_preface_and_a_close_is_neither() {
        assert_eq!(told(&[&PREFACE[..10]]).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
