//! Client authentication (RFC 8446 §4.3.2): whether clients present a certificate, which
//! authorities have to have issued it, and which certificates are revoked.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::RootCertStore;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};

use super::bounded_verifier::BoundedVerifier;
use super::certificate::{self, CertificateFacts};
use super::files::{self, FileError, FileFault};
use super::follow;
use super::provider;
use super::revocation::{self, Content};
use super::server::SettingError;
use crate::primitives::clock::WallTime;
use crate::primitives::file::FileReader;

/// `client_auth`, `client_ca` and `client_crl`, compiled. Without them, no client is asked for a
/// certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuthSettings {
    /// How a client without a certificate is treated.
    pub mode: ClientAuthMode,
    /// The authorities that may have issued a client's certificate.
    pub authorities: PathBuf,
    /// Their revocation lists. The status of every client's certificate must then be known.
    pub revocations: Option<PathBuf>,
}

/// How a client without a certificate is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuthMode {
    /// It is served; routes can require a certificate.
    Optional,
    /// The handshake fails.
    Required,
}

/// Decides which client certificates are accepted. Built from the files as they were last read.
#[derive(Debug)]
pub(crate) struct ClientTrust {
    verifier: Arc<dyn ClientCertVerifier>,
    /// When each authority expires, in the order of the file.
    authority_expiries: Vec<WallTime>,
    revocations: Option<LoadedRevocations>,
    /// When each of the lists expires, in order.
    expiries: Vec<WallTime>,
}

/// Revocation lists in use.
#[derive(Clone, Debug)]
pub(crate) struct LoadedRevocations {
    /// The file that they were read from, as the configuration names it.
    pub(crate) file: Arc<str>,
    /// When the first of them expires; `None`: never.
    pub(crate) expires: Option<WallTime>,
}

impl ClientAuthSettings {
    /// The files, in the order in which [`ClientTrust::new`] expects their contents.
    pub(super) fn readers(&self) -> impl Iterator<Item = FileReader> {
        let revocations = self.revocations.as_deref().map(files::revocations_reader);
        [files::authorities_reader(&self.authorities)].into_iter().chain(revocations)
    }
}

impl ClientTrust {
    /// Makes a verifier of `contents`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them.
    pub(super) fn new(
        settings: &ClientAuthSettings,
        contents: &[Result<Vec<u8>, FileError>],
    ) -> Result<Self, Vec<SettingError>> {
        let mut contents = contents.iter();
        let mut next = || contents.next().expect("there is a content for each reader");
        let authorities = (&settings.authorities, next());
        let revocations = settings.revocations.as_ref().map(|path| (path, next()));
        let of_key = |key: &str| {
            let key = key.to_owned();
            move |error| SettingError { key, error }
        };
        let roots = read_authorities(authorities).map_err(of_key("client_ca"));
        let lists = revocations.map_or(Ok(Vec::new()), revocation::read).map_err(of_key("client_crl"));
        let (roots, authority_expiries, lists) = match (roots, lists) {
            (Ok((roots, expiries)), Ok(lists)) => (Arc::new(roots), expiries, lists),
            (roots, lists) => return Err(roots.err().into_iter().chain(lists.err()).collect()),
        };
        let build = |lists| build(&roots, settings.mode, lists);
        if let Some(path) = &settings.revocations {
            revocation::check_each(path, &lists, build).map_err(|error| vec![of_key("client_crl")(error)])?;
        }
        let expiries = revocation::expiries(&lists);
        let first_expiry = expiries.first().copied();
        let revocations = settings.revocations.as_ref();
        let revocations = revocations
            .map(|path| LoadedRevocations { file: path.display().to_string().into(), expires: first_expiry });
        let verifier = build(lists).expect("there is an authority, and each list was accepted");
        Ok(Self { verifier, authority_expiries, revocations, expiries })
    }

