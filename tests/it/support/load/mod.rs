//! Load: clients that send one request after another, and keep what fails.

mod http1;
mod http2;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::client::ByteStream;
use super::with_deadline;
use http1::{Connections, Http1Client};
use http2::Http2Client;

/// A client that sends requests for `/token/a`.
trait Client: Send + 'static {
    /// Sends a request, on a new connection if there is none, and reads the whole response.
    ///
    /// # Errors
    ///
    /// The request has failed, or the response is not 200.
    fn request(&mut self) -> impl Future<Output = io::Result<()>> + Send;
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
    /// Starts four HTTP/1.1 clients. Two of them keep connections, and two open one for each
    /// request. All send this value of `Authorization`.
    pub(crate) fn http1<F, S>(bearer: &str, connect: impl Fn() -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<S>> + Send,
        S: ByteStream + 'static,
    {
        let kinds = [Connections::Kept, Connections::OneRequest, Connections::Kept, Connections::OneRequest];
        Self::start(kinds.map(|connections| Http1Client::new(bearer, connect.clone(), connections)))
    }

    /// Starts two HTTP/2 clients, which keep connections. They send this value of `Authorization`.
    pub(crate) fn http2<F, S>(bearer: &str, connect: impl Fn() -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<S>> + Send,
        S: ByteStream + 'static,
    {
        Self::start([0; 2].map(|_| Http2Client::new(bearer, connect.clone())))
    }

    fn start<C: Client>(clients: impl IntoIterator<Item = C>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (count, done) = watch::channel(0);
        let clients = clients.into_iter().map(|mut client| {
            let (stop, count) = (Arc::clone(&stop), count.clone());
            super::background().spawn(async move {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    if let Err(error) = with_deadline("a response", client.request()).await {
                        failures.push(error.to_string());
                    }
                    count.send_modify(|count| *count += 1);
                }
                failures
            })
        });
        Self { clients: clients.collect(), stop: Arc::clone(&stop), done }
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
