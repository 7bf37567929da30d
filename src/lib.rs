//! Portcullis: an OIDC resource-server gateway.
//!
//! It stands in front of services, verifies access tokens offline against keys found by discovery, enforces each route's rules from one file,
//! and forwards the request with identity headers that the service may trust. The modules, in the order in which one would read them:
//!
//! - [`config`]: what the operator wrote: structs, and all that is wrong with a file.
//! - [`plan`]: what it means: checked, compiled, comparable; and how a plan becomes a runtime.
//! - [`outbound`]: the HTTP client for the gateway's own requests, such as those for keys.
//! - [`gateway`]: one request, stage by stage. Start here.
//! - [`token`]: tokens, keys and issuers.
//! - [`upstream`]: the servers behind, and the connections to them.
//! - [`rate_limit`]: counters of limits.
//! - [`downstream`]: connections: listeners, workers, protocols.
//! - [`admin`]: the side door for operators: metrics, liveness, readiness.
//! - [`telemetry`]: metrics and logs.
//! - [`app`]: the life of the process.
//! - [`cli`]: one file per command.
//! - [`local_issuer`]: an issuer of its own, for trying things out.
//! - [`primitives`]: time, randomness, the end of the process.

#![forbid(unsafe_code)]

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod downstream;
pub mod gateway;
pub mod local_issuer;
pub mod outbound;
pub mod plan;
pub mod primitives;
pub mod rate_limit;
pub mod telemetry;
pub mod token;
pub mod upstream;
