//! Load: clients that send one request after another, and keep what fails.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::client::ByteStream;
use super::with_deadline;

/// Whether a client sends several requests on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connections {
    /// As many as the gateway lets it.
    Kept,
    /// One.
    OneRequest,
}

/// Clients that send requests until they are stopped.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    /// The number of requests that have ended.
    done: watch::Receiver<u64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// Starts two clients of each kind, which send requests for `/public/a`.
    pub(crate) fn start<F, S>(connect: impl Fn() -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<S>> + Send,
        S: ByteStream + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let (count, done) = watch::channel(0);
        let kinds = [Connections::Kept, Connections::OneRequest, Connections::Kept, Connections::OneRequest];
        let clients = kinds.map(|connections| {
            let (stop, count, connect) = (Arc::clone(&stop), count.clone(), connect.clone());
            super::background().spawn(async move {
                let mut failures = Vec::new();
                let mut kept = None;
                while !stop.load(Ordering::Relaxed) {
                    let outcome = with_deadline("a response", request(&mut kept, &connect, connections)).await;
                    if let Err(error) = outcome {
                        failures.push(format!("{connections:?}: {error}"));
                        kept = None;
                    }
                    count.send_modify(|count| *count += 1);
                }
                failures
            })
        });
        Self { stop, done, clients: clients.into() }
    }

    /// Waits until so many further requests have ended.
    pub(crate) async fn wait_for_more(&self, requests: u64) {
        let mut done = self.done.clone();
        let wanted = *done.borrow() + requests;
        let waiting = with_deadline("requests to end", done.wait_for(|done| *done >= wanted));
        waiting.await.expect("the clients run");
    }

    /// Stops, and returns what has failed.
    pub(crate) async fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for client in self.clients {
            failures.extend(with_deadline("the end of a client", client).await.expect("a client does not panic"));
        }
        failures
    }
}

/// Sends a request on the kept connection or a new one, and reads the whole response.
async fn request<F, S>(kept: &mut Option<S>, connect: impl Fn() -> F, connections: Connections) -> io::Result<()>
where
    F: Future<Output = io::Result<S>>,
    S: ByteStream,
{
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => connect().await?,
    };
    let connection = match connections {
        Connections::Kept => "keep-alive",
        Connections::OneRequest => "close",
    };
    let head = format!("GET /public/a HTTP/1.1\r\nHost: gateway\r\nConnection: {connection}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
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
        *kept = Some(stream);
    }
    Ok(())
}
