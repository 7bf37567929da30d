//! Limits on the number of client connections: in all, and per client.
//!
//! One client must not take all connections from the others, so each has a share. Trusted proxies
//! have none: each of their connections carries the requests of many clients. When a limit is
//! reached, an idle connection is closed for the new one: the one that has been idle for longest,
//! among those of the client or among all.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::idle_connections::{IdleConnections, IdleHandle};
use crate::gateway::ConnectionShare;
use crate::primitives::log_interval::LogInterval;
use crate::primitives::shares::{Share, Shares};
use crate::telemetry::metrics::{ConnectionMetrics, ProxyHeaderFault};

/// The limits on client connections. Shared by all workers.
#[derive(Debug)]
pub struct ConnectionLimits {
    configured: AtomicUsize,
    /// At most `configured`.
    possible: AtomicUsize,
    /// One permit for each connection that may be open.
    permits: Arc<Semaphore>,
    by_client: Shares,
    idle: Arc<IdleConnections>,
    metrics: ConnectionMetrics,
    client_limit_log: LogInterval,
    accept_error_log: LogInterval,
    /// One for each fault, so that what a stranger sends does not hide what a proxy does wrong.
    proxy_header_logs: [LogInterval; ProxyHeaderFault::ALL.len()],
}

/// The maximum number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maximum {
    /// `max_connections`.
    pub configured: usize,
    /// What the limit on file descriptors has room for; at most `configured`.
    pub possible: usize,
}

/// What an open connection holds of the limits, until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    permit: OwnedSemaphorePermit,
    /// `None` for a trusted proxy.
    _share: Option<Share>,
    idle: IdleHandle,
}

impl ConnectionLimits {
    /// Limits of at most `max` connections in all.
    #[must_use]
    pub fn new(max: Maximum, metrics: &ConnectionMetrics) -> Arc<Self> {
        Arc::new(Self {
            configured: AtomicUsize::new(max.configured),
            possible: AtomicUsize::new(max.possible),
            permits: Arc::new(Semaphore::new(max.possible)),
            by_client: Shares::default(),
            idle: IdleConnections::new(metrics.clone()),
            metrics: metrics.clone(),
            client_limit_log: LogInterval::default(),
            accept_error_log: LogInterval::default(),
            proxy_header_logs: Default::default(),
        })
    }

    /// Allows at most so many connections from now on. Connections beyond a smaller maximum stay
    /// open; their permits are withdrawn as they close.
    ///
    /// Must be called on a local runtime, and by one thread only.
    pub fn resize(&self, Maximum { configured, possible: max }: Maximum) {
        self.configured.store(configured, Ordering::Relaxed);
        let current = self.possible.swap(max, Ordering::Relaxed);
        if max > current {
            self.permits.add_permits(max - current);
        } else if let Some(fewer) = u32::try_from(current - max).ok().and_then(NonZeroU32::new) {
            let permits = Arc::clone(&self.permits);
            tokio::task::spawn_local(async move {
                if let Ok(permits) = permits.acquire_many(fewer.get()).await {
                    permits.forget();
                }
            });
        }
    }

    /// The metrics of the connections.
    pub(super) fn metrics(&self) -> &ConnectionMetrics {
        &self.metrics
    }

