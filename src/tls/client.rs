//! TLS towards servers: whose certificates the gateway trusts, which one it presents, and how both
//! change while it runs.
//!
//! A [`ClientTls`] is made from settings and the content of the files that they name. When a file
//! changes, all are read again; what cannot be used is rejected. A connection uses what was current
//! when it began, and records of which [generation](ClientTls::generation) that was.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ClientConfig;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::certified_key::{FileText, Identity, Part};
use super::files::{self, FileError, FileFault};
use super::follow::{self, Contents, Follower, LookTimes};
use super::pin::Pin;
use super::provider;
use super::server::{CertificateFiles, LoadedCertificate, Renewer};
use super::server_state::ClockTime;
use super::server_verifier::{self, Content};
use crate::primitives::clock::Clock;
use crate::primitives::file::FileReader;

/// How connections to servers are secured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTlsSettings {
    /// The authorities that are trusted; `None`: those that the system trusts.
    pub(crate) authorities: Option<PathBuf>,
    /// Revocation lists of these authorities. The status of every server's certificate must then be
    /// known.
    pub(crate) revocations: Option<PathBuf>,
    /// The certificate that is presented to a server that asks for one.
    pub(crate) identity: Option<CertificateFiles>,
    /// Keys of which one must be in the chain; empty: any chain will do.
    pub(crate) pins: Vec<Pin>,
}

/// Why settings cannot be used to secure connections.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClientTlsError {
    /// A file cannot be used.
    #[error("{error}")]
    File {
        /// The key that names the file.
        key: &'static str,
        /// What is wrong with it.
        error: FileError,
    },
    /// The system trusts no authority, or its authorities cannot be read.
    #[error("the system's certificate authorities cannot be used: {cause}")]
    System {
        /// Why.
        cause: String,
    },
}

impl ClientTlsError {
    /// The key below `tls` that it is about.
    #[must_use]
    pub(crate) fn key(&self) -> &'static str {
        match self {
            Self::File { key, .. } => key,
            // What would be needed instead.
            Self::System { .. } => "ca_file",
        }
    }
}

/// TLS towards the servers of one upstream. Shared by all workers.
#[derive(Debug)]
pub struct ClientTls {
    settings: ClientTlsSettings,
    clock: Clock,
    current: ArcSwap<ClientTlsState>,
}

/// What was made of the files when they were last read.
#[derive(Debug)]
struct ClientTlsState {
    config: Arc<ClientConfig>,
    certificate: Option<LoadedCertificate>,
    digest: [u8; 32],
    generation: u64,
}

impl ClientTls {
    /// Reads all files of `settings`. Blocks for as long as the file system does.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with any of the files.
    pub(crate) fn load(settings: ClientTlsSettings, clock: Clock) -> Result<Arc<Self>, Vec<ClientTlsError>> {
        let contents = follow::read_blocking(&settings.readers());
        let state = ClientTlsState::new(&settings, &contents, &clock, 0)?;
        Ok(Arc::new(Self { settings, clock, current: ArcSwap::from_pointee(state) }))
    }

    /// The settings.
    #[must_use]
    pub(crate) fn settings(&self) -> &ClientTlsSettings {
        &self.settings
    }

    /// What a new connection uses, and its generation.
    #[must_use]
    pub(crate) fn config(&self) -> (Arc<ClientConfig>, u64) {
        let state = self.current.load();
        (Arc::clone(&state.config), state.generation)
    }

    /// Counts how often the files have changed. A connection of an earlier generation was made with
    /// authorities or a certificate that are no longer in use.
    #[must_use]
    pub(crate) fn generation(&self) -> u64 {
        self.current.load().generation
    }

    /// The certificate that is presented to servers.
    #[must_use]
    pub(crate) fn certificate(&self) -> Option<LoadedCertificate> {
        self.current.load().certificate.clone()
    }

    /// Says when the files change. Without files they never do.
    pub(crate) fn follow(&self, times: LookTimes) -> Follower {
        Follower::new(self.settings.readers(), times, self.current.load().digest)
    }

