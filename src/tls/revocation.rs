//! Certificate revocation lists (RFC 5280 §5): reading them from a file, and when they expire.

use std::path::{Path, PathBuf};

use rustls::server::VerifierBuilderError;
use rustls_pki_types::CertificateRevocationListDer;
use x509_parser::extensions::{DistributionPointName, GeneralName, IssuingDistributionPoint, ParsedExtension};
use x509_parser::oid_registry::OID_X509_EXT_ISSUER_DISTRIBUTION_POINT;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::distinguished_name;
use super::files::{self, FileError, FileFault};
use crate::primitives::clock::WallTime;

/// A file with the text that was read from it.
pub(super) type Content<'a> = (&'a PathBuf, &'a Result<Vec<u8>, FileError>);

/// The lists in a file; at least one.
///
/// # Errors
///
/// What is wrong with the file.
pub(super) fn read((path, text): Content<'_>) -> Result<Vec<CertificateRevocationListDer<'static>>, FileError> {
    files::revocation_lists(path, text.as_ref().map_err(FileError::clone)?)
}

/// What a list covers.
struct Scope {
    /// The issuer's name in DER.
    issuer: Vec<u8>,
    /// The issuer's name as text.
    issuer_text: String,
    /// The list covers certificates that name one of these URIs. Empty: it may cover all that the
    /// issuer has issued.
    distribution_points: Vec<String>,
}

/// Checks that a verifier can use each of the `lists` of the file at `path`, together with the
/// others. A verifier is built with one of them at a time, so that the error can say which one it
/// is.
///
/// # Errors
///
/// [`FileFault::RevocationList`] and [`FileFault::OverlappingRevocationLists`].
pub(super) fn check_each<V>(
    path: &Path,
    lists: &[CertificateRevocationListDer<'static>],
    build: impl Fn(Vec<CertificateRevocationListDer<'static>>) -> Result<V, VerifierBuilderError>,
) -> Result<(), FileError> {
    for (index, list) in lists.iter().enumerate() {
        if let Err(error) = build(vec![list.clone()]) {
            return Err(FileFault::RevocationList { number: index + 1, cause: error.to_string() }.at(path));
        }
    }
    check_scopes(lists).map_err(|fault| fault.at(path))
}

/// Checks that no two of the `lists` cover the same certificates. webpki uses the first that covers
/// a certificate, so what is revoked by the second would be accepted.
fn check_scopes(lists: &[CertificateRevocationListDer<'static>]) -> Result<(), FileFault> {
    let mut earlier: Vec<(usize, Scope)> = Vec::new();
    for (index, list) in lists.iter().enumerate() {
        let number = index + 1;
        let (_, list) = CertificateRevocationList::from_der(list)
            .map_err(|error| FileFault::RevocationList { number, cause: error.to_string() })?;
        let Some(scope) = Scope::of(&list) else { continue };
        if let Some((first, _)) = earlier.iter().find(|(_, other)| other.overlaps(&scope)) {
            let issuer = scope.issuer_text.escape_debug().to_string();
            return Err(FileFault::OverlappingRevocationLists { first: *first, second: number, issuer });
        }
        earlier.push((number, scope));
    }
    Ok(())
}

impl Scope {
    /// What `list` covers; `None` if it is for the certificates of authorities only, which are not
    /// looked up.
    fn of(list: &CertificateRevocationList<'_>) -> Option<Self> {
        let point = list.extensions().iter().find(|extension| extension.oid == OID_X509_EXT_ISSUER_DISTRIBUTION_POINT);
        let point = point.and_then(|extension| match extension.parsed_extension() {
            ParsedExtension::IssuingDistributionPoint(point) => Some(point),
            // It cannot be read: the list may cover everything.
            _ => None,
        });
        if point.is_some_and(|point| point.only_contains_ca_certs) {
            return None;
        }
        let issuer = list.issuer();
        Some(Self {
            issuer: issuer.as_raw().to_vec(),
            issuer_text: distinguished_name::text_of(issuer),
            distribution_points: point.map(uris).unwrap_or_default(),
        })
    }

    /// Whether there can be a certificate that both cover.
    fn overlaps(&self, other: &Self) -> bool {
        let (one, other_points) = (&self.distribution_points, &other.distribution_points);
        let is_disjoint =
            !one.is_empty() && !other_points.is_empty() && !one.iter().any(|uri| other_points.contains(uri));
        self.issuer == other.issuer && !is_disjoint
    }
}

fn uris(point: &IssuingDistributionPoint<'_>) -> Vec<String> {
    let Some(DistributionPointName::FullName(names)) = &point.distribution_point else { return Vec::new() };
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        // webpki does not look at names of other types.
        _ => None,
    };
    names.iter().filter_map(uri).collect()
}

/// When the `lists` have to be replaced (`nextUpdate`), in order: from then on, the status of the
/// certificates that one of them covers is unknown.
pub(super) fn expiries(lists: &[CertificateRevocationListDer<'static>]) -> Vec<WallTime> {
    let next_update = |list: &CertificateRevocationListDer<'static>| {
        let (_, list) = CertificateRevocationList::from_der(list).ok()?;
        let seconds = list.next_update()?.timestamp();
        Some(WallTime::from_seconds(u64::try_from(seconds).unwrap_or(0)))
    };
    let mut expiries: Vec<WallTime> = lists.iter().filter_map(next_update).collect();
    expiries.sort_unstable();
    expiries
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateRevocationListParams, CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope};
    use rcgen::{KeyIdMethod, SerialNumber, date_time_ymd};

    use super::*;
    use crate::tls::test_support::TestAuthority;

    /// Threat TC-10.
    #[test]
    fn two_lists_that_cover_the_same_certificates_are_an_error() {
        let (authority, another) = (TestAuthority::new(), TestAuthority::new());
        let list = |authority: &TestAuthority, uris: &[&str], scope: Option<CrlScope>| {
            let uris: Vec<String> = uris.iter().map(ToString::to_string).collect();
            let distribution_point = CrlDistributionPoint { uris };
            let params = CertificateRevocationListParams {
                this_update: date_time_ymd(2020, 1, 1),
                next_update: date_time_ymd(4000, 1, 1),
                crl_number: SerialNumber::from(1),
                issuing_distribution_point: (!distribution_point.uris.is_empty())
                    .then_some(CrlIssuingDistributionPoint { distribution_point, scope }),
                revoked_certs: Vec::new(),
                key_identifier_method: KeyIdMethod::Sha256,
            };
            authority.sign_list(&params)
        };
        let (all, of_another) = (list(&authority, &[], None), list(&another, &[], None));
        let a = list(&authority, &["http://a.test/a", "http://b.test/a"], None);
        let (same, b) = (list(&authority, &["http://b.test/a"], None), list(&authority, &["http://b.test/b"], None));
        let of_authorities = list(&authority, &["http://b.test/a"], Some(CrlScope::CaCertsOnly));
        for (what, lists, expected) in [
            ("one", vec![&all], None),
            ("those of two authorities", vec![&all, &of_another], None),
            ("one twice", vec![&all, &of_another, &all], Some((1, 3))),
            ("one for all, one for some", vec![&all, &a], Some((1, 2))),
            ("the other way around", vec![&a, &all], Some((1, 2))),
            ("different distribution points", vec![&a, &b], None),
            ("a distribution point in common", vec![&a, &b, &same], Some((1, 3))),
            ("one for certificates of authorities", vec![&all, &of_authorities], None),
        ] {
            let lists: Vec<_> = lists.into_iter().cloned().collect();
            let shown = check_each(Path::new("/crl.pem"), &lists, |_| Ok(())).map_err(|error| error.fault);
            let overlap = match shown {
                Ok(()) => None,
                Err(FileFault::OverlappingRevocationLists { first, second, .. }) => Some((first, second)),
                Err(other) => panic!("{what}: {other}"),
            };
            assert_eq!(overlap, expected, "{what}");
        }
    }
}
