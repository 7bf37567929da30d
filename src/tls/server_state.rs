//! What is made of the files of `[server.tls]` when they are read: the configuration of handshakes,
//! and which clients are accepted.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

use super::certified_key::{FileText, Identity, Part};
use super::challenges::Challenges;
use super::client_auth::{self, ClientAuthSettings, ClientTrust};
use super::files::FileError;
use super::follow::{self, Contents};
use super::loaded_certificate::{LoadedCertificate, Renewer};
use super::managed::ManagedCertificates;
use super::server::{ServerTlsSettings, SettingError, TlsVersion};
use super::server_certificates::ServerCertificates;
use super::{ALPN_HTTP1, ALPN_HTTP2, provider};
use crate::primitives::clock::Clock;

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
    pub(super) certificates: Vec<LoadedCertificate>,
    pub(super) clients: ClientSessions,
    /// Of the content of the files.
    pub(super) digest: [u8; 32],
}

/// Which clients are accepted, and how their sessions are resumed.
#[derive(Clone, Debug)]
pub(super) struct ClientSessions {
    /// Which clients' certificates are accepted; `None` if clients are not asked for one.
    pub(super) trust: Option<Arc<ClientTrust>>,
    /// Identifies `trust`: see [`trust_digest`](client_auth::trust_digest).
    digest: [u8; 32],
    /// Encrypt the session tickets.
    tickets: Arc<dyn ProducesTickets>,
}

/// What all states of a [`ServerTls`](super::server::ServerTls) have in common.
pub(super) struct SharedParts<'a> {
    pub(super) clock: &'a Clock,
    pub(super) managed: &'a Arc<ManagedCertificates>,
    pub(super) challenges: &'a Arc<Challenges>,
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

    /// Makes a state of the files' `contents`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them.
    pub(super) fn new(
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

/// The gateway's clock, for rustls: the age of tickets, and whether a client's certificate has
/// expired.
#[derive(Debug)]
pub(super) struct ClockTime(pub(super) Clock);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(self.0.now().seconds())))
    }
}
