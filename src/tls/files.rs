//! Files with certificates, keys, authorities and revocation lists, and what can be wrong with one.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use super::pem::{self, PemFault};
use crate::primitives::file::{FileReader, ReadError};

/// Largest file with a chain or a key, in bytes. A chain of ten certificates with its key has a
/// tenth of it.
const MAX_CHAIN_BYTES: usize = 256 * 1024;
/// Largest file with authorities, in bytes. The bundle of a Linux distribution has a quarter of it.
const MAX_AUTHORITIES_BYTES: usize = 1024 * 1024;
/// Largest file with revocation lists, in bytes. Those of the largest public authorities have a few
/// megabytes.
const MAX_REVOCATIONS_BYTES: usize = 16 * 1024 * 1024;

/// A file that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` {fault}", path.display())]
pub(crate) struct FileError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub fault: FileFault,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum FileFault {
    /// A certificate is malformed, or the gateway cannot read it.
    #[error("certificate {number} is not valid: {cause}")]
    Certificate {
        /// Its number in the file, counted from 1.
        number: usize,
        /// What is wrong with it.
        cause: String,
    },
    /// The certificate has expired, and the one in use has not.
    #[error("the certificate for {names} has expired")]
    Expired {
        /// The names in it.
        names: String,
    },
    /// A revocation list has expired, and those in use have not.
    #[error("a revocation list has expired")]
    ExpiredRevocationList,
    /// The gateway cannot use keys of this kind.
    #[error("the private key is not an RSA (2048 to 8192 bits), ECDSA (P-256, P-384, P-521) or Ed25519 key")]
    Key,
    /// The key is another certificate's.
    #[error("the private key does not belong to the certificate for {names} in `{}`", certificate.display())]
    KeyMismatch {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The names in it.
        names: String,
    },
    /// The key is that of a certificate further down in the chain.
    #[error("the private key belongs to certificate {number} in `{}`, not to the first", certificate.display())]
    KeyOfLaterCertificate {
        /// The file with the certificates.
        certificate: PathBuf,
        /// The number of the certificate, counted from 1.
        number: usize,
    },
    /// Two revocation lists cover the same certificates.
    #[error("revocation lists {first} and {second} are both for certificates that `{issuer}` has issued")]
    OverlappingRevocationLists {
        /// The number of one in the file, counted from 1.
        first: usize,
        /// The number of the other.
        second: usize,
        /// Who has issued both.
        issuer: String,
    },
    /// A certificate that may not issue others stands where authorities are listed.
    #[error("certificate {number} is not that of an authority: it has no CA:TRUE (basicConstraints)")]
    NotAnAuthority {
        /// Its number in the file, counted from 1.
        number: usize,
    },
    /// The text does not contain what is needed.
    #[error(transparent)]
    Pem(#[from] PemFault),
    /// A revocation list is malformed, or the gateway cannot read it.
    #[error("revocation list {number} is not valid: {cause}")]
    RevocationList {
        /// Its number in the file, counted from 1.
        number: usize,
        /// What is wrong with it.
        cause: String,
    },
    /// The file with the certificate has a private key, and that with the key a certificate.
    #[error("has a private key and no certificate, and `{}` has it the other way around", key.display())]
    Swapped {
        /// The file with the key.
        key: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] ReadError),
}

impl FileFault {
    /// This fault of the file at `path`.
    pub(crate) fn at(self, path: &Path) -> FileError {
        FileError { path: path.to_owned(), fault: self }
    }

