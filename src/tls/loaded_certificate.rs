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
    pub(crate) renewer: Renewer,
}

/// Who renews a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewer {
    /// The gateway does, in good time.
    Gateway,
    /// The operator does, or a tool of theirs.
    Operator,
}

impl LoadedCertificate {
    /// How far away the certificate's expiry is at `now`. If the gateway renews the certificate,
    /// the expiry counts as distant until the renewal is well overdue.
    #[must_use]
    pub(crate) fn expiry(&self, now: WallTime) -> Expiry {
        let expiry = self.facts.expiry(now);
        match (expiry, self.renewer) {
            (Expiry::Soon { .. }, Renewer::Gateway) if !self.facts.is_in_last_sixth(now) => Expiry::Distant,
            (Expiry::Distant | Expiry::Expired | Expiry::Soon { .. }, Renewer::Gateway | Renewer::Operator) => expiry,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_that_the_gateway_renews_is_reported_once_its_renewal_is_late() {
        const DAY: u64 = 24 * 60 * 60;
        let certificate = |renewer: Renewer, lifetime_days: u64| LoadedCertificate {
            file: "/a.pem".into(),
            facts: CertificateFacts {
                dns_names: Vec::new(),
                addresses: Vec::new(),
                not_before: WallTime::default(),
                not_after: WallTime::from_seconds(lifetime_days * DAY),
                fingerprint: [0; 32],
            },
            renewer,
        };
        let soon = |days_left: u64| Expiry::Soon { days_left };
        for (renewer, lifetime_days, days_left, expected) in [
            (Renewer::Operator, 90, 30, soon(30)),
            (Renewer::Gateway, 90, 30, Expiry::Distant),
            (Renewer::Gateway, 90, 15, Expiry::Distant),
            (Renewer::Gateway, 90, 14, soon(14)),
            (Renewer::Gateway, 6, 2, Expiry::Distant),
            (Renewer::Gateway, 6, 0, soon(0)),
            (Renewer::Gateway, 1_000, 40, Expiry::Distant),
        ] {
            let now = WallTime::from_seconds((lifetime_days - days_left) * DAY);
            let expiry = certificate(renewer, lifetime_days).expiry(now);
            assert_eq!(expiry, expected, "{renewer:?}, {days_left} of {lifetime_days} days");
        }
        let over = WallTime::from_seconds(90 * DAY + 1);
        assert_eq!(certificate(Renewer::Gateway, 90).expiry(over), Expiry::Expired);
    }
}
