//! Whether the certificate of a server is trusted: the authorities that may have issued it,
//! revocation lists and pins.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls_platform_verifier::Verifier as SystemVerifier;

use super::bounded_verifier::BoundedVerifier;
use super::client::ClientTlsError;
use super::files::{self, FileError};
use super::pin::{Pin, PinnedVerifier};
use super::provider;
use super::revocation;
pub(super) use super::revocation::Content;

/// What is trusted, without pins.
struct Trust {
    verifier: Arc<dyn ServerCertVerifier>,
    /// The authorities, if they are known.
    authorities: Vec<CertificateDer<'static>>,
}

/// The verifier that trusts the authorities in a file, or those that the system trusts if there is
/// no file, and demands one of the `pins` unless there are none.
///
/// # Errors
///
/// Everything that is wrong with the files, or that the system trusts none.
pub(super) fn build(
    pins: &[Pin],
    authorities: Option<Content<'_>>,
    revocations: Option<Content<'_>>,
) -> Result<Arc<dyn ServerCertVerifier>, Vec<ClientTlsError>> {
    let Trust { verifier, authorities } = match authorities {
        Some(authorities) => trust_file(authorities, revocations)?,
        None => trust_system().map_err(|error| vec![error])?,
    };
    let verifier = if pins.is_empty() {
        verifier
    } else {
        let algorithms = provider().signature_verification_algorithms;
        Arc::new(PinnedVerifier::new(verifier, pins.to_vec(), authorities, algorithms))
    };
    Ok(Arc::new(BoundedVerifier(verifier)))
}

fn trust_system() -> Result<Trust, ClientTlsError> {
    let verifier = SystemVerifier::new(Arc::clone(provider()))
        .map_err(|error| ClientTlsError::System { cause: error.to_string() })?;
    Ok(Trust { verifier: Arc::new(verifier), authorities: Vec::new() })
}

fn trust_file(authorities: Content<'_>, revocations: Option<Content<'_>>) -> Result<Trust, Vec<ClientTlsError>> {
    let roots = read_authorities(authorities).map_err(|error| ClientTlsError::File { key: "ca_file", error });
    let lists = revocations.map_or(Ok(Vec::new()), revocation::read);
    let lists = lists.map_err(|error| ClientTlsError::File { key: "crl_file", error });
    let ((roots, certificates), lists) = match (roots, lists) {
        (Ok(roots), Ok(lists)) => (roots, lists),
        (roots, lists) => return Err(roots.err().into_iter().chain(lists.err()).collect()),
    };
    let roots = Arc::new(roots);
    if let Some((path, _)) = revocations {
        revocation::check_each(path, &lists, |lists| build_webpki(&roots, lists))
            .map_err(|error| vec![ClientTlsError::File { key: "crl_file", error }])?;
    }
    let verifier = build_webpki(&roots, lists).expect("there is an authority, and each list was accepted");
    Ok(Trust { verifier, authorities: certificates })
}

fn build_webpki(
    roots: &Arc<RootCertStore>,
    lists: Vec<CertificateRevocationListDer<'static>>,
) -> Result<Arc<WebPkiServerVerifier>, VerifierBuilderError> {
    WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider()))
        .with_crls(lists)
        // Authorities rarely publish lists of their own intermediate certificates in one place with
        // those of servers, and a list that is missing would be an error.
        .only_check_end_entity_revocation()
        // Otherwise an attacker who can keep new lists away could hide a revocation.
        .enforce_revocation_expiration()
        .build()
}

fn read_authorities((path, text): Content<'_>) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), FileError> {
    let text = text.as_ref().map_err(FileError::clone)?;
    Ok((files::authorities(path, text)?, files::certificates(path, text)?))
}
