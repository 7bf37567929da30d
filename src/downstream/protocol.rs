//! Protocol detection on a connection without TLS: HTTP/1.1, HTTP/2, or TLS by mistake.
//!
//! An HTTP/2 client with prior knowledge first sends a preface that is not a valid HTTP/1 request
//! (RFC 9113 §3.4).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of one read. Holds a usual request head, so that detection costs no additional system
/// call.
const FIRST_READ_BYTES: usize = 4 * 1024;

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// What a client speaks on a connection without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detected {
    Http(Protocol),
    /// It wants to begin a TLS session.
    Tls,
}

/// Whether a connection that begins with `bytes` is a TLS session: a handshake record
/// (RFC 8446 §5.1). No HTTP request begins with a control byte.
fn is_tls(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x16)
}

/// Reads until the protocol is clear; returns it with the bytes read so far.
///
/// # Errors
///
/// An error of the socket, and [`io::ErrorKind::UnexpectedEof`] if the client closes before the
/// protocol is clear.
pub(super) async fn detect(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<(Detected, Vec<u8>)> {
    let mut buffered = Vec::with_capacity(FIRST_READ_BYTES);
    loop {
        if socket.read_buf(&mut buffered).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if is_tls(&buffered) {
            return Ok((Detected::Tls, buffered));
        }
        let compared = buffered.len().min(PREFACE.len());
        if buffered[..compared] != PREFACE[..compared] {
            return Ok((Detected::Http(Protocol::Http1), buffered));
        }
        if compared == PREFACE.len() {
            return Ok((Detected::Http(Protocol::Http2), buffered));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn detect_from(parts: &[&[u8]]) -> io::Result<(Detected, Vec<u8>)> {
        let (mut client, mut server) = tokio::io::duplex(1024);
        for part in parts {
            tokio::io::AsyncWriteExt::write_all(&mut client, part).await.unwrap();
        }
        drop(client);
        detect(&mut server).await
    }

    #[tokio::test]
    async fn the_preface_means_http_2_and_everything_else_http_1() {
        for (name, bytes, expected) in [
            ("a request", &b"GET / HTTP/1.1\r\n"[..], Detected::Http(Protocol::Http1)),
            ("a request that begins like the preface", b"PRI * HTTP/1.1\r\n", Detected::Http(Protocol::Http1)),
            ("one letter", b"X", Detected::Http(Protocol::Http1)),
            ("the preface", PREFACE, Detected::Http(Protocol::Http2)),
            ("the preface and more", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0", Detected::Http(Protocol::Http2)),
            ("TLS", b"\x16\x03\x01\x02\x00\x01", Detected::Tls),
            ("the first byte of TLS", b"\x16", Detected::Tls),
            ("another control byte", b"\x15\x03", Detected::Http(Protocol::Http1)),
            ("nearly the preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", Detected::Http(Protocol::Http1)),
        ] {
            let (protocol, buffered) = detect_from(&[bytes]).await.unwrap();
            assert_eq!((protocol, &buffered[..]), (expected, bytes), "{name}");
            // In two reads: from the first one, as far as needed.
            let (mut client, mut server) = tokio::io::duplex(bytes.len().max(2) - 1);
            let sending = tokio::io::AsyncWriteExt::write_all(&mut client, bytes);
            let (detected, sent) = tokio::join!(detect(&mut server), sending);
            let (protocol, buffered) = detected.unwrap();
            sent.unwrap();
            assert_eq!(protocol, expected, "{name}, in two reads");
            assert!(bytes.starts_with(&buffered), "{name}, in two reads");
        }
    }

    #[tokio::test]
    async fn half_a_preface_and_a_close_is_neither_protocol() {
        assert_eq!(detect_from(&[&PREFACE[..10]]).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
