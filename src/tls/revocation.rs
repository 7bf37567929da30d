//! Certificate revocation lists (RFC 5280 §5): read from a file, and when they have to be replaced.

use std::path::{Path, PathBuf};

use rustls::server::VerifierBuilderError;
use rustls_pki_types::CertificateRevocationListDer;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

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

/// Checks that a verifier can use each of the `lists` of the file at `path`. A verifier is built
/// with one of them at a time, so that the error can say which one it is.
///
/// # Errors
///
/// [`FileFault::RevocationList`].
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
    Ok(())
}

/// When the first of the `lists` has to be replaced (`nextUpdate`): afterwards, the status of the
/// certificates that it covers is unknown. `None` if no list says when.
pub(super) fn first_expiry(lists: &[CertificateRevocationListDer<'static>]) -> Option<WallTime> {
    let next_update = |list: &CertificateRevocationListDer<'static>| {
        let (_, list) = CertificateRevocationList::from_der(list).ok()?;
        let seconds = list.next_update()?.timestamp();
        Some(WallTime::from_seconds(u64::try_from(seconds).unwrap_or(0)))
    };
    lists.iter().filter_map(next_update).min()
}
