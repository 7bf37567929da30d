//! Health check: one request that the gateway itself sends to a server, and what its response says.
//!
//! It uses the transport and protocol of clients' requests, on a connection of its own: whether a
//! kept connection still works says little about new ones.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use http_body::Body;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::settings::CheckSettings;
use crate::primitives::local_executor::LocalExecutor;
use crate::upstream::dialer::{Connected, Dialer};
use crate::upstream::stream::UpstreamStream;
use crate::upstream::{ConnectFault, HttpVersion, Protocol, ResponseFault, ServerAddress};

/// Longest head of a response to a check, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// How much of a body is read, so that the server can finish its response. The rest is cut off.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// The `User-Agent` of checks.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("portcullis/", env!("CARGO_PKG_VERSION"), " health-check"));

/// Why a check has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum CheckFault {
    /// There was no connection.
    Unreachable(ConnectFault),
    /// There was no response.
    Failed(ResponseFault),
    /// There was no response head within the check's `timeout`.
    TimedOut,
    /// The response has a status that is not expected.
    Status(u16),
}

impl fmt::Display for CheckFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(fault) => formatter.write_str(fault.reason()),
            Self::Failed(fault) => formatter.write_str(fault.reason()),
            Self::TimedOut => formatter.write_str("no response in time"),
            Self::Status(status) => write!(formatter, "status {status}"),
        }
    }
}

/// Checks a server once. Must run inside a local runtime.
///
/// # Errors
///
/// Why the server does not pass.
///
/// # Cancel safety
///
/// May be dropped at any time, which closes the connection.
pub(super) async fn run(dialer: &Dialer, protocol: Protocol, settings: &CheckSettings) -> Result<(), CheckFault> {
    let deadline = Instant::now() + settings.timeout;
    // Dropping it ends the connection's tasks, so that a check leaves nothing behind.
    let mut tasks = JoinSet::new();
    let head = async {
        let connected = dialer.connect(protocol, settings.timeout).await.map_err(CheckFault::Unreachable)?;
        let Connected { stream, version, rejection, .. } = connected;
        let request = request(settings, dialer.address(), version)?;
        let response = match version {
            HttpVersion::Http1 => send_http1(stream, request, &mut tasks).await,
            HttpVersion::Http2 => send_http2(stream, request, &mut tasks).await,
        };
        response.map_err(|error| match rejection.fault() {
            Some(fault) => CheckFault::Unreachable(ConnectFault::Tls(fault)),
            None => CheckFault::Failed(ResponseFault::of(&error)),
        })
    };
    let response = timeout_at(deadline, head).await.unwrap_or(Err(CheckFault::TimedOut))?;
    let status = response.status().as_u16();
    // The head decides. Whether bodies end in time shows in ordinary requests.
    let _ = timeout_at(deadline, drain(response.into_body())).await;
    if settings.expect.contains(status) { Ok(()) } else { Err(CheckFault::Status(status)) }
}

/// The request, in the form that the protocol of the connection needs.
fn request(
    settings: &CheckSettings,
    server: &ServerAddress,
    version: HttpVersion,
) -> Result<Request<Empty<Bytes>>, CheckFault> {
    let host = settings.host.as_ref().unwrap_or(&server.authority);
    let mut request = Request::new(Empty::new());
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, AGENT);
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    let mut target = http::uri::Parts::default();
    target.path_and_query = Some(settings.path.clone());
    match version {
        HttpVersion::Http1 => {
            headers.insert(HOST, host.clone());
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        HttpVersion::Http2 => {
            target.scheme = Some(if server.has_tls() { Scheme::HTTPS } else { Scheme::HTTP });
            target.authority = Authority::try_from(host.as_bytes()).ok();
        }
    }
    // The parts were checked with the configuration.
    *request.uri_mut() = Uri::from_parts(target).map_err(|_| CheckFault::Failed(ResponseFault::Malformed))?;
    Ok(request)
}

async fn send_http1(
    stream: UpstreamStream,
    request: Request<Empty<Bytes>>,
    tasks: &mut JoinSet<()>,
) -> Result<Response<Incoming>, hyper::Error> {
    let mut builder = http1::Builder::new();
    let (mut sender, connection) =
        builder.max_buf_size(MAX_HEAD_BYTES).handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await?;
    tasks.spawn_local(async move { drop(connection.await) });
    sender.send_request(request).await
}

async fn send_http2(
    stream: UpstreamStream,
    request: Request<Empty<Bytes>>,
    tasks: &mut JoinSet<()>,
) -> Result<Response<Incoming>, hyper::Error> {
    let executor = LocalExecutor::notifying(Rc::new(Notify::new()));
    let mut builder = http2::Builder::new(executor);
    builder.max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX));
    let (mut sender, connection) = builder.handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await?;
    tasks.spawn_local(async move { drop(connection.await) });
    sender.send_request(request).await
}

/// Reads a body to its end, but not more than [`MAX_BODY_BYTES`].
async fn drain(mut body: Incoming) {
    let mut read = 0;
    while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > MAX_BODY_BYTES {
            return;
        }
    }
}

/// The pause before the next check: `interval`, a tenth shorter or longer at most, so that the
/// checks of many gateways do not coincide. `fraction` is from 0 to 1.
pub(super) fn jittered(interval: Duration, fraction: f64) -> Duration {
    interval.mul_f64(0.9 + 0.2 * fraction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolver::Resolver;
    use crate::upstream::tests::raw_server::{RawServer, run_locally};

    fn settings(host: Option<&'static str>) -> CheckSettings {
        CheckSettings {
            path: "/health?full=1".parse().expect("a path"),
            host: host.map(HeaderValue::from_static),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            unhealthy_after: 3,
            healthy_after: 2,
            expect: [200..=299].into_iter().collect(),
        }
    }

    #[test]
    fn a_check_names_the_configured_host_or_the_servers_address() {
        let server = ServerAddress::loopback(9000);
        for (host, expected) in [(None, "127.0.0.1:9000"), (Some("orders.internal"), "orders.internal")] {
            let sent = request(&settings(host), &server, HttpVersion::Http1).expect("a request");
            assert_eq!(
                (sent.uri().to_string(), &sent.headers()[HOST]),
                ("/health?full=1".into(), &HeaderValue::from_static(expected))
            );
            let sent = request(&settings(host), &server, HttpVersion::Http2).expect("a request");
            assert_eq!(sent.uri().to_string(), format!("http://{expected}/health?full=1"));
            assert!(!sent.headers().contains_key(CONNECTION), "RFC 9113 §8.2.2");
        }
    }

    #[test]
    fn pauses_vary_by_a_tenth() {
        let second = Duration::from_secs(1);
        let pauses = [0.0, 0.5, 1.0].map(|fraction| jittered(second, fraction).as_millis());
        assert_eq!(pauses, [900, 1_000, 1_100]);
    }

    #[tokio::test]
    async fn a_server_can_finish_a_short_response() {
        run_locally(async {
            let server = RawServer::start().await;
            let dialer = Dialer::new(ServerAddress::loopback(server.port()), None, None, Resolver::system());
            let settings = CheckSettings { timeout: Duration::from_secs(20), ..settings(None) };
            let serve = async {
                let mut peer = server.accept().await;
                peer.answer("HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n").await;
                peer.send(vec![b'x'; MAX_BODY_BYTES]).await;
                peer.closed().await
            };
            assert_eq!(tokio::join!(run(&dialer, Protocol::Http1, &settings), serve), (Ok(()), true));
        })
        .await;
    }
}
