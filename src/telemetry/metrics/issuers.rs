//! Metrics of issuers: token verifications, and the state of their key sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use super::gauge::{ComponentGauge, ComponentRegistry, Gauge, SampleValue};
use crate::primitives::clock::Clock;
use crate::telemetry::histogram::Histogram;

/// The result of verifying a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyResult {
    /// The token is valid.
    Accepted,
    /// The token could not be verified, because the gateway has no usable keys of the issuer.
    KeysUnavailable,
    /// The token is not valid.
    Refused,
}

impl VerifyResult {
    const ALL: [Self; 3] = [Self::Accepted, Self::KeysUnavailable, Self::Refused];

    const fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::KeysUnavailable => "keys_unavailable",
            Self::Refused => "refused",
        }
    }
}

/// Whether the verdict came from the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheResult {
    /// The verdict was cached.
    Hit,
    /// The token had to be verified.
    Miss,
}

impl CacheResult {
    const ALL: [Self; 2] = [Self::Hit, Self::Miss];

    const fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
        }
    }
}

/// The metrics of one issuer. Cheap to clone; clones count into the same series.
///
/// The gauges of its key set are exposed as long as a handle exists.
#[derive(Clone, Debug)]
pub struct IssuerMetrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    keys: Arc<KeyState>,
    /// By result, then by cache.
    verifications: [Counter; VerifyResult::ALL.len() * CacheResult::ALL.len()],
    verify_seconds: Histogram,
    refreshed: Counter,
    refresh_failed: Counter,
    unknown_kids: Counter,
}

#[derive(Debug, Default)]
struct KeyState {
    keys: Gauge,
    /// Monotonic time of the last successful fetch; 0 if there was none.
    fetched_at: AtomicU64,
    /// 1 if the keys come over plain http from another machine, else 0.
    plain_http: Gauge,
}

impl IssuerMetrics {
    /// Counts a token of this issuer by the result of its verification.
    pub fn count_verification(&self, result: VerifyResult, cache: CacheResult) {
        self.0.verifications[result as usize * CacheResult::ALL.len() + cache as usize].inc();
    }

    /// Records how long the verification of a token took whose verdict was not cached.
    pub fn record_verification(&self, duration: Duration) {
        self.0.verify_seconds.observe(duration);
    }

    /// Counts an attempt to fetch the key set.
    pub fn count_refresh(&self, ok: bool) {
        if ok {
            self.0.refreshed.inc()
        } else {
            self.0.refresh_failed.inc()
        };
    }

    /// Sets the number of usable keys.
    pub fn set_usable_keys(&self, usable: usize) {
        self.0.keys.keys.set(usable as u64);
    }

    /// Sets the time at which the key set in use was fetched, as read by
    /// [`Clock::monotonic_micros`].
    pub fn set_fetched_at(&self, monotonic_micros: u64) {
        self.0.keys.fetched_at.store(monotonic_micros, Ordering::Relaxed);
    }

    /// Sets whether the keys come over plain http from another machine.
    pub fn set_plain_http(&self, plain_http: bool) {
        self.0.keys.plain_http.set(u64::from(plain_http));
    }

    /// Counts a token whose `kid` is not in the key set.
    pub fn count_unknown_kid(&self) {
        self.0.unknown_kids.inc();
    }
}

/// The metric families of all issuers.
#[derive(Debug)]
pub(super) struct IssuerFamilies {
    verifications: Family<VerificationLabels, Counter>,
    verify_seconds: Family<IssuerLabels, Histogram>,
    refreshes: Family<RefreshLabels, Counter>,
    unknown_kids: Family<IssuerLabels, Counter>,
    components: Arc<ComponentRegistry<KeyState>>,
}

impl IssuerFamilies {
    pub(super) fn register(registry: &mut Registry, clock: Clock) -> Self {
        let families = Self {
            verifications: Family::default(),
            verify_seconds: Family::new_with_constructor(Histogram::for_verifications),
            refreshes: Family::default(),
            unknown_kids: Family::default(),
            components: Arc::default(),
        };
        registry.register(
            "token_verifications",
            "Tokens verified, by result and by whether the verdict was cached",
            families.verifications.clone(),
        );
        registry.register_with_unit(
            // The registry appends the unit: portcullis_token_verify_seconds.
            "token_verify",
            "Time to verify a token whose verdict was not cached",
            Unit::Seconds,
            families.verify_seconds.clone(),
        );
        registry.register("jwks_refreshes", "Attempts to fetch an issuer's key set", families.refreshes.clone());
        registry.register(
            "unknown_kids",
            "Tokens whose kid is not in the issuer's key set",
            families.unknown_kids.clone(),
        );
        families.register_gauges(registry, clock);
        families
    }

    fn register_gauges(&self, registry: &mut Registry, clock: Clock) {
        registry.register_collector(Box::new(ComponentGauge {
            name: "jwks_age",
            help: "Age of an issuer's key set; absent before the first successful fetch.",
            unit: Some(Unit::Seconds),
            components: Arc::clone(&self.components),
            read: Box::new(move |name, state: &KeyState| {
                let fetched_at = state.fetched_at.load(Ordering::Relaxed);
                if fetched_at == 0 {
                    return Vec::new();
                }
                let age = Duration::from_micros(clock.monotonic_micros().saturating_sub(fetched_at));
                vec![(vec![("issuer", Arc::clone(name))], SampleValue::Float(age.as_secs_f64()))]
            }),
        }));
        registry.register_collector(Box::new(ComponentGauge {
            name: "jwks_plain_http",
            help: "Whether an issuer's keys are fetched over plain http from another machine (1) or not (0).",
            unit: None,
            components: Arc::clone(&self.components),
            read: Box::new(|name, state: &KeyState| {
                vec![(vec![("issuer", Arc::clone(name))], SampleValue::Integer(state.plain_http.value()))]
            }),
        }));
        registry.register_collector(Box::new(ComponentGauge {
            name: "jwks_keys",
            help: "Usable keys of an issuer.",
            unit: None,
            components: Arc::clone(&self.components),
            read: Box::new(|name, state: &KeyState| {
                vec![(vec![("issuer", Arc::clone(name))], SampleValue::Integer(state.keys.value()))]
            }),
        }));
    }

    pub(super) fn handle(&self, issuer: &Arc<str>) -> IssuerMetrics {
        let labels = IssuerLabels { issuer: Arc::clone(issuer) };
        let verifications = std::array::from_fn(|at| {
            self.verifications.get_or_create_owned(&VerificationLabels {
                issuer: Arc::clone(issuer),
                result: VerifyResult::ALL[at / CacheResult::ALL.len()].label(),
                cache: CacheResult::ALL[at % CacheResult::ALL.len()].label(),
            })
        });
        let refreshes =
            |result| self.refreshes.get_or_create_owned(&RefreshLabels { issuer: Arc::clone(issuer), result });
        IssuerMetrics(Arc::new(Inner {
            keys: self.components.get_or_create(issuer, KeyState::default),
            verifications,
            verify_seconds: self.verify_seconds.get_or_create_owned(&labels),
            refreshed: refreshes(super::result_label(true)),
            refresh_failed: refreshes(super::result_label(false)),
            unknown_kids: self.unknown_kids.get_or_create_owned(&labels),
        }))
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct IssuerLabels {
    issuer: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VerificationLabels {
    issuer: Arc<str>,
    result: &'static str,
    cache: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RefreshLabels {
    issuer: Arc<str>,
    result: &'static str,
}
