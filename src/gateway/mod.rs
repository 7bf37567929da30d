//! The gateway: one request, from its arrival to its record. Start reading here.
//!
//! [`Gateway::handle`] is the whole path, one line for each stage; the files are named after the stages, in this order. Each stage takes by
//! value what the stage before it made: an [`Arrival`](intake::Arrival) becomes a [`Chosen`](chosen::Chosen), with a
//! [`Caller`](authenticate::Caller) a [`Permit`](authorize::Permit), an [`Admitted`](limit::Admitted), an answer. A refusal at any stage is
//! a [`Refusal`](refusal::Refusal), and takes the same way out.

pub mod authenticate;
pub mod authorize;
pub mod body;
pub mod chosen;
pub mod client_address;
pub mod cors;
pub mod departure;
pub mod forward;
pub mod host;
pub mod intake;
pub mod limit;
pub mod path;
pub mod record;
pub mod refusal;
pub mod route;
pub mod runtime;
pub mod worker;

pub use chosen::Route;
pub use departure::Departure;
pub use runtime::{Runtime, Settings};
pub use worker::Worker;

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, Version};
use hyper::body::Incoming;

use crate::primitives::random;
use authenticate::Caller;
use body::Body;
use cors::Preflight;
use refusal::Refusal;

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its socket address: what the kernel says, never a header.
    pub address: SocketAddr,
    /// How it is spoken to: `http` or `https`.
    pub scheme: &'static str,
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
    pub async fn handle(&self, request: Request<Incoming>, peer: &Peer) -> Response<Body> {
        let runtime = self.worker.current();
        let mut departure = Departure::begin(&runtime, request.method(), request.uri().path(), request.version(), peer);
        let outcome = self.pass(request, peer, &runtime, &mut departure).await;
        departure.finish(outcome)
    }

    async fn pass(
        &self,
        request: Request<Incoming>,
        peer: &Peer,
        runtime: &Arc<Runtime>,
        departure: &mut Departure,
    ) -> Result<Response<Body>, Refusal> {
        let arrival = intake::receive(request, peer, runtime, departure)?;
        let chosen = chosen::choose(arrival, runtime, departure)?;
        if let Preflight::Answered(response) = cors::check(&chosen, departure) {
            return Ok(response.map(Body::fixed));
        }
        limit::before(&chosen, departure)?;
        let caller = match authenticate::caller(runtime, &chosen, departure).await {
            Ok(caller) => caller,
            Err(refusal) => chosen.tolerate(Err(refusal), departure).map(|()| Caller::Anonymous)?,
        };
        let permit = authorize::permit(chosen, caller, departure)?;
        let admitted = limit::admit(permit, departure)?;
        forward::send(&self.worker, runtime, admitted, departure).await
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
        Departure::begin(&runtime, &unknown, "", Version::HTTP_11, peer).finish(Err(refusal))
    }
}

/// A new request id: 32 hexadecimal digits.
fn request_id() -> HeaderValue {
    HeaderValue::try_from(random::hex(&random::bytes::<16>())).expect("hexadecimal digits")
}
