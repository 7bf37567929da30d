//! Response context: what every response to a request gets on its way out, whichever stage made it.
//!
//! Begun with the request; the stages add what they find out: the request id, the CORS grant, the
//! state of limits, the route with its header settings. [`ResponseContext::finish`] is the only way
//! from a stage's result to the response.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, Version};

use super::body::Body;
use super::error_response::ErrorContext;
use super::record::Record;
use super::refusal::Refusal;
use crate::gateway::policy::limit::Judgement;
use crate::gateway::policy::{Grant, Route};
use crate::gateway::request::Peer;
use crate::gateway::runtime::Runtime;
use crate::primitives::clock::Moment;
use crate::primitives::random;
use crate::upstream::headers::X_REQUEST_ID;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What is known of a request that its response depends on.
#[derive(Debug)]
pub(crate) struct ResponseContext {
    record: Box<Record>,
    request_id: HeaderValue,
    http_1: bool,
    /// Whether the client wants only the head of a response (RFC 9110 §9.3.2).
    head_only: bool,
    cors: Grant,
    /// The items of `RateLimit-Policy` and `RateLimit` of each limit that was counted.
    limits: Vec<(HeaderValue, HeaderValue)>,
}

impl ResponseContext {
    /// For a request that has just come in.
    #[must_use]
    pub(crate) fn new(runtime: &Arc<Runtime>, method: &Method, path: &str, version: Version, peer: &Peer) -> Self {
        let mut context = Self {
            record: Box::new(Record::new(runtime, method, path, peer.address())),
            request_id: HeaderValue::from_static(""),
            http_1: version <= Version::HTTP_11,
            head_only: *method == Method::HEAD,
            cors: Grant::NoPolicy,
            limits: Vec::new(),
        };
        context.set_request_id(new_request_id());
        context
    }

    /// When the request came: the time that it is judged by.
    #[must_use]
    pub(crate) fn received_at(&self) -> Moment {
        self.record.received_at()
    }

    /// The record, for what a stage has to add to it.
    pub(crate) fn record(&mut self) -> &mut Record {
        &mut self.record
    }

    /// Takes over the id that a trusted proxy gave the request.
    pub(crate) fn set_request_id(&mut self, request_id: HeaderValue) {
        self.record.set_request_id(request_id.clone());
        self.request_id = request_id;
    }

    /// The request's id.
    #[must_use]
    pub(crate) fn request_id(&self) -> &HeaderValue {
        &self.request_id
    }

    /// From here on the route's settings apply to the response.
    pub(crate) fn set_route(&mut self, route: &Arc<Route>) {
        self.record.set_route(route);
    }

    /// From here on the response carries this grant.
    pub(crate) fn set_grant(&mut self, grant: Grant) {
        self.cors = grant;
    }

    /// From here on the response tells the state of this limit.
    pub(crate) fn add_limit(&mut self, judgement: &Judgement<'_>) {
        self.limits.push((judgement.policy.clone(), judgement.state()));
    }

    /// A `report_only` route does not refuse what it would have refused.
    pub(crate) fn would_refuse(&mut self, route: &Route, refusal: &Refusal) {
        self.record.would_refuse(route, refusal.code(), refusal.reason());
    }

    /// A `report_only` route does not apply a policy that denies the origin. This is no refusal by the
    /// gateway: the browser would have kept the response from its page.
    pub(crate) fn would_deny_origin(&mut self, route: &Route) {
        self.record.would_refuse(route, "origin_denied", "the origin is not listed");
    }

    /// Turns what the stages brought into the response.
    #[must_use]
    pub(crate) fn finish(mut self, outcome: Result<Response<Body>, Refusal>) -> Response<Body> {
        let mut response = outcome.unwrap_or_else(|refusal| self.refuse(&refusal));
        self.apply_headers(response.headers_mut());
        self.record.responded(response.status().as_u16());
        response.map(|body| body.recorded(self.record))
    }

    fn refuse(&mut self, refusal: &Refusal) -> Response<Body> {
        self.record.refused(refusal);
        let challenges =
            self.record.route().map_or(self.record.runtime().challenges(), |route| &route.settings().challenges);
        let response = refusal.to_response(ErrorContext {
            challenges,
            request_id: self.request_id.to_str().unwrap_or_default(),
            http_1: self.http_1,
        });
        let (mut parts, text) = response.into_parts();
        if self.head_only {
            // The length is stated and the body left out here: hyper would send it over HTTP/2.
            parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
            return Response::from_parts(parts, Body::empty());
        }
        Response::from_parts(parts, Body::fixed(text))
    }

    fn apply_headers(&self, headers: &mut HeaderMap) {
        for (policy, state) in &self.limits {
            headers.append(RATE_LIMIT_POLICY, policy.clone());
            headers.append(RATE_LIMIT, state.clone());
        }
        if let Some(route) = self.record.route() {
            let settings = route.settings();
            settings.response_headers.apply(headers);
            if let Some(policy) = &settings.cors
                && self.cors != Grant::NoPolicy
            {
                policy.write(&self.cors, headers);
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
