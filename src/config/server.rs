//! `[server]`, `[admin]`, `[identity]`, `[log]`: the gateway as a whole.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use schemars::JsonSchema;
use serde::Deserialize;

use super::auth_failures::AuthFailures;
use super::server_tls::ServerTls;
use super::units::{ByteRate, LogFormat, LogLevel, OneOrMany, Size, TimeSpan, TrustedHeader, Workers};
use super::{field_order, table};

/// `[server]`: the listener for clients.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(transform = field_order::record::<Self>)]
#[expect(clippy::struct_field_names, reason = "`server_header` is the key's name, after the header `Server`")]
pub struct Server {
    /// IP address and port to listen on, `"unix:/path"` for a Unix socket, `"systemd:NAME"` for a
    /// socket from systemd, or an array of them. A port or a socket that another process listens on
    /// is an error.
    pub listen: OneOrMany<String>,
    /// Permissions of the Unix sockets that the gateway creates, in octal. Each process that may
    /// connect to one is trusted like a proxy in `trusted_proxies`.
    pub unix_mode: String,
    /// TLS on the addresses of `listen`. Default: none.
    #[serde(deserialize_with = "table::optional")]
    pub tls: Option<ServerTls>,
    /// Further addresses, which serve the same routes without TLS.
    pub plain_listen: Vec<String>,
    /// Further addresses, which redirect each request to https with 308. Routes do not apply there.
    pub redirect_listen: Vec<String>,
    /// Scheme, host and port by which clients know the gateway, such as
    /// `"https://api.example.com"`. Redirects to https lead there. Default: none; they lead to the
    /// host that the client has asked for, and to the port of the first TCP address in `listen`,
    /// or 443.
    pub public_url: Option<String>,
    /// Absolute path of a Unix socket over which a new process takes over the listeners of the
    /// running one. Only the user that the gateway runs as may connect. Default: none.
    pub takeover_socket: Option<String>,
    /// Worker threads, 1 to 1024. `"auto"` starts one for each core that the process may use.
    pub workers: Workers,
    /// IP addresses or CIDR blocks of the proxies whose forwarding headers the gateway trusts.
    pub trusted_proxies: Vec<String>,
    /// Whether each connection of a trusted proxy, or to a Unix socket, begins with a PROXY header,
    /// version 1 or 2, that names the client. Other peers must not send one.
    pub proxy_protocol: bool,
    /// The forwarding headers that trusted proxies write; the others are dropped, also from them.
    pub trusted_header: TrustedHeader,
    /// Open client connections. When there are as many, idle ones are closed for new ones, and the
    /// rest wait in the kernel's backlog.
    pub max_connections: NonZeroU32,
    /// Open connections of one client: an IPv4 address or an IPv6 /64. Trusted proxies are exempt.
    /// Default: a quarter of `max_connections`.
    pub max_connections_per_client: Option<NonZeroU32>,
    /// From accept to the end of the first request head; for later requests, from the first byte of
    /// the head.
    pub header_timeout: TimeSpan,
    /// How long a keep-alive connection may be idle between requests.
    pub idle_timeout: TimeSpan,
    /// How long a request or response body may make no progress, in either direction.
    pub body_idle_timeout: TimeSpan,
    /// Lowest rate of a request or response body, after a grace period of 5 s; a slower one is cut
    /// off. Only time in which the client keeps the gateway waiting counts. `"off"` turns it off.
    pub min_body_rate: ByteRate,
    /// Largest request head, from `"1 KiB"` to `"1 MiB"`; a larger one is 431.
    pub max_header_size: Size,
    /// Largest request body; a larger one is 413. A route can set its own limit.
    pub max_body_size: Size,
    /// Longest access token, at most `max_header_size`; a longer one is 401 before it is parsed.
    pub max_token_size: Size,
    /// Limit on tokens with a bad signature, per client address; `"off"` turns it off.
    pub auth_failures: AuthFailures,
    /// The `realm` in `WWW-Authenticate`.
    pub realm: String,
    /// The `Server` field of responses. `"upstream"`: what the upstream sends; `"off"`: none; any
    /// other text: that text, on all responses.
    pub server_header: String,
    /// After SIGTERM, how long the gateway reports that it is not ready but still accepts
    /// connections.
    pub drain_delay: TimeSpan,
    /// After `drain_delay`, how long open connections may take to finish.
    pub drain_timeout: TimeSpan,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: OneOrMany::of(&["127.0.0.1:8080"]),
            unix_mode: "0600".to_owned(),
            tls: None,
            plain_listen: Vec::new(),
            redirect_listen: Vec::new(),
            public_url: None,
            takeover_socket: None,
            workers: Workers::Auto,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            trusted_header: TrustedHeader::XForwarded,
            max_connections: const { NonZeroU32::new(10_000).unwrap() },
            max_connections_per_client: None,
            header_timeout: TimeSpan::seconds(10),
            idle_timeout: TimeSpan::seconds(75),
            body_idle_timeout: TimeSpan::seconds(30),
            min_body_rate: ByteRate::PerSecond(const { NonZeroU64::new(240).unwrap() }),
            max_header_size: Size::kib(32),
            max_body_size: Size::kib(10 * 1024),
            max_token_size: Size::kib(8),
            auth_failures: AuthFailures::default(),
            realm: "portcullis".to_owned(),
            server_header: "upstream".to_owned(),
            drain_delay: TimeSpan::seconds(5),
            drain_timeout: TimeSpan::seconds(30),
        }
    }
}

/// `[admin]`: the listener for operators.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(transform = field_order::record::<Self>)]
pub struct Admin {
    /// IP address and port of `/metrics`, `/livez` and `/readyz`; `"off"` turns the listener off.
    pub listen: String,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9090".to_owned() }
    }
}

/// `[identity]`: how upstreams learn who the caller is.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(transform = field_order::record::<Self>)]
pub struct Identity {
    /// Header names, each with the source of its value: `"subject"`, `"issuer"`, `"client"`,
    /// `"scopes"`, `"roles"`, `"claim:PATH"`, `"client_cert_subject"`, `"client_cert_san"` or
    /// `"client_cert_thumbprint"`. A table in the file replaces the default as a whole.
    pub headers: BTreeMap<String, String>,
    /// Identity headers of other systems, such as `"Remote-User"`, that are forwarded from trusted
    /// proxies. All others are removed.
    pub pass: Vec<String>,
    /// Longest value of an identity header, after encoding; at most `"32 KiB"`. A header with a
    /// longer one is omitted.
    pub max_value_size: Size,
}

impl Default for Identity {
    fn default() -> Self {
        let headers = [
            ("X-Identity-Subject", "subject"),
            ("X-Identity-Issuer", "issuer"),
            ("X-Identity-Client", "client"),
            ("X-Identity-Scopes", "scopes"),
            ("X-Identity-Roles", "roles"),
        ];
        let headers = headers.map(|(name, source)| (name.to_owned(), source.to_owned())).into();
        Self { headers, pass: Vec::new(), max_value_size: Size::kib(4) }
    }
}

/// `[log]`: events and the access log.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(transform = field_order::record::<Self>)]
pub struct Log {
    /// Format of events and of the access log.
    pub format: LogFormat,
    /// Lowest level of events that are logged.
    pub level: LogLevel,
    /// Whether to write the access log, one line per request.
    pub access: bool,
    /// Whether to log the token's subject in clear text instead of a hash of it.
    pub subject: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Json, level: LogLevel::Info, access: true, subject: false }
    }
}
