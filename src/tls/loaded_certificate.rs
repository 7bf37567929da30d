//! A certificate in use, with where it is from and who renews it.

use std::sync::Arc;

use super::certificate::{CertificateFacts, Expiry};
use crate::primitives::clock::WallTime;

/// A certificate in use.
#[derive(Clone, Debug)]
pub(crate) struct LoadedCertificate {
    /// The file that it was read from, as the configuration names it.
    pub(crate) file: Arc<str>,
    /// What it says.
    pub(crate) facts: CertificateFacts,
    /// Who renews it.
    pub(crate) renewal: Renewal,
}

/// Who renews a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// The gateway does, in good time.
    Gateway,
    /// The operator does, or a tool of theirs.
    Operator,
}

impl LoadedCertificate {
    /// How far away the end of the certificate is at `now`. The end of one that the gateway renews
    /// is distant until it should have been renewed some time ago.
    #[must_use]
    pub(crate) fn expiry(&self, now: WallTime) -> Expiry {
        let expiry = self.facts.expiry(now);
        match (expiry, self.renewal) {
            (Expiry::Soon { .. }, Renewal::Gateway) if !self.facts.is_in_last_sixth(now) => Expiry::Distant,
            (Expiry::Distant | Expiry::Expired | Expiry::Soon { .. }, Renewal::Gateway | Renewal::Operator) => expiry,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_that_the_gateway_renews_is_reported_once_its_renewal_is_late() {
        const DAY: u64 = 24 * 60 * 60;
        let certificate = |renewal: Renewal, lifetime_days: u64| LoadedCertificate {
            file: "/a.pem".into(),
            facts: CertificateFacts {
                dns_names: Vec::new(),
                addresses: Vec::new(),
                not_before: WallTime::default(),
                not_after: WallTime::from_seconds(lifetime_days * DAY),
                fingerprint: [0; 32],
            },
            renewal,
        };
        let soon = |days_left: u64| Expiry::Soon { days_left };
        for (renewal, lifetime_days, days_left, expected) in [
            (Renewal::Operator, 90, 30, soon(30)),
            (Renewal::Gateway, 90, 30, Expiry::Distant),
            (Renewal::Gateway, 90, 15, Expiry::Distant),
            (Renewal::Gateway, 90, 14, soon(14)),
            (Renewal::Gateway, 6, 2, Expiry::Distant),
            (Renewal::Gateway, 6, 0, soon(0)),
            (Renewal::Gateway, 1_000, 40, Expiry::Distant),
        ] {
            let now = WallTime::from_seconds((lifetime_days - days_left) * DAY);
            let expiry = certificate(renewal, lifetime_days).expiry(now);
            assert_eq!(expiry, expected, "{renewal:?}, {days_left} of {lifetime_days} days");
        }
        let over = WallTime::from_seconds(90 * DAY + 1);
        assert_eq!(certificate(Renewal::Gateway, 90).expiry(over), Expiry::Expired);
    }
}
