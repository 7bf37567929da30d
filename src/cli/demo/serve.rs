//! A small HTTP/1.1 server for the demo's issuer and upstream. It buffers requests and responses,
//! and runs on its own thread.

use std::convert::Infallible;
use std::net::TcpListener;
use std::rc::Rc;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::app::{block_on_local, spawn_thread};
use crate::local_issuer::IssuerRequest;

/// Longest request body. The demo's commands send a few bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// A request with its whole body.
#[derive(Debug)]
pub(super) struct BufferedRequest {
    pub(super) parts: Parts,
    pub(super) body: Bytes,
}

impl BufferedRequest {
    pub(super) fn issuer_request(&self) -> IssuerRequest<'_> {
        IssuerRequest {
            method: &self.parts.method,
            path: self.parts.uri.path(),
            headers: &self.parts.headers,
            body: &self.body,
        }
    }
}

/// Serves `listener` on a new thread until the process ends.
pub(super) fn spawn_server(
    name: &str,
    listener: TcpListener,
    handler: impl Fn(&BufferedRequest) -> Response<Bytes> + Send + 'static,
) -> Result<(), String> {
    listener.set_nonblocking(true).map_err(|error| error.to_string())?;
    let serve = move || {
        block_on_local(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            let handler = Rc::new(handler);
            while let Ok((stream, _)) = listener.accept().await {
                let handler = Rc::clone(&handler);
                tokio::task::spawn_local(async move {
                    let service = service_fn(|request| respond(request, &*handler));
                    let connection =
                        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
                    // An error means that the client has disconnected.
                    let _ = connection.await;
                });
            }
        });
    };
    spawn_thread(name, serve).map_err(|error| error.to_string())?;
    Ok(())
}

async fn respond(
    request: Request<Incoming>,
    handler: &impl Fn(&BufferedRequest) -> Response<Bytes>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let response = if let Ok(body) = Limited::new(body, MAX_BODY_BYTES).collect().await {
        handler(&BufferedRequest { parts, body: body.to_bytes() })
    } else {
        let mut too_large = Response::new(Bytes::new());
        *too_large.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        too_large
    };
    Ok(response.map(Full::new))
}
