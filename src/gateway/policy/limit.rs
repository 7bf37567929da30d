//! Rate limits: which requests share a budget, how large it is, and whether a request is within it.
//!
//! A limiter gets the client's address, the headers, the route and, after authentication, the
//! caller. It counts the request and returns the outcome; the stage that calls it refuses the
//! request or not. [`rate_limit`](crate::rate_limit) does the counting.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::primitives::clock::Clock;
use crate::rate_limit::table::Table;
use crate::rate_limit::{CellStore, KeyOrigin, Quota, QuotaDecision, fields, key};
use crate::telemetry::metrics::LimitMetrics;
use crate::token::{ClaimPath, Principal, number};
use crate::upstream::headers::names::is_same;

/// A rate limit, compiled from `[limits.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitSettings {
    /// NAME, as response fields and metrics show it.
    pub name: Arc<str>,
    /// Which requests share a budget.
    pub key: LimitKey,
    /// The budget.
    pub quota: Quota,
    /// Different budgets for callers with certain values of a claim.
    pub tiers: Option<Tiers>,
}

/// Budgets by the value of a claim.
#[derive(Clone, Debug, PartialEq)]
pub struct Tiers {
    /// The path of the claim.
    pub claim: ClaimPath,
    /// Values and their budgets. A caller with any other value has the limit's own budget.
    pub quotas: Vec<(String, Quota)>,
}

/// Which requests share a budget.
#[derive(Clone, Debug, PartialEq)]
pub enum LimitKey {
    /// Those of callers with the same value of a claim, per issuer.
    Claim(ClaimPath),
    /// Those with tokens for the same client, per issuer.
    Client,
    /// Those with the same value of a header.
    Header(HeaderName),
    /// Those from the same address. For IPv6 that is the /64, since one customer usually has a
    /// whole /64.
    Ip,
    /// Those with tokens of the same issuer.
    Issuer,
    /// All on the same route.
    Route,
    /// Those of the same subject, per issuer.
    Subject,
}

impl LimitKey {
    /// Whether the key is known before authentication. Such a limit is counted before any token is
    /// verified.
    #[must_use]
    pub fn is_known_before_auth(&self) -> bool {
        match self {
            Self::Header(_) | Self::Ip | Self::Route => true,
            Self::Claim(_) | Self::Client | Self::Issuer | Self::Subject => false,
        }
    }
}

/// The parts of a request that a limiter needs.
#[derive(Clone, Copy, Debug)]
pub struct LimitInput<'a> {
    /// The client's address.
    pub client_ip: IpAddr,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The route's name.
    pub route: &'a str,
    /// The caller; `None` before authentication, and for anonymous callers.
    pub principal: Option<&'a Principal>,
}

impl LimitInput<'_> {
    fn address_key(&self) -> u64 {
        key::address(self.client_ip)
    }
}

/// The outcome of counting a request: the decision, and what the response states about it.
#[derive(Debug)]
pub struct LimitOutcome<'a> {
    /// The limit's name.
    pub limit: &'a Arc<str>,
    /// Whether the limit allows the request.
    pub decision: QuotaDecision,
    /// The item of `RateLimit-Policy`.
    pub policy: &'a HeaderValue,
}

/// A limit that is used up.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitExceeded {
    /// The limit's name.
    pub limit: Arc<str>,
    /// How long the client must wait.
    pub retry_after: Duration,
}

impl LimitOutcome<'_> {
    /// `Ok` if the limit allows the request.
    ///
    /// # Errors
    ///
    /// [`LimitExceeded`].
    pub fn require_allowed(&self) -> Result<(), LimitExceeded> {
        match self.decision {
            QuotaDecision::Allowed { .. } => Ok(()),
            QuotaDecision::Exceeded { retry_after } => {
                Err(LimitExceeded { limit: Arc::clone(self.limit), retry_after })
            }
        }
    }

    /// The item of `RateLimit`.
    #[must_use]
    pub fn state(&self) -> HeaderValue {
        fields::limit(self.limit, &self.decision)
    }
}