    /// Uses `contents` for new connections.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them; what was in use stays. An expired certificate is an
    /// error here, unless it takes the place of another expired one.
    pub(crate) fn replace(&self, contents: &Contents) -> Result<(), Vec<ClientTlsError>> {
        let state = ClientTlsState::new(&self.settings, contents, &self.clock, self.generation() + 1)?;
        let now = self.clock.now();
        if let (Some(old), Some(new)) = (self.certificate(), &state.certificate)
            && new.facts.has_expired(now)
            && !old.facts.has_expired(now)
        {
            let error = FileFault::Expired { names: new.facts.names() }.at(Path::new(&*new.file));
            return Err(vec![ClientTlsError::File { key: "cert", error }]);
        }
        self.current.store(Arc::new(state));
        Ok(())
    }
}

impl ClientTlsSettings {
    /// The files, in the order in which [`ClientTlsState::new`] expects their contents.
    fn readers(&self) -> Vec<FileReader> {
        let identity = self.identity.iter().flat_map(|files| [&files.chain, &files.key]);
        let authorities = self.authorities.iter().map(|path| files::authorities_reader(path));
        let revocations = self.revocations.iter().map(|path| files::revocations_reader(path));
        authorities.chain(revocations).chain(identity.map(|path| files::chain_reader(path))).collect()
    }
}

impl ClientTlsState {
    fn new(
        settings: &ClientTlsSettings,
        contents: &Contents,
        clock: &Clock,
        generation: u64,
    ) -> Result<Self, Vec<ClientTlsError>> {
        let digest = follow::digest(contents);
        let mut contents = contents.iter();
        let mut next = || contents.next().expect("there is a content for each reader");
        let authorities = settings.authorities.as_ref().map(|path| (path, next()));
        let revocations = settings.revocations.as_ref().map(|path| (path, next()));
        let identity = settings.identity.as_ref().map(|files| [(&files.chain, next()), (&files.key, next())]);
        let mut errors = Vec::new();
        let verifier = server_verifier::build(&settings.pins, authorities, revocations)
            .map_err(|mut faults| errors.append(&mut faults));
        let identity = read_identity(identity).map_err(|mut faults| errors.append(&mut faults));
        let (Ok(verifier), Ok(identity)) = (verifier, identity) else { return Err(errors) };
        let time = Arc::new(ClockTime(clock.clone()));
        let builder = ClientConfig::builder_with_details(Arc::clone(provider()), time)
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs has cipher suites of every version")
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match &identity {
            Some(identity) => {
                let key = CertifiedKey::clone(&identity.key);
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
            }
            None => builder.with_no_client_auth(),
        };
        let file = settings.identity.as_ref().map(|files| files.chain.display().to_string().into());
        let certificate = file.zip(identity).map(|(file, identity)| LoadedCertificate {
            file,
            facts: identity.facts,
            renewer: Renewer::Operator,
        });
        // Sessions are resumed: rustls keeps those of the last 256 names. A new state begins
        // without any, so that no session outlives the authorities or pins that it was verified
        // with (threat TU-3).
        Ok(Self { config: Arc::new(config), certificate, digest, generation })
    }
}

/// The certificate that is presented, with its key: from two files.
fn read_identity(identity: Option<[Content<'_>; 2]>) -> Result<Option<Identity>, Vec<ClientTlsError>> {
    let Some([(chain_path, chain), (key_path, key)]) = identity else { return Ok(None) };
    let at = |part: Part, error: FileError| {
        let key = match part {
            Part::Chain => "cert",
            Part::Key => "key",
        };
        ClientTlsError::File { key, error }
    };
    match (chain, key) {
        (Ok(chain), Ok(key)) => {
            let (chain, key) = (FileText { path: chain_path, text: chain }, FileText { path: key_path, text: key });
            let faults = |faults: Vec<_>| faults.into_iter().map(|(part, error)| at(part, error)).collect();
            Identity::read(chain, key).map(Some).map_err(faults)
        }
        (chain, key) => {
            let errors = [(Part::Chain, chain), (Part::Key, key)];
            Err(errors.into_iter().filter_map(|(part, text)| Some(at(part, text.as_ref().err()?.clone()))).collect())
        }
    }
}
