//! Closed sets of words.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which requests a route accepts.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Without a token, or with a valid one.
    Optional,
    /// All; the gateway ignores tokens.
    Public,
    /// Only with a valid token.
    Token,
}

/// A failure after which a request goes to another server.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum RetryOn {
    /// The request could not be sent.
    #[serde(rename = "connect")]
    Connect,
    /// The connection or stream ended before any byte of a response.
    #[serde(rename = "closed")]
    Closed,
    /// The server answered 502.
    #[serde(rename = "502")]
    BadGateway,
    /// The server answered 503.
    #[serde(rename = "503")]
    Unavailable,
    /// The server answered 504.
    #[serde(rename = "504")]
    GatewayTimeout,
}

/// A family of forwarding headers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrustedHeader {
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `X-Forwarded-For` and the other `X-Forwarded-*`.
    XForwarded,
}

/// Whether clients must present a certificate.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// Clients are not asked for a certificate.
    None,
    /// Clients are asked for a certificate, and are served without one.
    Optional,
    /// The handshake fails without a certificate.
    Required,
}

/// Whether a route accepts requests without a client certificate.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientCert {
    /// Requests without a certificate are accepted.
    Optional,
    /// Requests without a certificate get 403.
    Required,
}

/// Which of a client's certificates are forwarded.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ForwardClientCert {
    /// None.
    None,
    /// The client's own, in `Client-Cert`.
    Certificate,
    /// The client's own, in `Client-Cert`, and the others that it has sent, in `Client-Cert-Chain`.
    Chain,
}

/// How the gateway proves to an ACME server that it controls a host.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum AcmeChallenge {
    /// In a TLS handshake at port 443.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// By a response without TLS at port 80, which must be one of `redirect_listen`.
    #[serde(rename = "http-01")]
    Http01,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum TlsVersion {
    /// TLS 1.2 or 1.3.
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3 only.
    #[serde(rename = "1.3")]
    Tls13,
}

/// The protocol of connections to an upstream.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    /// With TLS, HTTP/2 or HTTP/1.1 as the server chooses (ALPN); without TLS, HTTP/1.1.
    Auto,
    /// HTTP/1.1, one request at a time per connection.
    Http1,
    /// HTTP/2, many concurrent requests per connection; without TLS, with prior knowledge.
    Http2,
}

/// The `Host` that an upstream receives.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostHeader {
    /// The client's.
    Preserve,
    /// The server's own address, `localhost` for a Unix socket.
    Upstream,
}

/// The format of events and of the access log.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// `key=value` pairs.
    Text,
}

/// The lowest level of events that are logged.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// The operator must act.
    Error,
    /// Degraded, but serving.
    Warn,
    /// Process lifecycle.
    Info,
    /// Reasons for decisions.
    Debug,
}

/// The kind of token that an issuer's tokens must be.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Access tokens as most providers issue them, no ID tokens.
    Default,
    /// ID tokens, for issuers that sign nothing else.
    IdToken,
    /// Access tokens with everything that RFC 9068 requires.
    Rfc9068,
}

/// A form of path that is refused unless a route accepts it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnusualPath {
    /// `%25` before two hex digits.
    DoubleEscape,
    /// `//`, but not at the start.
    EmptySegment,
    /// `%2F`, as part of a name.
    EncodedSlash,
    /// `;`.
    Parameters,
}
