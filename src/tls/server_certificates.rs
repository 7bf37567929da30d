//! Which certificate a client gets: by the name that it asks for (SNI, RFC 6066 §3), and by the
//! signatures that it can verify.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certified_key::Identity;

/// The certificates of a server, by name. Several may have the same name, such as one with an RSA
/// and one with an ECDSA key; the first one that the client can verify is used.
#[derive(Debug, Default)]
pub(super) struct ServerCertificates {
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By what follows `*.`, which stands for one label (RFC 9525 §6.3).
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// For a client that asks for no name, or for one that no certificate has: the first
    /// certificate, and those that have a name in common with it.
    default: Vec<Arc<CertifiedKey>>,
}

impl ServerCertificates {
    /// The certificates in the order of the configuration.
    pub(super) fn new(identities: &[Identity]) -> Self {
        let mut certificates = Self::default();
        for identity in identities {
            for name in &identity.facts.dns_names {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut certificates.wildcard, parent),
                    None => (&mut certificates.exact, name.as_str()),
                };
                names.entry(name.to_owned()).or_default().push(Arc::clone(&identity.key));
            }
        }
        if let Some((first, others)) = identities.split_first() {
            let is_alike = |other: &&Identity| first.facts.has_name_in_common_with(&other.facts);
            let alike = std::iter::once(first).chain(others.iter().filter(is_alike));
            certificates.default = alike.map(|identity| Arc::clone(&identity.key)).collect();
        }
        certificates
    }

    /// The certificate for a client that asks for `name` and can verify `schemes`. Returns `None`
    /// if it can verify none of those for this name.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<&Arc<CertifiedKey>> {
        let candidates = name.and_then(|name| self.by_name(name)).unwrap_or(&self.default);
        candidates.iter().find(|candidate| candidate.key.choose_scheme(schemes).is_some())
    }

    fn by_name(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        self.exact.get(&name).or_else(|| self.wildcard.get(name.split_once('.')?.1))
    }
}

impl ResolvesServerCert for ServerCertificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::tls::certified_key::FileText;
    use crate::tls::test_support::{Issued, TestAuthority};

    fn identity(issued: &Issued) -> Identity {
        let (chain, key) = (issued.certificate.pem(), issued.key());
        let [chain, key] = [&chain, &key].map(|text| FileText { path: Path::new("/x"), text: text.as_bytes() });
        Identity::read(chain, key).unwrap()
    }

    #[test]
    fn the_name_and_then_the_signature_schemes_choose() {
        const BOTH: &[SignatureScheme] = &[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256];
        const RSA: &[SignatureScheme] = &[SignatureScheme::RSA_PSS_SHA256];
        const ED25519: &[SignatureScheme] = &[SignatureScheme::ED25519];
        let authority = TestAuthority::new();
        let issued = [
            authority.issue(&["www.example", "example"]),
            authority.issue_for(&["www.example"], &rcgen::PKCS_RSA_SHA256),
            authority.issue(&["*.www.example", "api.example"]),
            authority.issue_for(&["*.example"], &rcgen::PKCS_RSA_SHA256),
        ];
        let identities: Vec<Identity> = issued.iter().map(identity).collect();
        let certificates = ServerCertificates::new(&identities);
        for (what, name, schemes, expected) in [
            ("exact", Some("www.example"), BOTH, Some(0)),
            ("exact, a client without ECDSA", Some("www.example"), RSA, Some(1)),
            ("exact, a client with neither", Some("www.example"), ED25519, None),
            ("in upper case", Some("API.Example"), BOTH, Some(2)),
            ("with a final dot", Some("api.example."), BOTH, Some(2)),
            ("exact before wildcard", Some("api.example"), RSA, None),
            ("wildcard", Some("other.example"), BOTH, Some(3)),
            ("wildcard, one level deeper", Some("a.www.example"), BOTH, Some(2)),
            ("a wildcard stands for one label", Some("a.b.www.example"), BOTH, Some(0)),
            ("the parent of a wildcard", Some("example"), BOTH, Some(0)),
            ("unknown name", Some("other.test"), BOTH, Some(0)),
            ("no name", None, BOTH, Some(0)),
            ("no name, a client without ECDSA", None, RSA, Some(1)),
            ("a text that is no name", Some(""), BOTH, Some(0)),
        ] {
            let chosen = certificates.choose(name, schemes);
            let index = chosen.and_then(|key| identities.iter().position(|one| Arc::ptr_eq(&one.key, key)));
            assert_eq!(index, expected, "{what}");
        }
    }
}
