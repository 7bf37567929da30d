//! Integration tests: the gateway as a client, an upstream and an operator see it. This file is the table of contents.

mod auth_failures;
mod authentication;
mod authorization;
mod cache;
mod demo;
mod key_rotation;
mod keys;
mod layers;
mod provider;
mod report_only;
mod support;
mod token_claims;
mod token_form;
mod token_headers;
mod token_kinds;
