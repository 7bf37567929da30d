//! `[[routes]]`: which requests are served, and what each route requires.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::body_idle_timeout::BodyIdleTimeout;
use super::field_order;
use super::stream_after_expiry::StreamAfterExpiry;
use super::units::{Access, ByteRate, ClaimValue, ClientCert, OneOrMany, SizeOrUnlimited, TimeSpan, UnusualPath};

/// One route.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(extend("required" = ["path", "upstream"]), transform = field_order::record::<Self>)]
pub struct Route {
    /// Unique name of the route in metrics, logs and `explain`.
    /// Default: made of `methods`, `host` and `path`.
    pub name: Option<String>,
    /// Host name or address without a port, or `*.example.com` for subdomains at any depth.
    /// Default: any.
    pub host: Option<String>,
    /// Path pattern: `/a/b` matches exactly, `/a/{id}/b` binds one segment that is not empty,
    /// `/a/*` matches `/a`, `/a/` and everything below.
    pub path: Option<String>,
    /// Methods in upper case; `GET` includes `HEAD`. `CONNECT` and `TRACE` are an error, since no
    /// route can have them. Default: all.
    pub methods: Option<Vec<String>>,
    /// Which requests the route accepts.
    pub access: Access,
    /// Names of the issuers whose tokens are accepted; a token of any other issuer gets 401.
    /// Default: all.
    pub issuers: Option<Vec<String>>,
    /// The token must be for at least one of these audiences, as well as for one of its issuer's;
    /// otherwise 401.
    /// Default: the issuer's.
    pub audiences: Option<Vec<String>>,
    /// Scopes that the token must have, all of them.
    pub scopes: Vec<String>,
    /// Scopes of which the token must have at least one.
    pub any_scopes: Vec<String>,
    /// Roles that the token must have, all of them.
    pub roles: Vec<String>,
    /// Roles of which the token must have at least one.
    pub any_roles: Vec<String>,
    /// Paths of claims that the token must have, each with the allowed value or an array of allowed
    /// values.
    pub claims: BTreeMap<String, OneOrMany<ClaimValue>>,
    /// Whether requests need a client certificate, in addition to what `access` requires. Only with
    /// `server.tls.client_auth`.
    pub client_cert: ClientCert,
    /// Name of the upstream that requests go to.
    pub upstream: Option<String>,
    /// Name of the CORS policy.
    /// Default: none.
    pub cors: Option<String>,
    /// Names of the rate limits.
    pub limits: Vec<String>,
    /// Leading segments of the path to remove before forwarding. `path` must begin with them.
    /// Default: none.
    pub strip_prefix: Option<String>,
    /// Segments to put in front of the path before forwarding, after `strip_prefix`.
    /// Default: none.
    pub add_prefix: Option<String>,
    /// Headers to set on the request to the upstream.
    pub set_headers: BTreeMap<String, String>,
    /// Headers to remove from the request to the upstream.
    pub remove_headers: Vec<String>,
    /// Headers to set on the response to the client, also where the gateway itself responds.
    pub set_response_headers: BTreeMap<String, String>,
    /// Headers to remove from the response to the client.
    pub remove_response_headers: Vec<String>,
    /// Time for forwarding the request and receiving the whole response, bodies included. A tunnel
    /// ends with it, too. A client that stops reading is bounded by `body_idle_timeout`.
    /// Default: no limit.
    pub timeout: Option<TimeSpan>,
    /// How long a body may bring no byte, as for an upstream. Raise it for streams with long
    /// pauses, such as server-sent events and gRPC. Default: the upstream's.
    pub body_idle_timeout: Option<BodyIdleTimeout>,
    /// How long a stream may go on after the `exp` of its token, leeway not added: one duration, or
    /// `{ response = "5m", tunnel = "60s" }`. `response` also covers the request's body and the
    /// wait for the response. Default: a response goes on to its end, a tunnel for `"60s"`.
    pub stream_after_expiry: Option<StreamAfterExpiry>,
    /// Lowest rate of a request body, or `"off"`, for clients that send a stream with pauses.
    /// Default: `server.min_body_rate`.
    pub min_body_rate: Option<ByteRate>,
    /// Largest request body, or `"unlimited"`.
    /// Default: `server.max_body_size`.
    pub max_body_size: Option<SizeOrUnlimited>,
    /// Whether to forward requests that would be refused, and only log and count the refusal.
    pub report_only: bool,
    /// Forms of path that are refused elsewhere and accepted here: `"parameters"` (`;`),
    /// `"encoded_slash"` (`%2F`), `"empty_segment"` (`//`), `"double_escape"` (`%25` before two hex
    /// digits).
    pub unusual_paths: Vec<UnusualPath>,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            name: None,
            host: None,
            path: None,
            methods: None,
            access: Access::Token,
            issuers: None,
            audiences: None,
            scopes: Vec::new(),
            any_scopes: Vec::new(),
            roles: Vec::new(),
            any_roles: Vec::new(),
            claims: BTreeMap::new(),
            client_cert: ClientCert::Optional,
            upstream: None,
            cors: None,
            limits: Vec::new(),
            strip_prefix: None,
            add_prefix: None,
            set_headers: BTreeMap::new(),
            remove_headers: Vec::new(),
            set_response_headers: BTreeMap::new(),
            remove_response_headers: Vec::new(),
            timeout: None,
            body_idle_timeout: None,
            stream_after_expiry: None,
            min_body_rate: None,
            max_body_size: None,
            report_only: false,
            unusual_paths: Vec::new(),
        }
    }
}
