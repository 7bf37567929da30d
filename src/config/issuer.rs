//! `[issuers.NAME]`: whose tokens are accepted, and how they are read.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::units::{OneOrMany, Profile, Span};

/// One issuer of access tokens.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(extend("required" = ["issuer", "audiences"]))]
pub struct Issuer {
    /// The issuer identifier, compared byte for byte with a token's `iss`. Required.
    pub issuer: Option<String>,
    /// At least one of these must be in a token's audience. Required.
    pub audiences: Vec<String>,
    /// Signature algorithms that are accepted: RS256–512, PS256–512, ES256, ES384, EdDSA. Default: `["RS256"]`.
    pub algorithms: Option<Vec<String>>,
    /// Which kind of token is accepted. Default: `"default"`, any usual access token, no ID token.
    pub profile: Option<Profile>,
    /// Allowance for clocks that differ, at most `"5m"`. Default: `"30s"`.
    pub leeway: Option<Span>,
    /// Refuse tokens made for longer than this (`exp - iat`). Default: no such limit.
    pub max_lifetime: Option<Span>,
    /// Where the discovery document is. Default: derived from `issuer`.
    pub discovery_url: Option<String>,
    /// Where the key set is; then no discovery takes place. Default: what discovery says.
    pub jwks_url: Option<String>,
    /// A key set on disk; then nothing is fetched. Default: none.
    pub jwks_file: Option<PathBuf>,
    /// PEM file of the authorities trusted for this issuer's HTTPS. Default: the system's.
    pub ca_file: Option<PathBuf>,
    /// Claim that names the user; of several the first that is there. Default: `"sub"`.
    pub subject_claim: Option<OneOrMany<String>>,
    /// Claims whose scopes are united. Default: `["scope", "scp"]`.
    pub scope_claims: Option<OneOrMany<String>>,
    /// Claims whose roles are united. Default: none.
    pub role_claims: Option<OneOrMany<String>>,
    /// Claim that names the audience; of several the first that is there. Default: `"aud"`.
    pub audience_claim: Option<OneOrMany<String>>,
    /// Claim that names the client; of several the first that is there. Default: `["client_id", "azp"]`.
    pub client_claim: Option<OneOrMany<String>>,
    /// How often keys are fetched anew; the issuer's cache headers move it within 1 minute to 24 hours.
    /// Default: `"15m"`.
    pub jwks_refresh: Option<Span>,
    /// Least time between two fetches for the sake of an unknown key. Default: `"30s"`.
    pub jwks_cooldown: Option<Span>,
    /// How long the last good keys serve while none can be fetched. Default: `"24h"`.
    pub jwks_max_stale: Option<Span>,
}
