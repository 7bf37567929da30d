//! Pins: public keys of which one must be in the chain of a server's certificate, in addition to
//! the usual verification.
//!
//! A pin is the SHA-256 of a certificate's `SubjectPublicKeyInfo` (RFC 7469 §2.4), so that it
//! outlives a renewed certificate with the same key.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::SignatureScheme;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// The SHA-256 of a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pin([u8; 32]);

impl Pin {
    /// Reads `sha256/` and 32 bytes in base64, the form that curl and browsers use.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.strip_prefix("sha256/")?).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// The pin of a public key: its `SubjectPublicKeyInfo` in DER.
    fn of(public_key: &[u8]) -> Self {
        Self(digest(&SHA256, public_key).as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

/// The error of a chain that is verified, but has none of the pinned keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no key in the chain is pinned")]
pub(crate) struct PinMismatch;

/// Verifies a server's certificate with `inner`, and then that one of the `pins` is in its chain.
///
/// A server can send certificates that have nothing to do with its own, so a pinned one among them
/// proves nothing. It counts only if the server's certificate leads to it: the chain must still be
/// valid with it as the only authority.
#[derive(Debug)]
pub(super) struct PinnedVerifier {
    inner: Arc<dyn ServerCertVerifier>,
    pins: Vec<Pin>,
    /// Trusted authorities with a pinned key. Servers usually do not send those.
    authorities: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedVerifier {
    /// `authorities` are those that `inner` trusts, as far as they are known.
    pub(super) fn new(
        inner: Arc<dyn ServerCertVerifier>,
        pins: Vec<Pin>,
        mut authorities: Vec<CertificateDer<'static>>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        authorities.retain(|authority| is_pinned(authority, &pins));
        Self { inner, pins, authorities, algorithms }
    }

    fn has_pinned_key(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<bool, Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        if self.pins.contains(&Pin::of(&parsed.subject_public_key_info())) {
            return Ok(true);
        }
        let leads_to = |authority: &CertificateDer<'_>| {
            let mut roots = RootCertStore::empty();
            roots.add(authority.clone().into_owned()).is_ok()
                && verify_server_cert_signed_by_trust_anchor(&parsed, &roots, intermediates, now, self.algorithms.all)
                    .is_ok()
        };
        let sent = intermediates.iter().filter(|intermediate| is_pinned(intermediate, &self.pins));
        Ok(sent.chain(&self.authorities).any(leads_to))
    }
}

fn is_pinned(certificate: &CertificateDer<'_>, pins: &[Pin]) -> bool {
    ParsedCertificate::try_from(certificate)
        .is_ok_and(|parsed| pins.contains(&Pin::of(&parsed.subject_public_key_info())))
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        if self.has_pinned_key(end_entity, intermediates, now)? {
            Ok(verified)
        } else {
            Err(CertificateError::Other(OtherError(Arc::new(PinMismatch))).into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.inner.root_hint_subjects()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::PublicKeyData as _;
    use rustls::client::WebPkiServerVerifier;

    use super::*;
    use crate::tls::provider;
    use crate::tls::test_support::{Issued, TestAuthority};

    fn pin_of(key: &rcgen::KeyPair) -> Pin {
        Pin::of(&key.subject_public_key_info())
    }

    /// Verifies a certificate for `a.example` that is presented with others, where `trusted` is the
    /// only authority.
    fn verify(
        pin: Pin,
        trusted: &TestAuthority,
        issued: &Issued,
        others: &[CertificateDer<'static>],
    ) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from(trusted.der().to_vec());
        roots.add(authority.clone()).unwrap();
        let inner = WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(provider())).build().unwrap();
        let algorithms = provider().signature_verification_algorithms;
        let verifier = PinnedVerifier::new(inner, vec![pin], vec![authority], algorithms);
        let name = ServerName::try_from("a.example").unwrap();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_800_000_000));
        verifier.verify_server_cert(issued.certificate.der(), others, &name, &[], now).map(drop)
    }

    #[test]
    fn a_pin_is_written_as_curl_writes_it() {
        // openssl pkey -pubout -outform DER | openssl dgst -sha256 -binary | openssl base64
        let text = format!("sha256/{}", STANDARD.encode([7; 32]));
        assert_eq!(Pin::parse(&text), Some(Pin([7; 32])));
        for wrong in ["", "sha256/", "sha256/AAAA", &text[7..], &text.replace("sha256", "sha1"), &format!("{text}AAAA")]
        {
            assert_eq!(Pin::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_pinned_key_counts_only_if_the_servers_certificate_leads_to_it() {
        let (trusted, other) = (TestAuthority::new(), TestAuthority::new());
        let (server, unrelated) = (trusted.issue(&["a.example"]), other.issue(&["b.example"]));
        let foreign = CertificateDer::from(other.der().to_vec());
        let mismatch = Err(CertificateError::Other(OtherError(Arc::new(PinMismatch))).into());
        for (what, pin, sent, expected) in [
            ("the server's own key", pin_of(&server.key), vec![], Ok(())),
            ("the key of its authority, which is not sent", pin_of(trusted.key()), vec![], Ok(())),
            ("no key in sight", pin_of(&unrelated.key), vec![], mismatch.clone()),
            ("an authority that is sent, but has not issued it", pin_of(other.key()), vec![foreign], mismatch.clone()),
            (
                "a certificate that is sent, but has nothing to do with it",
                pin_of(&unrelated.key),
                vec![unrelated.certificate.der().clone()],
                mismatch,
            ),
        ] {
            let verdict = verify(pin, &trusted, &server, &sent);
            assert_eq!(
                verdict.map_err(|error| error.to_string()),
                expected.map_err(|error: Error| error.to_string()),
                "{what}"
            );
        }
        let foreign = other.issue(&["a.example"]);
        let verdict = verify(pin_of(&foreign.key), &trusted, &foreign, &[]);
        assert!(matches!(verdict, Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))), "{verdict:?}");
    }

    #[test]
    fn an_intermediate_certificate_can_be_pinned() {
        let (root, expected) = (TestAuthority::new(), "a pinned intermediate");
        let intermediate = root.issue_authority();
        let server = intermediate.issue(&["a.example"]);
        let sent = CertificateDer::from(intermediate.der().to_vec());
        verify(pin_of(intermediate.key()), &root, &server, std::slice::from_ref(&sent)).expect(expected);
        verify(pin_of(root.key()), &root, &server, &[sent]).expect(expected);
    }
}