    /// What to do about it; `None` if the fault itself says so.
    #[must_use]
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Certificate { .. } => Some("see what `openssl x509 -noout -text -in FILE` says"),
            Self::Expired { .. }
            | Self::ExpiredRevocationList
            | Self::Key
            | Self::RevocationList { .. }
            | Self::Unreadable(_) => None,
            Self::KeyMismatch { .. } => Some(
                "write the key from which this certificate was requested; a renewed certificate may have a new key",
            ),
            Self::KeyOfLaterCertificate { .. } => {
                Some("order the file: the server's certificate first, then the one that issued it, and so on")
            }
            Self::NotAnAuthority { .. } => Some(
                "write the authorities that issue clients' certificates; the certificate of one client cannot be listed",
            ),
            Self::OverlappingRevocationLists { .. } => {
                Some("keep only the newest; what the other revokes would not be seen")
            }
            Self::Swapped { .. } => Some("swap the values of `cert` and `key`"),
            Self::Pem(fault) => match fault {
                PemFault::EncryptedKey => {
                    Some("decrypt it with `openssl pkey -in FILE -out NEW`, and let only the gateway's user read it")
                }
                PemFault::Missing { .. } => {
                    Some("for a DER file, `openssl x509 -inform DER` or `openssl pkey` writes PEM")
                }
                PemFault::Malformed { .. } | PemFault::SeveralKeys { .. } => None,
            },
        }
    }
}

/// A reader of a certificate chain or a private key.
pub(crate) fn chain_reader(path: &Path) -> FileReader {
    FileReader::new(path, MAX_CHAIN_BYTES)
}

/// A reader of authorities: the certificates that are trusted to issue others.
pub(crate) fn authorities_reader(path: &Path) -> FileReader {
    FileReader::new(path, MAX_AUTHORITIES_BYTES)
}

/// A reader of revocation lists.
pub(crate) fn revocations_reader(path: &Path) -> FileReader {
    FileReader::new(path, MAX_REVOCATIONS_BYTES)
}

/// The certificates in the text of the file at `path`, in its order; at least one.
///
/// # Errors
///
/// [`FileError`].
pub(crate) fn certificates(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileError> {
    pem::certificates(text).map_err(|fault| FileFault::from(fault).at(path))
}

/// The private key in the text of the file at `path`.
///
/// # Errors
///
/// [`FileError`].
pub(crate) fn private_key(path: &Path, text: &[u8]) -> Result<PrivateKeyDer<'static>, FileError> {
    pem::private_key(text).map_err(|fault| FileFault::from(fault).at(path))
}

/// The authorities in the text of the file at `path`. Each of its certificates is one; a
/// certificate that cannot be one is an error, and not left out.
///
/// # Errors
///
/// [`FileError`].
pub(crate) fn authorities(path: &Path, text: &[u8]) -> Result<RootCertStore, FileError> {
    let mut store = RootCertStore::empty();
    for (index, certificate) in certificates(path, text)?.into_iter().enumerate() {
        store
            .add(certificate)
            .map_err(|error| FileFault::Certificate { number: index + 1, cause: error.to_string() }.at(path))?;
    }
    Ok(store)
}

/// The revocation lists in the text of the file at `path`; at least one.
///
/// # Errors
///
/// [`FileError`].
pub(crate) fn revocation_lists(
    path: &Path,
    text: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, FileError> {
    pem::revocation_lists(text).map_err(|fault| FileFault::from(fault).at(path))
}

/// Reads a file with `reader`. Blocks for as long as the file system does.
///
/// # Errors
///
/// [`FileFault::Unreadable`].
pub(crate) fn read(reader: &FileReader) -> Result<Vec<u8>, FileError> {
    reader.read_blocking().map_err(|error| FileFault::from(error).at(reader.path()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::test_support::TestAuthority;

    #[test]
    fn a_certificate_that_is_none_is_named_by_its_number() {
        let authority = TestAuthority::new();
        let text = format!("{}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", authority.pem());
        let error = authorities(Path::new("/ca.pem"), text.as_bytes()).unwrap_err();
        assert!(matches!(error.fault, FileFault::Certificate { number: 2, .. }), "{error}");
        assert!(error.to_string().starts_with("`/ca.pem` certificate 2 is not valid: "), "{error}");
        assert_eq!(authorities(Path::new("/ca.pem"), authority.pem().as_bytes()).unwrap().len(), 1);
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let error = read(&chain_reader(Path::new("/missing/cert.pem"))).unwrap_err().to_string();
        assert!(error.starts_with("`/missing/cert.pem` cannot be read: No such file"), "{error}");
    }
}
