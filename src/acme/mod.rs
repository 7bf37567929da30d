//! ACME (RFC 8555): obtains the certificates of the configured hosts, and renews them.
//!
//! [`renewal`] is the task that attends to each `host` when it needs a certificate (`schedule`,
//! `renewal_info`). A `session` has it ordered (`order`) with the account of this gateway
//! (`account`). Account, certificates and the times of further attempts are kept on disk
//! ([`state`]), where another process may find them. The library speaks the protocol; its requests
//! go through the outbound client (`http`). `tls::challenges` answers challenges, and
//! `tls::managed` presents the certificates.
//!
//! Each host has a certificate of its own: a host that the ACME server cannot validate does not
//! keep the others from getting theirs.

pub(crate) mod probe;
pub(crate) mod renewal;
pub(crate) mod state;

mod account;
mod error;
mod host;
mod http;
mod order;
mod renewal_info;
mod schedule;
mod session;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::outbound::{ClientLimits, UrlPolicy};
use crate::tls::managed::ManagedHost;

/// Limits on requests to the ACME server. Its responses take a few kilobytes; a certificate chain
/// is the largest.
const LIMITS: ClientLimits = ClientLimits {
    connect_timeout: Duration::from_secs(10),
    total_timeout: Duration::from_secs(30),
    max_response_bytes: 128 * 1024,
    max_concurrent_requests: 1,
};

/// `[server.tls.acme]`, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeSettings {
    /// The host names, in lower case; at least one.
    pub hosts: Vec<Arc<str>>,
    /// The URL of the ACME server's directory.
    pub directory: Url,
    /// Which URLs are allowed for the directory and in it.
    pub(crate) url_policy: UrlPolicy,
    /// URLs at which the ACME server can reach the operator.
    pub contacts: Vec<String>,
    /// The directory in which the account and the certificates are kept.
    pub state_dir: PathBuf,
    /// How the gateway proves that it controls a host.
    pub challenge: ChallengeKind,
    /// The authorities that the ACME server's HTTPS is verified against; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// The requested profile; `None`: what the ACME server issues by default.
    pub profile: Option<String>,
    /// The customer's account with the authority, to which the ACME account is bound.
    pub external_account: Option<ExternalAccount>,
    /// How long before its expiry a certificate is renewed; `None`: a third of its lifetime.
    pub renew_before: Option<Duration>,
}

/// How the gateway proves that it controls a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeKind {
    /// By a response without TLS, on the listeners that redirect to https (RFC 8555 §8.3).
    Http01,
    /// In a TLS handshake (RFC 8737).
    TlsAlpn01,
}

impl ChallengeKind {
    /// Its name in RFC 8555 and RFC 8737.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

/// External account binding: the account that the operator already has with the authority (RFC 8555
/// §7.3.4).
#[derive(Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// Identifies the key.
    pub key_id: String,
    /// The key, which is a secret.
    pub hmac_key: Vec<u8>,
}

impl fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalAccount").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl AcmeSettings {
    /// The hosts, each with the file of its certificate.
    #[must_use]
    pub(crate) fn managed(&self) -> Vec<ManagedHost> {
        let managed = |host: &Arc<str>| ManagedHost {
            host: Arc::clone(host),
            file: state::certificate_file(&self.state_dir, host),
        };
        self.hosts.iter().map(managed).collect()
    }
}
