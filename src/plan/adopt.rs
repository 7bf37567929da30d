//! Adoption: a plan gets its living parts. What a reload did not change is taken over alive: key sets, pools, counters.
//!
//! The third of three representations is made here. Either a whole [`Runtime`] comes out, or an error and nothing has changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Plan;
use crate::gateway::Runtime;
use crate::gateway::caller_cache::CallerCache;
use crate::gateway::policy::{FailureGuard, Limiter, Route};
use crate::primitives::clock::Clock;
use crate::telemetry::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::token::{IssuerSettings, IssuerSetupError, Issuers, Verifier};
use crate::upstream::Upstream;

/// Makes runtimes of one process.
#[derive(Debug)]
pub struct Adopter {
    metrics: Arc<Metrics>,
    clock: Clock,
    access_log: AccessLog,
    callers: Arc<CallerCache>,
}

/// A plan that cannot be given its living parts.
#[derive(Debug, thiserror::Error)]
#[error("issuers.{issuer}: {source}")]
pub struct AdoptError {
    issuer: Arc<str>,
    source: IssuerSetupError,
}

impl Adopter {
    /// What all runtimes of the process share: metrics, clock, access log and the cache of verdicts.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, clock: Clock, access_log: AccessLog) -> Self {
        let callers = CallerCache::new(Arc::clone(&metrics));
        Self { metrics, clock, access_log, callers }
    }

    /// Makes a runtime of `plan`, with what `previous` has that still fits.
    ///
    /// # Errors
    ///
    /// A file that an issuer needs cannot be used.
    pub fn adopt(&mut self, plan: &Plan, previous: Option<&Runtime>) -> Result<Arc<Runtime>, AdoptError> {
        let issuers = self.issuers(plan, previous)?;
        let upstreams = self.upstreams(plan, previous);
        let limiters = self.limiters(plan, previous);
        // The same value, so that callers need not be rendered again.
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
        }))
    }

    /// A verifier whose settings stay the same is kept, with its keys and its verdicts. One whose settings
    /// change is replaced, and takes its predecessor's keys along where that is sound.
    fn issuers(&self, plan: &Plan, previous: Option<&Runtime>) -> Result<Issuers, AdoptError> {
        let mut verifiers = Vec::new();
        for settings in plan.issuers.values() {
            let before = previous.and_then(|previous| previous.issuers().by_name(&settings.name));
            let verifier = match before {
                Some(before) if before.settings() == settings => Arc::clone(before),
                Some(before) => checked(settings, before.with_settings(settings.clone()))?,
                None => {
                    let metrics = self.metrics.issuer(Arc::clone(&settings.name));
                    checked(settings, Verifier::new(settings.clone(), self.clock.clone(), metrics))?
                }
            };
            verifiers.push(verifier);
        }
        Ok(Issuers::new(verifiers))
    }

    fn upstreams(&self, plan: &Plan, previous: Option<&Runtime>) -> BTreeMap<Arc<str>, Arc<Upstream>> {
        let before = |name: &str| previous?.upstreams().iter().find(|upstream| **upstream.name() == *name);
        plan.upstreams
            .values()
            .map(|settings| {
                let upstream = match before(&settings.name) {
                    Some(before) if before.settings() == settings => Arc::clone(before),
                    _ => {
                        let metrics = self.metrics.upstream(Arc::clone(&settings.name));
                        Arc::new(Upstream::new(settings.clone(), metrics))
                    }
                };
                (Arc::clone(&settings.name), upstream)
            })
            .collect()
    }

    fn limiters(&self, plan: &Plan, previous: Option<&Runtime>) -> BTreeMap<Arc<str>, Arc<Limiter>> {
        let before = |name: &str| previous?.limiters().iter().find(|limiter| *limiter.settings().name == *name);
        plan.limits
            .values()
            .map(|settings| {
                let limiter = match before(&settings.name) {
                    Some(before) if before.settings() == settings => Arc::clone(before),
                    _ => {
                        let metrics = self.metrics.limit(Arc::clone(&settings.name));
                        Arc::new(Limiter::new(settings.clone(), metrics, self.clock.clone()))
                    }
                };
                (Arc::clone(&settings.name), limiter)
            })
            .collect()
    }

    fn failure_guard(&self, plan: &Plan, previous: Option<&Runtime>) -> Option<Arc<FailureGuard>> {
        let quota = plan.failure_guard?;
        match previous.and_then(Runtime::failure_guard) {
            Some(before) if *before.quota() == quota => Some(Arc::clone(before)),
            _ => {
                let metrics = self.metrics.limit(FailureGuard::NAME);
                Some(Arc::new(FailureGuard::new(quota, metrics, self.clock.clone())))
            }
        }
    }
}

fn checked<T>(settings: &IssuerSettings, made: Result<T, IssuerSetupError>) -> Result<T, AdoptError> {
    made.map_err(|source| AdoptError { issuer: Arc::clone(&settings.name), source })
}
