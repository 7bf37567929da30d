//! Limits on tunnels: how many an upstream may have, in all and for one client.
//!
//! A tunnel holds a connection to the upstream for as long as it is open, also while it is silent.
//! Without limits of their own, tunnels would take all connections from ordinary requests.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::UpstreamSettings;
use crate::primitives::shares::{Share, Shares};
use crate::telemetry::metrics::{GaugeGuard, UpstreamMetrics};

/// The tunnels of one upstream, in all workers together. Clones count together.
#[derive(Clone, Debug)]
pub(super) struct TunnelLimits {
    permits: Arc<Semaphore>,
    by_client: Shares,
    max_per_client: usize,
}

/// What a tunnel holds of the limits, until it is dropped.
#[derive(Debug)]
pub struct TunnelPermit {
    _permit: OwnedSemaphorePermit,
    _share: Share,
    _gauge: GaugeGuard,
}

/// Which limit on tunnels is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelLimit {
    /// `max_tunnels`.
    All,
    /// `max_tunnels_per_client`.
    PerClient,
}

impl TunnelLimits {
    pub(super) fn new(settings: &UpstreamSettings) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(settings.max_tunnels)),
            by_client: Shares::default(),
            max_per_client: settings.max_tunnels_per_client,
        }
    }

    /// Permission for `client` to open a tunnel.
    ///
    /// # Errors
    ///
    /// The limit that is reached.
    pub(super) fn acquire(&self, client: TunnelClient, metrics: &UpstreamMetrics) -> Result<TunnelPermit, TunnelLimit> {
        let (address, max) = match client {
            TunnelClient::Limited(address) => (address, self.max_per_client),
            TunnelClient::Exempt(address) => (address, usize::MAX),
        };
        let share = self.by_client.try_take(address, max).ok_or(TunnelLimit::PerClient)?;
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| TunnelLimit::All)?;
        Ok(TunnelPermit { _permit: permit, _share: share, _gauge: metrics.tunnels().hold() })
    }
}

/// Who opens a tunnel.
#[derive(Clone, Copy, Debug)]
pub enum TunnelClient {
    /// A trusted proxy that did not say for whom.
    Exempt(IpAddr),
    /// A client with a share of its own.
    Limited(IpAddr),
}

#[cfg(test)]
mod tests {
    use super::super::balance::Balance;
    use super::super::tests::upstream;
    use super::*;

    #[test]
    fn tunnels_have_a_limit_in_all_and_one_per_client() {
        let orders = upstream(Balance::LeastRequest, &[1]);
        let settings = UpstreamSettings { max_tunnels: 3, max_tunnels_per_client: 2, ..orders.settings().clone() };
        let limits = TunnelLimits::new(&settings);
        let open = |last: u8| limits.acquire(TunnelClient::Limited([192, 0, 2, last].into()), orders.metrics());
        let first = open(1).unwrap();
        let _second = open(1).unwrap();
        assert_eq!(open(1).unwrap_err(), TunnelLimit::PerClient);
        let _third = open(2).unwrap();
        assert_eq!(open(2).unwrap_err(), TunnelLimit::All);
        assert_eq!(orders.metrics().tunnels().value(), 3);
        drop(first);
        let proxy = TunnelClient::Exempt([192, 0, 2, 1].into());
        assert!(limits.acquire(proxy, orders.metrics()).is_ok(), "one was closed");
        assert_eq!(orders.metrics().tunnels().value(), 2);
    }
}
