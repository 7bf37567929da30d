//! Portcullis: an OIDC resource-server gateway.
//!
//! It runs in front of HTTP services, verifies access tokens offline with keys found by discovery,
//! enforces each route's policy from one configuration file, and forwards requests with identity
//! headers that the service can trust. The modules, in the order in which to read them:
//!
//! - `gateway`: handles one request, stage by stage. Start here.
//! - `token`: tokens, keys and issuers.
//! - `upstream`: the servers behind the gateway, and the connections to them.
//! - `rate_limit`: per-key rate limiting.
//! - `downstream`: client connections: listeners, workers, protocols.
//! - `config`: the configuration as the operator wrote it, and all problems with it.
//! - `plan`: what the configuration means, checked and compiled, and how a plan becomes a runtime.
//! - `outbound`: the HTTP client for the gateway's own requests, such as key fetches.
//! - `resolver`: the addresses of the names in the configuration.
//! - `admin`: metrics, liveness and readiness, on a separate listener.
//! - `telemetry`: metrics and logs.
//! - `tls`: certificates, keys and revocation lists from files.
//! - [`app`]: starts, reloads and drains the process.
//! - [`cli`]: one file per command.
//! - `local_issuer`: the built-in issuer, for demonstrations.
//! - `primitives`: time, randomness, shutdown, field syntax.
//!
//! The library exists for the program and its tests. Only [`cli`], [`app`] and [`clock`] are
//! public; the rest is private to the crate, so that the compiler finds dead code.

#![forbid(unsafe_code)]

pub mod app;
pub mod cli;

pub(crate) mod acme;
pub(crate) mod admin;
pub(crate) mod config;
pub(crate) mod downstream;
pub(crate) mod gateway;
pub(crate) mod local_issuer;
pub(crate) mod outbound;
pub(crate) mod plan;
pub(crate) mod primitives;
pub(crate) mod rate_limit;
pub(crate) mod resolver;
pub(crate) mod telemetry;
pub(crate) mod tls;
pub(crate) mod token;
pub(crate) mod upstream;

pub use primitives::clock;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz_targets;

/// For the benches and the generated configuration reference only. Not a stable interface.
#[doc(hidden)]
pub mod internals {
    pub use crate::config::{load_text, reference};
    pub use crate::downstream::balancer::handles;
    pub use crate::downstream::connection_limits::{ConnectionLimits, Maximum};
    pub use crate::downstream::listener::{BindOptions, Copies, InheritedSockets, bind};
    pub use crate::downstream::{Downstream, serve};
    pub use crate::gateway::matching::host::Host;
    pub use crate::gateway::matching::path::{NormalPath, UnusualForms};
    pub use crate::gateway::matching::{PathPattern, Pattern, RouteMatch, RouteTable};
    pub use crate::gateway::policy::cors_policy::{CorsPolicy, Origins};
    pub use crate::gateway::{CurrentRuntime, Gateway, Worker};
    pub use crate::plan::Plan;
    pub use crate::plan::adopt::Adopter;
    pub use crate::primitives::{random, shutdown};
    pub use crate::rate_limit::table::Table;
    pub use crate::rate_limit::{KeyOrigin, Quota};
    pub use crate::telemetry::LineFormat;
    pub use crate::telemetry::access_log::AccessLog;
    pub use crate::telemetry::metrics::Metrics;
    pub use crate::token::{
        Algorithm, ClaimSources, IssuerSettings, Issuers, KeySource, Principal, Profile, RawToken, RefreshTimes,
        VerdictCache, Verification, Verifier,
    };
}
