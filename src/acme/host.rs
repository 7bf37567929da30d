//! A host, and when it needs attention.

use std::sync::Arc;
use std::time::Duration;

use super::schedule;
use crate::primitives::clock::WallTime;
use crate::primitives::random;
use crate::tls::certificate::CertificateFacts;
use crate::tls::managed::ManagedHost;

/// How often the ACME server is asked when it wants a certificate to be renewed. It may ask for a
/// renewal at once, so that this also bounds how many certificates an ACME server can cause that
/// always does.
const INFO_INTERVAL: Duration = Duration::from_secs(12 * 60 * 60);

/// The first time it is asked after a start: within this time, at random.
const FIRST_INFO_DELAY: Duration = Duration::from_secs(10 * 60);

/// The most orders for a host in [`ORDERS_PERIOD`], whether they succeed or not. A certificate that
/// is due as soon as it is issued, or a clock that is wrong, must not use up what a public
/// authority allows.
const MAX_ORDERS: usize = 4;

const ORDERS_PERIOD: Duration = Duration::from_secs(60 * 60);

/// What is known of a host.
#[derive(Debug)]
pub(super) struct Host {
    /// Its name, and the file of its certificate.
    pub(super) managed: ManagedHost,
    /// The attempts in a row that have failed.
    pub(super) failures: u32,
    /// The earliest time of the next attempt.
    pub(super) not_before: WallTime,
    /// When the last orders were placed, in seconds since the Unix epoch.
    pub(super) orders: Vec<u64>,
    /// Key and chain of the certificate in use, if they could not be stored.
    pub(super) unstored: Option<Arc<str>>,
    /// When the certificate in use ends; `None` without one.
    pub(super) expires: Option<WallTime>,
    /// Drawn once, so that the time of the renewal does not move. From 0 to 1.
    pub(super) jitter: f64,
    /// When its certificate is to be renewed, as far as the gateway is concerned.
    due: WallTime,
    /// When the ACME server wants the certificate in use to be renewed, if it has said so.
    suggested: Option<WallTime>,
    /// When to ask it.
    ask_at: WallTime,
    /// Not before, also if the operator asks for a reload: an ACME server that always wants a
    /// renewal must not get one with each.
    ask_not_before: WallTime,
}

impl Host {
    /// A host without a certificate, at `now`.
    pub(super) fn new(managed: ManagedHost, now: WallTime) -> Self {
        Self {
            managed,
            failures: 0,
            not_before: WallTime::default(),
            orders: Vec::new(),
            unstored: None,
            expires: None,
            jitter: random::fraction(),
            due: WallTime::default(),
            suggested: None,
            ask_at: after(now, FIRST_INFO_DELAY.mul_f64(random::fraction())),
            ask_not_before: WallTime::default(),
        }
    }

    /// The certificate in use, which is renewed in time.
    pub(super) fn has_certificate(&mut self, facts: &CertificateFacts, renew_before: Option<Duration>) {
        self.suggested = self.suggested.filter(|_| self.expires == Some(facts.not_after));
        self.due = schedule::renewal_due(facts, renew_before, self.jitter);
        self.expires = Some(facts.not_after);
    }

    /// Another certificate is needed now.
    pub(super) fn needs_certificate(&mut self) {
        self.due = WallTime::default();
    }

    /// Counts an attempt at `now` as failed, until it succeeds, and sets the time of the next one.
    pub(super) fn begin_attempt(&mut self, now: WallTime) {
        self.failures = self.failures.saturating_add(1);
        let began = now.seconds();
        self.orders.retain(|order| *order <= began && began - order < ORDERS_PERIOD.as_secs());
        self.orders.push(began);
        self.not_before = after(now, schedule::pause(self.failures, random::fraction())).max(self.next_order());
    }

    /// When the next order may be placed, as far as their number is concerned.
    fn next_order(&self) -> WallTime {
        let oldest = self.orders.len().checked_sub(MAX_ORDERS).map(|index| WallTime::from_seconds(self.orders[index]));
        oldest.map_or(WallTime::default(), |oldest| after(oldest, ORDERS_PERIOD))
    }

    /// The attempt has succeeded, at `now`.
    pub(super) fn succeed(&mut self, now: WallTime) {
        self.failures = 0;
        self.not_before = self.next_order();
        self.suggested = None;
        self.ask_not_before = after(now, INFO_INTERVAL);
        self.ask_at = self.ask_not_before;
    }

    /// Leaves the host alone for `pause`.
    pub(super) fn postpone(&mut self, now: WallTime, pause: Duration) {
        self.not_before = after(now, pause);
        self.ask_at = self.ask_at.max(self.not_before);
    }

