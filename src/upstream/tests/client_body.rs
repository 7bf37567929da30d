//! Request bodies as they come from clients.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use crate::primitives::min_rate::WaitAllowance;
use crate::upstream::body::{MaxBody, RequestBody};

/// The body of a request that begins with these bytes, and the client that has sent them.
pub(in crate::upstream) async fn client_body(request: &str) -> (Incoming, DuplexStream) {
    let (mut client, server) = duplex(64 * 1024);
    client.write_all(request.as_bytes()).await.unwrap();
    let (sender, receiver) = oneshot::channel();
    let sender = Cell::new(Some(sender));
    let service = service_fn(move |request: Request<Incoming>| {
        let sender = sender.take().expect("one request");
        sender.send(request.into_body()).unwrap();
        pending::<Result<Response<String>, Infallible>>()
    });
    spawn_local(http1::Builder::new().serve_connection(TokioIo::new(server), service));
    (receiver.await.unwrap(), client)
}

/// A body of which the client has sent one byte of ten, and the client.
pub(in crate::upstream) async fn unfinished_body() -> (RequestBody, DuplexStream) {
    let (incoming, client) = client_body("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n1").await;
    (forwarded(incoming), client)
}

/// The body that forwards `incoming`, without a limit.
pub(in crate::upstream) fn forwarded(incoming: Incoming) -> RequestBody {
    RequestBody::new(incoming, MaxBody::Unlimited, WaitAllowance::new(None, Duration::from_secs(60)))
}
