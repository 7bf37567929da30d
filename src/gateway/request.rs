//! The input of a decision: the peer of the connection, and the head of a request.

use std::rc::Rc;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

use super::client_address::PeerAddress;
use super::tls_peer::TlsPeer;
use crate::primitives::grpc;
use crate::upstream::headers::forwarding::Hop;
use crate::upstream::websocket::WEBSOCKET;

/// The peer of a downstream connection: the client, or a proxy in front of the gateway.
#[derive(Clone, Debug)]
pub struct Peer {
    address: PeerAddress,
    hop: Rc<Hop>,
    /// `None` without TLS.
    tls: Option<Rc<TlsPeer>>,
    service: PeerService,
}

/// How the requests of a connection are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerService {
    /// A redirect to https.
    HttpsRedirect,
    /// The route that each request matches.
    Routes,
}

impl Peer {
    /// The peer at `address`. `scheme` is `http` or `https`.
    #[must_use]
    pub fn new(address: PeerAddress, scheme: &'static str) -> Self {
        Self { address, hop: Rc::new(Hop::new(address.ip(), scheme)), tls: None, service: PeerService::Routes }
    }

    /// The peer at `address`, with its TLS session.
    #[must_use]
    pub fn with_tls(address: PeerAddress, tls: Rc<TlsPeer>) -> Self {
        Self { tls: Some(tls), ..Self::new(address, "https") }
    }

    /// A peer at `address` whose requests are redirected to https.
    #[must_use]
    pub fn to_redirect(address: PeerAddress) -> Self {
        Self { service: PeerService::HttpsRedirect, ..Self::new(address, "http") }
    }

    /// How the requests of this connection are served.
    #[must_use]
    pub(crate) fn service(&self) -> PeerService {
        self.service
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> PeerAddress {
        self.address
    }

    /// The TLS session; `None` without TLS.
    #[must_use]
    pub fn tls(&self) -> Option<&Rc<TlsPeer>> {
        self.tls.as_ref()
    }

    /// The forwarding headers that describe this connection to upstreams.
    #[must_use]
    pub fn hop(&self) -> &Rc<Hop> {
        &self.hop
    }
}

/// The head of a request as the client sent it.
#[derive(Clone, Debug)]
pub(crate) struct RequestHead {
    /// The method.
    pub method: Method,
    /// The request target.
    pub target: Uri,
    /// The protocol version.
    pub version: Version,
    /// All headers, as received.
    pub headers: HeaderMap,
    /// Whether the connection, or the stream of HTTP/2, can switch protocols after this request.
    /// HTTP/1.1: if there is no body. HTTP/2: if this was an extended `CONNECT`.
    pub can_upgrade: bool,
}

/// The rest of a request, which only forwarding needs.
#[derive(Debug)]
pub(crate) struct RequestTail {
    /// The body, not yet read.
    pub body: Incoming,
    /// Resolves to the client's connection or stream once the response is sent that opens a tunnel.
    pub upgrade: Option<OnUpgrade>,
}

impl RequestHead {
    /// Whether the request is a gRPC call.
    #[must_use]
    pub(crate) fn is_grpc_call(&self) -> bool {
        grpc::is_call(&self.method, self.version, &self.headers)
    }

    /// Separates the head of a request from the rest.
    #[must_use]
    pub(crate) fn split(request: Request<Incoming>) -> (Self, RequestTail) {
        let (mut parts, body) = request.into_parts();
        let upgrade = parts.extensions.remove::<OnUpgrade>();
        let can_upgrade = upgrade.is_some()
            && ((body.is_end_stream() && parts.version == Version::HTTP_11) || rewrite_extended_connect(&mut parts));
        let head = Self {
            method: parts.method,
            target: parts.uri,
            version: parts.version,
            headers: parts.headers,
            can_upgrade,
        };
        (head, RequestTail { body, upgrade })
    }
}

/// Rewrites an extended `CONNECT` for a WebSocket (RFC 8441) as the request that opens one over
/// HTTP/1.1: `GET` with `Upgrade`. All stages then decide on both alike. Returns whether it was
/// one; any other `CONNECT` stays what it is and is refused.
fn rewrite_extended_connect(parts: &mut Parts) -> bool {
    let is_websocket = parts.version == Version::HTTP_2
        && parts.method == Method::CONNECT
        && parts.extensions.get::<Protocol>().is_some_and(|protocol| protocol.as_str() == WEBSOCKET);
    if is_websocket {
        parts.method = Method::GET;
        // HTTP/2 itself rejects a request that has these fields.
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
    }
    is_websocket
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_extended_connect_for_a_websocket_becomes_a_get() {
        let websocket = || Some(Protocol::from_static(WEBSOCKET));
        for (name, version, method, protocol, expected) in [
            ("a WebSocket", Version::HTTP_2, Method::CONNECT, websocket(), true),
            ("another protocol", Version::HTTP_2, Method::CONNECT, Some(Protocol::from_static("connect-udp")), false),
            ("a plain CONNECT", Version::HTTP_2, Method::CONNECT, None, false),
            ("another method", Version::HTTP_2, Method::POST, websocket(), false),
            ("HTTP/1.1", Version::HTTP_11, Method::CONNECT, websocket(), false),
        ] {
            let mut request = Request::new(());
            (*request.version_mut(), *request.method_mut()) = (version, method.clone());
            if let Some(protocol) = protocol {
                request.extensions_mut().insert(protocol);
            }
            let mut parts = request.into_parts().0;
            assert_eq!(rewrite_extended_connect(&mut parts), expected, "{name}");
            let method = if expected { Method::GET } else { method };
            assert_eq!((parts.method, parts.headers.contains_key(header::UPGRADE)), (method, expected), "{name}");
        }
    }
}
