//! Integration tests: the gateway as a client, an upstream and an operator see it. This file is the table of contents.

mod auth_failures;
mod authentication;
mod authorization;
mod bodies;
mod cache;
mod cors;
mod demo;
mod early_refusals;
mod framing;
mod http2;
mod key_rotation;
mod keys;
mod layers;
mod limits;
mod nginx;
mod provider;
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
