//! What every answer to a request gets on its way out, whichever stage made it.
//!
//! Begun with the request; the stages add what they found out: the request id, the CORS grant, the state of limits, the route's own header
//! settings. [`ResponseContext::finish`] is the only way from a stage's result to the answer.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, Version};

use crate::gateway::response::body::Body;
use crate::gateway::response::record::Record;
use crate::gateway::response::refusal::{ErrorContext, Refusal};
use crate::gateway::stages::cors::Grant;
use crate::gateway::stages::routing::Route;
use crate::gateway::{Peer, Runtime};
use crate::primitives::clock::Moment;
use crate::upstream::headers::X_REQUEST_ID;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// An answer's luggage.
#[derive(Debug)]
pub struct ResponseContext {
    record: Box<Record>,
    request_id: HeaderValue,
    http_1: bool,
    /// Whether only the head of an answer is wanted (RFC 9110 §9.3.2).
    head_only: bool,
    cors: Grant,
    limits: Vec<(HeaderValue, HeaderValue)>,
}

impl ResponseContext {
    /// For a request that has just come in.
    #[must_use]
    pub fn begin(runtime: &Arc<Runtime>, method: &Method, path: &str, version: Version, peer: &Peer) -> Self {
        let mut context = Self {
            record: Box::new(Record::begin(runtime, method, path, peer.address())),
            request_id: HeaderValue::from_static(""),
            http_1: version <= Version::HTTP_11,
            head_only: *method == Method::HEAD,
            cors: Grant::Silent,
            limits: Vec::new(),
        };
        context.identify(crate::gateway::request_id());
        context
    }

    /// When the request came: the time that it is judged by.
    #[must_use]
    pub fn arrived(&self) -> Moment {
        self.record.arrived()
    }

    /// The record, for what a stage has to tell it.
    pub fn record(&mut self) -> &mut Record {
        &mut self.record
    }

    /// The request's id, taken over from a trusted proxy in place of a new one.
    pub(in crate::gateway) fn identify(&mut self, request_id: HeaderValue) {
        self.record.identified(request_id.clone());
        self.request_id = request_id;
    }

    /// The request's id.
    #[must_use]
    pub fn request_id(&self) -> &HeaderValue {
        &self.request_id
    }

    /// From here on the route's settings apply.
    pub(in crate::gateway) fn routed(&mut self, route: &Arc<Route>) {
        self.record.routed(route);
    }

    /// From here on the answer carries this grant.
    pub(in crate::gateway) fn grant(&mut self, grant: Grant) {
        self.cors = grant;
    }

    /// A limit was counted.
    pub fn limit(&mut self, policy: HeaderValue, state: HeaderValue) {
        self.limits.push((policy, state));
    }

    /// A `report_only` route lets pass what would have been refused.
    pub fn would_refuse(&mut self, route: &Route, refusal: &Refusal) {
        self.record.would_refuse(route, refusal.code(), refusal.reason());
    }

    /// A `report_only` route lets an origin pass that its policy denies. No refusal of ours: the browser would have kept the answer.
    pub(in crate::gateway) fn would_deny_origin(&mut self, route: &Route) {
        self.record.would_refuse(route, "origin_denied", "the origin is not listed");
    }

    /// Turns what the stages brought into the answer.
    #[must_use]
    pub fn finish(mut self, outcome: Result<Response<Body>, Refusal>) -> Response<Body> {
        let mut response = outcome.unwrap_or_else(|refusal| self.refuse(&refusal));
        self.dress(response.headers_mut());
        self.record.answered(response.status().as_u16());
        response.map(|body| body.recorded(self.record))
    }

    fn refuse(&mut self, refusal: &Refusal) -> Response<Body> {
        self.record.refused(refusal);
        let challenges =
            self.record.route().map_or(self.record.runtime().challenges(), |route| &route.rules().challenges);
        let answer = refusal.answer(ErrorContext {
            challenges,
            request_id: self.request_id.to_str().unwrap_or_default(),
            http_1: self.http_1,
        });
        let (mut parts, text) = answer.into_parts();
        if self.head_only {
            // Said, and not sent: over HTTP/2 nobody else would leave the body out.
            parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
            return Response::from_parts(parts, Body::empty());
        }
        Response::from_parts(parts, Body::fixed(text))
    }

    fn dress(&self, headers: &mut HeaderMap) {
        for (policy, state) in &self.limits {
            headers.append(RATE_LIMIT_POLICY, policy.clone());
            headers.append(RATE_LIMIT, state.clone());
        }
        if let Some(route) = self.record.route() {
            let rules = route.rules();
            for name in &rules.remove_response_headers {
                headers.remove(name);
            }
            for (name, value) in &rules.set_response_headers {
                headers.insert(name, value.clone());
            }
            if let Some(policy) = &rules.cors
                && self.cors != Grant::Silent
            {
                policy.write(&self.cors, headers);
            }
        }
        headers.insert(X_REQUEST_ID, self.request_id.clone());
    }
}
