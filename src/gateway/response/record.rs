//! The record of a request: one access-log line and one set of metrics, however the request ends.
//!
//! Created before the first stage and written when it is dropped. The response's body owns it, so
//! that happens after the last byte of the body, at the end of a tunnel, or whenever the client
//! disconnects. Every request is therefore recorded exactly once.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method};

use super::refusal::Refusal;
use crate::gateway::caller_cache::VerifiedCaller;
use crate::gateway::policy::Route;
use crate::gateway::runtime::Runtime;
use crate::primitives::clock::Moment;
use crate::telemetry::access_log::AccessLine;
use crate::upstream::Upstream;
use crate::upstream::body::Progress;

/// The status of a request whose client disconnected before the response, as in nginx.
const CLIENT_LEFT: u16 = 499;

/// What is known about a request so far.
#[derive(Debug)]
pub(crate) struct Record {
    runtime: Arc<Runtime>,
    started: Instant,
    received_at: Moment,
    request_id: HeaderValue,
    method: Method,
    path: Box<str>,
    client: IpAddr,
    route: Option<Arc<Route>>,
    client_left: bool,
    status: Option<u16>,
    code: Option<&'static str>,
    reason: Option<&'static str>,
    reported_code: Option<&'static str>,
    caller: Option<Arc<VerifiedCaller>>,
    body_progress: Option<Progress>,
    bytes_in: u64,
    bytes_out: u64,
    upstream: Option<(Arc<Upstream>, Duration)>,
}

impl Record {
    /// The record of a request that has just been received.
    #[must_use]
    pub(crate) fn new(runtime: &Arc<Runtime>, method: &Method, path: &str, client: IpAddr) -> Self {
        let started = Instant::now();
        Self {
            runtime: Arc::clone(runtime),
            started,
            received_at: runtime.clock().moment(started),
            request_id: HeaderValue::from_static(""),
            method: method.clone(),
            // Only the access log needs the path.
            path: if runtime.access_log().is_on() { path.into() } else { Box::default() },
            client,
            route: None,
            client_left: false,
            status: None,
            code: None,
            reason: None,
            reported_code: None,
            caller: None,
            body_progress: None,
            bytes_in: 0,
            bytes_out: 0,
            upstream: None,
        }
    }

    /// Sets the request's id.
    pub(crate) fn set_request_id(&mut self, request_id: HeaderValue) {
        self.request_id = request_id;
    }

    /// When the request was received.
    #[must_use]
    pub(crate) fn received_at(&self) -> Moment {
        self.received_at
    }

    /// The runtime that handles the request.
    #[must_use]
    pub(crate) fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// The request's route, once it is known.
    #[must_use]
    pub(crate) fn route(&self) -> Option<&Arc<Route>> {
        self.route.as_ref()
    }

    /// Sets the client's address, which forwarding headers may state.
    pub(crate) fn set_client(&mut self, client: IpAddr) {
        self.client = client;
    }

    /// Sets the request's route.
    pub(crate) fn set_route(&mut self, route: &Arc<Route>) {
        self.route = Some(Arc::clone(route));
    }

    /// Sets the caller that the token identifies.
    pub(crate) fn set_caller(&mut self, caller: &Arc<VerifiedCaller>) {
        self.caller = Some(Arc::clone(caller));
    }

    /// Notes that the client has disconnected. The record then ignores status and refusal, because
    /// no response reaches the client.
    pub(crate) fn set_client_left(&mut self) {
        self.client_left = true;
    }

    /// Notes that the request is refused.
    pub(crate) fn set_refusal(&mut self, refusal: &Refusal) {
        if self.client_left {
            return;
        }
        self.code = Some(refusal.code());
        self.reason = Some(refusal.reason());
        self.route_metrics().count_rejection(refusal.code());
    }

    /// Notes a refusal that a `report_only` route does not enforce. Only the first one is kept,
    /// because later ones may be consequences of it.
    pub(crate) fn set_reported_refusal(&mut self, route: &Route, code: &'static str, reason: &'static str) {
        if self.reported_code.is_none() {
            self.reported_code = Some(code);
            self.reason = Some(reason);
            route.metrics().count_would_reject(code);
        }
    }

    /// Sets the status of the response.
    pub(crate) fn set_status(&mut self, status: u16) {
        if !self.client_left {
            self.status = Some(status);
        }
    }

    /// Sets the progress of the request's body, which the record reads at its end.
    pub(crate) fn set_body_progress(&mut self, progress: Progress) {
        self.body_progress = Some(progress);
    }

    /// Notes that the head of the upstream's response arrived after `took`.
    pub(crate) fn set_upstream_response(&mut self, upstream: &Arc<Upstream>, took: Duration) {
        upstream.metrics().record_duration(took);
        self.upstream = Some((Arc::clone(upstream), took));
    }

    /// Adds bytes of the response's body.
    pub(crate) fn add_bytes_sent(&mut self, bytes: u64) {
        self.bytes_out += bytes;
    }

    /// Adds the bytes that a tunnel has transferred in each direction.
    pub(crate) fn add_tunnel_bytes(&mut self, up: u64, down: u64) {
        self.bytes_in += up;
        self.bytes_out += down;
    }

    fn route_metrics(&self) -> &crate::telemetry::metrics::RouteMetrics {
        self.route.as_ref().map_or(self.runtime.unrouted(), |route| route.metrics())
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let status = self.status.unwrap_or(CLIENT_LEFT);
        if self.status.is_none() && self.reason.is_none() {
            self.reason = Some("the client left");
        }
        self.route_metrics().record_request(&self.method, status, took);
        let log = self.runtime.access_log();
        if !log.is_on() {
            return;
        }
        let subject = self.caller.as_ref().map(|caller| self.runtime.settings().logged_subject(caller.principal()));
        log.write(&AccessLine {
            time: self.received_at.wall,
            request_id: self.request_id.to_str().unwrap_or_default(),
            route: self.route.as_ref().map_or("", |route| &route.settings().name),
            method: self.method.as_str(),
            path: &self.path,
            status,
            code: self.code,
            reason: self.reason,
            would_reject: self.reported_code,
            issuer: self.caller.as_ref().map(|caller| &**caller.principal().issuer_name()),
            subject,
            client: self.client,
            bytes_in: self.bytes_in + self.body_progress.as_ref().map_or(0, Progress::bytes),
            bytes_out: self.bytes_out,
            duration: took,
            upstream: self.upstream.as_ref().map(|(upstream, _)| &**upstream.name()),
            upstream_duration: self.upstream.as_ref().map(|(_, took)| *took),
        });
    }
}
