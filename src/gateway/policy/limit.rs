//! Rate limits: who shares a budget, how large it is, and whether a request is within it.
//!
//! Pure judgement: a limiter gets the client's address, the headers, the route and, after
//! authentication, the caller, and says what to do. The stage that asks writes the response fields.
//! The counting itself is in [`rate_limit`](crate::rate_limit).

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::primitives::clock::Clock;
use crate::rate_limit::table::Table;
use crate::rate_limit::{CellStore, Decision, Quota, fields, key};
use crate::telemetry::metrics::LimitMetrics;
use crate::token::{ClaimPath, Principal};

/// What `[limits.NAME]` means, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitSettings {
    /// NAME: in response fields and metrics.
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
    /// Where the value is.
    pub claim: ClaimPath,
    /// Value and budget; a value that is not listed has the limit's own budget.
    pub quotas: Vec<(String, Quota)>,
}

/// Who shares a budget.
#[derive(Clone, Debug, PartialEq)]
pub enum LimitKey {
    /// Callers with the same value of a claim, per issuer.
    Claim(ClaimPath),
    /// The client that the token was issued to, per issuer.
    Client,
    /// Requests with the same value of a header.
    Header(HeaderName),
    /// The client's address; of IPv6 the /64, which is what one customer has.
    Ip,
    /// All callers of an issuer.
    Issuer,
    /// All requests of the route.
    Route,
    /// One caller, by issuer and subject.
    Subject,
}

impl LimitKey {
    /// Whether it is known before authentication, so that the limit spares the gateway the work on
    /// tokens.
    #[must_use]
    pub fn is_known_before_auth(&self) -> bool {
        match self {
            Self::Header(_) | Self::Ip | Self::Route => true,
            Self::Claim(_) | Self::Client | Self::Issuer | Self::Subject => false,
        }
    }
}

/// What a limiter judges a request by.
#[derive(Clone, Copy, Debug)]
pub struct LimitSubject<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The route's name.
    pub route: &'a str,
    /// The caller; `None` before authentication, and for anonymous callers.
    pub caller: Option<&'a Principal>,
}

impl LimitSubject<'_> {
    fn address(&self) -> u64 {
        key::address(self.client)
    }
}

/// A limiter's decision, with what the response says of it.
#[derive(Debug)]
pub struct Judgement<'a> {
    /// The limit's name.
    pub limit: &'a Arc<str>,
    /// Whether the request may go on.
    pub decision: Decision,
    /// The item of `RateLimit-Policy`.
    pub policy: &'a HeaderValue,
}

impl Judgement<'_> {
    /// The item of `RateLimit`.
    #[must_use]
    pub fn state(&self) -> HeaderValue {
        fields::limit(self.limit, &self.decision)
    }
}

/// A limit with its cells. Kept across reloads while its settings stay the same.
#[derive(Debug)]
pub struct Limiter<S = Table> {
    settings: LimitSettings,
    /// The item of `RateLimit-Policy` for the limit's own quota.
    policy: HeaderValue,
    /// The same for each tier, in their order.
    tier_policies: Vec<HeaderValue>,
    cells: S,
    usage: Usage,
    clock: Clock,
}

/// A quota, and how responses name it.
#[derive(Clone, Copy)]
struct Budget<'a> {
    quota: &'a Quota,
    policy: &'a HeaderValue,
}

impl Limiter {
    /// All budgets unused, counted in this process.
    #[must_use]
    pub fn new(settings: LimitSettings, metrics: LimitMetrics, clock: Clock) -> Self {
        let policy = |quota: &Quota| fields::policy(&settings.name, quota);
        let tiers = settings.tiers.iter().flat_map(|tiers| &tiers.quotas);
        let tier_policies = tiers.map(|(_, quota)| policy(quota)).collect();
        let policy = policy(&settings.quota);
        Self { settings, policy, tier_policies, cells: Table::default(), usage: Usage::new(metrics), clock }
    }

    /// Publishes how many cells are in use; called at each scrape.
    pub fn report(&self) {
        self.usage.report(&self.cells);
    }
}

impl<S: CellStore> Limiter<S> {
    /// What it was made from.
    #[must_use]
    pub fn settings(&self) -> &LimitSettings {
        &self.settings
    }

