//! `[issuers.NAME]`: whose tokens are accepted, and how they are read.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::field_order;
use super::units::{OneOrMany, Profile, TimeSpan};

/// One issuer of access tokens.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(extend("required" = ["issuer", "audiences"]), transform = field_order::record::<Self>)]
#[expect(clippy::struct_field_names, reason = "the keys of the table are called so")]
pub struct Issuer {
    /// The issuer identifier, compared byte for byte with a token's `iss`: a trailing slash
    /// matters.
    pub issuer: Option<String>,
    /// Accepted audiences; a token must have at least one of them.
    pub audiences: Vec<String>,
    /// Accepted signature algorithms: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA
    /// (Ed25519).
    pub algorithms: Vec<String>,
    /// The kind of token that is accepted.
    pub profile: Profile,
    /// Tolerance for clock skew, at most `"5m"`. Fractions of a second are dropped.
    pub leeway: TimeSpan,
    /// Longest lifetime of a token (`exp - iat`); a token without `iat` is refused too.
    /// Default: no limit.
    pub max_lifetime: Option<TimeSpan>,
    /// URL of the discovery document.
    /// Default: `issuer` + `/.well-known/openid-configuration`.
    pub discovery_url: Option<String>,
    /// URL of the key set, to use without discovery.
    /// Default: the `jwks_uri` of the discovery document.
    pub jwks_url: Option<String>,
    /// File with the key set, read at startup and at each refresh; nothing is fetched.
    /// Default: none.
    pub jwks_file: Option<PathBuf>,
    /// PEM file with the certificate authorities that this issuer's HTTPS is verified against, read
    /// at startup and at each fetch.
    /// Default: the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether keys may be fetched over plain `http` from another machine. Anyone on the network
    /// path can then replace them, and sign tokens.
    pub allow_http: bool,
    /// Claim that identifies the caller. The first that is present counts.
    pub subject_claim: OneOrMany<String>,
    /// Claims whose values together are the token's scopes.
    pub scope_claims: OneOrMany<String>,
    /// Claims whose values together are the token's roles.
    pub role_claims: OneOrMany<String>,
    /// Claim that holds the audience. The first that is present counts.
    pub audience_claim: OneOrMany<String>,
    /// Claim that identifies the client. The first that is present counts.
    pub client_claim: OneOrMany<String>,
    /// Lifetime of a fetched key set whose response has no cache headers.
    pub jwks_refresh: TimeSpan,
    /// Shortest time between two fetches for unknown keys; also the first pause after a failed
    /// fetch.
    pub jwks_cooldown: TimeSpan,
    /// How long after its fetch a key set may be used while no newer one can be fetched.
    pub jwks_max_stale: TimeSpan,
}

impl Default for Issuer {
    fn default() -> Self {
        Self {
            issuer: None,
            audiences: Vec::new(),
            algorithms: vec!["RS256".to_owned()],
            profile: Profile::Default,
            leeway: TimeSpan::seconds(30),
            max_lifetime: None,
            discovery_url: None,
            jwks_url: None,
            jwks_file: None,
            ca_file: None,
            allow_http: false,
            subject_claim: OneOrMany::of(&["sub"]),
            scope_claims: OneOrMany::of(&["scope", "scp"]),
            role_claims: OneOrMany::of(&[]),
            audience_claim: OneOrMany::of(&["aud"]),
            client_claim: OneOrMany::of(&["client_id", "azp"]),
            jwks_refresh: TimeSpan::seconds(15 * 60),
            jwks_cooldown: TimeSpan::seconds(30),
            jwks_max_stale: TimeSpan::seconds(24 * 60 * 60),
        }
    }
}
