//! A small HTTP/1.1 server for the demo's own two parts: a whole request in, a whole answer out, on a thread of its own.

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

use crate::app::block_on_local;
use crate::local_issuer::Question;

/// Longest body that is read: the demo's commands send a few bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// A request with its body.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) head: Parts,
    pub(super) body: Bytes,
}

impl Whole {
    pub(super) fn question(&self) -> Question<'_> {
        Question {
            method: &self.head.method,
            path: self.head.uri.path(),
            headers: &self.head.headers,
            body: &self.body,
        }
    }
}

/// Answers on `listener` until the process ends.
pub(super) fn in_background(
    name: &str,
    listener: TcpListener,
    answer: impl Fn(&Whole) -> Response<Bytes> + Send + 'static,
) -> Result<(), String> {
    listener.set_nonblocking(true).map_err(|error| error.to_string())?;
    let serve = move || {
        block_on_local(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            let answer = Rc::new(answer);
            while let Ok((stream, _)) = listener.accept().await {
                let answer = Rc::clone(&answer);
                tokio::task::spawn_local(async move {
                    let service = service_fn(|request| one(request, &*answer));
                    let connection =
                        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
                    // A client that breaks off has no answer coming.
                    let _ = connection.await;
                });
            }
        });
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(serve).map_err(|error| error.to_string())?;
    Ok(())
}

async fn one(
    request: Request<Incoming>,
    answer: &impl Fn(&Whole) -> Response<Bytes>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let response = if let Ok(body) = Limited::new(body, MAX_BODY_BYTES).collect().await {
        answer(&Whole { head, body: body.to_bytes() })
    } else {
        let mut refused = Response::new(Bytes::new());
        *refused.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        refused
    };
    Ok(response.map(Full::new))
}
