//! A client that speaks HTTP/1.1.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Client;
use crate::support::client::ByteStream;

/// Whether a client sends several requests on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connections {
    /// As many as the gateway lets it.
    Kept,
    /// One.
    OneRequest,
}

pub(super) struct Http1Client<C, S> {
    head: String,
    connect: C,
    connections: Connections,
    kept: Option<S>,
}

impl<C, S> Http1Client<C, S> {
    pub(super) fn new(bearer: &str, connect: C, connections: Connections) -> Self {
        let connection = match connections {
            Connections::Kept => "keep-alive",
            Connections::OneRequest => "close",
        };
        let head = format!(
            "GET /token/a HTTP/1.1\r\nHost: gateway\r\nAuthorization: {bearer}\r\nConnection: {connection}\r\n\r\n"
        );
        Self { head, connect, connections, kept: None }
    }
}

impl<C, F, S> Http1Client<C, S>
where
    C: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<S>> + Send,
    S: ByteStream + 'static,
{
    async fn send(&mut self) -> io::Result<()> {
        let mut stream = match self.kept.take() {
            Some(stream) => stream,
            None => (self.connect)().await?,
        };
        stream.write_all(self.head.as_bytes()).await?;
        let mut received = Vec::new();
        while !received.ends_with(b"\r\n\r\n") {
            received.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&received).to_ascii_lowercase();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let length = field("content-length:").and_then(|digits| digits.parse().ok());
        let length = length.ok_or_else(|| io::Error::other(format!("no length: {head}")))?;
        stream.read_exact(&mut vec![0; length]).await?;
        if !head.starts_with("http/1.1 200 ") {
            return Err(io::Error::other(head));
        }
        if field("connection:") != Some("close") {
            self.kept = Some(stream);
        }
        Ok(())
    }
}

impl<C, F, S> Client for Http1Client<C, S>
where
    C: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<S>> + Send,
    S: ByteStream + 'static,
{
    async fn request(&mut self) -> io::Result<()> {
        let connections = self.connections;
        self.send().await.map_err(|error| io::Error::other(format!("HTTP/1.1, {connections:?}: {error}")))
    }
}