    /// Counts a request, unless its budget is used up.
    pub async fn take(&self, subject: LimitSubject<'_>) -> Judgement<'_> {
        let Budget { quota, policy } = self.budget(subject.caller);
        let decision = self.cells.take(self.key(subject), quota, self.clock.monotonic_micros()).await;
        self.usage.count(&decision);
        Judgement { limit: &self.settings.name, decision, policy }
    }

    /// A request that lacks what the limit counts by is counted by the next best: a missing header by
    /// the address, a missing claim or client by the subject, an anonymous caller by the address.
    /// Leaving something out must not be a way around the limit.
    fn key(&self, subject: LimitSubject<'_>) -> u64 {
        match (&self.settings.key, subject.caller) {
            (LimitKey::Route, _) => key::strings(&["route", subject.route]),
            (LimitKey::Header(name), _) => match subject.headers.get(name) {
                Some(value) => key::bytes(&[b"header", value.as_bytes()]),
                None => subject.address(),
            },
            (LimitKey::Ip, _)
            | (LimitKey::Claim(_) | LimitKey::Client | LimitKey::Issuer | LimitKey::Subject, None) => subject.address(),
            (LimitKey::Claim(path), Some(caller)) => match caller.claim(path).and_then(scalar_text) {
                Some(value) => key::strings(&["claim", caller.issuer(), &value]),
                None => caller.subject_hash(),
            },
            (LimitKey::Client, Some(caller)) => match caller.client() {
                Some(client) => key::strings(&["client", caller.issuer(), client]),
                None => caller.subject_hash(),
            },
            (LimitKey::Issuer, Some(caller)) => key::strings(&["issuer", caller.issuer()]),
            (LimitKey::Subject, Some(caller)) => caller.subject_hash(),
        }
    }

    fn budget(&self, caller: Option<&Principal>) -> Budget<'_> {
        let own = Budget { quota: &self.settings.quota, policy: &self.policy };
        let (Some(tiers), Some(caller)) = (&self.settings.tiers, caller) else { return own };
        let Some(value) = caller.claim(&tiers.claim).and_then(Value::as_str) else { return own };
        let mut tiers = tiers.quotas.iter().zip(&self.tier_policies);
        tiers.find(|((tier, _), _)| tier == value).map_or(own, |((_, quota), policy)| Budget { quota, policy })
    }
}

fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// What a limit's metrics tell: requests over it, and how full its table is.
#[derive(Debug)]
struct Usage {
    metrics: LimitMetrics,
    /// Overflows that have been published.
    published_overflows: AtomicU64,
}

impl Usage {
    fn new(metrics: LimitMetrics) -> Self {
        Self { metrics, published_overflows: AtomicU64::new(0) }
    }

    fn count(&self, decision: &Decision) {
        match decision {
            Decision::Allowed { .. } => {}
            Decision::Refused { .. } => self.metrics.count_limited(),
        }
    }

    fn report(&self, table: &Table) {
        self.metrics.cells().set(table.occupied() as u64);
        let all = table.overflow_count();
        self.metrics.count_overflows(all.saturating_sub(self.published_overflows.swap(all, Ordering::Relaxed)));
    }
}

/// The guard against tokens that cost the gateway work for nothing: bad signatures and unknown keys,
/// per client address.
///
/// Counts failures only. Over the limit, a token without a cached verdict is refused before any
/// cryptography; one that is known to be valid still passes, so that an attacker locks nobody out
/// who shares the address.
#[derive(Debug)]
pub struct FailureGuard {
    quota: Quota,
    table: Table,
    usage: Usage,
    clock: Clock,
    name: Arc<str>,
    policy: HeaderValue,
}

impl FailureGuard {
    /// The guard's name among the limits.
    pub const NAME: &'static str = "auth_failures";

    /// No failures yet.
    #[must_use]
    pub fn new(quota: Quota, metrics: LimitMetrics, clock: Clock) -> Self {
        let policy = fields::policy(Self::NAME, &quota);
        Self { quota, table: Table::default(), usage: Usage::new(metrics), clock, name: Self::NAME.into(), policy }
    }

    /// Its budget.
    #[must_use]
    pub fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Whether another failure of `client` would be within the budget. Counts nothing.
    #[must_use]
    pub fn judge(&self, client: IpAddr) -> Judgement<'_> {
        let decision = self.table.peek(key::address(client), &self.quota, self.clock.monotonic_micros());
        self.usage.count(&decision);
        Judgement { limit: &self.name, decision, policy: &self.policy }
    }

    /// Counts a failure of `client`.
    pub fn count(&self, client: IpAddr) {
        self.table.take(key::address(client), &self.quota, self.clock.monotonic_micros());
    }

    /// Publishes how many cells are in use; called at each scrape.
    pub fn report(&self) {
        self.usage.report(&self.table);
    }
}
