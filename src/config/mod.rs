//! Configuration as the operator wrote it: the tables and keys of `gateway.toml`, nothing else.
//!
//! The first of three representations. The structs here are the one definition of each key: its
//! name, its type, its default and what it means. The JSON Schema and the tables of
//! `docs/configuration.md` are made from them, and `gateway.toml` is checked against them. A field
//! is an `Option` only if an absent key means something that is no value, such as "the server's",
//! or if the key is required. How the keys relate to each other is checked when the plan is
//! compiled; nothing after the plan sees these types.
//!
//! [`load()`] reads a file and finds everything that is wrong with it in one run.

pub(crate) mod environment;
pub(crate) mod key_path;
pub(crate) mod load;
pub(crate) mod nearest;
pub(crate) mod problem;
pub mod reference;
pub(crate) mod units;

mod acme;
mod auth_failures;
mod body_idle_timeout;
mod cors;
mod field_order;
mod health;
mod issuer;
mod limit;
mod message;
mod route;
mod schema;
mod server;
mod server_entry;
mod server_tls;
mod stream_after_expiry;
mod table;
mod tree;
mod upstream;
mod upstream_tls;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) use self::acme::{Acme, ExternalAccount};
pub(crate) use self::auth_failures::AuthFailures;
pub(crate) use self::body_idle_timeout::BodyIdleTimeout;
pub(crate) use self::cors::Cors;
pub(crate) use self::health::{Ejection, EjectionRule, HealthCheck};
pub(crate) use self::issuer::Issuer;
pub(crate) use self::key_path::KeyLines;
pub(crate) use self::limit::Limit;
pub use self::load::load_text;
pub(crate) use self::load::{LoadOutcome, load, read, unreadable};
pub(crate) use self::problem::Problems;
pub(crate) use self::route::Route;
pub(crate) use self::schema::schema;
pub(crate) use self::server::{Admin, Identity, Log, Server};
pub(crate) use self::server_entry::ServerEntry;
pub(crate) use self::server_tls::ServerTls;
pub(crate) use self::stream_after_expiry::StreamAfterExpiry;
pub(crate) use self::upstream::Upstream;
pub(crate) use self::upstream_tls::UpstreamTls;

/// The whole of `gateway.toml`.
///
/// `Default` is the empty file.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(transform = field_order::record::<Self>)]
pub struct Config {
    /// The listener for clients: addresses, limits on connections, heads and bodies, shutdown.
    #[serde(deserialize_with = "table::one")]
    pub server: Server,
    /// The listener for operators: metrics and health.
    #[serde(deserialize_with = "table::one")]
    pub admin: Admin,
    /// Issuers of the tokens that are accepted, by a name of your choice.
    #[serde(deserialize_with = "table::named")]
    pub issuers: BTreeMap<String, Issuer>,
    /// Where requests go, by a name of your choice.
    #[serde(deserialize_with = "table::named")]
    pub upstreams: BTreeMap<String, Upstream>,
    /// CORS policies, by a name of your choice.
    #[serde(deserialize_with = "table::named")]
    pub cors: BTreeMap<String, Cors>,
    /// Rate limits, by a name of your choice.
    #[serde(deserialize_with = "table::named")]
    pub limits: BTreeMap<String, Limit>,
    /// How upstreams learn who the caller is.
    #[serde(deserialize_with = "table::one")]
    pub identity: Identity,
    /// Which requests are served, and what each requires. The most specific route applies, in
    /// whatever order they stand.
    #[serde(deserialize_with = "table::list")]
    pub routes: Vec<Route>,
    /// Events and the access log.
    #[serde(deserialize_with = "table::one")]
    pub log: Log,
}
