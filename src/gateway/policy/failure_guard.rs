//! The guard against tokens that cost a signature check for nothing, per client address.
//!
//! Counts failures only. A token with a cached verdict never gets here, so over the limit the
//! gateway refuses only tokens that it would have to verify, and refuses them before it does.
//!
//! **One sender does not stop the others behind its address.** Over the limit, a token whose
//! signature is all that is left to check may still be verified at the expense of a *share*: one
//! failure at a time, refilled slowly. Each caller that was verified at this address before has a
//! share of its own; only a client that knows the caller's subject can use it up. All other callers
//! have [`NEWCOMER_SHARES`] in common, by the subject that the token claims, so that a program that
//! sends a bad token again and again uses up one of them. So the work that bad tokens of an address
//! can cause stays bounded by its limit and a tenth of it, and a share for each real caller.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;

use super::limit::{LimitExceeded, LimitOutcome, Usage};
use crate::primitives::clock::Clock;
use crate::rate_limit::table::Table;
use crate::rate_limit::{KeyOrigin, Quota, QuotaDecision, fields, key};
use crate::telemetry::metrics::LimitMetrics;

/// Number of shares of an address for callers that were not verified there before.
const NEWCOMER_SHARES: u32 = 16;

/// How much slower a share refills than the limit. All shares for newcomers together refill at a
/// tenth of the limit's rate.
const SHARE_SLOWDOWN: u32 = 10 * NEWCOMER_SHARES;

/// Number of keys in the table of shares, which are in use only while an address is over its limit.
const MAX_SHARES: usize = 20_000;

/// Number of callers that are remembered. One that is forgotten is a newcomer again.
const MAX_KNOWN_CALLERS: usize = 32_768;

/// The guard against token failures.
#[derive(Debug)]
pub struct FailureGuard {
    quota: Quota,
    failures: Table,
    share_quota: Quota,
    shares: Table,
    known_callers: KnownCallers,
    usage: Usage,
    clock: Clock,
    name: Arc<str>,
    policy: HeaderValue,
}

/// What a failure of the token to be verified counts against.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Allowance {
    /// The limit of the address.
    Limit,
    /// The share with this key.
    Share(u64),
}

/// Why a token must not be verified, and what the response says about it.
#[derive(Debug)]
pub struct TooManyFailures<'a> {
    /// The limit, and how long the client must wait.
    pub exceeded: LimitExceeded,
    /// The state of the limit.
    pub outcome: LimitOutcome<'a>,
}

impl FailureGuard {
    /// The name under which responses and metrics show the guard.
    pub const NAME: &'static str = "auth_failures";

    /// A guard without any failures.
    #[must_use]
    pub fn new(quota: Quota, metrics: LimitMetrics, clock: Clock) -> Self {
        Self {
            failures: Table::default(),
            share_quota: Quota { period: quota.period.saturating_mul(SHARE_SLOWDOWN), burst: 1, ..quota },
            shares: Table::new(MAX_SHARES),
            known_callers: KnownCallers::new(),
            usage: Usage::new(metrics),
            clock,
            name: Self::NAME.into(),
            policy: fields::policy(Self::NAME, &quota),
            quota,
        }
    }

    /// The failures that an address is allowed.
    #[must_use]
    pub fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Whether a new token of `client` may be verified. Counts no failure.
    ///
    /// `claimed_subject` is called over the limit only. It returns the hash of the subject that the
    /// token claims, if the signature is all that is left to check.
    ///
    /// # Errors
    ///
    /// [`TooManyFailures`].
    pub fn check(
        &self,
        client: IpAddr,
        claimed_subject: impl FnOnce() -> Option<u64>,
    ) -> Result<Allowance, TooManyFailures<'_>> {
        let (origin, now) = (KeyOrigin::Client(client), self.clock.monotonic_micros());
        let decision = self.failures.peek(key::address(client), origin, &self.quota, now);
        let retry_after = match decision {
            QuotaDecision::Allowed { .. } => return Ok(Allowance::Limit),
            QuotaDecision::Exceeded { retry_after } => retry_after,
        };
        if let Some(subject) = claimed_subject() {
            let share = self.share_of(client, subject);
            match self.shares.peek(share, origin, &self.share_quota, now) {
                QuotaDecision::Allowed { .. } => return Ok(Allowance::Share(share)),
                QuotaDecision::Exceeded { .. } => {}
            }
        }
        self.usage.count(&decision);
        Err(TooManyFailures {
            exceeded: LimitExceeded { limit: Arc::clone(&self.name), retry_after },
            outcome: LimitOutcome { limit: &self.name, decision, policy: &self.policy },
        })
    }

    /// Counts a failure of a token that [`check`](Self::check) has allowed.
    pub fn count(&self, client: IpAddr, allowance: Allowance) {
        let (origin, now) = (KeyOrigin::Client(client), self.clock.monotonic_micros());
        match allowance {
            Allowance::Limit => self.failures.take(key::address(client), origin, &self.quota, now),
            Allowance::Share(share) => self.shares.take(share, origin, &self.share_quota, now),
        };
    }

    /// Remembers that a token of this subject was valid at the address of `client`.
    pub fn remember(&self, client: IpAddr, subject: u64) {
        self.known_callers.insert(caller_key(client, subject));
    }

    /// Publishes how many cells are in use. Called at each scrape.
    pub fn report(&self) {
        self.usage.report(&self.failures);
    }

    fn share_of(&self, client: IpAddr, subject: u64) -> u64 {
        let caller = caller_key(client, subject);
        if self.known_callers.contains(caller) {
            return caller;
        }
        let number = subject % u64::from(NEWCOMER_SHARES);
        key::bytes(&[b"newcomer", &key::address(client).to_le_bytes(), &number.to_le_bytes()])
    }
}

