//! Upgrades: what the gateway keeps of a request that asks to switch protocols, and the tunnel that
//! it becomes.

use std::time::Duration;

use tokio::time::Instant;

use crate::gateway::policy::Route;
use crate::gateway::request::{RequestHead, RequestTail};
use crate::gateway::response::refusal::Refusal;
use crate::gateway::runtime::Runtime;
use crate::gateway::stages::normalize::InboundRequest;
use crate::upstream::tunnel_limits::TunnelClient;
use crate::upstream::{Protocol, UpstreamSettings};

/// What the gateway keeps of a request that asks to switch protocols, until the upstream has
/// agreed.
pub(super) struct PendingUpgrade {
    pub(super) client: TunnelClient,
    /// The head of the request, without credentials.
    pub(super) request: RequestHead,
}

impl PendingUpgrade {
    /// `None` if the request does not ask to switch protocols.
    ///
    /// The limits on tunnels are checked here, so that the upstream is not asked for a tunnel that
    /// could not open. The permit is acquired when it opens: most upstreams may ignore most offers,
    /// and a client that makes many to a slow upstream shall not use up the tunnels of others.
    ///
    /// # Errors
    ///
    /// 503 if a limit on tunnels is reached.
    pub(super) fn of(
        runtime: &Runtime,
        request: &InboundRequest,
        tail: &RequestTail,
        route: &Route,
    ) -> Result<Option<Box<Self>>, Refusal> {
        if request.upgrade.is_none() || tail.upgrade.is_none() || !can_switch_protocols(route) {
            return Ok(None);
        }
        let address = request.client.ip;
        let client = if runtime.settings().trusted_proxies.contains(address) {
            TunnelClient::Exempt(address)
        } else {
            TunnelClient::Limited(address)
        };
        route.upstream().acquire_tunnel(client).map(drop).map_err(Refusal::TunnelLimit)?;
        Ok(Some(Box::new(Self { client, request: request.head_without_credentials() })))
    }
}

/// An HTTP/2 connection is shared, so that it cannot switch to another protocol. The upgrade is
/// then ignored, as RFC 9110 §7.8 allows.
pub(super) fn can_switch_protocols(route: &Route) -> bool {
    route.upstream().settings().protocol == Protocol::Http1
}

/// How long a tunnel may last: what is left of the route's `timeout`, and never more than the
/// upstream's `max_tunnel_lifetime`.
pub(super) fn tunnel_lifetime(upstream: &UpstreamSettings, deadline: Option<Instant>) -> Duration {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    left.map_or(upstream.max_tunnel_lifetime, |left| left.min(upstream.max_tunnel_lifetime))
}
