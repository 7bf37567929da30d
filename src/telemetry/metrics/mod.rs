//! Metrics: every number that `/metrics` shows, in one struct.
//!
//! A part asks for its handle once, when it is built, and counts with a relaxed addition. Handles of one name count into the
//! same series, so a reload does not reset a counter. Labels are names from the configuration or members of closed sets.

mod issuers;
mod limits;
mod live;
mod process;
mod routes;
mod upstreams;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge as PrometheusGauge;
use prometheus_client::registry::{Registry, Unit};

pub use self::issuers::{CacheResult, IssuerMetrics, VerifyResult};
pub use self::limits::LimitMetrics;
pub use self::live::{Gauge, GaugeGuard};
pub use self::routes::RouteMetrics;
pub use self::upstreams::UpstreamMetrics;

use self::issuers::IssuerFamilies;
use self::limits::LimitFamilies;
use self::process::Process;
use self::routes::RouteFamilies;
use self::upstreams::UpstreamFamilies;
use super::exposition::{self, Exposition};
use crate::primitives::clock::{Clock, WallTime};

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    routes: RouteFamilies,
    issuers: IssuerFamilies,
    upstreams: UpstreamFamilies,
    limits: LimitFamilies,
    own: Own,
    before_scrape: RwLock<Vec<Arc<ScrapeHook>>>,
}

/// Brings up to date what is only worth knowing when somebody looks.
type ScrapeHook = dyn Fn(&Metrics) + Send + Sync;

/// Metrics of the gateway as a whole.
#[derive(Debug)]
struct Own {
    access_log_dropped: Counter,
    config_loaded: PrometheusGauge,
    connections_open: Gauge,
    identity_headers_omitted: Counter,
    reload_failed: Counter,
    reloaded: Counter,
    token_cache_entries: Gauge,
}

impl Metrics {
    /// Registers every metric. Ages are told by `clock`.
    #[must_use]
    pub fn new(clock: Clock) -> Arc<Self> {
        let mut registry = Registry::default();
        let ours = registry.sub_registry_with_prefix("portcullis");
        let routes = RouteFamilies::register(ours);
        let issuers = IssuerFamilies::register(ours, clock);
        let upstreams = UpstreamFamilies::register(ours);
        let limits = LimitFamilies::register(ours);
        let own = Own::register(ours);
        registry.register_collector(Box::new(Process::new()));
        Arc::new(Self { registry, routes, issuers, upstreams, limits, own, before_scrape: RwLock::default() })
    }

    /// The metrics of a route, by its name in the configuration; `""` for requests that no route wants.
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

    /// Open connections of clients.
    #[must_use]
    pub fn connections_open(&self) -> &Gauge {
        &self.own.connections_open
    }

    /// Counts an attempt to load the configuration anew.
    pub fn count_reload(&self, ok: bool) {
        if ok {
            self.own.reloaded.inc()
        } else {
            self.own.reload_failed.inc()
        };
    }

    /// Says when the configuration in use was loaded.
    pub fn set_config_loaded(&self, at: WallTime) {
        self.own.config_loaded.set(i64::try_from(at.seconds()).unwrap_or(i64::MAX));
    }

    /// Counts an identity header that was left out because its value was too long.
    pub fn count_omitted_identity_header(&self) {
        self.own.identity_headers_omitted.inc();
    }

    /// Says how many verdicts on tokens are remembered.
    pub fn set_token_cache_entries(&self, entries: u64) {
        self.own.token_cache_entries.set(entries);
    }

    /// The counter of access log lines that were lost.
    pub(super) fn access_log_dropped(&self) -> Counter {
        self.own.access_log_dropped.clone()
    }

    /// Has `hook` called before each scrape, for as long as the process lives.
    pub fn on_scrape(&self, hook: Box<dyn Fn(&Metrics) + Send + Sync>) {
        self.before_scrape.write().unwrap_or_else(PoisonError::into_inner).push(Arc::from(hook));
    }

    /// Everything, in the format that was asked for.
    ///
    /// Grows with the configuration, not with traffic. Reads a few files of `/proc`.
    #[must_use]
    pub fn encode(&self, format: Exposition) -> String {
        // Called outside the lock: a hook may do as it likes.
        let hooks = self.before_scrape.read().unwrap_or_else(PoisonError::into_inner).clone();
        for hook in &hooks {
            hook(self);
        }
        let mut exposed = String::new();
        if text::encode(&mut exposed, &self.registry).is_err() {
            // Memory takes every write, so this is a fault in a metric. The end mark is missing then, which a scraper notices.
            tracing::error!("metrics could not be encoded");
        }
        match format {
            Exposition::OpenMetrics => exposed,
            Exposition::PrometheusText => exposition::prometheus_text(&exposed),
        }
    }
}

impl Own {
    fn register(registry: &mut Registry) -> Self {
        let reloads = Family::<ResultLabels, Counter>::default();
        let build = Family::<BuildLabels, PrometheusGauge>::default();
        let own = Self {
            access_log_dropped: Counter::default(),
            config_loaded: PrometheusGauge::default(),
            connections_open: Gauge::default(),
            identity_headers_omitted: Counter::default(),
            reload_failed: reloads.get_or_create_owned(&ResultLabels { result: result_label(false) }),
            reloaded: reloads.get_or_create_owned(&ResultLabels { result: result_label(true) }),
            token_cache_entries: Gauge::default(),
        };
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("connections_open", "Open connections of clients", own.connections_open.clone());
        registry.register(
            "identity_headers_omitted",
            "Identity headers left out because their value was too long",
            own.identity_headers_omitted.clone(),
        );
        registry.register(
            "token_cache_entries",
            "VerdictCache on tokens that are remembered",
            own.token_cache_entries.clone(),
        );
        registry.register("access_log_dropped", "Access log lines that were lost", own.access_log_dropped.clone());
        registry.register("config_reloads", "Attempts to load the configuration anew", reloads);
        registry.register_with_unit(
            "config_loaded_timestamp",
            "When the configuration in use was loaded, since the Unix epoch",
            Unit::Seconds,
            own.config_loaded.clone(),
        );
        registry.register("build_info", "Always 1; the labels tell what is running", build);
        own
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
        f.debug_struct("Metrics").field("own", &self.own).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