fn caller_key(client: IpAddr, subject: u64) -> u64 {
    key::bytes(&[b"caller", &key::address(client).to_le_bytes(), &subject.to_le_bytes()])
}

/// A set of callers with a slot for each hash, in which the latest caller replaces an earlier one.
/// Only valid tokens get into it.
#[derive(Debug)]
struct KnownCallers(Box<[AtomicU64]>);

impl KnownCallers {
    fn new() -> Self {
        Self((0..MAX_KNOWN_CALLERS).map(|_| AtomicU64::new(0)).collect())
    }

    fn slot(&self, caller: u64) -> &AtomicU64 {
        let index = caller % self.0.len() as u64;
        &self.0[usize::try_from(index).expect("a remainder is less than the number of slots")]
    }

    fn insert(&self, caller: u64) {
        self.slot(caller).store(caller, Ordering::Relaxed);
    }

    fn contains(&self, caller: u64) -> bool {
        self.slot(caller).load(Ordering::Relaxed) == caller
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::primitives::clock::ManualClock;
    use crate::telemetry::metrics::Metrics;

    const BURST: usize = 10;

    fn guard() -> (FailureGuard, ManualClock) {
        let clock = ManualClock::at(1_800_000_000);
        let quota = Quota { count: 60, period: Duration::from_secs(60), burst: BURST as u64 };
        let metrics = Metrics::new(clock.clock()).limit(FailureGuard::NAME);
        (FailureGuard::new(quota, metrics, clock.clock()), clock)
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    /// How many of these bad tokens are verified, each claiming one of `subjects`.
    fn verified(guard: &FailureGuard, client: IpAddr, subjects: impl IntoIterator<Item = Option<u64>>) -> usize {
        let tokens = subjects.into_iter().filter(|subject| {
            let allowance = guard.check(client, || *subject).ok();
            allowance.inspect(|allowance| guard.count(client, *allowance)).is_some()
        });
        tokens.count()
    }

    #[test]
    fn bad_tokens_of_one_address_cost_its_limit_and_a_share_for_each_newcomer() {
        let (guard, clock) = guard();
        let shares = usize::try_from(NEWCOMER_SHARES).unwrap();
        assert_eq!(verified(&guard, address(1), vec![None; 1_000]), BURST, "no key, no share");
        assert_eq!(verified(&guard, address(1), vec![Some(7); 1_000]), 1, "one subject has one share");
        assert_eq!(verified(&guard, address(1), (0..1_000).map(Some)), shares - 1, "the others");
        assert_eq!(verified(&guard, address(2), vec![None; 1_000]), BURST, "another address");
        // The limit refills with one per second, all shares together with a tenth of that.
        let again = || (0..1_000).map(Some).chain(vec![None; 1_000]);
        clock.advance(Duration::from_secs(159));
        assert_eq!(verified(&guard, address(1), again()), BURST, "the limit is full again, and no share is");
        clock.advance(Duration::from_secs(1));
        assert_eq!(verified(&guard, address(1), again()), 1 + shares);
    }

    #[test]
    fn one_sender_does_not_use_up_the_shares_of_others() {
        let (guard, _clock) = guard();
        let (known, stranger) = (100, 116);
        assert_eq!(known % u64::from(NEWCOMER_SHARES), stranger % u64::from(NEWCOMER_SHARES));
        guard.remember(address(1), known);
        verified(&guard, address(1), vec![Some(stranger); 100]);
        assert_eq!(guard.check(address(1), || Some(stranger)).ok(), None);
        assert_ne!(guard.check(address(1), || Some(known)).ok(), None, "a caller that was here before");
        assert_ne!(guard.check(address(1), || Some(stranger + 1)).ok(), None, "a newcomer with another share");
        // A client that makes up subjects uses up the shares of newcomers only.
        verified(&guard, address(1), (1_000..2_000).map(Some));
        assert_eq!(guard.check(address(1), || Some(stranger + 1)).ok(), None);
        assert_ne!(guard.check(address(1), || Some(known)).ok(), None);
        // Known elsewhere is not known here.
        verified(&guard, address(2), (0..2_000).map(Some));
        assert_eq!(guard.check(address(2), || Some(known)).ok(), None);
    }

    #[test]
    fn good_tokens_use_up_no_share() {
        let (guard, _clock) = guard();
        verified(&guard, address(1), vec![None; 100]);
        for _ in 0..1_000 {
            assert!(guard.check(address(1), || Some(7)).is_ok());
        }
    }
}
