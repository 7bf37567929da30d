//! Response context: what the gateway adds to every response, whichever stage produced it.
//!
//! Created with the request. The stages add what they find out: the request id, the CORS decision,
//! the state of the limits, the route with its header rules. [`ResponseContext::finish`] is the
//! only way from a stage's result to the response.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response};

use super::body::Body;
use super::body_error::AbortForm;
use super::error_response::{ErrorContext, ErrorForm};
use super::record::Record;
use super::refusal::Refusal;
use crate::gateway::policy::limit::LimitOutcome;
use crate::gateway::policy::{OriginDecision, Route};
use crate::gateway::request::{Peer, RequestHead};
use crate::gateway::runtime::Runtime;
use crate::primitives::clock::Moment;
use crate::primitives::grpc;
use crate::primitives::random;
use crate::upstream::headers::X_REQUEST_ID;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What a response depends on, besides the outcome of the stages.
#[derive(Debug)]
pub(crate) struct ResponseContext {
    record: Box<Record>,
    request_id: HeaderValue,
    error_form: ErrorForm,
    /// Whether the client wants only the head of a response (RFC 9110 §9.3.2).
    head_only: bool,
    /// Whether the deadline of the client's call has ended the exchange.
    is_past_call_deadline: bool,
    /// `None` on a route without a CORS policy: the CORS headers of the upstream are forwarded.
    origin_decision: Option<OriginDecision>,
    /// The items of `RateLimit-Policy` and `RateLimit` of each limit that was counted.
    limits: Vec<(HeaderValue, HeaderValue)>,
}

impl ResponseContext {
    /// The context of a request that has just been received.
    #[must_use]
    pub(crate) fn new(runtime: &Arc<Runtime>, head: &RequestHead, peer: &Peer) -> Self {
        let record = Record::new(runtime, &head.method, head.target.path(), peer.address().ip());
        Self::with_record(record, ErrorForm::of(head), head.method == Method::HEAD)
    }

    /// The context of a request whose head could not be read. There is no valid method or path, and
    /// the log does not repeat what the client sent instead.
    #[must_use]
    pub(crate) fn without_head(runtime: &Arc<Runtime>, peer: &Peer) -> Self {
        let unknown = Method::from_bytes(b"-").unwrap_or_default();
        Self::with_record(Record::new(runtime, &unknown, "", peer.address().ip()), ErrorForm::Http1Problem, false)
    }

    fn with_record(record: Record, error_form: ErrorForm, head_only: bool) -> Self {
        let mut context = Self {
            record: Box::new(record),
            request_id: HeaderValue::from_static(""),
            error_form,
            head_only,
            is_past_call_deadline: false,
            origin_decision: None,
            limits: Vec::new(),
        };
        context.set_request_id(new_request_id());
        context
    }

    /// The context of a request that was recorded when it was received, and is decided on again.
    #[must_use]
    pub(crate) fn without_record(runtime: &Arc<Runtime>, head: &RequestHead, peer: &Peer) -> Self {
        let mut context = Self::new(runtime, head, peer);
        context.record.discard();
        context
    }

    /// When the request was received. All decisions on it use this time.
    #[must_use]
    pub(crate) fn received_at(&self) -> Moment {
        self.record.received_at()
    }

    /// The request's record, to which the stages add what they find out.
    pub(crate) fn record(&mut self) -> &mut Record {
        &mut self.record
    }

    /// Uses the id that a trusted proxy gave the request in place of a generated one.
    pub(crate) fn set_request_id(&mut self, request_id: HeaderValue) {
        self.record.set_request_id(request_id.clone());
        self.request_id = request_id;
    }

    /// The request's id.
    #[must_use]
    pub(crate) fn request_id(&self) -> &HeaderValue {
        &self.request_id
    }

    /// From here on the response is that to a call whose deadline has ended the exchange.
    pub(crate) fn set_past_call_deadline(&mut self) {
        self.is_past_call_deadline = true;
    }

