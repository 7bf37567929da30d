//! A server that is only a socket: the test reads and writes the bytes.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio::time::timeout;

/// A response without a body.
pub(in crate::upstream) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// The longest that a test runs. It only decides how late a broken test fails.
const MAX_TIME: Duration = Duration::from_secs(20);

/// A server on a port of its own.
pub(in crate::upstream) struct RawServer(TcpListener);

/// The server's end of a connection.
pub(in crate::upstream) struct Peer {
    stream: TcpStream,
    received: Vec<u8>,
}

/// Runs `test` as a worker runs its tasks.
pub(in crate::upstream) async fn run_locally(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(timeout(MAX_TIME, test)).await.expect("what the test waits for happens");
}

impl RawServer {
    pub(in crate::upstream) async fn start() -> Self {
        Self(TcpListener::bind(("127.0.0.1", 0)).await.unwrap())
    }

    pub(in crate::upstream) fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// Waits for the next connection.
    pub(in crate::upstream) async fn accept(&self) -> Peer {
        let (stream, _) = self.0.accept().await.unwrap();
        Peer { stream, received: Vec::new() }
    }
}

impl Peer {
    pub(in crate::upstream) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until `what` has arrived, and removes all of it.
    pub(in crate::upstream) async fn read_until(&mut self, what: &[u8]) -> Vec<u8> {
        loop {
            if let Some(start) = self.received.windows(what.len()).position(|found| found == what) {
                return self.received.drain(..start + what.len()).collect();
            }
            let count = self.stream.read_buf(&mut self.received).await.unwrap();
            assert_ne!(count, 0, "the connection ends early");
        }
    }

    /// Reads `count` bytes.
    pub(in crate::upstream) async fn read(&mut self, count: usize) -> Vec<u8> {
        while self.received.len() < count {
            assert_ne!(self.stream.read_buf(&mut self.received).await.unwrap(), 0, "the connection ends early");
        }
        self.received.drain(..count).collect()
    }

    /// Reads a request without a body, and responds with `bytes`.
    pub(in crate::upstream) async fn answer(&mut self, bytes: &str) {
        self.read_until(b"\r\n\r\n").await;
        self.send(bytes).await;
    }

    /// Reads until the connection is closed. Returns whether it was not reset, as it is if the
    /// client has not read everything.
    pub(in crate::upstream) async fn closed(mut self) -> bool {
        match self.stream.read_to_end(&mut self.received).await {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}"),
        }
    }
}
