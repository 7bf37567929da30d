//! A server that a test switches between health and failure.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::support::server::{Server, bind};
use crate::support::with_deadline;

/// How a [`Switch`] treats connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mode {
    /// Closes them at once, which the gateway counts as a failure to connect.
    Close,
    /// Keeps them without a byte until the mode changes or the gateway closes them: connecting
    /// takes that long.
    Hold,
    /// Serves HTTP/2.
    Serve,
}

/// An HTTP/2 server that a test switches between health and failure. With HTTP/2, a connection is
/// open only once the server's settings have arrived, so that connecting can be made to fail and to
/// hang.
pub(super) struct Switch {
    pub(super) addr: SocketAddr,
    mode: watch::Sender<Mode>,
    pub(super) held: watch::Sender<usize>,
    _server: Server,
}

impl Switch {
    pub(super) async fn start(mode: Mode) -> Self {
        let (listener, addr) = bind().await;
        let (mode, held) = (watch::Sender::new(mode), watch::Sender::new(0));
        let shared = (mode.clone(), held.clone());
        let server = Server::start(listener, move |mut stream| {
            let (mode, held) = shared.clone();
            async move {
                let mut mode = mode.subscribe();
                let first = *mode.borrow();
                match first {
                    Mode::Close => {}
                    Mode::Hold => {
                        held.send_modify(|count| *count += 1);
                        let mut ignored = tokio::io::sink();
                        tokio::select! {
                            _ = mode.wait_for(|now| *now != Mode::Hold) => {}
                            _ = tokio::io::copy(&mut stream, &mut ignored) => {}
                        }
                        held.send_modify(|count| *count -= 1);
                    }
                    Mode::Serve => serve(stream).await,
                }
            }
        });
        Self { addr, mode, held, _server: server }
    }

    pub(super) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    pub(super) async fn wait_for_held(&self, wanted: usize) {
        let mut held = self.held.subscribe();
        with_deadline("held connections", held.wait_for(|count| *count == wanted)).await.expect("the switch lives");
    }
}

async fn serve(stream: TcpStream) {
    async fn respond(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        Ok(Response::new(Full::from("ok")))
    }
    let connection = http2::Builder::new(TokioExecutor::new());
    // It ends with an error when the gateway closes early.
    let _ = connection.serve_connection(TokioIo::new(stream), service_fn(respond)).await;
}
