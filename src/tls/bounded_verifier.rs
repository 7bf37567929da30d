//! Verifies the certificate of a client or a server, if what it has sent is not too much to look
//! at.
//!
//! Anyone can send certificates, and what webpki does to find a way from one to an authority grows
//! exponentially with their number: the limits here come before.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// The most certificates besides a peer's own. Authorities rarely have more than two between the
/// peer and the one that is trusted, and some peers send the trusted one too.
///
/// Of certificates with the same issuer and subject, webpki tries every order. Four take it
/// 0.06 ms, five 0.3 ms, six 20 ms and eight 230 ms, for 1.3 KB that anyone can send.
const MAX_OTHERS: usize = 4;

/// The most bytes of all certificates. One with an RSA key of 4096 bits has two thousand.
const MAX_BYTES: usize = 32 * 1024;

/// Verifies what is within the limits: a [`ClientCertVerifier`] or a [`ServerCertVerifier`].
#[derive(Debug)]
pub(super) struct BoundedVerifier<V: ?Sized>(pub(super) Arc<V>);

/// A peer has sent too many or too large certificates.
#[derive(Debug)]
pub(crate) struct ChainTooLarge;

impl fmt::Display for ChainTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {MAX_OTHERS} certificates besides the peer's own, or more than {MAX_BYTES} bytes")
    }
}

impl std::error::Error for ChainTooLarge {}

fn check(own: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), Error> {
    let bytes = own.len() + others.iter().map(|other| other.len()).sum::<usize>();
    if others.len() > MAX_OTHERS || bytes > MAX_BYTES {
        return Err(CertificateError::Other(OtherError(Arc::new(ChainTooLarge))).into());
    }
    Ok(())
}

impl ClientCertVerifier for BoundedVerifier<dyn ClientCertVerifier> {
    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        check(own, others)?;
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

impl ServerCertVerifier for BoundedVerifier<dyn ServerCertVerifier> {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check(own, others)?;
        self.0.verify_server_cert(own, others, name, ocsp_response, now)
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

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.0.root_hint_subjects()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::server::WebPkiClientVerifier;

    use super::*;
    use crate::tls::provider;
    use crate::tls::test_support::TestAuthority;

    /// Threats TC-9 and TU-6.
    #[test]
    fn more_than_a_chain_needs_is_not_looked_at() {
        let authority = TestAuthority::new();
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().to_vec().into()).unwrap();
        let roots = Arc::new(roots);
        let of_clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider()));
        let of_servers = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider()));
        let of_clients = BoundedVerifier(of_clients.build().unwrap());
        let of_servers = BoundedVerifier::<dyn ServerCertVerifier>(of_servers.build().unwrap());
        let own = authority.issue(&["peer.test"]).certificate.der().clone();
        let name = ServerName::try_from("peer.test").unwrap();
        // Certificates of rcgen are valid from 1975 on.
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        let other = CertificateDer::from(authority.der().to_vec());
        for (what, others, expected) in [
            ("none", vec![], true),
            ("as many as allowed", vec![other.clone(); 4], true),
            ("one more", vec![other; 5], false),
            ("as large as allowed", vec![vec![0; 32_768 - own.len()].into()], true),
            ("one byte more", vec![vec![0; 32_768 - own.len() + 1].into()], false),
        ] {
            let of_client = of_clients.verify_client_cert(&own, &others, now).map(drop);
            let of_server = of_servers.verify_server_cert(&own, &others, &name, &[], now).map(drop);
            for (peer, verdict) in [("a client", of_client), ("a server", of_server)] {
                let is_too_large = matches!(&verdict, Err(Error::InvalidCertificate(CertificateError::Other(
                    OtherError(other),
                ))) if other.is::<ChainTooLarge>());
                assert_eq!((verdict.is_ok(), is_too_large), (expected, !expected), "{peer}, {what}: {verdict:?}");
            }
        }
    }
}
