//! Closed sets of words.

use schemars::JsonSchema;
use serde::Deserialize;

/// Who may use a route.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// A caller without a token, or with a valid one.
    Optional,
    /// Everybody; no token is looked at.
    Public,
    /// A caller with a valid token.
    Token,
}

/// How one of an upstream's servers is picked.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// The one with the fewest requests under way.
    LeastRequest,
    /// One after the other.
    RoundRobin,
}

/// What an upstream is spoken to in.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// What an upstream sees as `Host`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum HostHeader {
    /// What the client asked for.
    Preserve,
    /// The server's own address.
    Upstream,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// `key=value` pairs.
    Text,
}

/// The least important events that are shown.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Why something was decided.
    Debug,
    /// A human must act.
    Error,
    /// The life of the process.
    Info,
    /// Degraded, but serving.
    Warn,
}

/// Whether `;` may stand in a path.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum PathParameters {
    /// It may.
    Allow,
    /// It is 400.
    Refuse,
}

/// Which kind of token an issuer's are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Any usual access token; no ID token.
    Default,
    /// ID tokens, for issuers that have nothing else.
    IdToken,
    /// RFC 9068, with all its required claims.
    Rfc9068,
}
