//! Certificates for tests, made by rcgen.

use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyPair, KeyUsagePurpose, SignatureAlgorithm,
};
use rustls_pki_types::CertificateRevocationListDer;

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
        Self(CertifiedIssuer::self_signed(authority_params(), KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn der(&self) -> &[u8] {
        self.0.der()
    }

    pub(crate) fn key(&self) -> &KeyPair {
        self.0.key()
    }

    /// A revocation list of this authority.
    pub(crate) fn sign_list(&self, list: &CertificateRevocationListParams) -> CertificateRevocationListDer<'static> {
        list.signed_by(&self.0).unwrap().der().clone()
    }

    /// An authority that this one has issued.
    pub(crate) fn issue_authority(&self) -> Self {
        Self(CertifiedIssuer::signed_by(authority_params(), KeyPair::generate().unwrap(), &self.0).unwrap())
    }

    /// A certificate for `names` with an ECDSA P-256 key.
    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        self.issue_for(names, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    /// A certificate for `names`, changed by `change` before it is signed. It has no subject of its
    /// own.
    pub(crate) fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Issued { certificate: params.signed_by(&key, &self.0).unwrap(), key }
    }

    /// A certificate for `names` with a key for `algorithm`.
    pub(crate) fn issue_for(&self, names: &[&str], algorithm: &'static SignatureAlgorithm) -> Issued {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        Issued { certificate, key }
    }
}

fn authority_params() -> CertificateParams {
    /// Authorities with the same name would be taken for one.
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let mut params = CertificateParams::default();
    let name = format!("authority {}", NUMBER.fetch_add(1, Ordering::Relaxed));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
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
