//! Upgrades: what the gateway keeps of a request that asks to switch protocols, and the tunnel that
//! it becomes.

use std::time::Duration;

use tokio::time::Instant;

use crate::gateway::policy::Route;
use crate::gateway::request::{RequestHead, RequestTail};
use crate::gateway::response::refusal::Refusal;
use crate::gateway::runtime::Runtime;
use crate::gateway::stages::authenticate::Caller;
use crate::gateway::stages::normalize::InboundRequest;
use crate::upstream::tunnel_limits::{TunnelClient, TunnelPermit};
use crate::upstream::{Protocol, UpstreamSettings};

/// What the gateway keeps of a request that asks to switch protocols, until the upstream has
/// agreed.
pub(super) struct PendingUpgrade {
    pub(super) permit: TunnelPermit,
    /// The head of the request, without credentials.
    pub(super) request: RequestHead,
}

impl PendingUpgrade {
    /// `None` if the request does not ask to switch protocols. The permit is acquired before the
    /// upstream is asked, since afterwards a tunnel could only be closed again.
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
        let permit = route.upstream().acquire_tunnel(client).map_err(Refusal::TunnelLimit)?;
        Ok(Some(Box::new(Self { permit, request: request.head_without_credentials() })))
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

/// The longest lifetime of a tunnel: until the caller's token expires. `None` without a token.
pub(super) fn time_to_expiry(runtime: &Runtime, caller: &Caller) -> Option<Duration> {
    let expires_at = caller.principal()?.expires_at();
    Some(Duration::from_micros(expires_at.micros().saturating_sub(runtime.clock().now().micros())))
}