/// A limit with its cells. A reload keeps it if its settings are unchanged.
#[derive(Debug)]
pub struct Limiter<S = Table> {
    settings: LimitSettings,
    /// The item of `RateLimit-Policy` for the limit's own quota.
    policy: HeaderValue,
    /// The same for each tier, in the order of the tiers.
    tier_policies: Vec<HeaderValue>,
    cells: S,
    usage: Usage,
    clock: Clock,
}

/// A quota with its item of `RateLimit-Policy`.
#[derive(Clone, Copy)]
struct AppliedQuota<'a> {
    quota: &'a Quota,
    policy: &'a HeaderValue,
}

impl Limiter {
    /// A limiter that counts in this process, with all budgets unused.
    #[must_use]
    pub fn new(settings: LimitSettings, metrics: LimitMetrics, clock: Clock) -> Self {
        let policy = |quota: &Quota| fields::policy(&settings.name, quota);
        let tiers = settings.tiers.iter().flat_map(|tiers| &tiers.quotas);
        let tier_policies = tiers.map(|(_, quota)| policy(quota)).collect();
        let policy = policy(&settings.quota);
        Self { settings, policy, tier_policies, cells: Table::default(), usage: Usage::new(metrics), clock }
    }

    /// Publishes how many cells are in use. Called at each scrape.
    pub fn report(&self) {
        self.usage.report(&self.cells);
    }
}

impl<S: CellStore> Limiter<S> {
    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &LimitSettings {
        &self.settings
    }

    /// Counts a request against its budget, unless the budget is used up.
    pub async fn take(&self, input: LimitInput<'_>) -> LimitOutcome<'_> {
        let AppliedQuota { quota, policy } = self.budget(input.principal);
        let now = self.clock.monotonic_micros();
        let decision = self.cells.take(self.key(input), self.origin(input), quota, now).await;
        self.usage.count(&decision);
        LimitOutcome { limit: &self.settings.name, decision, policy }
    }

    /// A client must not bypass the limit by omitting what the key is made of. A request without
    /// the header is therefore counted by its address, a caller without a usable claim or client by
    /// its subject, and an anonymous caller by its address. So is a request with several lines of
    /// the header, in any spelling: the backend may use any of them.
    fn key(&self, input: LimitInput<'_>) -> u64 {
        match (&self.settings.key, input.principal) {
            (LimitKey::Route, _) => key::strings(&["route", input.route]),
            (LimitKey::Header(name), _) => {
                let mut fields = input.headers.iter().filter(|(field, _)| is_same(field.as_str(), name.as_str()));
                match (fields.next(), fields.next()) {
                    (Some((_, value)), None) => key::bytes(&[b"header", value.as_bytes()]),
                    (None | Some(_), _) => input.address_key(),
                }
            }
            (LimitKey::Ip, _)
            | (LimitKey::Claim(_) | LimitKey::Client | LimitKey::Issuer | LimitKey::Subject, None) => {
                input.address_key()
            }
            (LimitKey::Claim(path), Some(caller)) => match caller.claim(path).and_then(scalar_text) {
                Some(value) => key::strings(&["claim", caller.issuer(), &value]),
                None => caller.subject_hash(),
            },
            (LimitKey::Client, Some(caller)) => match caller.client_id() {
                Some(client) => key::strings(&["client", caller.issuer(), client]),
                None => caller.subject_hash(),
            },
            (LimitKey::Issuer, Some(caller)) => key::strings(&["issuer", caller.issuer()]),
            (LimitKey::Subject, Some(caller)) => caller.subject_hash(),
        }
    }

    /// Whether the client could have made up the key of this request.
    fn origin(&self, input: LimitInput<'_>) -> KeyOrigin {
        match (&self.settings.key, input.principal) {
            (LimitKey::Header(_) | LimitKey::Ip, _)
            | (LimitKey::Claim(_) | LimitKey::Client | LimitKey::Issuer | LimitKey::Subject, None) => {
                KeyOrigin::Client(input.client_ip)
            }
            (LimitKey::Route, _)
            | (LimitKey::Claim(_) | LimitKey::Client | LimitKey::Issuer | LimitKey::Subject, Some(_)) => {
                KeyOrigin::Verified
            }
        }
    }

    fn budget(&self, caller: Option<&Principal>) -> AppliedQuota<'_> {
        let own = AppliedQuota { quota: &self.settings.quota, policy: &self.policy };
        let (Some(tiers), Some(caller)) = (&self.settings.tiers, caller) else { return own };
        let Some(value) = caller.claim(&tiers.claim).and_then(Value::as_str) else { return own };
        let mut tiers = tiers.quotas.iter().zip(&self.tier_policies);
        tiers.find(|((tier, _), _)| tier == value).map_or(own, |((_, quota), policy)| AppliedQuota { quota, policy })
    }
}

