//! The record of a request: one access-log line and one set of metrics, however the request ends.
//!
//! Created before the first stage and written when it is dropped. The response's body owns it, so
//! that happens after the last byte of the body, at the end of a tunnel, or whenever the client
//! disconnects. Every request is therefore recorded exactly once.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method};

use super::refusal::{Blame, Refusal};
use crate::gateway::caller_cache::VerifiedCaller;
use crate::gateway::policy::Route;
use crate::gateway::runtime::Runtime;
use crate::primitives::clock::Moment;
use crate::telemetry::access_log::AccessLine;
use crate::telemetry::metrics::BrokenOff;
use crate::upstream::Upstream;
use crate::upstream::body::{BodyOutcome, Progress, RequestBodyFault};
use crate::upstream::server::Server;
use crate::upstream::upgrade::TunnelEnd;

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
    /// Whether another record exists for the same request.
    is_discarded: bool,
    status: Option<u16>,
    grpc_status: Option<u8>,
    code: Option<&'static str>,
    reason: Option<&'static str>,
    blame: Option<Blame>,
    reported_code: Option<&'static str>,
    caller: Option<Arc<VerifiedCaller>>,
    body_progress: Option<Progress>,
    bytes_in: u64,
    bytes_out: u64,
    upstream: Option<(Arc<Upstream>, Option<Arc<Server>>)>,
    upstream_duration: Option<Duration>,
    is_complete: bool,
}

/// Whose fault it is that a response broke off.
fn blame(cause: BrokenOff) -> Blame {
    match cause {
        // The deadline of a call is the client's choice, and so is when to get a new token.
        BrokenOff::CallDeadline | BrokenOff::ClientLeft | BrokenOff::TokenExpired => Blame::Client,
        // The upstream had until then to send all of its response.
        BrokenOff::TimedOut | BrokenOff::UpstreamBrokeOff | BrokenOff::UpstreamIdle => Blame::Upstream,
    }
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
            is_discarded: false,
            status: None,
            grpc_status: None,
            code: None,
            reason: None,
            reported_code: None,
            caller: None,
            body_progress: None,
            bytes_in: 0,
            bytes_out: 0,
            upstream: None,
            upstream_duration: None,
            blame: None,
            is_complete: false,
        }
    }

    /// Makes this record count nothing and write nothing.
    pub(crate) fn discard(&mut self) {
        self.is_discarded = true;
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
        self.blame = Some(refusal.blame());
        self.route_metrics().count_rejection(refusal.code());
    }

    /// Notes a refusal that a `report_only` route does not enforce. Only the first one is kept,
    /// because later ones may be consequences of it.
    pub(crate) fn set_reported_refusal(&mut self, route: &Route, code: &'static str, reason: &'static str) {
        if self.reported_code.is_none() && !self.is_discarded {
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

    /// Sets the status of the gRPC call, unless the response states none.
    pub(crate) fn set_grpc_status(&mut self, status: Option<u8>) {
        if !self.client_left {
            self.grpc_status = status.or(self.grpc_status);
        }
    }

    /// Sets the progress of the request's body, which the record reads at its end.
    pub(crate) fn set_body_progress(&mut self, progress: Progress) {
        self.body_progress = Some(progress);
    }

    /// Notes which server the request went to last.
    pub(crate) fn set_upstream(&mut self, upstream: &Arc<Upstream>, server: Option<&Arc<Server>>) {
        self.upstream = Some((Arc::clone(upstream), server.cloned()));
    }

    /// Notes that the head of the upstream's response arrived after `took`.
    pub(crate) fn set_upstream_response(&mut self, took: Duration) {
        if let Some((upstream, _)) = &self.upstream {
            upstream.metrics().record_duration(took);
        }
        self.upstream_duration = Some(took);
    }

    /// Notes that the response has been handed over to its last byte.
    pub(crate) fn set_complete(&mut self) {
        self.is_complete = true;
    }

    /// Notes why the response breaks off. Only the first reason counts, since the end of one side
    /// ends the other.
    pub(crate) fn set_broken_off(&mut self, cause: BrokenOff) {
        if self.is_complete {
            return;
        }
        self.is_complete = true;
        // Of a refusal that the client does not take, and of one that is only reported, the refusal
        // is what matters.
        if self.reason.is_none() {
            self.reason = Some(cause.reason());
            self.blame = Some(blame(cause));
        }
        if let Some((upstream, _)) = &self.upstream {
            upstream.metrics().count_broken_off(cause);
        }
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

    /// Notes why a tunnel has ended, unless one of its sides has closed it.
    pub(crate) fn set_tunnel_end(&mut self, end: TunnelEnd) {
        if let Some((upstream, _)) = &self.upstream {
            upstream.metrics().count_tunnel_end(end.label());
        }
        self.reason = match end {
            TunnelEnd::Closed => None,
            TunnelEnd::Expired => Some("the token has expired"),
            TunnelEnd::Idle => Some("the tunnel was idle"),
            TunnelEnd::LifetimeOver => Some("the tunnel's time was over"),
            TunnelEnd::Refused(reason) => Some(reason),
            TunnelEnd::Stopped => Some("the process has stopped"),
        };
    }

    fn route_metrics(&self) -> &crate::telemetry::metrics::RouteMetrics {
        self.route.as_ref().map_or(self.runtime.unrouted(), |route| route.metrics())
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.is_discarded {
            return;
        }
        let took = self.started.elapsed();
        // A body that is dropped before its end has lost its client.
        self.set_broken_off(BrokenOff::ClientLeft);
        let status = self.status.unwrap_or(CLIENT_LEFT);
        self.route_metrics().record_request(&self.method, status, took);
        if self
            .body_progress
            .as_ref()
            .is_some_and(|progress| progress.outcome() == BodyOutcome::Incomplete(RequestBodyFault::Idle))
        {
            self.runtime.connections().count_slow_request();
        }
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
            grpc_status: self.grpc_status,
            code: self.code,
            reason: self.reason,
            blame: self.blame.map(Blame::name),
            would_reject: self.reported_code,
            issuer: self.caller.as_ref().map(|caller| &**caller.principal().issuer_name()),
            subject,
            identity_omitted: self.caller.as_ref().and_then(|caller| caller.omitted_headers()),
            client: self.client,
            bytes_in: self.bytes_in + self.body_progress.as_ref().map_or(0, Progress::bytes),
            bytes_out: self.bytes_out,
            duration: took,
            upstream: self.upstream.as_ref().map(|(upstream, _)| &**upstream.name()),
            server: self.upstream.as_ref().and_then(|(_, server)| Some(server.as_ref()?.label())),
            upstream_duration: self.upstream_duration,
        });
    }
}
