//! `[server]`, `[admin]`, `[identity]`, `[log]`: the gateway as a whole.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::units::{AuthFailures, LogFormat, LogLevel, OneOrMany, Size, Span, Workers};

/// `[server]`: the data listener.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct Server {
    /// Address to listen on, or several. Default: `"127.0.0.1:8080"`.
    pub listen: Option<OneOrMany<String>>,
    /// Worker threads, each with its own listener and upstream connections. Default: `"auto"`, one per available core.
    pub workers: Option<Workers>,
    /// Networks whose `Forwarded` and `X-Forwarded-*` are believed, as CIDRs. Default: none.
    pub trusted_proxies: Vec<String>,
    /// Open client connections; more wait in the kernel's backlog. Default: 10000.
    pub max_connections: Option<NonZeroU32>,
    /// From accepting a connection to the end of the request head. Default: `"10s"`.
    pub header_timeout: Option<Span>,
    /// How long a kept-alive connection may wait for its next request. Default: `"75s"`.
    pub idle_timeout: Option<Span>,
    /// How long the body of a request or of an answer may stand still. Default: `"30s"`.
    pub body_idle_timeout: Option<Span>,
    /// Longest request head; more is refused with 431. Default: `"32 KiB"`.
    pub max_header_size: Option<Size>,
    /// Longest request body; more is refused with 413. Default: `"10 MiB"`.
    pub max_body_size: Option<Size>,
    /// Longest bearer token; a longer one is refused before it is parsed. Default: `"8 KiB"`.
    pub max_token_size: Option<Size>,
    /// Guard per client address against tokens that cost work for nothing, or `"off"`.
    /// Default: `{ rate = "600/min", burst = 100 }`.
    pub auth_failures: Option<AuthFailures>,
    /// The `realm` in `WWW-Authenticate`. Default: `"portcullis"`.
    pub realm: Option<String>,
    /// From the signal to stop, when readiness ends, to the start of closing connections. Default: `"5s"`.
    pub drain_delay: Option<Span>,
    /// How long requests in flight may take to end after that. Default: `"30s"`.
    pub drain_timeout: Option<Span>,
}

/// `[admin]`: the listener for operators.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct Admin {
    /// Address of metrics and health, or `"off"`. Default: `"127.0.0.1:9090"`.
    pub listen: Option<String>,
}

/// `[identity]`: what upstreams are told about who is calling.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct Identity {
    /// Header name to what fills it: `"subject"`, `"issuer"`, `"client"`, `"scopes"`, `"roles"` or `"claim:PATH"`.
    /// Written at all, it replaces the default, which is one `X-Identity-…` header for each of the first five.
    pub headers: Option<BTreeMap<String, String>>,
}

/// `[log]`: events and the access log.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct Log {
    /// `"json"` or `"text"`. Default: `"json"`.
    pub format: Option<LogFormat>,
    /// Least important events that are written. Default: `"info"`.
    pub level: Option<LogLevel>,
    /// One line per request. Default: true.
    pub access: Option<bool>,
    /// Write the token's subject in clear instead of hashed. Default: false.
    pub subject: Option<bool>,
}
