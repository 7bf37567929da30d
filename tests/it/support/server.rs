//! What the fixture servers share: a free port, an accept loop, and an end when the fixture is
//! dropped.

use std::future::Future;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use super::{background, with_deadline};

/// A listener on a port of its own that does not accept yet.
pub(crate) async fn bind() -> (TcpListener, SocketAddr) {
    let listener = background().spawn(TcpListener::bind(("127.0.0.1", 0))).await;
    let listener = listener.expect("binding does not panic").expect("there is a free port");
    let addr = listener.local_addr().expect("a bound socket has an address");
    (listener, addr)
}

/// An accept loop with its connections. All of them end at once when this is dropped.
#[derive(Debug)]
pub(crate) struct Server(AbortHandle);

impl Server {
    /// Accepts until dropped. Calls `serve_connection` for each connection and runs its future
    /// concurrently with the others.
    pub(crate) fn start<F>(listener: TcpListener, serve_connection: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let accepting = background().spawn(async move {
            let mut connections = JoinSet::new(); // aborts them all when this task is
            while let Ok((stream, _)) = listener.accept().await {
                // A failure costs only speed.
                let _ = stream.set_nodelay(true);
                connections.spawn(serve_connection(stream));
                while connections.try_join_next().is_some() {}
            }
        });
        Self(accepting.abort_handle())
    }

    /// Stops and waits until the port is free.
    pub(crate) async fn stop(self) {
        self.0.abort();
        with_deadline("the listener's end", async {
            while !self.0.is_finished() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}
