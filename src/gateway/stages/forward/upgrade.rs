//! Upgrades: what the gateway keeps of a request that asks to switch protocols, and the tunnel that
//! it becomes.

use std::time::Duration;

use http::response::Parts;
use http::{HeaderValue, Version};
use tokio::time::Instant;

use crate::gateway::policy::Route;
use crate::gateway::request::{RequestHead, RequestTail};
use crate::gateway::response::refusal::Refusal;
use crate::gateway::response::tunnel_response;
use crate::gateway::runtime::Runtime;
use crate::gateway::stages::normalize::InboundRequest;
use crate::upstream::ResponseFault;
use crate::upstream::headers::PeerTrust;
use crate::upstream::tunnel_limits::TunnelClient;
use crate::upstream::websocket::{SEC_WEBSOCKET_ACCEPT, WEBSOCKET, WebSocketKey};
use crate::upstream::{Protocol, UpstreamSettings};

/// What the gateway keeps of a request that asks to switch protocols, until the upstream has
/// agreed.
pub(super) struct PendingUpgrade {
    /// The protocol that the upstream is asked for.
    pub(super) protocol: HeaderValue,
    /// The key of a WebSocket over HTTP/2, whose client sends none.
    pub(super) websocket_key: Option<WebSocketKey>,
    pub(super) client: TunnelClient,
    /// The head of the request, without credentials.
    pub(super) request: RequestHead,
}

impl PendingUpgrade {
    /// `None` if the request does not ask to switch protocols.
    ///
    /// The limits on tunnels are checked here, so that the upstream is not asked for a tunnel that
    /// could not open. The permit is acquired when it opens: an upstream may ignore the offer, and
    /// a client that makes many offers to a slow upstream must not use up the tunnels of others.
    ///
    /// # Errors
    ///
    /// 503 if a limit on tunnels is reached; 405 for a WebSocket over HTTP/2, if the upstream's
    /// protocol cannot carry it.
    pub(super) fn of(
        runtime: &Runtime,
        request: &InboundRequest,
        tail: &RequestTail,
        route: &Route,
    ) -> Result<Option<Box<Self>>, Refusal> {
        let Some(protocol) = request.upgrade.clone().filter(|_| tail.upgrade.is_some()) else { return Ok(None) };
        let is_over_http_2 = request.version == Version::HTTP_2;
        if !can_switch_protocols(route) {
            // Over HTTP/1.1 the offer is ignored, as RFC 9110 §7.8 allows. A `CONNECT` has no other
            // meaning, and its client would take any success for an open tunnel.
            let refusal = Refusal::MethodNotAllowed { allow: HeaderValue::from_static("") };
            return if is_over_http_2 { Err(refusal) } else { Ok(None) };
        }
        let address = request.client.ip;
        // A trusted proxy that does not say who its client is makes no client exempt.
        let is_trusted = request.client.peer_trust != PeerTrust::Untrusted;
        let client = if is_trusted && runtime.settings().trusted_proxies.contains(address) {
            TunnelClient::Exempt(address)
        } else {
            TunnelClient::Limited(address)
        };
        route.upstream().acquire_tunnel(client).map(drop).map_err(Refusal::TunnelLimit)?;
        let websocket_key = is_over_http_2.then(WebSocketKey::random);
        Ok(Some(Box::new(Self { protocol, websocket_key, client, request: request.head_without_credentials() })))
    }

    /// Turns the upstream's 101, which switches to `protocol`, into the head of the response that
    /// opens the tunnel for the client: over HTTP/2, 200 (RFC 8441 §5).
    ///
    /// # Errors
    ///
    /// 502 if the upstream has not read the key of a WebSocket.
    pub(super) fn complete(&self, head: &mut Parts, protocol: HeaderValue) -> Result<(), Refusal> {
        let Some(key) = &self.websocket_key else {
            tunnel_response::over_http_1(&mut head.headers, protocol);
            return Ok(());
        };
        let accept = head.headers.remove(SEC_WEBSOCKET_ACCEPT);
        let is_websocket = protocol.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes());
        if !is_websocket || !accept.is_some_and(|accept| key.is_accepted_by(&accept)) {
            return Err(Refusal::UpstreamFailed(ResponseFault::WebSocketHandshake));
        }
        tunnel_response::over_http_2(head);
        Ok(())
    }

    /// Checks a response that switches no protocols.
    ///
    /// # Errors
    ///
    /// 502 for a success over HTTP/2, which its client would take for an open tunnel.
    pub(super) fn check_declined(&self, head: &Parts) -> Result<(), Refusal> {
        match &self.websocket_key {
            Some(_) if head.status.is_success() => Err(Refusal::UpstreamFailed(ResponseFault::WebSocketHandshake)),
            Some(_) | None => Ok(()),
        }
    }
}

/// An HTTP/2 connection to an upstream is shared, so that it cannot switch to another protocol.
fn can_switch_protocols(route: &Route) -> bool {
    match route.upstream().settings().protocol {
        Protocol::Http1 | Protocol::Negotiated => true,
        Protocol::Http2 => false,
    }
}

/// How long a tunnel may last: what is left of the route's `timeout`, and never more than the
/// upstream's `max_tunnel_lifetime`.
pub(super) fn tunnel_lifetime(upstream: &UpstreamSettings, deadline: Option<Instant>) -> Duration {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    left.map_or(upstream.max_tunnel_lifetime, |left| left.min(upstream.max_tunnel_lifetime))
}
