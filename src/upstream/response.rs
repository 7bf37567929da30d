//! What an exchange returns: a response head, and the body or tunnel that follows it.

use std::sync::Arc;

use http::Response;
use http::response::Parts;
use hyper::body::Incoming;

use super::ServerAddress;
use super::body::ResponseBody;
use super::lease::Lease;
use super::server::{InFlight, Server};

/// The head of a response, and its body on the connection that it arrives on.
#[derive(Debug)]
pub struct UpstreamResponse {
    /// The head, as the upstream sent it.
    pub head: Parts,
    /// The body, not yet read.
    pub body: UpstreamBody,
    /// The server that sent it.
    pub server: Arc<Server>,
}

/// What follows the head of a response.
#[derive(Debug)]
pub enum UpstreamBody {
    /// A body.
    Stream(Box<ResponseBody>),
    /// A tunnel: the upstream has switched protocols.
    Tunnel(Box<UpgradedConnection>),
}

/// A connection that no longer speaks HTTP.
#[derive(Debug)]
pub struct UpgradedConnection {
    /// The 101 response, which hyper exchanges for the connection's stream.
    pub response: Response<Incoming>,
    pub(super) guard: ExchangeGuard,
}

impl UpgradedConnection {
    /// The server at its other end.
    #[must_use]
    pub(crate) fn server(&self) -> &ServerAddress {
        self.guard.in_flight.server().address()
    }
}

/// What an exchange holds until its response has ended.
#[derive(Debug)]
pub(super) struct ExchangeGuard {
    pub(super) lease: Lease,
    pub(super) in_flight: InFlight,
}
