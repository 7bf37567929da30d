//! Which certificate a client gets: by the name that it asks for (SNI, RFC 6066 §3), and by the
//! signatures that it can verify.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certified_key::Identity;
use super::managed::{Managed, ManagedCertificates};

/// The certificates of a server, by name. Several may have the same name, such as one with an RSA
/// and one with an ECDSA key; the first one that the client can verify is used.
#[derive(Debug)]
pub(super) struct ServerCertificates {
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By what follows `*.`, which stands for one label (RFC 9525 §6.3).
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// For a client that asks for no name, or for one that no certificate has: the first
    /// certificate, and those that have a name in common with it. Without any, it gets the first of
    /// those that the gateway obtains.
    default: Vec<Arc<CertifiedKey>>,
    /// Those that the gateway obtains itself. They change at any time.
    managed: Arc<ManagedCertificates>,
}

impl ServerCertificates {
    /// The certificates in the order of the configuration, and those that the gateway obtains.
    pub(super) fn new(identities: &[Identity], managed: Arc<ManagedCertificates>) -> Self {
        let (exact, wildcard, default) = (HashMap::new(), HashMap::new(), Vec::new());
        let mut certificates = Self { exact, wildcard, default, managed };
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
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.candidates(name).find(|candidate| candidate.key.choose_scheme(schemes).is_some())
    }

    /// Whether there is a certificate for a client that asks for `name`. There is none while it is
    /// being obtained: that of another name would be of no use to the client.
    pub(super) fn has_candidate(&self, name: Option<&str>) -> bool {
        self.candidates(name).next().is_some()
    }

    /// The certificates for a client that asks for `name`, the best first.
    fn candidates(&self, name: Option<&str>) -> impl Iterator<Item = Arc<CertifiedKey>> {
        let name = name.map(|name| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase());
        let exact = name.as_ref().and_then(|name| self.exact.get(name));
        let managed = name.as_ref().map_or(Managed::No, |name| self.managed.by_name(name));
        let wildcard = || self.wildcard.get(name.as_ref()?.split_once('.')?.1);
        let (of_files, managed) = match (exact, managed) {
            (Some(exact), _) => (Some(exact), None),
            (None, Managed::Obtained(managed)) => (None, Some(managed)),
            (None, Managed::Pending) => (wildcard(), None),
            (None, Managed::No) => match wildcard().or_else(|| Some(&self.default).filter(|files| !files.is_empty())) {
                Some(files) => (Some(files), None),
                None => (None, self.managed.first()),
            },
        };
        of_files.into_iter().flatten().cloned().chain(managed.map(|identity| Arc::clone(&identity.key)))
    }
}

impl ResolvesServerCert for ServerCertificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::tls::certified_key::FileText;
    use crate::tls::managed::ManagedHost;
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
        let certificates = ServerCertificates::new(&identities, ManagedCertificates::load(&[], None));
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
            let index = chosen.and_then(|key| identities.iter().position(|one| Arc::ptr_eq(&one.key, &key)));
            assert_eq!(index, expected, "{what}");
        }
    }

    #[test]
    fn a_host_whose_certificate_is_being_obtained_gets_none_of_another_name() {
        const SCHEMES: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];
        let host = |host: &str| ManagedHost { host: host.into(), file: "/missing".into() };
        let hosts = ["api.example", "www.example", "a.wild.example", "file.example"].map(host);
        let managed = ManagedCertificates::load(&hosts, None);
        let authority = TestAuthority::new();
        let of_files = [authority.issue(&["file.example"]), authority.issue(&["*.wild.example"])];
        let of_files: Vec<Identity> = of_files.iter().map(identity).collect();
        let with_files = ServerCertificates::new(&of_files, Arc::clone(&managed));
        let without_files = ServerCertificates::new(&[], Arc::clone(&managed));
        assert!(!without_files.has_candidate(None), "there is none at all");
        let obtained = identity(&authority.issue(&["api.example"]));
        let api = Arc::clone(&obtained.key);
        managed.use_for("api.example", obtained);
        let (file, wildcard) = (&of_files[0].key, &of_files[1].key);
        for (what, certificates, name, expected) in [
            ("obtained", &with_files, Some("api.example"), Some(&api)),
            ("obtained, as the client may write it", &with_files, Some("API.example."), Some(&api)),
            ("not obtained yet", &with_files, Some("www.example"), None),
            ("not obtained yet, but a wildcard is there", &with_files, Some("a.wild.example"), Some(wildcard)),
            ("a file comes first", &with_files, Some("file.example"), Some(file)),
            ("no name: a file", &with_files, None, Some(file)),
            ("no name and no file: what there is", &without_files, None, Some(&api)),
            ("unknown name and no file", &without_files, Some("other.test"), Some(&api)),
            ("not obtained yet, no file", &without_files, Some("www.example"), None),
        ] {
            let chosen = certificates.choose(name, SCHEMES);
            assert_eq!(certificates.has_candidate(name), expected.is_some(), "{what}");
            assert!(
                match (&chosen, expected) {
                    (Some(chosen), Some(expected)) => Arc::ptr_eq(chosen, expected),
                    (chosen, expected) => chosen.is_none() && expected.is_none(),
                },
                "{what}"
            );
        }
    }
}