    /// Waits until a client may open a connection, and closes an idle one for it if necessary.
    /// `share` is how many connections it may have; `None` exempts it.
    ///
    /// Returns `None` if it has that many and none of them is idle.
    pub(super) async fn admit(&self, share: Option<ConnectionShare>) -> Option<ConnectionPermit> {
        // Its own share comes first: a client at its limit must not make others lose a connection.
        let (share, idle) = self.take_share(share)?;
        let permit = if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            permit
        } else {
            let _request = self.idle.request_close();
            Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed")
        };
        Some(ConnectionPermit { permit, _share: share, idle })
    }

    /// Makes an open connection count in another share: its PROXY header says which client it is
    /// from.
    ///
    /// Returns `None` if that client has as many as it may have and none of them is idle.
    pub(super) fn reassign(
        &self,
        permit: ConnectionPermit,
        share: Option<ConnectionShare>,
    ) -> Option<ConnectionPermit> {
        let (share, idle) = self.take_share(share)?;
        Some(ConnectionPermit { permit: permit.permit, _share: share, idle })
    }

    /// One connection of a share, unless its client is exempt, and access to the idle ones for it.
    fn take_share(&self, share: Option<ConnectionShare>) -> Option<(Option<Share>, IdleHandle)> {
        let client = share.map(|share| share.client);
        let share = match share {
            Some(ConnectionShare { client, max }) => Some(self.share(client, self.possible_share(max))?),
            None => None,
        };
        Some((share, self.idle.handle(client)))
    }

    /// `share` of the configured maximum as a share of the possible one, so that one client does
    /// not have all connections where fewer are possible than configured.
    fn possible_share(&self, share: usize) -> usize {
        let (configured, possible) = (self.configured.load(Ordering::Relaxed), self.possible.load(Ordering::Relaxed));
        if possible < configured { (share * possible / configured).max(1) } else { share }
    }

    fn share(&self, client: IpAddr, max: usize) -> Option<Share> {
        if let Some(share) = self.by_client.try_take(client, max) {
            return Some(share);
        }
        if self.idle.close_oldest_of(client) {
            // The connection that closes counts until it is closed, so the client has one too many
            // for that long.
            return Some(self.by_client.take(client));
        }
        self.metrics.count_refused();
        if let Some(left_out) = self.client_limit_log.is_due() {
            tracing::warn!(
                %client, limit = max, left_out,
                "a client has max_connections_per_client connections, further ones are closed; \
                 if it is a proxy of yours, list it in trusted_proxies"
            );
        }
        None
    }

    /// Counts and logs a connection of `peer` that is closed for its PROXY header.
    pub(super) fn report_proxy_header(&self, peer: IpAddr, fault: ProxyHeaderFault) {
        self.metrics.count_proxy_header(fault);
        if let Some(left_out) = self.proxy_header_logs[fault as usize].is_due() {
            let reason = fault.label();
            tracing::warn!(%peer, reason, left_out, "a connection is closed for its PROXY header");
        }
    }

    /// Counts and logs a failed attempt to accept a connection.
    pub(super) fn report_accept_error(&self, error: &std::io::Error) {
        self.metrics.count_accept_error();
        if let Some(left_out) = self.accept_error_log.is_due() {
            tracing::warn!(%error, left_out, "cannot accept a connection");
        }
    }
}

impl ConnectionPermit {
    /// The connection's access to the list of idle connections.
    pub(super) fn idle_handle(&self) -> IdleHandle {
        self.idle.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use tokio::task::LocalSet;

    use super::*;
    use crate::primitives::clock::Clock;
    use crate::telemetry::Exposition;
    use crate::telemetry::metrics::Metrics;

    fn limits(configured: usize, possible: usize) -> (Arc<ConnectionLimits>, Arc<Metrics>) {
        let metrics = Metrics::new(Clock::system());
        (ConnectionLimits::new(Maximum { configured, possible }, metrics.connections()), metrics)
    }

    /// A connection of a trusted proxy, if one may be opened at once.
    fn admit_now(limits: &ConnectionLimits) -> Option<ConnectionPermit> {
        let admitted = pin!(limits.admit(None));
        match admitted.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(permit) => permit,
            Poll::Pending => None,
        }
    }

    /// Opens as many connections as may be open.
    fn fill(limits: &ConnectionLimits) -> Vec<ConnectionPermit> {
        std::iter::from_fn(|| admit_now(limits)).take(100).collect()
    }

    /// A reload may change `max_connections`.
    #[tokio::test]
    async fn a_new_maximum_applies_to_the_connections_that_are_opened_or_closed_from_then_on() {
        LocalSet::new()
            .run_until(async {
                let (limits, _metrics) = limits(2, 2);
                let resize = async |max: usize| {
                    limits.resize(Maximum { configured: max, possible: max });
                    // The task that withdraws permits runs.
                    tokio::task::yield_now().await;
                };
                let mut open = fill(&limits);
                assert_eq!(open.len(), 2);
                resize(7).await;
                open.extend(fill(&limits));
                assert_eq!(open.len(), 7, "more");
                resize(7).await;
                assert!(admit_now(&limits).is_none(), "the same");
                resize(3).await;
                for left in (3..7).rev() {
                    open.pop();
                    tokio::task::yield_now().await;
                    assert!(admit_now(&limits).is_none(), "{left} are still open");
                }
                open.clear();
                assert_eq!(fill(&limits).len(), 3, "fewer");
            })
            .await;
    }

    /// A share is a part of the configured maximum.
    #[test]
    fn a_client_has_the_same_part_of_fewer_connections() {
        for (configured, possible, max, expected) in
            [(100, 100, 20, 20), (100, 10, 20, 2), (100, 10, 1, 1), (8, 6, 4, 3)]
        {
            let (limits, _metrics) = limits(configured, possible);
            assert_eq!(limits.possible_share(max), expected, "{max} of {configured}, {possible} of which are possible");
        }
    }

    #[test]
    fn each_failed_attempt_to_accept_a_connection_is_counted() {
        let (limits, metrics) = limits(1, 1);
        for _ in 0..3 {
            limits.report_accept_error(&std::io::ErrorKind::ConnectionAborted.into());
        }
        let text = metrics.encode(Exposition::PrometheusText);
        assert!(text.contains("accept_errors_total 3\n"), "{text}");
    }
}
