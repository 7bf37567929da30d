//! The input of a decision: the peer of the connection, and the head of a request.

use std::rc::Rc;

use http::{HeaderMap, Method, Request, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::client_address::PeerAddress;
use crate::primitives::grpc;
use crate::upstream::headers::forwarding::Hop;

/// The peer of a downstream connection: the client, or a proxy in front of the gateway.
#[derive(Clone, Debug)]
pub struct Peer {
    address: PeerAddress,
    hop: Rc<Hop>,
    service: PeerService,
}

/// What the requests of a connection are served.
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
        Self { address, hop: Rc::new(Hop::new(address.ip(), scheme)), service: PeerService::Routes }
    }

    /// A peer at `address` whose requests are redirected to https.
    #[must_use]
    pub fn to_redirect(address: PeerAddress) -> Self {
        Self { service: PeerService::HttpsRedirect, ..Self::new(address, "http") }
    }

    /// What the requests of this connection are served.
    #[must_use]
    pub(crate) fn service(&self) -> PeerService {
        self.service
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> PeerAddress {
        self.address
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
    /// Whether the connection can switch protocols after this request: HTTP/1.1, and no body.
    pub can_upgrade: bool,
}

/// The rest of a request, which only forwarding needs.
#[derive(Debug)]
pub(crate) struct RequestTail {
    /// The body, not yet read.
    pub body: Incoming,
    /// Resolves to the client's connection once the 101 is sent.
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
        let can_upgrade = upgrade.is_some() && body.is_end_stream() && parts.version == Version::HTTP_11;
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
