//! An HTTP/2 client that writes and reads frames as the test asks for them (RFC 9113), for what no
//! HTTP library does.
//!
//! Its header blocks use neither Huffman codes nor the dynamic table.

use super::client::Conn;
use super::fixture::Fixture;

/// A setting: `SETTINGS_INITIAL_WINDOW_SIZE` is 0, so that no stream may carry a byte of a body.
pub(crate) const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];

/// The error code by which a client resets a stream that it no longer needs (RFC 9113 §7).
pub(crate) const CANCEL: [u8; 4] = [0, 0, 0, 8];

pub(crate) const GET_REQUEST: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "g"), (":path", "/public/a")];

/// The types of frames (RFC 9113 §6).
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GO_AWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// A frame that the gateway has sent.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// How the gateway ends a stream.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    GoAway,
    Reset,
    Status(u16),
}

/// An HTTP/2 connection.
pub(crate) struct Frames(Conn);

impl Frames {
    pub(crate) async fn open(fixture: &Fixture) -> Self {
        Self::open_with(fixture, b"").await
    }

    /// `settings` as RFC 9113 §6.5.1 writes them.
    pub(crate) async fn open_with(fixture: &Fixture, settings: &[u8]) -> Self {
        let mut conn = fixture.connect().await;
        conn.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        let mut frames = Self(conn);
        frames.send(kind::SETTINGS, 0, 0, settings).await;
        frames
    }

    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.try_send(kind, flags, stream, payload).await.expect("the gateway accepts the frame");
    }

    /// Like [`send`](Self::send), for when the gateway may have closed the connection.
    pub(crate) async fn try_send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> std::io::Result<()> {
        self.0.try_send(encode(kind, flags, stream, payload)).await
    }

    /// `HEADERS` with the whole block, and with the end of the stream unless a body follows.
    pub(crate) async fn headers(&mut self, stream: u32, fields: &[(&str, &str)], ends: bool) {
        let block = block(fields);
        self.send(kind::HEADERS, if ends { 5 } else { 4 }, stream, &block).await;
    }

    /// A request and its reset, in one write.
    pub(crate) async fn try_request_and_reset(&mut self, stream: u32, fields: &[(&str, &str)]) -> std::io::Result<()> {
        let request = encode(kind::HEADERS, 5, stream, &block(fields));
        self.0.try_send([request, encode(kind::RST_STREAM, 0, stream, &CANCEL)].concat()).await
    }

    /// The next frame.
    pub(crate) async fn next(&mut self) -> Frame {
        let head = self.0.read_bytes(9).await;
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        let payload = self.0.read_bytes(length).await;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Frame { kind: head[3], flags: head[4], stream, payload }
    }

    /// Skips frames up to the first one of this kind.
    pub(crate) async fn next_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().await;
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// How the gateway ends this stream: `Status` if it responds.
    pub(crate) async fn outcome(&mut self, stream: u32) -> Outcome {
        loop {
            let frame = self.next().await;
            match frame.kind {
                // RFC 7541 §A: the static table has the usual statuses at 8 to 14.
                kind::HEADERS if frame.stream == stream => {
                    let status = frame.payload.first().and_then(|first| {
                        [200, 204, 206, 304, 400, 404, 500].get(usize::from(first & 0x7f).checked_sub(8)?)
                    });
                    return Outcome::Status(status.copied().unwrap_or_default());
                }
                kind::RST_STREAM if frame.stream == stream => return Outcome::Reset,
                kind::GO_AWAY => return Outcome::GoAway,
                _ => {}
            }
        }
    }

    /// Waits until the gateway closes the connection.
    pub(crate) async fn read_to_close(&mut self) {
        self.0.read_to_close().await;
    }
}

/// A frame.
pub(crate) fn encode(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a small frame").to_be_bytes();
    let stream = stream.to_be_bytes();
    [&[0, length[0], length[1], kind, flags], &stream[..], payload].concat()
}

/// A header block (RFC 7541 §6.2.2): literal fields with names.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let field = |&(name, value): &(&str, &str)| [vec![0], string(name), string(value)].concat();
    fields.iter().flat_map(field).collect()
}

/// A string (RFC 7541 §5.2), without Huffman code.
fn string(text: &str) -> Vec<u8> {
    const MAX_PREFIX: usize = 127;
    let byte = |number: usize| u8::try_from(number).expect("less than 256");
    let mut bytes = vec![byte(text.len().min(MAX_PREFIX))];
    if let Some(mut rest) = text.len().checked_sub(MAX_PREFIX) {
        while rest >= 128 {
            bytes.push(byte(128 + rest % 128));
            rest /= 128;
        }
        bytes.push(byte(rest));
    }
    bytes.extend_from_slice(text.as_bytes());
    bytes
}
