//! PEM (RFC 7468): the certificates, the private key or the revocation lists in the text of a file.
//!
//! A file may hold other sections besides: many tools write the chain and its key into one file.

use std::fmt;

use rustls_pki_types::pem::{Error, PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// What a file must contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// At least one certificate.
    Certificates,
    /// Exactly one private key.
    PrivateKey,
    /// At least one certificate revocation list.
    RevocationLists,
}

/// Why a text does not contain what is needed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PemFault {
    /// The private key is encrypted with a password.
    #[error("the private key is encrypted; the gateway reads unencrypted keys only")]
    EncryptedKey,
    /// A section cannot be decoded. The cause never shows the content, which may be a secret.
    #[error("PEM section {number} is malformed: {cause}")]
    Malformed {
        /// The number of the section, counted from 1 among those that a tool like this reads.
        number: usize,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// The text has no section of the kind that is needed.
    #[error("has {found}, but {wanted} is needed")]
    Missing {
        /// What the text has instead.
        found: String,
        /// What is needed.
        wanted: Wanted,
    },
    /// There is more than one private key, and nothing says which one is meant.
    #[error("has {count} private keys, but one is needed")]
    SeveralKeys {
        /// How many.
        count: usize,
    },
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificates => "a certificate (BEGIN CERTIFICATE)",
            Self::PrivateKey => "a private key (BEGIN PRIVATE KEY)",
            Self::RevocationLists => "a revocation list (BEGIN X509 CRL)",
        })
    }
}

/// The certificates of `text`, in its order; at least one.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemFault> {
    all(text, Wanted::Certificates)
}

/// The revocation lists of `text`, in its order; at least one.
pub(super) fn revocation_lists(text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, PemFault> {
    all(text, Wanted::RevocationLists)
}

/// The private key of `text`: PKCS#8, PKCS#1 (RSA) or SEC1 (EC).
pub(super) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemFault> {
    if labels(text).any(is_encrypted_key) || is_encrypted_in_the_old_format(text) {
        return Err(PemFault::EncryptedKey);
    }
    let mut keys = all(text, Wanted::PrivateKey)?;
    match (keys.pop(), keys.len()) {
        (Some(key), 0) => Ok(key),
        (_, others) => Err(PemFault::SeveralKeys { count: others + 1 }),
    }
}

fn all<T: PemObject>(text: &[u8], wanted: Wanted) -> Result<Vec<T>, PemFault> {
    let mut objects = Vec::new();
    for (index, section) in <(SectionKind, Vec<u8>)>::pem_slice_iter(text).enumerate() {
        let number = index + 1;
        let (kind, der) = section.map_err(|error| PemFault::Malformed { number, cause: cause(&error) })?;
        objects.extend(T::from_pem(kind, der));
    }
    if objects.is_empty() { Err(PemFault::Missing { found: found(text), wanted }) } else { Ok(objects) }
}

/// The error in our own words: the library's quotes parts of the file.
fn cause(error: &Error) -> &'static str {
    match error {
        Error::MissingSectionEnd { .. } => "its END line is missing",
        Error::IllegalSectionStart { .. } => "its BEGIN line does not end with five hyphens",
        Error::Base64Decode(_) => "its content is not base64",
        Error::SectionTooLarge => "it is too large",
        _ => "it cannot be decoded",
    }
}

/// What a text has, for a message: the labels of its sections.
fn found(text: &[u8]) -> String {
    /// Enough to recognize a file by.
    const MAX_LABELS: usize = 3;
    let mut labels: Vec<&str> = labels(text).collect();
    labels.dedup();
    match labels.len() {
        0 if text.is_empty() => "nothing (the file is empty)".to_owned(),
        0 if std::str::from_utf8(text).is_err() => "binary data and no PEM section".to_owned(),
        0 => "no PEM section".to_owned(),
        count => {
            let named = labels[..count.min(MAX_LABELS)].join(", ");
            if count > MAX_LABELS { format!("{named} and others") } else { named }
        }
    }
}

