//! Client certificates: their subject, alternative names and thumbprint.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::certificate::{address, fingerprint, wall_time};
use super::distinguished_name;
use crate::primitives::clock::WallTime;

/// The certificate of a client, which was verified in the handshake.
#[derive(Debug)]
pub struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    subject: Box<str>,
    alternative_names: Box<[Box<str>]>,
    thumbprint: [u8; 32],
    not_after: WallTime,
}

impl ClientCertificate {
    /// Reads the chain that a client has sent, its own certificate first.
    ///
    /// # Errors
    ///
    /// What is wrong with the certificate, as a text.
    pub(crate) fn read(chain: Vec<CertificateDer<'static>>) -> Result<Self, &'static str> {
        let own = chain.first().ok_or("there is no certificate")?;
        let (_, certificate) = X509Certificate::from_der(own).map_err(|_| "it is not an X.509 certificate")?;
        let names = certificate.subject_alternative_name().map_err(|_| "its subjectAltName is malformed")?;
        let names = names.iter().flat_map(|extension| &extension.value.general_names);
        let alternative_names = names.filter_map(alternative_name).collect();
        let subject = distinguished_name::text_of(certificate.subject()).into();
        let thumbprint = fingerprint(own);
        let not_after = wall_time(certificate.validity().not_after.timestamp());
        Ok(Self { chain, subject, alternative_names, thumbprint, not_after })
    }

    /// The subject as RFC 4514 writes it; empty if the certificate has none.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The names in `subjectAltName`, in their order: `DNS:`, `URI:`, `email:` or `IP:` and the
    /// name. Those of other types are left out.
    #[must_use]
    pub fn alternative_names(&self) -> &[Box<str>] {
        &self.alternative_names
    }

    /// SHA-256 of the certificate.
    #[must_use]
    pub fn thumbprint(&self) -> &[u8; 32] {
        &self.thumbprint
    }

    /// The thumbprint in base64url, as in the `x5t#S256` of a token (RFC 8705 §3.1).
    #[must_use]
    pub fn thumbprint_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.thumbprint)
    }

    /// The certificates as the client has sent them, its own first; never empty.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The certificate is valid until this second.
    #[must_use]
    pub fn not_after(&self) -> WallTime {
        self.not_after
    }

    /// Whether the certificate has expired at `now`.
    #[must_use]
    pub fn has_expired(&self, now: WallTime) -> bool {
        self.not_after < now
    }
}

fn alternative_name(name: &GeneralName<'_>) -> Option<Box<str>> {
    let text = match name {
        GeneralName::DNSName(name) => format!("DNS:{}", name.to_ascii_lowercase()),
        GeneralName::RFC822Name(address) => format!("email:{address}"),
        GeneralName::URI(uri) => format!("URI:{uri}"),
        GeneralName::IPAddress(bytes) => format!("IP:{}", address(bytes).as_ref().map(IpAddr::to_string)?),
        GeneralName::OtherName(..)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => return None,
    };
    Some(text.into())
}

#[cfg(test)]
mod tests {
    use rcgen::{DnType, SanType};

    use super::*;
    use crate::tls::test_support::TestAuthority;

    #[test]
    fn a_certificate_says_who_its_owner_is() {
        let authority = TestAuthority::new();
        let issued = authority.issue_with(&["Client.TEST", "192.0.2.7", "2001:db8::1"], |params| {
            params.distinguished_name.push(DnType::CommonName, "Alice");
            params.subject_alt_names.push(SanType::URI("spiffe://a.test/b,c".try_into().unwrap()));
            params.subject_alt_names.push(SanType::Rfc822Name("alice@a.test".try_into().unwrap()));
            params.subject_alt_names.push(SanType::OtherName((vec![1, 2, 3], "x".to_owned().into())));
        });
        let own = issued.certificate.der().clone();
        let chain = vec![own.clone(), authority.der().to_vec().into()];
        let certificate = ClientCertificate::read(chain.clone()).unwrap();
        let names =
            ["DNS:client.test", "IP:192.0.2.7", "IP:2001:db8::1", "URI:spiffe://a.test/b,c", "email:alice@a.test"];
        assert_eq!(certificate.alternative_names().iter().map(|name| &**name).collect::<Vec<_>>(), names);
        assert_eq!(certificate.subject(), "CN=Alice");
        assert_eq!(certificate.thumbprint(), &fingerprint(&own));
        assert_eq!(certificate.thumbprint_text().len(), 43);
        assert_eq!(certificate.chain(), chain);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        ClientCertificate::read(Vec::new()).unwrap_err();
        ClientCertificate::read(vec![b"x".to_vec().into()]).unwrap_err();
    }
}
