//! `[upstreams.NAME.tls]`: TLS towards the servers of an upstream.

use schemars::JsonSchema;
use serde::Deserialize;

use super::field_order;

/// TLS towards the servers of an upstream.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(transform = field_order::record::<Self>)]
pub struct UpstreamTls {
    /// PEM file with the certificate authorities that are trusted, instead of the system's.
    /// Default: the system's.
    pub ca_file: Option<String>,
    /// PEM file with certificate revocation lists of these authorities. A server is not used if its
    /// certificate is on one of them, or if none that is up to date covers it. Only with `ca_file`.
    /// Default: none.
    pub crl_file: Option<String>,
    /// PEM file with the certificate that the gateway presents to a server that asks for one, and
    /// the intermediate ones. Only with `key`.
    /// Default: none.
    pub cert: Option<String>,
    /// PEM file with the private key of `cert`, without a password.
    /// Default: none.
    pub key: Option<String>,
    /// The name that the certificates of all servers must be for, and that the gateway asks for
    /// (SNI): a DNS name or an IP address.
    /// Default: the host in the server's URL.
    pub server_name: Option<String>,
    /// Public keys of which one must be in the chain of a server's certificate, in addition to all
    /// other checks: `sha256/` and the base64 of the SHA-256 of the key (RFC 7469).
    pub pins: Vec<String>,
}
