//! `[[routes]]`: which requests are served, and what each demands.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::units::{Access, ClaimValue, OneOrMany, PathParameters, SizeOrUnlimited, Span};

/// One route.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(extend("required" = ["path", "upstream"]))]
pub struct Route {
    /// Label in metrics, logs and `explain`; unique. Default: from methods and path.
    pub name: Option<String>,
    /// Exact host, or `*.example.com` for one label or more below it. Default: any.
    pub host: Option<String>,
    /// `/a/b` is exact, `/a/{id}/b` binds one segment, `/a/*` is `/a`, `/a/` and everything below. Required.
    pub path: Option<String>,
    /// Methods; `HEAD` is allowed wherever `GET` is. Default: all.
    pub methods: Option<Vec<String>>,
    /// Whether a token is needed. Default: `"token"`.
    pub access: Option<Access>,
    /// Names of the issuers whose tokens are accepted here. Default: all.
    pub issuers: Option<Vec<String>>,
    /// Narrows the audiences of the issuer. Default: the issuer's.
    pub audiences: Option<Vec<String>>,
    /// Scopes of which the token must have all. Default: none.
    pub scopes: Vec<String>,
    /// Scopes of which the token must have at least one. Default: none.
    pub any_scopes: Vec<String>,
    /// Roles of which the caller must have all. Default: none.
    pub roles: Vec<String>,
    /// Roles of which the caller must have at least one. Default: none.
    pub any_roles: Vec<String>,
    /// Path of a claim to its allowed value or values. Default: none.
    pub claims: BTreeMap<String, OneOrMany<ClaimValue>>,
    /// Name of the upstream that serves it. Required.
    pub upstream: Option<String>,
    /// Name of its cross-origin rules. Default: none, browsers on other origins may not read it.
    pub cors: Option<String>,
    /// Names of its rate limits. Default: none.
    pub limits: Vec<String>,
    /// Beginning of the path that the upstream does not see. Default: nothing.
    pub strip_prefix: Option<String>,
    /// Put before the path that the upstream sees, after `strip_prefix`. Default: nothing.
    pub add_prefix: Option<String>,
    /// Headers set on the request to the upstream. Default: none.
    pub set_headers: BTreeMap<String, String>,
    /// Headers taken from the request to the upstream. Default: none.
    pub remove_headers: Vec<String>,
    /// Headers set on the answer to the client, refusals included. Default: none.
    pub set_response_headers: BTreeMap<String, String>,
    /// Headers taken from the upstream's answer. Default: none.
    pub remove_response_headers: Vec<String>,
    /// The whole exchange, for routes that never stream. Default: no such limit.
    pub timeout: Option<Span>,
    /// Longest request body, or `"unlimited"`. Default: the server's.
    pub max_body_size: Option<SizeOrUnlimited>,
    /// Decide, count and log what would have been refused, and let it pass. Default: false.
    pub report_only: Option<bool>,
    /// Whether a `;` may stand in the path. Default: `"refuse"`.
    pub path_parameters: Option<PathParameters>,
}
