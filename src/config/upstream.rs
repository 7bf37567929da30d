//! `[upstreams.NAME]`: where requests go.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::units::{Balance, HostHeader, Span, UpstreamProtocol};

/// One upstream: servers that are alike.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(extend("required" = ["servers"]))]
pub struct Upstream {
    /// Base addresses, `http://host:port`. Required.
    pub servers: Vec<String>,
    /// How a server is chosen. Default: `"least_request"`.
    pub balance: Option<Balance>,
    /// How long connecting may take. Default: `"2s"`.
    pub connect_timeout: Option<Span>,
    /// From the sent request to the head of the answer. Default: `"30s"`.
    pub response_timeout: Option<Span>,
    /// How long an idle connection is kept; set it below the upstream's own idle timeout. Default: `"4s"`.
    pub keep_alive: Option<Span>,
    /// Connections to each server. Default: 1024.
    pub max_connections: Option<NonZeroU32>,
    /// Requests that may wait for a connection, per server; more are refused with 503. Default: 1024.
    pub max_pending: Option<u32>,
    /// `"http1"`, or `"http2"` with prior knowledge: many requests on one connection. Default: `"http1"`.
    pub protocol: Option<UpstreamProtocol>,
    /// `"preserve"` sends the client's `Host` on, `"upstream"` the server's own. Default: `"preserve"`.
    pub host: Option<HostHeader>,
    /// Send the client's `Authorization` on. Default: false.
    pub forward_token: Option<bool>,
}
