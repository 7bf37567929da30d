//! What a certificate says (RFC 5280): its names, when it expires, its fingerprint.

use std::fmt::Write as _;
use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use crate::primitives::clock::WallTime;

/// How many days before its end a certificate is reported. Those of Let's Encrypt are renewed
/// thirty days before their end.
const WARNING_DAYS: u64 = 30;

/// How far away the end of a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// More than 30 days.
    Distant,
    /// It has expired.
    Expired,
    /// At most 30 days.
    Soon {
        /// Whole days; 0 on the last day.
        days_left: u64,
    },
}

/// Whether the certificate in DER may issue others: it has `CA:TRUE` (RFC 5280 §4.2.1.9).
#[must_use]
pub(crate) fn is_authority(der: &[u8]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
    certificate.basic_constraints().is_ok_and(|constraints| constraints.is_some_and(|found| found.value.ca))
}

/// What the first certificate of a chain says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateFacts {
    /// The DNS names in `subjectAltName`, in lower case; one may begin with `*.`. The common name
    /// is not among them: clients have ignored it for years.
    pub dns_names: Vec<String>,
    /// The IP addresses in `subjectAltName`.
    pub addresses: Vec<IpAddr>,
    /// The certificate is valid from this second on.
    pub not_before: WallTime,
    /// The certificate is valid until this second.
    pub not_after: WallTime,
    /// SHA-256 of the whole certificate.
    pub fingerprint: [u8; 32],
}

impl CertificateFacts {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as a text.
    pub(crate) fn read(der: &[u8]) -> Result<Self, String> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| "it is not an X.509 certificate".to_owned())?;
        if !rest.is_empty() {
            return Err("it has bytes after its end".to_owned());
        }
        let mut facts = Self {
            dns_names: Vec::new(),
            addresses: Vec::new(),
            not_before: wall_time(certificate.validity().not_before.timestamp()),
            not_after: wall_time(certificate.validity().not_after.timestamp()),
            fingerprint: fingerprint(der),
        };
        let names = certificate.subject_alternative_name().map_err(|_| "its subjectAltName is malformed".to_owned())?;
        for name in names.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => facts.dns_names.push(name.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => facts.addresses.extend(address(bytes)),
                // No names of servers.
                GeneralName::OtherName(..)
                | GeneralName::RFC822Name(_)
                | GeneralName::X400Address(_)
                | GeneralName::DirectoryName(_)
                | GeneralName::EDIPartyName(_)
                | GeneralName::URI(_)
                | GeneralName::RegisteredID(_)
                | GeneralName::Invalid(..) => {}
            }
        }
        Ok(facts)
    }

    /// The names for a message: `example.com, *.example.com, 192.0.2.1`. Text from the certificate
    /// is shown only as far as it is usual in names.
    #[must_use]
    pub(crate) fn names(&self) -> String {
        /// Certificates of content networks have hundreds.
        const MAX_NAMES: usize = 8;
        let all: Vec<String> = self
            .dns_names
            .iter()
            .map(|name| printable(name))
            .chain(self.addresses.iter().map(IpAddr::to_string))
            .collect();
        match all.len() {
            0 => "no name".to_owned(),
            count if count > MAX_NAMES => format!("{} and {} others", all[..MAX_NAMES].join(", "), count - MAX_NAMES),
            _ => all.join(", "),
        }
    }

    /// Whether both certificates are for one of the DNS names.
    #[must_use]
    pub(crate) fn has_name_in_common_with(&self, other: &Self) -> bool {
        self.dns_names.iter().any(|name| other.dns_names.contains(name))
    }

    /// Whether the certificate has expired at `now`.
    #[must_use]
    pub(crate) fn has_expired(&self, now: WallTime) -> bool {
        self.not_after < now
    }

    /// Whether less than a sixth of the time in which the certificate is valid is left at `now`.
    /// With the usual renewal after two thirds, half of the time for renewal has passed then.
    #[must_use]
    pub(crate) fn is_in_last_sixth(&self, now: WallTime) -> bool {
        let lifetime = self.not_after.seconds().saturating_sub(self.not_before.seconds());
        self.not_after.seconds().saturating_sub(now.seconds()) < lifetime / 6
    }

    /// How far away the end of the certificate is at `now`.
    #[must_use]
    pub(crate) fn expiry(&self, now: WallTime) -> Expiry {
        const SECONDS_PER_DAY: u64 = 24 * 60 * 60;
        if self.has_expired(now) {
            return Expiry::Expired;
        }
        let days_left = self.not_after.seconds().saturating_sub(now.seconds()) / SECONDS_PER_DAY;
        if days_left <= WARNING_DAYS { Expiry::Soon { days_left } } else { Expiry::Distant }
    }
}

/// SHA-256 of a certificate in DER.
#[must_use]
pub(crate) fn fingerprint(der: &[u8]) -> [u8; 32] {
    digest(&SHA256, der).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

pub(super) fn wall_time(unix_seconds: i64) -> WallTime {
    WallTime::from_seconds(u64::try_from(unix_seconds).unwrap_or(0))
}

pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn printable(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._*".contains(&byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "\\x{byte:02x}").expect("a String takes all text");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::test_support::TestAuthority;

    #[test]
    fn names_and_validity_are_read() {
        let issued = TestAuthority::new().issue(&["API.example.com", "*.example.com", "192.0.2.7", "2001:db8::1"]);
        let facts = CertificateFacts::read(issued.certificate.der()).unwrap();
        assert_eq!(facts.dns_names, ["api.example.com", "*.example.com"]);
        assert_eq!(facts.names(), "api.example.com, *.example.com, 192.0.2.7, 2001:db8::1");
        assert_eq!(facts.fingerprint, fingerprint(issued.certificate.der()));
        let day = 24 * 60 * 60;
        let last = facts.not_after.seconds();
        assert!(!facts.has_expired(WallTime::from_seconds(last)));
        assert!(facts.has_expired(WallTime::from_seconds(last + 1)));
        for (before, expected) in [
            (0, Expiry::Soon { days_left: 0 }),
            (day - 1, Expiry::Soon { days_left: 0 }),
            (day, Expiry::Soon { days_left: 1 }),
            (31 * day - 1, Expiry::Soon { days_left: 30 }),
            (31 * day, Expiry::Distant),
        ] {
            assert_eq!(facts.expiry(WallTime::from_seconds(last - before)), expected, "{before} s before");
        }
        assert_eq!(facts.expiry(WallTime::from_seconds(last + 1)), Expiry::Expired);
    }

    #[test]
    fn text_of_a_certificate_cannot_control_a_terminal() {
        assert_eq!(printable("a\u{1b}[31m.example"), "a\\x1b\\x5b31m.example");
    }

    #[test]
    fn what_is_no_certificate_is_an_error() {
        for bytes in [&b""[..], b"x", &[0x30, 0x03, 0x02, 0x01, 0x01]] {
            CertificateFacts::read(bytes).unwrap_err();
        }
        let mut der = TestAuthority::new().issue(&["a.example"]).certificate.der().to_vec();
        der.push(0);
        assert_eq!(CertificateFacts::read(&der).unwrap_err(), "it has bytes after its end");
    }
}
