//! Metrics of issuers: verified tokens, and the state of their keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use super::live::{Gauge, Live, LiveGauge, Sample};
use crate::primitives::clock::Clock;
use crate::telemetry::histogram::Histogram;

/// How the check of a token ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyResult {
    /// The token is good.
    Accepted,
    /// No key to check it with, for our or the identity provider's fault.
    KeysUnavailable,
    /// The token is not good.
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

/// Whether the verdict was known already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheResult {
    /// It was.
    Hit,
    /// It had to be worked out.
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
/// The gauges about its keys are shown as long as a handle exists.
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
    /// The monotonic clock's reading at the last fetch that succeeded; 0 is never.
    fetched_at: AtomicU64,
}

impl IssuerMetrics {
    /// Counts a token of this issuer.
    pub fn count_verification(&self, result: VerifyResult, cache: CacheResult) {
        self.0.verifications[result as usize * CacheResult::ALL.len() + cache as usize].inc();
    }

    /// Counts the time that a check took whose verdict was not known.
    pub fn record_verification(&self, took: Duration) {
        self.0.verify_seconds.observe(took);
    }

    /// Counts an attempt to fetch the keys.
    pub fn count_refresh(&self, ok: bool) {
        if ok {
            self.0.refreshed.inc()
        } else {
            self.0.refresh_failed.inc()
        };
    }

    /// Says how many keys can be used now.
    pub fn set_usable_keys(&self, usable: usize) {
        self.0.keys.keys.set(usable as u64);
    }

    /// Says when the keys in use were fetched, as [`Clock::monotonic_micros`] tells it.
    pub fn set_fetched_at(&self, monotonic_micros: u64) {
        self.0.keys.fetched_at.store(monotonic_micros, Ordering::Relaxed);
    }

    /// Counts a token that names a key which is not in the set.
    pub fn count_unknown_kid(&self) {
        self.0.unknown_kids.inc();
    }
}

/// The families of all issuers.
#[derive(Debug)]
pub(super) struct IssuerFamilies {
    verifications: Family<VerificationLabels, Counter>,
    verify_seconds: Family<IssuerLabels, Histogram>,
    refreshes: Family<RefreshLabels, Counter>,
    unknown_kids: Family<IssuerLabels, Counter>,
    live: Arc<Live<KeyState>>,
}

impl IssuerFamilies {
    pub(super) fn register(registry: &mut Registry, clock: Clock) -> Self {
        let families = Self {
            verifications: Family::default(),
            verify_seconds: Family::new_with_constructor(Histogram::of_verifications),
            refreshes: Family::default(),
            unknown_kids: Family::default(),
            live: Arc::default(),
        };
        registry.register(
            "token_verifications",
            "Tokens checked, by result and by whether the verdict was known already",
            families.verifications.clone(),
        );
        registry.register_with_unit(
            // With its unit: portcullis_token_verify_seconds.
            "token_verify",
            "Time to check a token whose verdict was not known",
            Unit::Seconds,
            families.verify_seconds.clone(),
        );
        registry.register("jwks_refreshes", "Attempts to fetch an issuer's keys", families.refreshes.clone());
        registry.register(
            "unknown_kids",
            "Tokens that name a key which the issuer's key set does not have",
            families.unknown_kids.clone(),
        );
        families.register_gauges(registry, clock);
        families
    }

    fn register_gauges(&self, registry: &mut Registry, clock: Clock) {
        registry.register_collector(Box::new(LiveGauge {
            name: "jwks_age",
            help: "Time since an issuer's keys were last fetched; absent until they are.",
            unit: Some(Unit::Seconds),
            live: Arc::clone(&self.live),
            read: Box::new(move |name, state: &KeyState| {
                let fetched_at = state.fetched_at.load(Ordering::Relaxed);
                if fetched_at == 0 {
                    return Vec::new();
                }
                let age = Duration::from_micros(clock.monotonic_micros().saturating_sub(fetched_at));
                vec![(vec![("issuer", Arc::clone(name))], Sample::Seconds(age.as_secs_f64()))]
            }),
        }));
        registry.register_collector(Box::new(LiveGauge {
            name: "jwks_keys",
            help: "Keys of an issuer that can be used now.",
            unit: None,
            live: Arc::clone(&self.live),
            read: Box::new(|name, state: &KeyState| {
                vec![(vec![("issuer", Arc::clone(name))], Sample::Whole(state.keys.value()))]
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
            keys: self.live.get_or_make(issuer, KeyState::default),
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