    /// The verifier, for the configuration of sessions.
    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    /// Whether the chain of a client, its own certificate first, is accepted at `now`.
    #[must_use]
    pub(crate) fn accepts(&self, chain: &[CertificateDer<'static>], now: WallTime) -> bool {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.seconds()));
        let Some((own, others)) = chain.split_first() else { return false };
        self.verifier.verify_client_cert(own, others, now).is_ok()
    }

    /// The numbers, counted from 1, of the authorities that have expired at `now`. What they have
    /// issued is accepted all the same: RFC 5280 §6.1.1 leaves the validity of trust anchors open.
    pub(crate) fn expired_authorities(&self, now: WallTime) -> impl Iterator<Item = usize> {
        let expiries = self.authority_expiries.iter().enumerate();
        expiries.filter(move |(_, expiry)| **expiry < now).map(|(index, _)| index + 1)
    }

    /// When the next of the revocation lists expires after `now`. A chain that is accepted at `now`
    /// may be refused from then on. `None`: never.
    #[must_use]
    pub(crate) fn next_expiry(&self, now: WallTime) -> Option<WallTime> {
        self.expiries.iter().copied().find(|expiry| *expiry > now)
    }

    /// Whether one of the revocation lists has expired at `now`.
    #[must_use]
    pub(crate) fn has_expired_list(&self, now: WallTime) -> bool {
        self.revocations.as_ref().is_some_and(|lists| lists.have_expired(now))
    }

    /// The revocation lists in use.
    #[must_use]
    pub(crate) fn revocations(&self) -> Option<&LoadedRevocations> {
        self.revocations.as_ref()
    }

    /// Why these lists must not take the place of those of `current`: they have expired at `now`,
    /// and those in use have not. Certificates that they cover would be refused.
    pub(super) fn expired_in_place_of(&self, current: Option<&Self>, now: WallTime) -> Option<SettingError> {
        let new = self.revocations.as_ref().filter(|lists| lists.have_expired(now))?;
        if current.is_some_and(|current| current.has_expired_list(now)) {
            return None;
        }
        let error = FileFault::ExpiredRevocationList.at(Path::new(&*new.file));
        Some(SettingError { key: "client_crl".to_owned(), error })
    }
}

impl LoadedRevocations {
    /// Whether one of the lists has expired at `now`, so that certificates are refused.
    #[must_use]
    pub(crate) fn have_expired(&self, now: WallTime) -> bool {
        // From that second on, as webpki has it.
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// A digest of everything that decides which clients are accepted: the settings and the content of
/// their files.
pub(super) fn trust_digest(settings: Option<&ClientAuthSettings>, contents: &[Result<Vec<u8>, FileError>]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(format!("{settings:?}").as_bytes());
    context.update(&follow::digest(contents));
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn build(
    roots: &Arc<RootCertStore>,
    mode: ClientAuthMode,
    lists: Vec<CertificateRevocationListDer<'static>>,
) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider()))
        .with_crls(lists)
        // As for servers' certificates: see `server_verifier`.
        .only_check_end_entity_revocation()
        .enforce_revocation_expiration();
    let builder = match mode {
        ClientAuthMode::Optional => builder.allow_unauthenticated(),
        ClientAuthMode::Required => builder,
    };
    Ok(Arc::new(BoundedVerifier(builder.build()?)))
}

/// The authorities in a file, and when each of them expires. rustls takes every certificate there
/// for one that may issue others, whatever it says of itself.
fn read_authorities((path, text): Content<'_>) -> Result<(RootCertStore, Vec<WallTime>), FileError> {
    let text = text.as_ref().map_err(FileError::clone)?;
    let mut expiries = Vec::new();
    for (index, certificate) in files::certificates(path, text)?.iter().enumerate() {
        let number = index + 1;
        let facts = CertificateFacts::read(certificate);
        let facts = facts.map_err(|cause| FileFault::Certificate { number, cause }.at(path))?;
        if !certificate::is_authority(certificate) {
            return Err(FileFault::NotAnAuthority { number }.at(path));
        }
        expiries.push(facts.not_after);
    }
    Ok((files::authorities(path, text)?, expiries))
}
