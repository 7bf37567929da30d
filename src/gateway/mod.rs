//! The gateway: handles one request, from its head to its record. Start reading here.
//!
//! [`decide()`](decide::decide) runs stages 1 to 7 on the head of a request and makes the decision.
//! [`Gateway::handle`] is the data path: it calls `decide()`, forwards the requests that are
//! admitted (stage 8), and passes every response, refusals included, through
//! [`ResponseContext::finish`]. While a `tunnel` is open, its request is decided on again with
//! each change.
//!
//! | stage | file in `stages/` | takes → gives | refuses with |
//! |---|---|---|---|
//! | 1 normalize | `normalize` | `RequestHead` → `InboundRequest` | 400 405 414 431 |
//! | 2 routing | `routing` | → `RoutedRequest`, or a preflight | 400 404 405 |
//! | 3 CORS | `cors` | decides on the origin; answers a preflight with 204 | – |
//! | 4 limits before authentication | `rate_limit` | – | 429 |
//! | 5 authenticate | `authenticate`, `client_certificate` | → `Caller` | 400 401 403 421 429 503 |
//! | 6 authorize | `authorize` | `RoutedRequest` + `Caller` → `Permit` | 403 |
//! | 7 limits after authentication | `rate_limit` | `Permit` → `Admitted` | 429 |
//! | 8 forward | `forward` | `Admitted` → response | 400 401 408 413 500 502 503 504 |
//!
//! [`policy`] holds a route's rules as plain values, [`matching`] compares requests with patterns,
//! and [`response`] builds what the client receives. The folders depend in one direction: `stages`
//! on all of these, `response` on `policy`, `policy` on `matching`.

pub(crate) mod caller_cache;
pub(crate) mod client_address;
pub(crate) mod decide;
pub(crate) mod matching;
pub(crate) mod observer;
pub(crate) mod policy;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod runtime;
pub(crate) mod stages;
pub(crate) mod tls_peer;
pub(crate) mod worker;

mod tunnel;

pub(crate) use client_address::PeerAddress;
pub(crate) use request::Peer;
pub(crate) use response::context::ResponseContext;
pub use runtime::CurrentRuntime;
pub(crate) use runtime::{ConnectionShare, Runtime, ServerSettings};
pub(crate) use tls_peer::TlsPeer;
pub use worker::Worker;

use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;

use decide::{Credentials, Decision, decide};
use observer::NoObserver;
use request::RequestHead;
use response::body::Body;
use response::refusal::Refusal;
use stages::forward::{self, Forwarded};
use tunnel::TunnelRequest;

use crate::primitives::clock::WallTime;
use crate::telemetry::metrics::ConnectionMetrics;
use crate::tls::server::ServerTlsState;

/// The gateway of one worker.
#[derive(Debug)]
pub struct Gateway {
    worker: Worker,
}

impl Gateway {
    /// The gateway of `worker`.
    #[must_use]
    pub fn new(worker: Worker) -> Self {
        Self { worker }
    }

    /// Handles one request.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the client disconnects. That ends the exchange with the upstream,
    /// returns the permits and writes the request's record.
    pub fn handle(
        self: &Rc<Self>,
        request: Request<Incoming>,
        peer: &Peer,
    ) -> impl Future<Output = Response<Body>> + use<> {
        let (gateway, peer) = (Rc::clone(self), peer.clone());
        let runtime = self.worker.current();
        let (head, tail) = RequestHead::split(request);
        self.worker.watch_for_proxies(&runtime, peer.address(), &head.headers);
        let mut context = ResponseContext::new(&runtime, &head, &peer);
        async move {
            let credentials = Credentials::FromRequest;
            let outcome = match decide(head, credentials, &peer, &runtime, &mut context, &mut NoObserver).await {
                Ok(Decision::Admitted(admitted)) => {
                    let forwarded = forward::send(&gateway.worker, &runtime, admitted, tail, &mut context).await;
                    forwarded.map(|forwarded| gateway.response(forwarded, &peer))
                }
                Ok(Decision::Preflight(response) | Decision::Redirect(response)) => Ok(response.map(Body::fixed)),
                Err(refusal) => Err(refusal),
            };
            context.finish(outcome)
        }
    }

    /// The response to a request that was forwarded. Opens the tunnel if it has become one.
    fn response(&self, forwarded: Forwarded, peer: &Peer) -> Response<Body> {
        match forwarded {
            Forwarded::Response(response) => response,
            Forwarded::Tunnel(opened) => {
                let forward::OpenedTunnel { head, tunnel, request, caller } = *opened;
                let request = TunnelRequest { head: request, caller, peer: peer.clone() };
                Response::from_parts(head, tunnel::open(&self.worker, tunnel, request))
            }
        }
    }

    /// The server settings at this moment, for a new connection.
    #[must_use]
    pub fn settings(&self) -> ServerSettings {
        self.worker.current().settings().clone()
    }

    /// What TLS sessions that begin at this moment use; `None` without TLS.
    #[must_use]
    pub(crate) fn tls(&self) -> Option<Arc<ServerTlsState>> {
        self.worker.current().tls().map(|tls| tls.current())
    }

    /// The time.
    #[must_use]
    pub(crate) fn now(&self) -> WallTime {
        self.worker.current().clock().now()
    }

    /// The metrics of client connections and their bodies.
    #[must_use]
    pub fn connection_metrics(&self) -> ConnectionMetrics {
        self.worker.current().connections().clone()
    }

    /// Whether trusted proxies begin each connection with a PROXY header at this moment.
    #[must_use]
    pub fn has_proxy_protocol(&self) -> bool {
        self.worker.current().settings().proxy_protocol
    }

    /// The share of the connections that the peer at `address` has at this moment; `None`: any
    /// number.
    #[must_use]
    pub fn connection_share_of(&self, address: PeerAddress) -> Option<ConnectionShare> {
        self.worker.current().settings().connection_share_of(address)
    }

    /// The response to a request whose head could not be read: it is malformed, too large or too
    /// late. Recorded like any other request.
    #[must_use]
    pub fn refuse(&self, refusal: Refusal, peer: &Peer) -> Response<Body> {
        let runtime = self.worker.current();
        ResponseContext::without_head(&runtime, peer).finish(Err(refusal))
    }
}
