//! Rate limiting: lets a request go now, or says when to come again.
//!
//! Stages 4 and 7 of [`Gateway::handle`](super::Gateway::handle). What is keyed by address, route or header is counted *before* the token is
//! looked at ([`before`]): it is there to spare us that work. What is keyed by who is calling is counted *after* authorisation ([`admit`]),
//! so that a stranger cannot spend somebody's budget. The counting itself is in [`state`](crate::rate_limit).

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::gateway::response::refusal::Refusal;
use crate::gateway::stages::authenticate::Caller;
use crate::gateway::stages::authorize::Permit;
use crate::gateway::stages::routing::RoutedRequest;
use crate::gateway::{ResponseContext, Runtime};
use crate::primitives::clock::Clock;
use crate::rate_limit::table::Table;
use crate::rate_limit::{Decision, Quota, fields, key};
use crate::telemetry::metrics::LimitMetrics;
use crate::token::{ClaimPath, Principal};

/// What `[limits.NAME]` means, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitSettings {
    /// NAME: in the answer's fields and in metrics.
    pub name: Arc<str>,
    /// Who shares a budget.
    pub key: LimitKey,
    /// The budget.
    pub quota: Quota,
    /// Other budgets, by a claim of the caller.
    pub tiers: Option<Tiers>,
}

/// Budgets by the value of a claim.
#[derive(Clone, Debug, PartialEq)]
pub struct Tiers {
    /// Where the value stands.
    pub claim: ClaimPath,
    /// Value and budget; a value that is not here has the limit's own budget.
    pub quotas: Vec<(String, Quota)>,
}

/// Who shares a budget.
#[derive(Clone, Debug, PartialEq)]
pub enum LimitKey {
    /// Callers with the same value of a claim, per issuer.
    Claim(ClaimPath),
    /// The client the token was issued to, per issuer.
    Client,
    /// Requests with the same value of a header.
    Header(HeaderName),
    /// The client's address; of IPv6 the /64, which is what one customer has.
    Ip,
    /// All callers of an issuer.
    Issuer,
    /// Everybody on the route.
    Route,
    /// One caller, by issuer and subject.
    Subject,
}

impl LimitKey {
    /// Whether it is counted before the token is looked at.
    #[must_use]
    pub fn counts_before_the_token(&self) -> bool {
        match self {
            Self::Header(_) | Self::Ip | Self::Route => true,
            Self::Claim(_) | Self::Client | Self::Issuer | Self::Subject => false,
        }
    }
}

/// A limit with its cells. Kept across reloads while its settings stay.
#[derive(Debug)]
pub struct Limiter {
    settings: LimitSettings,
    /// What answers say of the own quota, and of each tier's, in their order.
    policies: (HeaderValue, Vec<HeaderValue>),
    table: Counted,
    clock: Clock,
}

/// A table and the metrics about it.
#[derive(Debug)]
struct Counted {
    table: Table,
    metrics: LimitMetrics,
    /// Overflows that are in the metrics already.
    told: AtomicU64,
}

impl Counted {
    fn new(metrics: LimitMetrics) -> Self {
        Self { table: Table::default(), metrics, told: AtomicU64::new(0) }
    }

    /// Publishes how full the table is.
    fn report(&self) {
        self.metrics.cells().set(self.table.len() as u64);
        let all = self.table.overflowed();
        self.metrics.overflowed(all.saturating_sub(self.told.swap(all, Ordering::Relaxed)));
    }
}

/// Proof that a permitted request may go now. Neither `Clone` nor constructible elsewhere.
#[derive(Debug)]
pub struct Admitted(Permit);

impl Admitted {
    pub(in crate::gateway) fn into_permit(self) -> Permit {
        self.0
    }
}

/// Counts the route's limits that need no caller.
///
/// # Errors
///
/// [`Refusal::RateLimited`] by the first that is used up.
pub fn before(routed: &RoutedRequest, context: &mut ResponseContext) -> Result<(), Refusal> {
    for limiter in routed.route().limits_before() {
        let counted = limiter.take(limiter.key_before(routed), limiter.own_budget(), context);
        routed.enforce(counted, context)?;
    }
    Ok(())
}

/// Counts the route's limits on who is calling.
///
/// # Errors
///
/// [`Refusal::RateLimited`] by the first that is used up.
pub fn admit(permit: Permit, context: &mut ResponseContext) -> Result<Admitted, Refusal> {
    let routed = permit.routed();
    for limiter in routed.route().limits_after() {
        let (key, budget) = limiter.key_after(routed, permit.caller());
        let counted = limiter.take(key, budget, context);
        routed.enforce(counted, context)?;
    }
    Ok(Admitted(permit))
}

impl Limiter {
    /// All cells full.
    #[must_use]
    pub fn new(settings: LimitSettings, metrics: LimitMetrics, clock: Clock) -> Self {
        let policy = |quota: &Quota| fields::policy(&settings.name, quota);
        let tiers = settings.tiers.iter().flat_map(|tiers| &tiers.quotas).map(|(_, quota)| policy(quota)).collect();
        let policies = (policy(&settings.quota), tiers);
        Self { settings, policies, table: Counted::new(metrics), clock }
    }

    /// What it was made from.
    #[must_use]
    pub fn settings(&self) -> &LimitSettings {
        &self.settings
    }

