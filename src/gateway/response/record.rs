//! The record of a request: one access-log line and one set of metrics, however the request ends.
//!
//! Begun before the first stage; travels with the response's body and is written when it is dropped:
//! after the body's last byte, after a tunnel's end, or when the client has left, at any point. So
//! every request is recorded, and none twice.

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
use crate::token::VerifyError;
use crate::upstream::Upstream;
use crate::upstream::body::Progress;

/// The status of a request whose client left before there was a response, as nginx counts it.
const CLIENT_LEFT: u16 = 499;

/// What is known of one request so far.
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
    left: bool,
    status: Option<u16>,
    code: Option<&'static str>,
    reason: Option<&'static str>,
    would: Option<&'static str>,
    caller: Option<Arc<VerifiedCaller>>,
    received: Option<Progress>,
    bytes_in: u64,
    bytes_out: u64,
    upstream: Option<(Arc<Upstream>, Duration)>,
}

impl Record {
    /// For a request that has just come in.
    #[must_use]
    pub(crate) fn new(runtime: &Arc<Runtime>, method: &Method, path: &str, client: IpAddr) -> Self {
        let started = Instant::now();
        Self {
            runtime: Arc::clone(runtime),
            started,
            received_at: runtime.clock().moment(started),
            request_id: HeaderValue::from_static(""),
            method: method.clone(),
            // Only the access log needs it.
            path: if runtime.access_log().is_on() { path.into() } else { Box::default() },
            client,
            route: None,
            left: false,
            status: None,
            code: None,
            reason: None,
            would: None,
            caller: None,
            received: None,
            bytes_in: 0,
            bytes_out: 0,
            upstream: None,
        }
    }

    /// The request's id.
    pub(crate) fn set_request_id(&mut self, request_id: HeaderValue) {
        self.request_id = request_id;
    }

    /// When the request came.
    #[must_use]
    pub(crate) fn received_at(&self) -> Moment {
        self.received_at
    }

    /// The runtime that serves the request.
    #[must_use]
    pub(crate) fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// The request's route, once it is known.
    #[must_use]
    pub(crate) fn route(&self) -> Option<&Arc<Route>> {
        self.route.as_ref()
    }

    /// The client's address, once forwarding headers have been read.
    pub(crate) fn set_client(&mut self, client: IpAddr) {
        self.client = client;
    }

    /// The request's route.
    pub(crate) fn set_route(&mut self, route: &Arc<Route>) {
        self.route = Some(Arc::clone(route));
    }

    /// The bearer of its token.
    pub(crate) fn set_caller(&mut self, caller: &Arc<VerifiedCaller>) {
        self.caller = Some(Arc::clone(caller));
    }

    /// Its token did not verify: the log says why, even where the refusal is another one or is only
    /// reported.
    pub(crate) fn token_refused(&mut self, error: &VerifyError) {
        self.reason = Some(error.reason());
    }

    /// The client has left; a response that is made all the same reaches no one.
    pub(crate) fn client_left(&mut self) {
        self.left = true;
    }

    /// The request was refused.
    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        if self.left {
            return;
        }
        self.code = Some(refusal.code());
        self.reason = Some(refusal.reason());
        self.route_metrics().count_rejection(refusal.code());
    }

    /// The request would have been refused, had the route not been `report_only`. The first reason
    /// counts; later ones follow from it.
    pub(crate) fn would_refuse(&mut self, route: &Route, code: &'static str, reason: &'static str) {
        if self.would.is_none() {
            self.would = Some(code);
            self.reason = Some(reason);
            route.metrics().count_would_reject(code);
        }
    }

    /// The head of the response is decided.
    pub(crate) fn responded(&mut self, status: u16) {
        if !self.left {
            self.status = Some(status);
        }
    }

    /// The request's body is being forwarded.
    pub(crate) fn forwarding(&mut self, progress: Progress) {
        self.received = Some(progress);
    }

    /// The head of the upstream's response came after `took`.
    pub(crate) fn upstream_responded(&mut self, upstream: &Arc<Upstream>, took: Duration) {
        upstream.metrics().record_duration(took);
        self.upstream = Some((Arc::clone(upstream), took));
    }

    /// More of the response's body has gone to the client.
    pub(crate) fn sent(&mut self, bytes: u64) {
        self.bytes_out += bytes;
    }

    /// A tunnel has carried this much in each direction.
    pub(crate) fn tunneled(&mut self, up: u64, down: u64) {
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
            would_reject: self.would,
            issuer: self.caller.as_ref().map(|caller| &**caller.principal().issuer_name()),
            subject,
            client: self.client,
            bytes_in: self.bytes_in + self.received.as_ref().map_or(0, Progress::bytes),
            bytes_out: self.bytes_out,
            duration: took,
            upstream: self.upstream.as_ref().map(|(upstream, _)| &**upstream.name()),
            upstream_duration: self.upstream.as_ref().map(|(_, took)| *took),
        });
    }
}
