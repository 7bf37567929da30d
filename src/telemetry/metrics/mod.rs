//! Metrics: every number that `/metrics` exposes.
//!
//! A component asks [`Metrics`] for its handle when it is created, and counts with relaxed atomic
//! additions. Handles with the same name count into the same series, so a reload does not reset
//! counters. Label values are names from the configuration or members of fixed sets.

mod connections;
mod gauge;
mod issuers;
mod limits;
mod process;
mod routes;
mod tls;
mod upstream_reasons;
mod upstreams;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge as PrometheusGauge;
use prometheus_client::registry::{Registry, Unit};

pub(crate) use self::connections::{ConnectionMetrics, ProxyHeaderFault};
pub(crate) use self::gauge::{Gauge, GaugeGuard};
pub(crate) use self::issuers::{CacheResult, IssuerMetrics, VerifyResult};
pub(crate) use self::limits::LimitMetrics;
pub(crate) use self::routes::RouteMetrics;
pub(crate) use self::tls::{CompletedHandshake, HandshakeFailure, TlsMetrics};
pub(crate) use self::upstream_reasons::{BrokenOff, RetryReason};
pub(crate) use self::upstreams::{ServerMetrics, UpstreamMetrics};

use self::issuers::IssuerFamilies;
use self::limits::LimitFamilies;
use self::process::ProcessCollector;
use self::routes::RouteFamilies;
use self::upstreams::UpstreamFamilies;
use super::exposition::{self, Exposition};
use super::logging;
use crate::primitives::clock::{Clock, WallTime};

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    routes: RouteFamilies,
    issuers: IssuerFamilies,
    upstreams: UpstreamFamilies,
    limits: LimitFamilies,
    process: ProcessMetrics,
    before_scrape: RwLock<Vec<Arc<ScrapeHook>>>,
}

/// Updates metrics that are computed only when they are scraped.
type ScrapeHook = dyn Fn(&Metrics) + Send + Sync;

/// Metrics without a route, issuer, upstream or limit.
#[derive(Debug)]
struct ProcessMetrics {
    access_log_dropped: Counter,
    config_loaded: PrometheusGauge,
    connections: ConnectionMetrics,
    identity_headers_omitted: Counter,
    reloads_failed: Counter,
    reloads_succeeded: Counter,
    token_cache_entries: Gauge,
}

impl Metrics {
    /// Registers all metrics. Ages are measured with `clock`.
    #[must_use]
    pub fn new(clock: Clock) -> Arc<Self> {
        let mut registry = Registry::default();
        let prefixed = registry.sub_registry_with_prefix("portcullis");
        let routes = RouteFamilies::register(prefixed);
        let issuers = IssuerFamilies::register(prefixed, clock);
        let upstreams = UpstreamFamilies::register(prefixed);
        let limits = LimitFamilies::register(prefixed);
        let process = ProcessMetrics::register(prefixed);
        registry.register_collector(Box::new(ProcessCollector::new()));
        Arc::new(Self { registry, routes, issuers, upstreams, limits, process, before_scrape: RwLock::default() })
    }

    /// The metrics of a route, by its name in the configuration; `""` for requests that match no
    /// route.
    #[must_use]
    pub fn route(&self, name: impl Into<Arc<str>>) -> RouteMetrics {
        self.routes.handle(name.into())
    }

    /// The metrics of an issuer, by its name in the configuration.
    #[must_use]
    pub fn issuer(&self, name: impl Into<Arc<str>>) -> IssuerMetrics {
        self.issuers.handle(&name.into())
    }

    /// The metrics of an upstream, by its name in the configuration.
    #[must_use]
    pub fn upstream(&self, name: impl Into<Arc<str>>) -> UpstreamMetrics {
        self.upstreams.handle(&name.into())
    }

    /// The metrics of a limit, by its name in the configuration.
    #[must_use]
    pub fn limit(&self, name: impl Into<Arc<str>>) -> LimitMetrics {
        self.limits.handle(&name.into())
    }

