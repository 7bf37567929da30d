//! Certificates for tests, made by rcgen.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose,
    SignatureAlgorithm,
};

/// An authority that issues certificates for tests.
#[derive(Debug)]
pub(crate) struct TestAuthority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) certificate: Certificate,
    pub(crate) key: KeyPair,
}

impl TestAuthority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `names` with an ECDSA P-256 key.
    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        self.issue_for(names, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    /// A certificate for `names` with a key for `algorithm`.
    pub(crate) fn issue_for(&self, names: &[&str], algorithm: &'static SignatureAlgorithm) -> Issued {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        Issued { certificate, key }
    }
}

impl Issued {
    /// The certificate and that of its authority, as PEM.
    pub(crate) fn chain(&self, authority: &TestAuthority) -> String {
        self.certificate.pem() + &authority.pem()
    }

    /// The key, as PEM.
    pub(crate) fn key(&self) -> String {
        self.key.serialize_pem()
    }
}
