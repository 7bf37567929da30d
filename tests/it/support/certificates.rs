//! Certificates: an authority that issues and revokes them, and the files that a gateway reads.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::digest::SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData as _, RevokedCertParams, SerialNumber, SignatureAlgorithm,
    date_time_ymd,
};

use super::temporary::TempDir;

/// The authority of all tests.
#[derive(Debug)]
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) certificate: Certificate,
    pub(crate) key: KeyPair,
}

/// The authority that the clients of the tests trust.
pub(crate) fn authority() -> &'static Authority {
    static AUTHORITY: LazyLock<Authority> = LazyLock::new(Authority::new);
    &AUTHORITY
}

impl Authority {
    pub(crate) fn new() -> Self {
        /// Authorities with the same name would be taken for one.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let mut params = CertificateParams::default();
        let name = format!("authority {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    /// A list of revoked certificates, by their serial numbers, that is good until `next_update`.
    pub(crate) fn revocation_list(&self, serials: &[u64], next_update: (i32, u8, u8)) -> String {
        let this_update = date_time_ymd(2020, 1, 1);
        let (year, month, day) = next_update;
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: this_update,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update,
            next_update: date_time_ymd(year, month, day),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).expect("a list").pem().expect("a list can be encoded")
    }

    /// A certificate for `names` with an ECDSA key.
    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        self.issue_with(names, &rcgen::PKCS_ECDSA_P256_SHA256, |_| ())
    }

    /// A certificate with a key for `algorithm`, changed by `change` before it is signed.
    pub(crate) fn issue_with(
        &self,
        names: &[&str],
        algorithm: &'static SignatureAlgorithm,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names of servers");
        change(&mut params);
        let key = KeyPair::generate_for(algorithm).expect("a key");
        Issued { certificate: params.signed_by(&key, &self.0).expect("a certificate"), key }
    }
}

impl Issued {
    /// A certificate that no authority has issued.
    pub(crate) fn self_signed(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("names of servers");
        Self { certificate: params.self_signed(&key).expect("a certificate"), key }
    }

    /// The pin of its key (RFC 7469), as `pins` takes it.
    pub(crate) fn pin(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&SHA256, &self.key.subject_public_key_info());
        format!("sha256/{}", STANDARD.encode(digest))
    }
}

/// A directory with certificates and their keys.
#[derive(Debug)]
pub(crate) struct CertificateFiles(pub(crate) TempDir);

impl CertificateFiles {
    /// With the certificate `name` for `localhost`.
    pub(crate) fn localhost(name: &str) -> Self {
        let files = Self(TempDir::new());
        files.write(name, &authority().issue(&["localhost"]));
        files
    }

    pub(crate) fn empty() -> Self {
        Self(TempDir::new())
    }

    /// Writes `NAME.crt` and `NAME.key`.
    pub(crate) fn write(&self, name: &str, issued: &Issued) {
        self.0.write(&format!("{name}.key"), issued.key.serialize_pem());
        self.0.write(&format!("{name}.crt"), issued.certificate.pem());
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// The path as a string of the configuration.
    pub(crate) fn quoted(&self, file: &str) -> String {
        format!("\"{}\"", self.path(file).display())
    }

    /// The value of `certificates`.
    pub(crate) fn certificates(&self, names: &[&str]) -> String {
        let entry = |name: &&str| {
            let path = |ending| self.path(&format!("{name}.{ending}")).display().to_string();
            format!("{{ cert = {:?}, key = {:?} }}", path("crt"), path("key"))
        };
        format!("[{}]", names.iter().map(entry).collect::<Vec<_>>().join(", "))
    }

    /// The line of `[server]` that turns TLS on.
    pub(crate) fn tls(&self, names: &[&str]) -> String {
        format!("tls = {{ certificates = {} }}", self.certificates(names))
    }
}
