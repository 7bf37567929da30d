//! An echo service over any stream: says how each request arrived, and echoes a tunnel.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt as _, Collected, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};

use super::background;

/// The protocol that a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// Serves one connection to its end. Each response is JSON: `protocol`, `method`, `target`, `host`,
/// `body`, and `server`, which is `name`. A request to switch protocols becomes a tunnel that
/// echoes. After a response on a path that ends with `/close`, an HTTP/1.1 connection is closed.
pub(crate) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    protocol: Protocol,
    name: String,
) {
    let service = service_fn(move |request| echo(request, name.clone()));
    // Either ends with an error when the gateway closes early.
    let _ = match protocol {
        Protocol::Http1 => http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await,
        Protocol::Http2 => {
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await
        }
    };
}

async fn echo(mut request: Request<Incoming>, name: String) -> Result<Response<Full<Bytes>>, Infallible> {
    if let Some(protocol) = request.headers_mut().remove(header::UPGRADE) {
        return Ok(tunnel(request, protocol));
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let seen = json!({
        "server": name,
        "protocol": format!("{:?}", head.version),
        "method": head.method.as_str(),
        "target": head.uri.to_string(),
        "host": host,
        "body": String::from_utf8_lossy(&body),
    });
    let mut response = Response::new(Full::from(seen.to_string()));
    if head.uri.path().ends_with("/close") && head.version == Version::HTTP_11 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

fn tunnel(request: Request<Incoming>, protocol: HeaderValue) -> Response<Full<Bytes>> {
    background().spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
            // Ends when the gateway closes the tunnel.
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
        }
    });
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, protocol);
    response
}
