//! `[server.tls]`: TLS towards clients.

use schemars::JsonSchema;
use serde::Deserialize;

use super::acme::Acme;
use super::units::{ClientAuth, TlsVersion};
use super::{field_order, table};

/// TLS towards clients.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(transform = field_order::record::<Self>)]
pub struct ServerTls {
    /// The certificates. A client gets one for the name that it asks for (SNI), or the first one if
    /// none is for that name. Several may be for one name, such as one with an RSA and one with an
    /// ECDSA key: the first that the client can verify is used. Changed files are used without a
    /// restart. Required without `acme`. Default: none.
    #[serde(deserialize_with = "table::list")]
    pub certificates: Vec<Certificate>,
    /// Certificates that the gateway obtains itself.
    /// Default: none.
    #[serde(deserialize_with = "table::optional")]
    pub acme: Option<Acme>,
    /// The lowest version of TLS that is accepted.
    pub min_version: TlsVersion,
    /// Whether clients must present a certificate. A certificate that is presented is always
    /// verified, and routes can require one with `client_cert`.
    pub client_auth: ClientAuth,
    /// PEM file with the certificate authorities that may have issued the clients' certificates.
    /// Required with `client_auth`; the system's authorities are never used. Default: none.
    pub client_ca: Option<String>,
    /// PEM file with certificate revocation lists of these authorities. A client's certificate is
    /// refused if it is on one of them, or if no list that is up to date covers it. Only with
    /// `client_ca`. Default: none.
    pub client_crl: Option<String>,
}

impl Default for ServerTls {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            acme: None,
            min_version: TlsVersion::Tls12,
            client_auth: ClientAuth::None,
            client_ca: None,
            client_crl: None,
        }
    }
}

/// A certificate with its key.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(extend("required" = ["cert", "key"]), transform = field_order::record::<Self>)]
pub struct Certificate {
    /// PEM file with the certificate chain: the server's certificate first, then the intermediate
    /// ones.
    pub cert: Option<String>,
    /// PEM file with the private key, without a password: RSA, ECDSA or Ed25519.
    pub key: Option<String>,
}