/// The labels of all sections, also of those that the library skips. A label that is no usual text
/// becomes `an unknown section`.
fn labels(text: &[u8]) -> impl Iterator<Item = &str> {
    /// The longest label of a section that the gateway knows has 21 characters.
    const MAX_LABEL_BYTES: usize = 40;
    text.split(|byte| matches!(byte, b'\n' | b'\r')).filter_map(|line| {
        let label = line.strip_prefix(b"-----BEGIN ")?.trim_ascii_end().strip_suffix(b"-----")?;
        let usual = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b' ';
        let is_usual = label.len() <= MAX_LABEL_BYTES && label.iter().all(usual);
        Some(std::str::from_utf8(label).ok().filter(|_| is_usual).unwrap_or("an unknown section"))
    })
}

fn is_encrypted_key(label: &str) -> bool {
    label == "ENCRYPTED PRIVATE KEY"
}

/// Whether a key has the header of OpenSSL's format before PKCS#8 (RFC 1421 §4.6.1.1).
fn is_encrypted_in_the_old_format(text: &[u8]) -> bool {
    text.split(|byte| matches!(byte, b'\n' | b'\r')).any(|line| line.starts_with(b"Proc-Type: 4,ENCRYPTED"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(label: &str) -> String {
        format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n")
    }

    #[test]
    fn sections_of_other_kinds_are_skipped() {
        let text = ["EC PARAMETERS", "CERTIFICATE", "PRIVATE KEY", "CERTIFICATE", "X509 CRL"].map(section).concat();
        assert_eq!(certificates(text.as_bytes()).unwrap().len(), 2);
        assert!(matches!(private_key(text.as_bytes()).unwrap(), PrivateKeyDer::Pkcs8(_)));
        assert_eq!(revocation_lists(text.as_bytes()).unwrap().len(), 1);
        let old = section("RSA PRIVATE KEY").replace('\n', "\r\n");
        assert!(matches!(private_key(old.as_bytes()).unwrap(), PrivateKeyDer::Pkcs1(_)), "lines end with CRLF");
    }

    #[test]
    fn the_fault_says_what_was_found_and_what_is_needed() {
        let certificate = section("CERTIFICATE");
        for (name, text, expected) in [
            (
                "empty",
                String::new(),
                "has nothing (the file is empty), but a private key (BEGIN PRIVATE KEY) is needed",
            ),
            ("no PEM", "x".to_owned(), "has no PEM section, but a private key (BEGIN PRIVATE KEY) is needed"),
            ("another file", certificate.repeat(2), "has CERTIFICATE, but a private key (BEGIN PRIVATE KEY) is needed"),
            (
                "an odd label",
                section("A\u{1b}[31m"),
                "has an unknown section, but a private key (BEGIN PRIVATE KEY) is needed",
            ),
            ("two keys", section("PRIVATE KEY").repeat(2), "has 2 private keys, but one is needed"),
            (
                "an encrypted key",
                section("ENCRYPTED PRIVATE KEY"),
                "the private key is encrypted; the gateway reads unencrypted keys only",
            ),
            (
                "an encrypted key in the old format",
                section("RSA PRIVATE KEY").replace("AAAA", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\nAAAA"),
                "the private key is encrypted; the gateway reads unencrypted keys only",
            ),
            (
                "cut off",
                format!("{certificate}-----BEGIN PRIVATE KEY-----\nAAAA\n"),
                "PEM section 2 is malformed: its END line is missing",
            ),
            (
                "not base64",
                section("PRIVATE KEY").replace("AAAA", "secret!"),
                "PEM section 1 is malformed: its content is not base64",
            ),
        ] {
            assert_eq!(private_key(text.as_bytes()).unwrap_err().to_string(), expected, "{name}");
        }
        let fault = certificates(b"\x30\x82\xff").unwrap_err().to_string();
        assert_eq!(fault, "has binary data and no PEM section, but a certificate (BEGIN CERTIFICATE) is needed");
    }
}
