//! `[upstreams.NAME]`: where requests go.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::body_idle_timeout::BodyIdleTimeout;
use super::health::{Ejection, HealthCheck};
use super::server_entry::ServerEntry;
use super::units::{ForwardClientCert, HostHeader, RetryOn, Size, TimeSpan, UpstreamProtocol};
use super::upstream_tls::UpstreamTls;
use super::{field_order, table};

/// One upstream: a group of interchangeable servers.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(extend("required" = ["servers"]), transform = field_order::record::<Self>)]
pub struct Upstream {
    /// Addresses of the servers: `https://host:port` or `http://host:port`, without a path, or a
    /// Unix socket, `unix:/run/orders.sock`; all of them with TLS, or none. A table such as
    /// `{ url = "http://host:port", weight = 2 }` also sets the server's weight.
    pub servers: Vec<ServerEntry>,
    /// How a server is chosen for a request. `"least_request"`: of two at random, the one with
    /// fewer requests in flight; `"round_robin"`: each in turn; `"hash:subject"`, `"hash:ip"`,
    /// `"hash:header:NAME"`: the same for the same caller, client address or value of a header.
    pub balance: String,
    /// Time for name lookups, connects and TLS handshakes together, of all servers that are tried
    /// for a request.
    pub connect_timeout: TimeSpan,
    /// From the end of the request to the head of the response; also the longest wait for a free
    /// connection.
    pub response_timeout: TimeSpan,
    /// How long a body may bring no byte, before the request is 408 or the response breaks off: one
    /// duration, or `{ request = "30s", response = "1h" }`.
    /// Default: `server.body_idle_timeout`.
    pub body_idle_timeout: Option<BodyIdleTimeout>,
    /// How long an idle connection stays open. Keep it below the server's own idle timeout.
    pub keep_alive: TimeSpan,
    /// Connections per server, all workers together.
    pub max_connections: NonZeroU32,
    /// Requests that may wait for a connection (with HTTP/2: for a stream), per server; more are
    /// 503.
    pub max_pending: u32,
    /// How many further times, 0 to 5, a request is sent to another server if a server may have
    /// received it: only if its method is idempotent and it has no body or a buffered one.
    pub retries: u32,
    /// After which failures another server is tried.
    pub retry_on: Vec<RetryOn>,
    /// The largest request body that is buffered so that it can be sent again, at most `"64 KiB"`.
    /// All buffered bodies together take at most 32 MiB per upstream; further ones are streamed.
    pub retry_body_size: Size,
    /// Open tunnels (WebSocket and other upgrades) to all servers together, all workers together;
    /// more are 503.
    /// Default: half of `max_connections`.
    pub max_tunnels: Option<NonZeroU32>,
    /// Of these, tunnels of one client: an IPv4 address or an IPv6 /64.
    /// Default: a quarter of `max_tunnels`.
    pub max_tunnels_per_client: Option<NonZeroU32>,
    /// How long a tunnel may last. It ends earlier when its token expires.
    pub max_tunnel_lifetime: TimeSpan,
    /// The protocol of the connections.
    pub protocol: UpstreamProtocol,
    /// TLS towards `https` servers: whom to trust, and what to present.
    /// Default: the system's authorities, and no certificate.
    #[serde(deserialize_with = "table::optional")]
    pub tls: Option<UpstreamTls>,
    /// The `Host` that the upstream receives.
    pub host: HostHeader,
    /// Whether to forward the client's `Authorization`: on public routes whatever it is, on other
    /// routes only with a token that was verified.
    pub forward_token: bool,
    /// Which of the client's certificates to forward (RFC 9440). Only with
    /// `server.tls.client_auth`. Unless it is `"none"`, the gateway removes the fields that trusted
    /// proxies have written, too.
    pub forward_client_cert: ForwardClientCert,
    /// Health checks of each server, `{ path = "/health" }`.
    /// Default: none.
    pub health: Option<HealthCheck>,
    /// When a server is avoided because requests to it have failed; or `"off"`.
    pub eject: Ejection,
    /// How long it takes a server that was ejected or down until its share of the requests has
    /// grown from a tenth to all of it; `"0s"`: it gets its share at once.
    pub slow_start: TimeSpan,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            balance: "least_request".to_owned(),
            connect_timeout: TimeSpan::seconds(2),
            response_timeout: TimeSpan::seconds(30),
            body_idle_timeout: None,
            keep_alive: TimeSpan::seconds(4),
            max_connections: const { NonZeroU32::new(1024).unwrap() },
            max_pending: 1024,
            retries: 1,
            retry_on: vec![RetryOn::Connect, RetryOn::Closed],
            retry_body_size: Size::kib(0),
            max_tunnels: None,
            max_tunnels_per_client: None,
            max_tunnel_lifetime: TimeSpan::seconds(24 * 60 * 60),
            protocol: UpstreamProtocol::Auto,
            tls: None,
            host: HostHeader::Preserve,
            forward_token: false,
            forward_client_cert: ForwardClientCert::None,
            health: None,
            eject: Ejection::default(),
            slow_start: TimeSpan::seconds(10),
        }
    }
}
