//! Adoption: builds a [`Runtime`] from a plan, and keeps from the previous runtime what the new
//! plan does not change: key sets, connection pools, rate limit counters.
//!
//! Adoption either yields a complete runtime or fails without changing anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Plan;
use super::tls_files::TlsFiles;
use crate::config::Problems;
use crate::gateway::Runtime;
use crate::gateway::caller_cache::CallerCache;
use crate::gateway::policy::{FailureGuard, Limiter, Route};
use crate::primitives::clock::Clock;
use crate::telemetry::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::tls::client::ClientTls;
use crate::token::{IssuerSettings, IssuerSetupError, Issuers, Verifier};
use crate::upstream::Upstream;

/// Builds the runtimes of one process, one after the other.
#[derive(Debug)]
pub struct Adopter {
    metrics: Arc<Metrics>,
    clock: Clock,
    access_log: AccessLog,
    callers: Arc<CallerCache>,
}

/// Why no runtime can be built: a file that the configuration names is unusable.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// A file of an issuer.
    #[error("issuers.{issuer}: {source}")]
    Issuer {
        /// The name of the issuer.
        issuer: Arc<str>,
        /// What is wrong.
        source: IssuerSetupError,
    },
    /// Files of `[server.tls]` or of an upstream's `tls`: everything that is wrong with them.
    #[error("{0}")]
    Tls(Box<Problems>),
}

impl Adopter {
    /// An adopter whose runtimes share these parts, and one cache of verified callers.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, clock: Clock, access_log: AccessLog) -> Self {
        let callers = CallerCache::new(Arc::clone(&metrics));
        Self { metrics, clock, access_log, callers }
    }

    /// Builds the runtime of `plan`. Parts of `previous` whose settings are unchanged are reused.
    ///
    /// # Errors
    ///
    /// A file that an issuer needs, such as its `ca_file`, cannot be used.
    pub fn adopt(&self, plan: &Plan, previous: Option<&Runtime>) -> Result<Arc<Runtime>, AdoptError> {
        let tls =
            TlsFiles::load(plan, &self.clock, previous).map_err(|problems| AdoptError::Tls(Box::new(problems)))?;
        let issuers = self.issuers(plan, previous)?;
        let upstreams = self.upstreams(plan, tls.clients, previous);
        let limiters = self.limiters(plan, previous);
        // Cached callers hold headers rendered for one `IdentityHeaders` value. Reusing an equal
        // value keeps them valid.
        let identity = match previous {
            Some(previous) if **previous.identity() == plan.identity => Arc::clone(previous.identity()),
            Some(_) | None => Arc::new(plan.identity.clone()),
        };
        let routes = plan
            .routes
            .iter()
            .map(|settings| {
                let limits = settings.limits.iter().map(|name| Arc::clone(&limiters[name])).collect();
                let upstream = Arc::clone(&upstreams[&settings.upstream]);
                let metrics = self.metrics.route(Arc::clone(&settings.name));
                Arc::new(Route::new(settings.clone(), upstream, limits, metrics))
            })
            .collect();
        Ok(Arc::new(Runtime {
            settings: plan.server.settings.clone(),
            table: Arc::clone(&plan.table),
            routes,
            issuers: Arc::new(issuers),
            upstreams: upstreams.into_values().collect(),
            limiters: limiters.into_values().collect(),
            failure_guard: self.failure_guard(plan, previous),
            identity,
            callers: Arc::clone(&self.callers),
            challenges: plan.challenges.clone(),
            unrouted: self.metrics.route(""),
            access_log: if plan.log.access { self.access_log.with_format(plan.log.format) } else { AccessLog::off() },
            clock: self.clock.clone(),
            connections: self.metrics.connections().clone(),
            tls: tls.server,
        }))
    }

    fn issuers(&self, plan: &Plan, previous: Option<&Runtime>) -> Result<Issuers, AdoptError> {
        let mut verifiers = Vec::new();
        for settings in plan.issuers.values() {
            let existing = previous.and_then(|previous| previous.issuers().by_name(&settings.name));
            let verifier = self
                .verifier(settings, existing)
                .map_err(|source| AdoptError::Issuer { issuer: Arc::clone(&settings.name), source })?;
            verifiers.push(verifier);
        }
        Ok(Issuers::new(verifiers))
    }

    /// Keeps a verifier whose settings are unchanged, with its keys and its cached verdicts. A
    /// verifier with changed settings is replaced; the new one keeps the key store if that can
    /// serve it. Otherwise it has a new store, which takes over the keys when the runtime is
    /// swapped in.
    fn verifier(
        &self,
        settings: &IssuerSettings,
        existing: Option<&Arc<Verifier>>,
    ) -> Result<Arc<Verifier>, IssuerSetupError> {
        match existing {
            Some(existing) if existing.settings() == settings => Ok(Arc::clone(existing)),
            Some(existing) => existing.with_settings(settings.clone()),
            None => {
                let metrics = self.metrics.issuer(Arc::clone(&settings.name));
                Verifier::new(settings.clone(), self.clock.clone(), metrics)
            }
        }
    }

    fn upstreams(
        &self,
        plan: &Plan,
        mut tls: BTreeMap<Arc<str>, Arc<ClientTls>>,
        previous: Option<&Runtime>,
    ) -> BTreeMap<Arc<str>, Arc<Upstream>> {
        let existing = previous.map_or(&[][..], Runtime::upstreams);
        plan.upstreams
            .values()
            .map(|settings| {
                let unchanged = existing.iter().find(|upstream| upstream.settings() == settings);
                let upstream = unchanged.cloned().unwrap_or_else(|| {
                    let (settings, clock) = (settings.clone(), self.clock.clone());
                    let tls = tls.remove(&settings.name);
                    let changed = existing.iter().find(|upstream| *upstream.name() == settings.name);
                    Arc::new(if let Some(changed) = changed {
                        changed.successor(settings, tls, clock)
                    } else {
                        let metrics = self.metrics.upstream(Arc::clone(&settings.name));
                        Upstream::new(settings, tls, metrics, clock)
                    })
                });
                (Arc::clone(&settings.name), upstream)
            })
            .collect()
    }

    fn limiters(&self, plan: &Plan, previous: Option<&Runtime>) -> BTreeMap<Arc<str>, Arc<Limiter>> {
        let existing = previous.map_or(&[][..], Runtime::limiters);
        plan.limits
            .values()
            .map(|settings| {
                let unchanged = existing.iter().find(|limiter| limiter.settings() == settings);
                let limiter = unchanged.cloned().unwrap_or_else(|| {
                    let metrics = self.metrics.limit(Arc::clone(&settings.name));
                    Arc::new(Limiter::new(settings.clone(), metrics, self.clock.clone()))
                });
                (Arc::clone(&settings.name), limiter)
            })
            .collect()
    }

    fn failure_guard(&self, plan: &Plan, previous: Option<&Runtime>) -> Option<Arc<FailureGuard>> {
        let quota = plan.failure_guard?;
        let existing = previous.and_then(Runtime::failure_guard);
        let unchanged = existing.filter(|guard| *guard.quota() == quota);
        Some(unchanged.cloned().unwrap_or_else(|| {
            let metrics = self.metrics.limit(FailureGuard::NAME);
            Arc::new(FailureGuard::new(quota, metrics, self.clock.clone()))
        }))
    }
}
