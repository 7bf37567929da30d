//! Verifies the certificate of a client, if what it has sent is not too much to look at.
//!
//! Anyone can send certificates, and for each one that claims to be issued by an authority a
//! signature is verified: the limits here come before.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

/// The most certificates besides a client's own. Authorities rarely have more than two between the
/// client and the one that is trusted, and no chain of more than six is verified.
const MAX_OTHERS: usize = 8;

/// The most bytes of all certificates. One with an RSA key of 4096 bits has two thousand.
const MAX_BYTES: usize = 32 * 1024;

/// Verifies what is within the limits.
#[derive(Debug)]
pub(super) struct BoundedVerifier(pub(super) Arc<dyn ClientCertVerifier>);

/// A client has sent too many or too large certificates.
#[derive(Debug)]
struct TooLarge;

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {MAX_OTHERS} certificates besides the client's own, or more than {MAX_BYTES} bytes")
    }
}

impl std::error::Error for TooLarge {}

impl ClientCertVerifier for BoundedVerifier {
    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let bytes = own.len() + others.iter().map(|other| other.len()).sum::<usize>();
        if others.len() > MAX_OTHERS || bytes > MAX_BYTES {
            return Err(CertificateError::Other(OtherError(Arc::new(TooLarge))).into());
        }
        self.0.verify_client_cert(own, others, now)
    }

    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use rustls::server::WebPkiClientVerifier;

    use super::*;
    use crate::tls::provider;
    use crate::tls::test_support::TestAuthority;

    /// Threat TC-9.
    #[test]
    fn more_than_a_chain_needs_is_not_looked_at() {
        let authority = TestAuthority::new();
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().to_vec().into()).unwrap();
        let webpki = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider()));
        let verifier = BoundedVerifier(webpki.build().unwrap());
        let own = authority.issue(&["client.test"]).certificate.der().clone();
        let is_accepted = |others: &[CertificateDer<'_>]| {
            // Certificates of rcgen are valid from 1975 on.
            let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_800_000_000));
            verifier.verify_client_cert(&own, others, now).map(drop)
        };
        let other = CertificateDer::from(authority.der().to_vec());
        for (name, others, expected) in [
            ("none", vec![], true),
            ("as many as allowed", vec![other.clone(); MAX_OTHERS], true),
            ("one more", vec![other; MAX_OTHERS + 1], false),
            ("as large as allowed", vec![vec![0; MAX_BYTES - own.len()].into()], true),
            ("one byte more", vec![vec![0; MAX_BYTES - own.len() + 1].into()], false),
        ] {
            assert_eq!(is_accepted(&others).is_ok(), expected, "{name}: {:?}", is_accepted(&others));
        }
    }
}