    /// From here on the route's settings apply to the response.
    pub(crate) fn set_route(&mut self, route: &Arc<Route>) {
        self.record.set_route(route);
    }

    /// From here on the response carries the CORS headers for this decision.
    pub(crate) fn set_origin_decision(&mut self, decision: OriginDecision) {
        self.origin_decision = Some(decision);
    }

    /// From here on the response states what is left of this limit.
    pub(crate) fn add_limit(&mut self, outcome: &LimitOutcome<'_>) {
        self.limits.push((outcome.policy.clone(), outcome.state()));
    }

    /// Records the refusal that a `report_only` route does not enforce.
    pub(crate) fn report_refusal(&mut self, route: &Route, refusal: &Refusal) {
        self.record.set_reported_refusal(route, refusal.code(), refusal.reason());
    }

    /// Records that a `report_only` route does not apply a policy that denies the origin. This is
    /// not a [`Refusal`], since the browser and not the gateway enforces CORS.
    pub(crate) fn report_denied_origin(&mut self, route: &Route) {
        self.record.set_reported_refusal(route, "origin_denied", "the origin is not listed");
    }

    /// Whether the request is a gRPC call.
    #[must_use]
    pub(crate) fn is_grpc_call(&self) -> bool {
        self.error_form == ErrorForm::Grpc
    }

    /// How the response ends if its body breaks off.
    #[must_use]
    pub(crate) fn abort_form(&self) -> AbortForm {
        if self.is_grpc_call() { AbortForm::GrpcTrailers } else { AbortForm::Abort }
    }

    /// Turns the outcome of the stages into the response.
    #[must_use]
    pub(crate) fn finish(mut self, outcome: Result<Response<Body>, Refusal>) -> Response<Body> {
        let (mut response, status) = match outcome {
            Ok(response) => {
                let status = response.status();
                if self.is_grpc_call() {
                    self.record.set_grpc_status(grpc::status_in(response.headers()));
                }
                (response, status)
            }
            // The status of the refusal, also where a gRPC client receives 200.
            Err(refusal) => (self.refuse(&refusal), refusal.status()),
        };
        self.apply_headers(response.headers_mut());
        self.record.set_status(status.as_u16());
        response.map(|body| body.with_record(self.record))
    }

    fn refuse(&mut self, refusal: &Refusal) -> Response<Body> {
        self.record.set_refusal(refusal);
        if self.is_grpc_call() {
            self.record.set_grpc_status(Some(refusal.grpc_status().code()));
        }
        let challenges =
            self.record.route().map_or(self.record.runtime().challenges(), |route| &route.settings().challenges);
        let response = refusal.to_response(ErrorContext {
            challenges,
            request_id: self.request_id.to_str().unwrap_or_default(),
            form: self.error_form,
        });
        let (mut parts, text) = response.into_parts();
        if self.head_only {
            // Only the length is stated: over HTTP/2, hyper would send the body even so.
            parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
            return Response::from_parts(parts, Body::empty());
        }
        let body = Body::fixed(text);
        Response::from_parts(parts, if self.is_past_call_deadline { body.past_call_deadline() } else { body })
    }

    fn apply_headers(&self, headers: &mut HeaderMap) {
        self.record.runtime().settings().server_header.apply(headers);
        for (policy, state) in &self.limits {
            headers.append(RATE_LIMIT_POLICY, policy.clone());
            headers.append(RATE_LIMIT, state.clone());
        }
        if let Some(route) = self.record.route() {
            let settings = route.settings();
            settings.response_headers.apply(headers);
            if let (Some(policy), Some(decision)) = (&settings.cors, &self.origin_decision) {
                policy.write(decision, headers);
            }
        }
        headers.insert(X_REQUEST_ID, self.request_id.clone());
    }
}

/// 32 hexadecimal digits.
fn new_request_id() -> HeaderValue {
    let mut text = [0; 32];
    random::write_hex(&random::bytes::<16>(), &mut text);
    HeaderValue::from_bytes(&text).expect("hexadecimal digits")
}
