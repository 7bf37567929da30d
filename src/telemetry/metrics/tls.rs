//! Metrics of TLS: handshakes with clients, and the certificates of the gateway.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge as PrometheusGauge;
use prometheus_client::registry::{Registry, Unit};

use super::{ResultLabels, result_label};
use crate::primitives::clock::WallTime;

/// Why a handshake with a client has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// The client has sent an alert: it does not accept the certificate, for example.
    Alert,
    /// The client offers neither `h2` nor `http/1.1`.
    ApplicationProtocol,
    /// The client's certificate has expired, or is not valid yet.
    ClientCertificateExpired,
    /// The client's certificate cannot be used for another reason.
    ClientCertificateInvalid,
    /// The client has no certificate, and one is required.
    ClientCertificateMissing,
    /// No revocation list that is up to date covers the client's certificate.
    ClientCertificateRevocationUnknown,
    /// The client's certificate is revoked.
    ClientCertificateRevoked,
    /// None of the authorities in `client_ca` has issued the client's certificate.
    ClientCertificateUntrusted,
    /// The client has closed the connection.
    Closed,
    /// What the client has sent is not valid TLS.
    Malformed,
    /// The gateway has yet to obtain the certificate for the name that the client asks for.
    NoCertificate,
    /// No cipher suite, key exchange or signature scheme in common.
    Parameters,
    /// The client speaks HTTP without TLS.
    PlainHttp,
    /// The client speaks TLS to a listener without it.
    PlainListener,
    /// Not complete within `header_timeout`.
    Timeout,
    /// No version of TLS in common.
    Version,
}

impl HandshakeFailure {
    const ALL: [Self; 16] = [
        Self::Alert,
        Self::ApplicationProtocol,
        Self::ClientCertificateExpired,
        Self::ClientCertificateInvalid,
        Self::ClientCertificateMissing,
        Self::ClientCertificateRevocationUnknown,
        Self::ClientCertificateRevoked,
        Self::ClientCertificateUntrusted,
        Self::Closed,
        Self::Malformed,
        Self::NoCertificate,
        Self::Parameters,
        Self::PlainHttp,
        Self::PlainListener,
        Self::Timeout,
        Self::Version,
    ];

    /// Whether the client's certificate is the reason.
    #[must_use]
    pub fn is_of_client_certificate(self) -> bool {
        match self {
            Self::ClientCertificateExpired
            | Self::ClientCertificateInvalid
            | Self::ClientCertificateMissing
            | Self::ClientCertificateRevocationUnknown
            | Self::ClientCertificateRevoked
            | Self::ClientCertificateUntrusted => true,
            Self::Alert
            | Self::ApplicationProtocol
            | Self::Closed
            | Self::Malformed
            | Self::NoCertificate
            | Self::Parameters
            | Self::PlainHttp
            | Self::PlainListener
            | Self::Timeout
            | Self::Version => false,
        }
    }

    /// The `reason` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::ApplicationProtocol => "application_protocol",
            Self::ClientCertificateExpired => "client_certificate_expired",
            Self::ClientCertificateInvalid => "client_certificate_invalid",
            Self::ClientCertificateMissing => "client_certificate_missing",
            Self::ClientCertificateRevocationUnknown => "client_certificate_revocation_unknown",
            Self::ClientCertificateRevoked => "client_certificate_revoked",
            Self::ClientCertificateUntrusted => "client_certificate_untrusted",
            Self::Closed => "closed",
            Self::Malformed => "malformed",
            Self::NoCertificate => "no_certificate",
            Self::Parameters => "parameters",
            Self::PlainHttp => "plain_http",
            Self::PlainListener => "plain_listener",
            Self::Timeout => "timeout",
            Self::Version => "version",
        }
    }
}

/// A handshake that has succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletedHandshake {
    /// TLS 1.3; otherwise 1.2.
    pub is_tls13: bool,
    /// Whether the client has resumed an earlier session, which costs no signature.
    pub is_resumed: bool,
}

/// The metrics of TLS. Cheap to clone; clones count into the same series.
#[derive(Clone, Debug)]
pub struct TlsMetrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// By version (1.2, 1.3) and by whether the session was resumed.
    completed: [[Counter; 2]; 2],
    failures: [Counter; HandshakeFailure::ALL.len()],
    reloads_failed: Counter,
    reloads_succeeded: Counter,
    orders_failed: Counter,
    orders_succeeded: Counter,
    expires: Family<CertificateLabels, PrometheusGauge>,
    revocations_expire: Family<FileLabels, PrometheusGauge>,
}

