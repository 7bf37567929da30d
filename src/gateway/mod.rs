//! The gateway: one request, from its request to its record. Start reading here.
//!
//! [`Gateway::handle`] is the whole path, one line for each stage: in `arrive` those that wait for nobody, in `pass` the others. The files are
//! named after the stages, in this order. Each stage takes by
//! value what the stage before it made: an [`InboundRequest`](intake::InboundRequest) becomes a [`RoutedRequest`](routed::RoutedRequest), with a
//! [`Caller`](authenticate::Caller) a [`Permit`](authorize::Permit), an [`Admitted`](limit::Admitted), an answer. A refusal at any stage is
//! a [`Refusal`](refusal::Refusal), and takes the same way out.

pub mod client_address;
pub mod matching;
pub mod policy;
pub mod response;
pub mod runtime;
pub mod stages;
pub mod worker;

pub use response::context::ResponseContext;
pub use runtime::{Runtime, Settings};
pub use stages::routing::Route;
pub use worker::Worker;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, Version};
use hyper::body::Incoming;

use crate::primitives::random;
use crate::upstream::headers::forwarding::Hop;
use response::body::Body;
use response::refusal::Refusal;
use stages::authenticate::Caller;
use stages::cors::Preflight;
use stages::routing::RoutedRequest;
use stages::{authenticate, authorize, cors, forward, normalize, rate_limit, routing};

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    address: IpAddr,
    hop: Rc<Hop>,
}

impl Peer {
    /// At `address`, which is what the kernel says, never a header; spoken to by `http` or `https`.
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

/// One worker's gateway: the current [`Runtime`], and what this worker has of its own.
#[derive(Debug)]
pub struct Gateway {
    worker: Worker,
}

impl Gateway {
    /// For one worker.
    #[must_use]
    pub fn new(worker: Worker) -> Self {
        Self { worker }
    }

    /// Answers one request.
    ///
    /// # Cancel safety
    ///
    /// When the client leaves, the future is dropped: the upstream's connection is closed, permits come back, the request is recorded.
    pub fn handle(
        self: &Rc<Self>,
        request: Request<Incoming>,
        peer: &Peer,
    ) -> impl Future<Output = Response<Body>> + use<> {
        let gateway = Rc::clone(self);
        let runtime = self.worker.current();
        let mut context =
            ResponseContext::begin(&runtime, request.method(), request.uri().path(), request.version(), peer);
        // What never waits is done at once, and not in the future, which would have to have room for it.
        let arrived = arrive(request, peer, &runtime, &mut context);
        async move {
            let outcome = match arrived {
                Ok(Arrived::RoutedRequest(routed)) => gateway.pass(routed, &runtime, &mut context).await,
                Ok(Arrived::Preflight(response)) => Ok(response),
                Err(refusal) => Err(refusal),
            };
            context.finish(outcome)
        }
    }

    async fn pass(
        &self,
        routed: RoutedRequest,
        runtime: &Arc<Runtime>,
        context: &mut ResponseContext,
    ) -> Result<Response<Body>, Refusal> {
        let caller = match authenticate::caller(runtime, &routed, context).await {
            Ok(caller) => caller,
            Err(refusal) => routed.enforce(Err(refusal), context).map(|()| Caller::Anonymous)?,
        };
        let permit = authorize::permit(routed, caller, context)?;
        let admitted = rate_limit::admit(permit, context)?;
        forward::send(&self.worker, runtime, admitted, context).await
    }

    /// What a new connection is held to.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.worker.current().settings().clone()
    }

    /// The answer to what never became a request: a head that is no HTTP, too large or too late. Recorded like every other.
    #[must_use]
    pub fn refuse(&self, refusal: Refusal, peer: &Peer) -> Response<Body> {
        let runtime = self.worker.current();
        // No method and no path were understood; what the client wrote instead is not repeated.
        let unknown = Method::from_bytes(b"-").unwrap_or_default();
        ResponseContext::begin(&runtime, &unknown, "", Version::HTTP_11, peer).finish(Err(refusal))
    }
}

/// How far a request comes without waiting for anybody.
enum Arrived {
    /// To its route: who is calling is asked next.
    RoutedRequest(RoutedRequest),
    /// To its end, which a preflight meets before anybody asks who is calling.
    Preflight(Response<Body>),
}

fn arrive(
    request: Request<Incoming>,
    peer: &Peer,
    runtime: &Runtime,
    context: &mut ResponseContext,
) -> Result<Arrived, Refusal> {
    let request = normalize::receive(request, peer, runtime, context)?;
    let routed = routing::choose(request, runtime, context)?;
    if let Preflight::Answered(response) = cors::check(&routed, context) {
        return Ok(Arrived::Preflight(response.map(Body::fixed)));
    }
    rate_limit::before(&routed, context)?;
    Ok(Arrived::RoutedRequest(routed))
}

/// A new request id: 32 hexadecimal digits.
fn request_id() -> HeaderValue {
    let mut text = [0; 32];
    random::write_hex(&random::bytes::<16>(), &mut text);
    HeaderValue::from_bytes(&text).expect("hexadecimal digits")
}
