//! A certificate chain with its private key, as a server or a client presents it.

use std::path::Path;
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;

use super::certificate::CertificateFacts;
use super::files::{self, FileError, FileFault};
use super::provider;

/// A file and its text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileText<'a> {
    /// The file.
    pub(crate) path: &'a Path,
    /// Its text.
    pub(crate) text: &'a [u8],
}

/// One of the two files of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The certificate chain.
    Chain,
    /// The private key.
    Key,
}

/// A chain whose first certificate belongs to the key, and what that certificate says.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// For rustls.
    pub(crate) key: Arc<CertifiedKey>,
    /// What the first certificate says.
    pub(crate) facts: CertificateFacts,
}

impl Identity {
    /// Reads the chain and the key from the texts of two files, which may be one and the same.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with either, or that the key is not the certificate's.
    pub(crate) fn read(chain: FileText<'_>, key: FileText<'_>) -> Result<Self, Vec<(Part, FileError)>> {
        let certificates = files::certificates(chain.path, chain.text)
            .and_then(|certificates| Ok((all_facts(chain.path, &certificates)?, certificates)));
        let signing_key = files::private_key(key.path, key.text)
            .and_then(|der| provider().key_provider.load_private_key(der).map_err(|_| FileFault::Key.at(key.path)));
        let ((facts, certificates), signing_key) = match (certificates, signing_key) {
            (Ok(certificates), Ok(key)) => (certificates, key),
            (Err(_), Err(_)) if is_key(chain) && is_chain(key) => {
                let fault = FileFault::Swapped { key: key.path.to_owned() };
                return Err(vec![(Part::Chain, fault.at(chain.path))]);
            }
            (certificates, key) => {
                let chain_error = certificates.err().map(|error| (Part::Chain, error));
                let key_error = key.err().map(|error| (Part::Key, error));
                return Err(chain_error.into_iter().chain(key_error).collect());
            }
        };
        let belongs_to = |certificate: &CertificateDer<'static>| {
            CertifiedKey::new(vec![certificate.clone()], Arc::clone(&signing_key)).keys_match().is_ok()
        };
        let certificate = chain.path.to_owned();
        let fault = match certificates.iter().position(belongs_to) {
            Some(0) => return Ok(Self { key: Arc::new(CertifiedKey::new(certificates, signing_key)), facts }),
            Some(index) => FileFault::KeyOfLaterCertificate { certificate, number: index + 1 },
            None => FileFault::KeyMismatch { certificate, names: facts.names() },
        };
        Err(vec![(Part::Key, fault.at(key.path))])
    }
}

fn is_key(file: FileText<'_>) -> bool {
    files::private_key(file.path, file.text).is_ok()
}

fn is_chain(file: FileText<'_>) -> bool {
    files::certificates(file.path, file.text).is_ok()
}

/// What the first certificate says. The others need to be certificates as well.
fn all_facts(path: &Path, certificates: &[CertificateDer<'_>]) -> Result<CertificateFacts, FileError> {
    let mut first = None;
    for (index, certificate) in certificates.iter().enumerate() {
        let facts = CertificateFacts::read(certificate)
            .map_err(|cause| FileFault::Certificate { number: index + 1, cause }.at(path))?;
        first.get_or_insert(facts);
    }
    Ok(first.expect("a file with certificates has at least one"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::test_support::{Issued, TestAuthority};

    fn read(chain: &str, key: &str) -> Result<Identity, Vec<String>> {
        let [chain, key] = [("/cert.pem", chain), ("/key.pem", key)]
            .map(|(path, text)| FileText { path: Path::new(path), text: text.as_bytes() });
        Identity::read(chain, key).map_err(|errors| errors.iter().map(|(_, error)| error.to_string()).collect())
    }

    #[test]
    fn a_chain_and_its_key_of_every_kind_are_read() {
        let authority = TestAuthority::new();
        for (name, issued) in [
            ("ECDSA P-256", authority.issue(&["a.example"])),
            ("ECDSA P-384", authority.issue_for(&["a.example"], &rcgen::PKCS_ECDSA_P384_SHA384)),
            ("RSA", authority.issue_for(&["a.example"], &rcgen::PKCS_RSA_SHA256)),
            ("Ed25519", authority.issue_for(&["a.example"], &rcgen::PKCS_ED25519)),
        ] {
            let identity = read(&issued.chain(&authority), &issued.key()).unwrap();
            assert_eq!((identity.facts.names().as_str(), identity.key.cert.len()), ("a.example", 2), "{name}");
        }
        let one_file = authority.issue(&["a.example"]);
        let text = one_file.certificate.pem() + &one_file.key();
        assert_eq!(read(&text, &text).unwrap().key.cert.len(), 1, "chain and key in one file");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let authority = TestAuthority::new();
        let (mine, other): (Issued, Issued) = (authority.issue(&["a.example"]), authority.issue(&["b.example"]));
        assert_eq!(
            read(&mine.certificate.pem(), &other.key()).unwrap_err(),
            ["`/key.pem` the private key does not belong to the certificate for a.example in `/cert.pem`"]
        );
        let disordered = authority.pem() + &mine.certificate.pem();
        assert_eq!(
            read(&disordered, &mine.key()).unwrap_err(),
            ["`/key.pem` the private key belongs to certificate 2 in `/cert.pem`, not to the first"]
        );
    }

    #[test]
    fn both_files_are_reported() {
        let issued = TestAuthority::new().issue(&["a.example"]);
        assert_eq!(
            read(&issued.key(), "").unwrap_err(),
            [
                "`/cert.pem` has PRIVATE KEY, but a certificate (BEGIN CERTIFICATE) is needed",
                "`/key.pem` has nothing (the file is empty), but a private key (BEGIN PRIVATE KEY) is needed",
            ]
        );
        assert_eq!(
            read(&issued.key(), &issued.certificate.pem()).unwrap_err(),
            ["`/cert.pem` has a private key and no certificate, and `/key.pem` has it the other way around"]
        );
        let broken = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let errors = read(&issued.certificate.pem(), broken).unwrap_err();
        assert!(errors[0].starts_with("`/key.pem` the private key is not an RSA"), "{errors:?}");
    }
}