    /// The metrics of downstream connections.
    #[must_use]
    pub fn connections(&self) -> &ConnectionMetrics {
        &self.process.connections
    }

    /// Counts an attempt to reload the configuration.
    pub fn count_reload(&self, ok: bool) {
        if ok {
            self.process.reloads_succeeded.inc()
        } else {
            self.process.reloads_failed.inc()
        };
    }

    /// Sets the time at which the configuration in use was loaded.
    pub fn set_config_loaded(&self, at: WallTime) {
        self.process.config_loaded.set(i64::try_from(at.seconds()).unwrap_or(i64::MAX));
    }

    /// Counts an identity header that was omitted because its value was too long.
    pub fn count_omitted_identity_header(&self) {
        self.process.identity_headers_omitted.inc();
    }

    /// Sets the number of cached token verdicts.
    pub fn set_token_cache_entries(&self, entries: u64) {
        self.process.token_cache_entries.set(entries);
    }

    /// The counter of access log lines that were dropped.
    pub(super) fn access_log_dropped(&self) -> Counter {
        self.process.access_log_dropped.clone()
    }

    /// Calls `hook` before each scrape from now on.
    pub fn on_scrape(&self, hook: Box<dyn Fn(&Metrics) + Send + Sync>) {
        self.before_scrape.write().unwrap_or_else(PoisonError::into_inner).push(Arc::from(hook));
    }

    /// Writes all metrics in `format`.
    ///
    /// The size depends on the configuration, not on traffic. Reads a few files in `/proc`.
    #[must_use]
    pub fn encode(&self, format: Exposition) -> String {
        // Called without the lock, so that a hook may register another hook.
        let hooks = self.before_scrape.read().unwrap_or_else(PoisonError::into_inner).clone();
        for hook in &hooks {
            hook(self);
        }
        let mut exposed = String::new();
        if text::encode(&mut exposed, &self.registry).is_err() {
            // Writing to a String does not fail, so the fault is in a metric. A scraper notices
            // that the end mark is missing.
            tracing::error!("cannot encode the metrics");
        }
        match format {
            Exposition::OpenMetrics => exposed,
            Exposition::PrometheusText => exposition::prometheus_text(&exposed),
        }
    }
}

impl ProcessMetrics {
    fn register(registry: &mut Registry) -> Self {
        let reloads = Family::<ResultLabels, Counter>::default();
        let build = Family::<BuildLabels, PrometheusGauge>::default();
        let metrics = Self {
            access_log_dropped: Counter::default(),
            config_loaded: PrometheusGauge::default(),
            connections: ConnectionMetrics::register(registry),
            identity_headers_omitted: Counter::default(),
            reloads_failed: reloads.get_or_create_owned(&ResultLabels { result: result_label(false) }),
            reloads_succeeded: reloads.get_or_create_owned(&ResultLabels { result: result_label(true) }),
            token_cache_entries: Gauge::default(),
        };
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register(
            "identity_headers_omitted",
            "Identity headers omitted because their value was too long",
            metrics.identity_headers_omitted.clone(),
        );
        registry.register("token_cache_entries", "Token verdicts in the cache", metrics.token_cache_entries.clone());
        registry.register(
            "access_log_dropped",
            "Access log lines that were dropped",
            metrics.access_log_dropped.clone(),
        );
        registry.register("events_dropped", "Log events that were dropped", logging::dropped());
        registry.register("config_reloads", "Attempts to reload the configuration", reloads);
        registry.register_with_unit(
            "config_loaded_timestamp",
            "Load time of the configuration in use since the Unix epoch",
            Unit::Seconds,
            metrics.config_loaded.clone(),
        );
        registry.register("build_info", "Always 1; the labels describe the build", build);
        metrics
    }
}

/// The `result` label of something that succeeds or fails.
const fn result_label(ok: bool) -> &'static str {
    if ok { "success" } else { "failure" }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("process", &self.process).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
