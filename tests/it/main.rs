//! Integration tests: the gateway as clients, upstreams and operators see it. This file is the
//! table of contents.

mod auth_failures;
mod authentication;
mod authorization;
mod bodies;
mod cache;
mod claim_settings;
mod cli;
mod cors;
mod demo;
mod documents;
mod drain;
mod early_refusals;
mod framing;
mod http2;
mod http2_upstreams;
mod key_rotation;
mod keys;
mod layers;
mod limits;
mod nginx;
mod observability;
mod provider;
mod reference;
mod reload;
mod report_only;
mod support;
mod targets;
mod token_claims;
mod token_form;
mod token_headers;
mod token_kinds;
mod upgrade;
mod upstream_headers;
mod upstreams;
mod workers;