/// The text of a scalar. `None` for other values, and for a number whose value is not exactly
/// known: callers with different numbers must not share a budget.
fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(value) => number::text(value),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The metrics of a limit: refused requests, and how full the table is.
#[derive(Debug)]
pub(super) struct Usage {
    metrics: LimitMetrics,
    /// The number of overflows published so far.
    published_overflows: AtomicU64,
}

impl Usage {
    pub(super) fn new(metrics: LimitMetrics) -> Self {
        Self { metrics, published_overflows: AtomicU64::new(0) }
    }

    pub(super) fn count(&self, decision: &QuotaDecision) {
        match decision {
            QuotaDecision::Allowed { .. } => {}
            QuotaDecision::Exceeded { .. } => self.metrics.count_limited(),
        }
    }

    pub(super) fn report(&self, table: &Table) {
        self.metrics.cells().set(table.occupied() as u64);
        let all = table.overflow_count();
        self.metrics.count_overflows(all.saturating_sub(self.published_overflows.swap(all, Ordering::Relaxed)));
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::primitives::clock::ManualClock;
    use crate::telemetry::metrics::Metrics;

    /// A limiter of one request per hour with room for 100 keys.
    fn limiter(key: LimitKey) -> Limiter {
        let quota = Quota { count: 1, period: Duration::from_secs(3600), burst: 1 };
        let clock = ManualClock::at(1_800_000_000).clock();
        let metrics = Metrics::new(clock.clone()).limit("calls");
        let settings = LimitSettings { name: "calls".into(), key, quota, tiers: None };
        Limiter { cells: Table::new(100), ..Limiter::new(settings, metrics, clock) }
    }

    /// How many of `count` requests, each with another key, the limiter allows.
    async fn count_allowed(limiter: &Limiter, count: u32, address: impl Fn(u32) -> IpAddr) -> usize {
        let mut allowed = 0;
        for number in 0..count {
            let mut headers = HeaderMap::new();
            headers.insert("x-api-key", HeaderValue::from(number));
            let input = LimitInput { client_ip: address(number), headers: &headers, route: "calls", principal: None };
            allowed += usize::from(limiter.take(input).await.require_allowed().is_ok());
        }
        allowed
    }

    /// Threat RL-7: the client makes up header values, or uses the addresses of its IPv6 network.
    #[tokio::test]
    async fn one_client_gets_no_more_keys_than_its_share() {
        let header = limiter(LimitKey::Header(HeaderName::from_static("x-api-key")));
        assert_eq!(count_allowed(&header, 1_000, |_| [192, 0, 2, 1].into()).await, 11);
        assert_eq!(count_allowed(&header, 1, |_| [192, 0, 2, 2].into()).await, 0, "the value is in use");
        let ip = limiter(LimitKey::Ip);
        let in_one_network = |number: u32| {
            let subnet = u16::try_from(number).unwrap();
            std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, subnet, 0, 0, 0, 1).into()
        };
        assert_eq!(count_allowed(&ip, 1_000, in_one_network).await, 11);
        let in_many_networks = |number: u32| std::net::Ipv4Addr::from_bits(number << 8).into();
        assert_eq!(count_allowed(&ip, 80, in_many_networks).await, 80, "others have their own share");
    }
}
