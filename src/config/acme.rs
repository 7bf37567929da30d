//! `[server.tls.acme]`: certificates that the gateway obtains itself.

use schemars::JsonSchema;
use serde::Deserialize;

use super::units::{AcmeChallenge, TimeSpan};
use super::{field_order, table};

/// Certificates from an ACME server (RFC 8555), such as Let's Encrypt: obtained at the start and
/// renewed in the background.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(extend("required" = ["hosts", "terms_agreed"]), transform = field_order::record::<Self>)]
pub struct Acme {
    /// Host names, each of which gets a certificate of its own. They must lead the ACME server to
    /// this gateway. No wildcards.
    pub hosts: Vec<String>,
    /// Whether you agree to the ACME server's terms of service. Must be `true`.
    pub terms_agreed: bool,
    /// URL of the ACME server's directory.
    pub directory: String,
    /// Addresses at which the ACME server can reach you, such as `"mailto:ops@example.com"`.
    pub contacts: Vec<String>,
    /// Directory in which the gateway keeps the account and the certificates. Nothing else may use
    /// it, and it must survive a restart.
    pub state_dir: String,
    /// How the gateway proves that it controls a host.
    pub challenge: AcmeChallenge,
    /// How long before its expiry a certificate is renewed; up to a tenth of that earlier, at
    /// random, but never before a third of its lifetime has passed. Default: a third of its
    /// lifetime.
    pub renew_before: Option<TimeSpan>,
    /// The profile of the certificates, if the ACME server offers several. Default: the server's
    /// choice.
    pub profile: Option<String>,
    /// PEM file with the certificate authorities that may have issued the certificate of the ACME
    /// server itself. Default: the system's.
    pub ca_file: Option<String>,
    /// The account that you already have with the authority, if it requires external account
    /// binding (EAB). Default: none.
    #[serde(deserialize_with = "table::optional")]
    pub external_account: Option<ExternalAccount>,
}

impl Default for Acme {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            terms_agreed: false,
            directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            contacts: Vec::new(),
            state_dir: "/var/lib/portcullis/acme".to_owned(),
            challenge: AcmeChallenge::TlsAlpn01,
            renew_before: None,
            profile: None,
            ca_file: None,
            external_account: None,
        }
    }
}

/// The binding of the ACME account to the customer's account with the authority (RFC 8555 §7.3.4).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(extend("required" = ["key_id", "hmac_key"]), transform = field_order::record::<Self>)]
pub struct ExternalAccount {
    /// The key identifier that the authority has given you.
    pub key_id: Option<String>,
    /// The HMAC key that belongs to it, in base64url. It is a secret, so take it from the
    /// environment, as in `"${ACME_HMAC_KEY}"`.
    pub hmac_key: Option<String>,
}