    /// Whether a certificate is to be ordered at `now`.
    pub(super) fn is_due(&self, now: WallTime) -> bool {
        let due = self.suggested.map_or(self.due, |suggested| suggested.min(self.due));
        due.max(self.not_before) <= now
    }

    /// Whether it is time to store the certificate in use again.
    pub(super) fn is_to_be_stored(&self, now: WallTime) -> bool {
        self.unstored.is_some() && self.not_before <= now
    }

    /// Whether the ACME server is to be asked at `now` when it wants the certificate to be renewed.
    pub(super) fn is_to_be_asked_about(&self, now: WallTime) -> bool {
        self.expires.is_some() && self.ask_at.max(self.not_before) <= now && !self.is_due(now)
    }

    /// The ACME server is asked at `now`, and not again for a while.
    pub(super) fn is_asked_about(&mut self, now: WallTime) {
        self.ask_at = after(now, INFO_INTERVAL);
    }

    /// Asks as soon as possible, because the operator wants a reload.
    pub(super) fn ask_soon(&mut self) {
        self.ask_at = self.ask_not_before;
    }

    /// Renews the certificate at the time that the ACME server suggests. That may be earlier than
    /// the gateway would, but not later: a mistake there must not let a certificate expire. Returns
    /// whether it is earlier.
    pub(super) fn suggest(&mut self, time: WallTime) -> bool {
        self.suggested = Some(time);
        time < self.due
    }
}

/// `pause` after `now`.
pub(super) fn after(now: WallTime, pause: Duration) -> WallTime {
    WallTime::from_seconds(now.seconds().saturating_add(pause.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60 * 60;

    fn day(number: u64) -> WallTime {
        WallTime::from_seconds(number * DAY)
    }

    /// A certificate that is valid from day 1,000 to day 1,090, and due after day 1,056.
    fn facts(not_after: u64) -> CertificateFacts {
        CertificateFacts {
            dns_names: Vec::new(),
            addresses: Vec::new(),
            not_before: day(1_000),
            not_after: day(not_after),
            fingerprint: [0; 32],
        }
    }

    fn host() -> Host {
        let mut host = Host::new(ManagedHost { host: "a.test".into(), file: "/a".into() }, day(1_000));
        assert!(host.is_due(day(1_000)) && !host.is_to_be_asked_about(day(1_001)), "without a certificate");
        host.has_certificate(&facts(1_090), None);
        host
    }

    #[test]
    fn the_acme_server_can_have_a_certificate_renewed_earlier_and_not_later() {
        let mut host = host();
        assert!(!host.is_due(day(1_056)) && host.is_due(day(1_060)));
        assert!(!host.suggest(day(1_080)) && host.is_due(day(1_060)), "not later");
        assert!(host.suggest(day(1_010)));
        assert!(!host.is_due(day(1_009)) && host.is_due(day(1_010)));
        host.begin_attempt(day(1_010));
        host.has_certificate(&facts(1_090), None);
        assert!(!host.is_due(day(1_010)) && host.is_due(day(1_011)), "an attempt that fails is repeated");
        host.has_certificate(&facts(1_095), None);
        assert!(!host.is_due(day(1_011)), "that was about another certificate");
    }

    /// Threat AC-6: certificates that are due at once.
    #[test]
    fn there_are_at_most_four_orders_in_an_hour_although_they_succeed() {
        let mut host = host();
        let mut now = day(1_070);
        let mut orders = 0;
        while now < after(day(1_070), ORDERS_PERIOD) {
            if host.is_due(now) {
                host.begin_attempt(now);
                host.succeed(now);
                orders += 1;
            }
            now = after(now, Duration::from_secs(1));
        }
        assert_eq!(orders, MAX_ORDERS);
        assert!(host.is_due(after(now, Duration::from_secs(10))), "then it goes on");
        // A clock that went back leaves nothing behind.
        host.begin_attempt(day(1_060));
        host.succeed(day(1_060));
        assert!(host.is_due(day(1_060)));
    }

    #[test]
    fn it_is_asked_twice_a_day_and_when_the_operator_wants_a_reload() {
        let mut host = host();
        assert!(!host.is_to_be_asked_about(WallTime::default()));
        let now = day(1_001);
        assert!(host.is_to_be_asked_about(now), "within ten minutes after the start");
        host.is_asked_about(now);
        assert!(!host.is_to_be_asked_about(now));
        assert!(host.is_to_be_asked_about(day(1_002)));
        host.ask_soon();
        assert!(host.is_to_be_asked_about(now));
        host.succeed(now);
        host.ask_soon();
        assert!(!host.is_to_be_asked_about(after(now, Duration::from_secs(DAY / 2 - 1))), "a new certificate");
        assert!(host.is_to_be_asked_about(after(now, Duration::from_secs(DAY / 2))));
        assert!(!host.is_to_be_asked_about(day(1_080)), "it is due anyway");
    }
}
