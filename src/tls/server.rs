//! TLS towards clients: the certificates, versions and protocols that the gateway offers, and how
//! they change while it runs.
//!
//! A [`ServerTls`] is made from the settings of `[server.tls]` and the content of their files. When
//! a file changes, it is read again; what cannot be used is rejected. A connection uses what was
//! current when it began.

pub(crate) use super::loaded_certificate::{LoadedCertificate, Renewer};
pub(crate) use super::server_state::{HandshakeSettings, ServerTlsState};

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::challenges::Challenges;
use super::client_auth::{ClientAuthSettings, ClientTrust, LoadedRevocations};
use super::files::{self, FileError, FileFault};
use super::follow::{self, Contents, Follower, LookTimes};
use super::managed::{ManagedCertificates, ManagedHost};
use super::server_state::SharedParts;
use crate::primitives::clock::Clock;
use crate::primitives::file::FileReader;

/// `[server.tls]`, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTlsSettings {
    /// At least one, unless there are managed ones; the first is the default.
    pub certificates: Vec<CertificateFiles>,
    /// The hosts whose certificates the gateway obtains itself.
    pub managed: Vec<ManagedHost>,
    /// The lowest version of TLS that is accepted.
    pub min_version: TlsVersion,
    /// How clients authenticate; `None`: they are not asked for a certificate.
    pub client_auth: Option<ClientAuthSettings>,
}

/// The files of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain: the server's certificate first.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SettingError {
    /// The key below `server.tls` that names the file.
    pub(crate) key: String,
    /// What is wrong with the file.
    pub(crate) error: FileError,
}

/// TLS towards clients. Shared by all workers.
pub(crate) struct ServerTls {
    settings: ServerTlsSettings,
    clock: Clock,
    managed: Arc<ManagedCertificates>,
    challenges: Arc<Challenges>,
    current: ArcSwap<ServerTlsState>,
    /// Counts the changes of the files.
    changes: watch::Sender<u64>,
}

impl ServerTls {
    /// Reads all files of `settings`. Session tickets of `previous` stay valid, unless what decides
    /// on client certificates has changed. Blocks for as long as the file system does.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with any of the files. An expired revocation list is an error if
    /// there is a `previous` whose lists have not expired.
    pub(crate) fn load(
        settings: ServerTlsSettings,
        clock: Clock,
        previous: Option<&Self>,
    ) -> Result<Arc<Self>, Vec<SettingError>> {
        let contents = follow::read_blocking(&settings.readers());
        let managed = ManagedCertificates::load(&settings.managed, previous.map(|previous| &*previous.managed));
        let challenges = previous.map(|previous| Arc::clone(&previous.challenges)).unwrap_or_default();
        let sessions = previous.map(|previous| previous.current.load().clients.clone());
        let parts = SharedParts { clock: &clock, managed: &managed, challenges: &challenges };
        let state = ServerTlsState::new(&settings, &contents, &parts, sessions)?;
        if let (Some(previous), Some(new)) = (previous, state.client_trust())
            && let Some(error) = new.expired_in_place_of(previous.client_trust().as_deref(), clock.now())
        {
            return Err(vec![error]);
        }
        let (current, changes) = (ArcSwap::from_pointee(state), watch::Sender::new(0));
        Ok(Arc::new(Self { settings, clock, managed, challenges, current, changes }))
    }

    /// The settings.
    #[must_use]
    pub(crate) fn settings(&self) -> &ServerTlsSettings {
        &self.settings
    }

    /// Which clients' certificates are accepted; `None` if clients are not asked for one.
    #[must_use]
    pub(crate) fn client_trust(&self) -> Option<Arc<ClientTrust>> {
        self.current.load().client_trust().cloned()
    }

    /// The revocation lists in use.
    #[must_use]
    pub(crate) fn revocations(&self) -> Option<LoadedRevocations> {
        self.client_trust()?.revocations().cloned()
    }

    /// What a new connection uses.
    #[must_use]
    pub(crate) fn current(&self) -> Arc<ServerTlsState> {
        self.current.load_full()
    }

    /// The certificates in use, in the order of the configuration; those that the gateway obtains
    /// come last.
    #[must_use]
    pub(crate) fn certificates(&self) -> Vec<LoadedCertificate> {
        let obtained = self.managed.all().into_iter().filter_map(|(managed, identity)| {
            let file = managed.file.display().to_string().into();
            Some(LoadedCertificate { file, facts: identity?.facts.clone(), renewer: Renewer::Gateway })
        });
        self.current.load().certificates.iter().cloned().chain(obtained).collect()
    }

    /// The certificates that the gateway obtains itself.
    #[must_use]
    pub(crate) fn managed(&self) -> &Arc<ManagedCertificates> {
        &self.managed
    }

    /// The answers to the challenges of an ACME server.
    #[must_use]
    pub(crate) fn challenges(&self) -> &Arc<Challenges> {
        &self.challenges
    }

    /// Changes after changed files are in use.
    #[must_use]
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Says when the files change.
    pub(crate) fn follow(&self, times: LookTimes) -> Follower {
        Follower::new(self.settings.readers(), times, self.current.load().digest)
    }

    /// Uses `contents` for new connections.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them; what was in use stays. An expired certificate or
    /// revocation list is an error here, unless it takes the place of another expired one.
    pub(crate) fn replace(&self, contents: &Contents) -> Result<(), Vec<SettingError>> {
        let current = self.current.load();
        let parts = SharedParts { clock: &self.clock, managed: &self.managed, challenges: &self.challenges };
        let state = ServerTlsState::new(&self.settings, contents, &parts, Some(current.clients.clone()))?;
        let now = self.clock.now();
        let pairs = current.certificates.iter().zip(&state.certificates).enumerate();
        let expired = pairs.filter(|(_, (old, new))| new.facts.has_expired(now) && !old.facts.has_expired(now));
        let mut errors: Vec<SettingError> = expired
            .map(|(index, (_, new))| {
                let path = &self.settings.certificates[index].chain;
                let error = FileFault::Expired { names: new.facts.names() }.at(path);
                SettingError { key: format!("certificates[{index}].cert"), error }
            })
            .collect();
        let trust = state.clients.trust.as_ref();
        errors.extend(trust.and_then(|new| new.expired_in_place_of(current.clients.trust.as_deref(), now)));
        if !errors.is_empty() {
            return Err(errors);
        }
        self.current.store(Arc::new(state));
        self.changes.send_modify(|changes| *changes += 1);
        Ok(())
    }
}

impl ServerTlsSettings {
    /// The files, in the order in which [`ServerTlsState::new`] expects their contents.
    fn readers(&self) -> Vec<FileReader> {
        let pairs = self.certificates.iter().map(|files| [&files.chain, &files.key]);
        let pairs = pairs.flatten().map(|path| files::chain_reader(path));
        pairs.chain(self.client_auth.iter().flat_map(ClientAuthSettings::readers)).collect()
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("settings", &self.settings).finish_non_exhaustive()
    }
}
