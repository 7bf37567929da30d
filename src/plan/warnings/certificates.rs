//! Certificates that have expired, or that expire soon.

use super::Warning;
use crate::config::key_path::{child, element};
use crate::plan::tls_files::TlsFiles;
use crate::primitives::clock::WallTime;
use crate::tls::certificate::Expiry;
use crate::tls::client_auth::LoadedRevocations;
use crate::tls::server::{LoadedCertificate, Renewer};

/// The warnings about the certificates that clients get and that upstreams get, at `now`.
pub(crate) fn certificate_warnings(files: &TlsFiles, now: WallTime) -> Vec<Warning> {
    let certificates = files.server.as_ref().map(|tls| tls.certificates()).unwrap_or_default();
    let mut warnings = server_warnings(&certificates, now);
    for (upstream, tls) in &files.clients {
        if let Some(certificate) = tls.certificate() {
            let key = format!("{}.tls.cert", child("upstreams", upstream));
            warnings.extend(validity_warnings(&key, &certificate, now, "renew it; servers refuse to connect"));
        }
    }
    if let Some(trust) = files.server.as_ref().and_then(|tls| tls.client_trust()) {
        warnings.extend(trust.expired_authorities(now).map(authority_warning));
    }
    let revocations = files.server.as_ref().and_then(|tls| tls.revocations());
    warnings.extend(revocations.and_then(|lists| revocation_warning(&lists, now)));
    warnings
}

/// The warning about an authority that has expired.
fn authority_warning(number: usize) -> Warning {
    Warning {
        key: "server.tls.client_ca".to_owned(),
        what: format!(
            "authority {number} in the file has expired, and the certificates that it has issued are accepted"
        ),
        hint: "remove it from the file if its certificates are no longer to be accepted".to_owned(),
    }
}

/// The warning about revocation lists that have expired.
fn revocation_warning(lists: &LoadedRevocations, now: WallTime) -> Option<Warning> {
    lists.have_expired(now).then(|| Warning {
        key: "server.tls.client_crl".to_owned(),
        what: format!(
            "a revocation list in `{}` has expired; client certificates that it covers are refused",
            lists.file
        ),
        hint: "fetch the authority's current list; the gateway notices when the file changes".to_owned(),
    })
}

/// The warnings about the certificates of `[server.tls]`.
fn server_warnings(certificates: &[LoadedCertificate], now: WallTime) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (index, certificate) in certificates.iter().enumerate() {
        let key = match certificate.renewer {
            Renewer::Gateway => "server.tls.acme".to_owned(),
            Renewer::Operator => element("server.tls.certificates", index) + ".cert",
        };
        warnings.extend(validity_warnings(&key, certificate, now, "renew it; clients refuse to connect"));
        let LoadedCertificate { file, facts, .. } = certificate;
        if facts.dns_names.is_empty() && facts.addresses.is_empty() {
            let what = format!("the certificate in `{file}` has no names");
            let hint = "issue it with a subjectAltName; clients do not look at the common name".to_owned();
            warnings.push(Warning { key, what, hint });
        }
    }
    warnings
}

/// The warnings about the time in which a certificate is valid.
fn validity_warnings(key: &str, certificate: &LoadedCertificate, now: WallTime, hint_if_expired: &str) -> Vec<Warning> {
    let LoadedCertificate { file, facts, .. } = certificate;
    let mut warnings = Vec::new();
    let mut warn = |what: &str, hint: &str| {
        let what = format!("the certificate for {} in `{file}` {what}", facts.names());
        warnings.push(Warning { key: key.to_owned(), what, hint: hint.to_owned() });
    };
    match certificate.expiry(now) {
        Expiry::Distant => {}
        Expiry::Expired => warn("has expired", hint_if_expired),
        Expiry::Soon { days_left } => {
            warn(&format!("expires in {days_left} days"), "renew it; the gateway notices when the files change");
        }
    }
    if facts.not_before > now {
        warn("is not valid yet", "check the clock of this machine");
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::certificate::CertificateFacts;

    #[test]
    fn each_fault_of_a_certificate_has_a_warning() {
        const DAY: u64 = 24 * 60 * 60;
        let now = WallTime::from_seconds(1_000 * DAY);
        let certificate = |not_before: u64, not_after: u64, names: &[&str]| LoadedCertificate {
            file: "/a.crt".into(),
            facts: CertificateFacts {
                dns_names: names.iter().map(ToString::to_string).collect(),
                addresses: Vec::new(),
                not_before: WallTime::from_seconds(not_before * DAY),
                not_after: WallTime::from_seconds(not_after * DAY),
                fingerprint: [0; 32],
            },
            renewer: Renewer::Operator,
        };
        for (name, certificate, expected) in [
            ("good", certificate(900, 1_031, &["a.test"]), &[][..]),
            (
                "soon",
                certificate(900, 1_030, &["a.test"]),
                &["the certificate for a.test in `/a.crt` expires in 30 days"][..],
            ),
            ("expired", certificate(900, 999, &["a.test"]), &["the certificate for a.test in `/a.crt` has expired"]),
            (
                "early",
                certificate(1_001, 1_100, &["a.test"]),
                &["the certificate for a.test in `/a.crt` is not valid yet"],
            ),
            ("no names", certificate(900, 1_100, &[]), &["the certificate in `/a.crt` has no names"]),
        ] {
            let warnings = server_warnings(&[certificate], now);
            assert!(warnings.iter().all(|warning| warning.key == "server.tls.certificates[0].cert"), "{name}");
            assert_eq!(warnings.into_iter().map(|warning| warning.what).collect::<Vec<_>>(), expected, "{name}");
        }
    }
}
