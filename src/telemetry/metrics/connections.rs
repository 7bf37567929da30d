//! Metrics of downstream connections: how many are open, and what the limits on them do.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::gauge::Gauge;
use super::tls::TlsMetrics;

/// The metrics of downstream connections. Cheap to clone; clones count into the same series.
#[derive(Clone, Debug)]
pub struct ConnectionMetrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    open: Gauge,
    idle: Gauge,
    refused: Counter,
    closed_for_client: Counter,
    closed_for_others: Counter,
    accept_errors: Counter,
    /// By [`ProxyHeaderFault`].
    proxy_headers: [Counter; ProxyHeaderFault::ALL.len()],
    slow_requests: Counter,
    slow_responses: Counter,
    tls: TlsMetrics,
}

impl ConnectionMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let closed = Family::<LimitLabels, Counter>::default();
        let closed_for = |limit| closed.get_or_create_owned(&LimitLabels { limit });
        let slow = Family::<DirectionLabels, Counter>::default();
        let slow_bodies = |direction| slow.get_or_create_owned(&DirectionLabels { direction });
        let proxy_headers = Family::<ReasonLabels, Counter>::default();
        let metrics = Inner {
            open: Gauge::default(),
            idle: Gauge::default(),
            refused: Counter::default(),
            closed_for_client: closed_for("max_connections_per_client"),
            closed_for_others: closed_for("max_connections"),
            accept_errors: Counter::default(),
            // So that each series exists before the first fault.
            proxy_headers: ProxyHeaderFault::ALL.map(|fault| proxy_headers.get_or_create_owned(&fault.into())),
            slow_requests: slow_bodies("request"),
            slow_responses: slow_bodies("response"),
            tls: TlsMetrics::register(registry),
        };
        registry.register("connections_open", "Open downstream connections", metrics.open.clone());
        registry.register(
            "connections_idle",
            "Downstream connections without a request that may be closed for others",
            metrics.idle.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections closed at once because their client has as many as it may have",
            metrics.refused.clone(),
        );
        registry.register("idle_connections_closed", "Idle connections closed because a limit was reached", closed);
        registry.register("accept_errors", "Failed attempts to accept a connection", metrics.accept_errors.clone());
        registry.register("proxy_headers_refused", "Connections closed for their PROXY header", proxy_headers);
        registry.register("slow_bodies", "Bodies cut off because their client was too slow", slow);
        Self(Arc::new(metrics))
    }

    /// The metrics of TLS.
    #[must_use]
    pub fn tls(&self) -> &TlsMetrics {
        &self.0.tls
    }

    /// Open connections.
    #[must_use]
    pub fn open(&self) -> &Gauge {
        &self.0.open
    }

    /// Idle connections that may be closed for others.
    #[must_use]
    pub fn idle(&self) -> &Gauge {
        &self.0.idle
    }

    /// Counts a connection that was closed at once because of `max_connections_per_client`.
    pub fn count_refused(&self) {
        self.0.refused.inc();
    }

    /// Counts an idle connection that was closed for another one of the same client.
    pub fn count_closed_for_client(&self) {
        self.0.closed_for_client.inc();
    }

    /// Counts an idle connection that was closed because `max_connections` were open.
    pub fn count_closed_for_others(&self) {
        self.0.closed_for_others.inc();
    }

    /// Counts a request body that was cut off because the client sent it too slowly.
    pub fn count_slow_request(&self) {
        self.0.slow_requests.inc();
    }

    /// Counts a response body that was cut off because the client read it too slowly.
    pub fn count_slow_response(&self) {
        self.0.slow_responses.inc();
    }

    /// Counts a connection that was closed for its PROXY header.
    pub fn count_proxy_header(&self, fault: ProxyHeaderFault) {
        self.0.proxy_headers[fault as usize].inc();
    }

    /// Counts a failed attempt to accept a connection.
    pub fn count_accept_error(&self) {
        self.0.accept_errors.inc();
    }
}

/// Why a connection is closed for its PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeaderFault {
    /// A trusted proxy has sent none.
    Missing,
    /// It breaks the syntax of the protocol.
    Malformed,
    /// It is longer than the limit.
    TooLong,
    /// It did not arrive within `header_timeout`.
    Timeout,
    /// Its sender is not a trusted proxy.
    Untrusted,
}

impl ProxyHeaderFault {
    /// All faults, in the order of the variants.
    pub(crate) const ALL: [Self; 5] = [Self::Missing, Self::Malformed, Self::TooLong, Self::Timeout, Self::Untrusted];

    /// The name in metrics and in the log.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::TooLong => "too_long",
            Self::Timeout => "timeout",
            Self::Untrusted => "untrusted",
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

impl From<ProxyHeaderFault> for ReasonLabels {
    fn from(fault: ProxyHeaderFault) -> Self {
        Self { reason: fault.label() }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LimitLabels {
    limit: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DirectionLabels {
    direction: &'static str,
}