impl TlsMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let handshakes = Family::<HandshakeLabels, Counter>::default();
        let failures = Family::<ReasonLabels, Counter>::default();
        let reloads = Family::<ResultLabels, Counter>::default();
        let orders = Family::<ResultLabels, Counter>::default();
        let metrics = Inner {
            completed: ["1.2", "1.3"].map(|version| {
                ["false", "true"].map(|resumed| handshakes.get_or_create_owned(&HandshakeLabels { version, resumed }))
            }),
            failures: HandshakeFailure::ALL
                .map(|failure| failures.get_or_create_owned(&ReasonLabels { reason: failure.label() })),
            reloads_failed: reloads.get_or_create_owned(&ResultLabels { result: result_label(false) }),
            reloads_succeeded: reloads.get_or_create_owned(&ResultLabels { result: result_label(true) }),
            orders_failed: orders.get_or_create_owned(&ResultLabels { result: result_label(false) }),
            orders_succeeded: orders.get_or_create_owned(&ResultLabels { result: result_label(true) }),
            expires: Family::default(),
            revocations_expire: Family::default(),
        };
        registry.register("tls_handshakes", "TLS handshakes with clients that have succeeded", handshakes);
        registry.register("tls_handshake_failures", "TLS handshakes with clients that have failed", failures);
        registry.register("tls_reloads", "Attempts to use changed certificate files", reloads);
        registry.register("acme_orders", "Attempts to obtain a certificate by ACME", orders);
        registry.register_with_unit(
            "tls_certificate_expires_timestamp",
            "Expiry of each certificate in use since the Unix epoch",
            Unit::Seconds,
            metrics.expires.clone(),
        );
        registry.register_with_unit(
            "tls_revocation_lists_expire_timestamp",
            "Expiry of the first revocation list in use for client certificates since the Unix epoch",
            Unit::Seconds,
            metrics.revocations_expire.clone(),
        );
        Self(Arc::new(metrics))
    }

    /// Counts a handshake that has succeeded.
    pub fn count_handshake(&self, handshake: CompletedHandshake) {
        self.0.completed[usize::from(handshake.is_tls13)][usize::from(handshake.is_resumed)].inc();
    }

    /// Counts a handshake that has failed.
    pub fn count_failure(&self, failure: HandshakeFailure) {
        // The variants are in the order of `ALL`.
        self.0.failures[failure as usize].inc();
    }

    /// Counts an attempt to use changed certificate files.
    pub fn count_reload(&self, ok: bool) {
        if ok {
            self.0.reloads_succeeded.inc()
        } else {
            self.0.reloads_failed.inc()
        };
    }

    /// Counts an attempt to obtain a certificate by ACME.
    pub fn count_order(&self, ok: bool) {
        if ok {
            self.0.orders_succeeded.inc()
        } else {
            self.0.orders_failed.inc()
        };
    }

    /// Sets the certificates in use, each with the name of its file and its expiry.
    pub fn set_certificates(&self, certificates: impl Iterator<Item = (Arc<str>, WallTime)>) {
        // Called before a scrape, by the thread that scrapes. A certificate that is no longer
        // configured must not look as if it were about to expire.
        self.0.expires.clear();
        for (certificate, expires) in certificates {
            self.0.expires.get_or_create(&CertificateLabels { certificate }).set(unix_seconds(expires));
        }
    }

    /// Sets the revocation lists in use for client certificates: the name of their file, and when
    /// the first of them expires.
    pub fn set_revocations(&self, lists: Option<(Arc<str>, WallTime)>) {
        self.0.revocations_expire.clear();
        if let Some((file, expires)) = lists {
            self.0.revocations_expire.get_or_create(&FileLabels { file }).set(unix_seconds(expires));
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HandshakeLabels {
    version: &'static str,
    resumed: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CertificateLabels {
    certificate: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FileLabels {
    file: Arc<str>,
}

fn unix_seconds(time: WallTime) -> i64 {
    i64::try_from(time.seconds()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_counts_into_its_own_series() {
        for (index, failure) in HandshakeFailure::ALL.into_iter().enumerate() {
            assert_eq!(failure as usize, index, "{}", failure.label());
        }
    }
}
