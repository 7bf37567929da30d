//! TLS towards clients: the certificates, versions and protocols that the gateway offers, and how
//! they change while it runs.
//!
//! A [`ServerTls`] is made from the settings of `[server.tls]` and the content of their files. When
//! a file changes, it is read again; what cannot be used is rejected. A connection uses what was
//! current when it began.

pub(crate) use super::loaded_certificate::{LoadedCertificate, Renewer};

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use tokio::sync::watch;

use super::certified_key::{FileText, Identity, Part};
use super::challenges::Challenges;
use super::client_auth::{self, ClientAuthSettings, ClientTrust, LoadedRevocations};
use super::files::{self, FileError, FileFault};
use super::follow::{self, Contents, Follower, LookTimes};
use super::managed::{ManagedCertificates, ManagedHost};
use super::server_certificates::ServerCertificates;
use super::{ALPN_HTTP1, ALPN_HTTP2, provider};
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

/// The settings of one handshake.
#[derive(Debug)]
pub(crate) struct HandshakeSettings {
    /// For rustls.
    pub(crate) config: Arc<ServerConfig>,
    /// Whether there is a certificate for the name that the client asks for; without one, the
    /// handshake fails.
    pub(crate) has_certificate: bool,
}

/// What was made of the files when they were last read.
#[derive(Debug)]
pub(crate) struct ServerTlsState {
    config: Arc<ServerConfig>,
    choice: Arc<ServerCertificates>,
    challenges: Arc<Challenges>,
    certificates: Vec<LoadedCertificate>,
    clients: ClientSessions,
    digest: [u8; 32],
}

/// Which clients are accepted, and how their sessions are resumed.
#[derive(Clone, Debug)]
struct ClientSessions {
    /// Which clients' certificates are accepted; `None` if clients are not asked for one.
    trust: Option<Arc<ClientTrust>>,
    /// Identifies `trust`: see [`trust_digest`](client_auth::trust_digest).
    digest: [u8; 32],
    /// Encrypt the session tickets.
    tickets: Arc<dyn ProducesTickets>,
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

/// What all states of a [`ServerTls`] have in common.
struct SharedParts<'a> {
    clock: &'a Clock,
    managed: &'a Arc<ManagedCertificates>,
    challenges: &'a Arc<Challenges>,
}

impl ServerTlsState {
    /// The settings for the handshake that begins with `hello`.
    #[must_use]
    pub(crate) fn settings_for(&self, hello: &ClientHello<'_>) -> HandshakeSettings {
        if let Some(config) = self.challenges.for_handshake(hello) {
            return HandshakeSettings { config, has_certificate: true };
        }
        let has_certificate = self.choice.has_candidate(hello.server_name());
        HandshakeSettings { config: Arc::clone(&self.config), has_certificate }
    }

    /// Which clients' certificates are accepted; `None` if clients are not asked for one.
    #[must_use]
    pub(crate) fn client_trust(&self) -> Option<&Arc<ClientTrust>> {
        self.clients.trust.as_ref()
    }

    fn new(
        settings: &ServerTlsSettings,
        contents: &Contents,
        parts: &SharedParts<'_>,
        previous: Option<ClientSessions>,
    ) -> Result<Self, Vec<SettingError>> {
        let (of_certificates, of_clients) = contents.split_at(2 * settings.certificates.len());
        let identities = identities(settings, of_certificates);
        let clients = ClientSessions::new(settings.client_auth.as_ref(), of_clients, previous);
        let (identities, clients) = match (identities, clients) {
            (Ok(identities), Ok(clients)) => (identities, clients),
            (identities, clients) => {
                return Err([identities.err(), clients.err()].into_iter().flatten().flatten().collect());
            }
        };
        let choice = Arc::new(ServerCertificates::new(&identities, Arc::clone(parts.managed)));
        let versions: &[_] = match settings.min_version {
            TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersion::Tls13 => &[&rustls::version::TLS13],
        };
        let verifier =
            clients.trust.as_ref().map_or_else(WebPkiClientVerifier::no_client_auth, |trust| trust.verifier());
        let time = Arc::new(ClockTime(parts.clock.clone()));
        let mut config = ServerConfig::builder_with_details(Arc::clone(provider()), time)
            .with_protocol_versions(versions)
            .expect("aws-lc-rs has cipher suites of both versions")
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&choice) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
        config.ticketer = Arc::clone(&clients.tickets);
        // Sessions are resumed by tickets only: they take no memory, and every worker accepts them.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // A request in early data could be replayed (RFC 8446 §8), so none is accepted.
        config.max_early_data_size = 0;
        let names = settings.certificates.iter().map(|files| files.chain.display().to_string().into());
        let certificates = names.zip(identities).map(|(file, identity)| LoadedCertificate {
            file,
            facts: identity.facts,
            renewer: Renewer::Operator,
        });
        let (config, digest, challenges) = (Arc::new(config), follow::digest(contents), Arc::clone(parts.challenges));
        Ok(Self { config, choice, challenges, certificates: certificates.collect(), clients, digest })
    }
}

impl ClientSessions {
    /// Returns `previous` if the same clients are still accepted; otherwise, makes new ticket keys.
    /// Resuming a session verifies nothing again: without new keys, a session could be resumed
    /// after its client's certificate was revoked, its authority was removed, or certificates
    /// became required.
    fn new(
        settings: Option<&ClientAuthSettings>,
        contents: &[Result<Vec<u8>, FileError>],
        previous: Option<Self>,
    ) -> Result<Self, Vec<SettingError>> {
        let digest = client_auth::trust_digest(settings, contents);
        if let Some(previous) = previous.filter(|previous| previous.digest == digest) {
            return Ok(previous);
        }
        let trust = settings.map(|settings| ClientTrust::new(settings, contents)).transpose()?.map(Arc::new);
        // Encrypted with keys of this process, and decrypted by every worker. The keys are replaced
        // every six hours, and a ticket is good for twelve at most.
        let tickets = Ticketer::new().expect("aws-lc-rs provides random bytes");
        Ok(Self { trust, digest, tickets })
    }
}

/// Reads every certificate with its key, also after an error.
fn identities(
    settings: &ServerTlsSettings,
    contents: &[Result<Vec<u8>, FileError>],
) -> Result<Vec<Identity>, Vec<SettingError>> {
    let (mut identities, mut errors) = (Vec::new(), Vec::new());
    for ((index, files), pair) in settings.certificates.iter().enumerate().zip(contents.chunks_exact(2)) {
        let mut report = |part: Part, error: FileError| {
            let name = match part {
                Part::Chain => "cert",
                Part::Key => "key",
            };
            errors.push(SettingError { key: format!("certificates[{index}].{name}"), error });
        };
        match (&pair[0], &pair[1]) {
            (Ok(chain), Ok(key)) => {
                let chain = FileText { path: &files.chain, text: chain };
                match Identity::read(chain, FileText { path: &files.key, text: key }) {
                    Ok(identity) => identities.push(identity),
                    Err(faults) => faults.into_iter().for_each(|(part, error)| report(part, error)),
                }
            }
            (chain, key) => {
                for (part, content) in [(Part::Chain, chain), (Part::Key, key)] {
                    if let Err(error) = content {
                        report(part, error.clone());
                    }
                }
            }
        }
    }
    if errors.is_empty() { Ok(identities) } else { Err(errors) }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The gateway's clock, for rustls: the age of tickets, and whether a client's certificate has
/// expired.
#[derive(Debug)]
pub(super) struct ClockTime(pub(super) Clock);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(self.0.now().seconds())))
    }
}
