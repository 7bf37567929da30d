//! A client that speaks HTTP/2, frame by frame: it takes a request for not processed only if GOAWAY
//! says so (RFC 9113 §6.8), where a library would also forgive a connection that is just closed.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Client;
use crate::support::client::ByteStream;
use crate::support::frames::{block, encode, kind};

const ACK: u8 = 1;
const END_STREAM: u8 = 1;

/// The first byte of a header block whose first field is `:status: 200` (RFC 7541 §A).
const STATUS_200: u8 = 0x80 | 8;

pub(super) struct Http2Client<C, S> {
    request: Vec<u8>,
    connect: C,
    kept: Option<Connection<S>>,
}

struct Connection<S> {
    stream: S,
    next_id: u32,
    /// Whether the gateway has sent GOAWAY.
    is_closing: bool,
}

/// What became of a request.
enum Outcome {
    Success,
    /// It was not processed, and may be sent again.
    NotProcessed,
}

impl<C, S> Http2Client<C, S> {
    pub(super) fn new(bearer: &str, connect: C) -> Self {
        let request = block(&[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", "/token/a"),
            ("authorization", bearer),
        ]);
        Self { request, connect, kept: None }
    }
}

impl<S: ByteStream> Connection<S> {
    async fn new(mut stream: S) -> io::Result<Self> {
        /// Room for all responses of a test.
        const WINDOW: u32 = 1 << 30;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        stream.write_all(&encode(kind::SETTINGS, 0, 0, b"")).await?;
        stream.write_all(&encode(kind::WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes())).await?;
        Ok(Self { stream, next_id: 1, is_closing: false })
    }

    async fn request(&mut self, request: &[u8]) -> io::Result<Outcome> {
        const END_STREAM_AND_HEADERS: u8 = 5;
        let id = self.next_id;
        self.next_id += 2;
        self.stream.write_all(&encode(kind::HEADERS, END_STREAM_AND_HEADERS, id, request)).await?;
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await?;
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            self.stream.read_exact(&mut payload).await?;
            let (frame, flags) = (head[3], head[4]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            match frame {
                kind::SETTINGS if flags & ACK == 0 => {
                    self.stream.write_all(&encode(kind::SETTINGS, ACK, 0, b"")).await?;
                }
                kind::PING if flags & ACK == 0 => self.stream.write_all(&encode(kind::PING, ACK, 0, &payload)).await?,
                kind::GO_AWAY => {
                    self.is_closing = true;
                    let last = u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]]);
                    if last < id {
                        return Ok(Outcome::NotProcessed);
                    }
                }
                kind::RST_STREAM if stream == id => return Err(io::Error::other("the stream was reset")),
                kind::HEADERS if stream == id && payload.first() != Some(&STATUS_200) => {
                    return Err(io::Error::other(format!("not 200: {payload:?}")));
                }
                kind::HEADERS | kind::DATA if stream == id && flags & END_STREAM != 0 => return Ok(Outcome::Success),
                _ => {}
            }
        }
    }
}

impl<C, F, S> Http2Client<C, S>
where
    C: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<S>> + Send,
    S: ByteStream + 'static,
{
    async fn send(&mut self) -> io::Result<()> {
        loop {
            let mut connection = match self.kept.take() {
                Some(connection) => connection,
                None => Connection::new((self.connect)().await?).await?,
            };
            let outcome = connection.request(&self.request).await?;
            if !connection.is_closing {
                self.kept = Some(connection);
            }
            match outcome {
                Outcome::Success => return Ok(()),
                Outcome::NotProcessed => {}
            }
        }
    }
}

impl<C, F, S> Client for Http2Client<C, S>
where
    C: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<S>> + Send,
    S: ByteStream + 'static,
{
    async fn request(&mut self) -> io::Result<()> {
        self.send().await.map_err(|error| io::Error::other(format!("HTTP/2: {error}")))
    }
}