    /// Publishes how many cells are in use; called at each scrape.
    pub fn report(&self) {
        self.table.report();
    }

    fn own_budget(&self) -> Budget<'_> {
        Budget { quota: &self.settings.quota, policy: &self.policies.0 }
    }

    fn take(&self, key: u64, budget: Budget<'_>, context: &mut ResponseContext) -> Result<(), Refusal> {
        let decision = self.table.table.take(key, budget.quota, self.clock.monotonic_micros());
        context.limit(budget.policy.clone(), fields::limit(&self.settings.name, &decision));
        match decision {
            Decision::Allowed { .. } => Ok(()),
            Decision::Refused { retry_after } => {
                self.table.metrics.limited();
                Err(Refusal::RateLimited { retry_after, limit: Arc::clone(&self.settings.name) })
            }
        }
    }

    fn key_before(&self, routed: &RoutedRequest) -> u64 {
        let address = || key::address(routed.request().client.ip);
        match &self.settings.key {
            LimitKey::Route => key::strings(&["route", &routed.route().rules().name]),
            // Without the header the address counts: leaving it out must not be a way around the limit.
            LimitKey::Header(name) => routed
                .request()
                .headers
                .get(name)
                .map_or_else(address, |value| key::bytes(&[b"header", value.as_bytes()])),
            // The others are never counted here.
            LimitKey::Ip | LimitKey::Claim(_) | LimitKey::Client | LimitKey::Issuer | LimitKey::Subject => address(),
        }
    }

    /// A caller that has no such claim or client is counted as the subject that it is; an anonymous one by its address.
    fn key_after(&self, routed: &RoutedRequest, caller: &Caller) -> (u64, Budget<'_>) {
        let principal = match caller {
            Caller::Anonymous => return (key::address(routed.request().client.ip), self.own_budget()),
            Caller::Known(principal) => principal,
        };
        let issuer = principal.issuer();
        let key = match &self.settings.key {
            LimitKey::Claim(path) => principal
                .claim(path)
                .and_then(scalar_text)
                .map_or_else(|| principal.subject_hash(), |value| key::strings(&["claim", issuer, &value])),
            LimitKey::Client => principal
                .client()
                .map_or_else(|| principal.subject_hash(), |client| key::strings(&["client", issuer, client])),
            LimitKey::Issuer => key::strings(&["issuer", issuer]),
            LimitKey::Subject | LimitKey::Header(_) | LimitKey::Ip | LimitKey::Route => principal.subject_hash(),
        };
        (key, self.budget_of(principal))
    }

    fn budget_of(&self, principal: &Principal) -> Budget<'_> {
        let own = self.own_budget();
        let Some(tiers) = &self.settings.tiers else { return own };
        let Some(value) = principal.claim(&tiers.claim).and_then(Value::as_str) else { return own };
        let mut tiers = tiers.quotas.iter().zip(&self.policies.1);
        tiers.find(|((tier, _), _)| tier == value).map_or(own, |((_, quota), policy)| Budget { quota, policy })
    }
}

/// A quota, and how answers name it.
#[derive(Clone, Copy)]
struct Budget<'a> {
    quota: &'a Quota,
    policy: &'a HeaderValue,
}

fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The guard against tokens that cost us work for nothing: bad signatures and unknown keys, per client address.
///
/// Only failures are counted. Over the limit a token without a known verdict is refused before any crypto; one that is known to be good still
/// passes, so that nobody behind the same address is locked out.
#[derive(Debug)]
pub struct FailureGuard {
    quota: Quota,
    table: Counted,
    clock: Clock,
    name: Arc<str>,
    policy: HeaderValue,
}

impl FailureGuard {
    /// The guard's name where a limit is named.
    pub const NAME: &'static str = "auth_failures";

    /// No failures yet.
    #[must_use]
    pub fn new(quota: Quota, metrics: LimitMetrics, clock: Clock) -> Self {
        let policy = fields::policy(Self::NAME, &quota);
        Self { quota, table: Counted::new(metrics), clock, name: Self::NAME.into(), policy }
    }

    /// Its budget.
    #[must_use]
    pub fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Refuses a token from `client` unless another failure would be within the limit.
    ///
    /// # Errors
    ///
    /// [`Refusal::RateLimited`].
    pub fn check(&self, client: IpAddr, context: &mut ResponseContext) -> Result<(), Refusal> {
        let decision = self.table.table.peek(key::address(client), &self.quota, self.clock.monotonic_micros());
        match decision {
            Decision::Allowed { .. } => Ok(()),
            Decision::Refused { retry_after } => {
                self.table.metrics.limited();
                context.limit(self.policy.clone(), fields::limit(&self.name, &decision));
                Err(Refusal::RateLimited { retry_after, limit: Arc::clone(&self.name) })
            }
        }
    }

    /// Counts a failure of `client`.
    pub fn count(&self, client: IpAddr) {
        self.table.table.take(key::address(client), &self.quota, self.clock.monotonic_micros());
    }

    /// Publishes how many cells are in use; called at each scrape.
    pub fn report(&self) {
        self.table.report();
    }
}

/// Publishes the limiters' sizes; called at each scrape.
pub fn report(runtime: &Runtime) {
    for limiter in runtime.limiters() {
        limiter.report();
    }
    if let Some(guard) = runtime.failure_guard() {
        guard.report();
    }
}
