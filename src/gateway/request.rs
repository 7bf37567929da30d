//! What a decision is made about: the other end of the connection, and the head of a request.

use std::net::IpAddr;
use std::rc::Rc;

use http::{HeaderMap, Method, Request, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::upstream::headers::forwarding::Hop;

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    address: IpAddr,
    hop: Rc<Hop>,
}

impl Peer {
    /// At `address`, as the kernel reports it and never a header, speaking `http` or `https`.
    #[must_use]
    pub fn new(address: IpAddr, scheme: &'static str) -> Self {
        // An IPv4 client on an IPv6 listener is the same client, and has one address.
        let address = address.to_canonical();
        Self { address, hop: Rc::new(Hop::new(address, scheme)) }
    }

    /// Its address; an IPv4 address is never written as IPv6.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// What upstreams are told about the connection.
    #[must_use]
    pub fn hop(&self) -> &Rc<Hop> {
        &self.hop
    }
}

/// The head of a request as the client sent it: all that a decision needs.
#[derive(Debug)]
pub(crate) struct RequestHead {
    /// The method.
    pub method: Method,
    /// The request target.
    pub target: Uri,
    /// The protocol version.
    pub version: Version,
    /// All fields, none removed yet.
    pub headers: HeaderMap,
    /// Whether the connection can switch protocols after this request: HTTP/1.1, and no body.
    pub can_upgrade: bool,
}

/// What comes after the head.
#[derive(Debug)]
pub(crate) struct RequestTail {
    /// The body, not yet read.
    pub body: Incoming,
    /// The client's connection, once it has been told 101.
    pub upgrade: Option<OnUpgrade>,
}

impl RequestHead {
    /// Separates a request's head from what comes after it.
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
