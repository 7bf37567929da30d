//! The access rules of a route: `access`, and the demands on its callers.

use serde_json::Value;

use super::Definitions;
use crate::config::key_path::{child, element};
use crate::config::problem::quoted;
use crate::config::units::{self, ClaimValue};
use crate::config::{Problems, Route};
use crate::gateway::policy::{Access, ClaimRule, ClientCertRule, Demand};
use crate::plan::issuers::parse_claim_path;
use crate::plan::server_tls::CLIENT_AUTH_HINT;
use crate::token::number::is_exact_float;

pub(super) fn compile(key_path: &str, route: &Route, problems: &mut Problems) -> Access {
    let demands = [
        ("scopes", !route.scopes.is_empty()),
        ("any_scopes", !route.any_scopes.is_empty()),
        ("roles", !route.roles.is_empty()),
        ("any_roles", !route.any_roles.is_empty()),
        ("claims", !route.claims.is_empty()),
    ];
    let token_rules = [("issuers", route.issuers.is_some()), ("audiences", route.audiences.is_some())];
    let report_present = |keys: &[(&str, bool)], what: &str, problems: &mut Problems| {
        for (key, _) in keys.iter().filter(|(_, is_present)| *is_present) {
            problems.add_with_hint(child(key_path, key), what, "write `access = \"token\"`, or remove the key");
        }
    };
    match route.access {
        units::Access::Public => {
            let what = "has no effect on a public route, which ignores tokens";
            report_present(&demands, what, problems);
            report_present(&token_rules, what, problems);
            report_present(&[("stream_after_expiry", route.stream_after_expiry.is_some())], what, problems);
            Access::Public
        }
        units::Access::Optional => {
            let what = "has no effect with `access = \"optional\"`: a caller that does not meet it can omit the token";
            report_present(&demands, what, problems);
            Access::Optional
        }
        units::Access::Token => {
            check_scopes(key_path, route, problems);
            Access::Token(compile_demands(key_path, route, problems))
        }
    }
}

/// Whether the route requires a client certificate.
pub(super) fn compile_client_cert(
    key_path: &str,
    route: &Route,
    definitions: &Definitions<'_>,
    problems: &mut Problems,
) -> ClientCertRule {
    match route.client_cert {
        units::ClientCert::Optional => ClientCertRule::Optional,
        units::ClientCert::Required => {
            if !definitions.asks_for_client_certificates {
                problems.add_with_hint(
                    child(key_path, "client_cert"),
                    "no request can meet it, because clients are not asked for a certificate",
                    CLIENT_AUTH_HINT,
                );
            }
            ClientCertRule::Required
        }
    }
}

/// The demands, in the order in which they are checked. Scopes come first, because a client that
/// lacks one can ask its issuer for it.
fn compile_demands(key_path: &str, route: &Route, problems: &mut Problems) -> Vec<Demand> {
    let mut demands = Vec::new();
    for (names, demand) in [
        (&route.scopes, Demand::Scopes as fn(Vec<String>) -> Demand),
        (&route.any_scopes, Demand::AnyScope),
        (&route.roles, Demand::Roles),
        (&route.any_roles, Demand::AnyRole),
    ] {
        if !names.is_empty() {
            demands.push(demand(names.clone()));
        }
    }
    demands.extend(compile_claims(key_path, route, problems).into_iter().map(Demand::Claim));
    demands
}

/// Checks that each scope is a `scope-token` (RFC 6749 §3.3): `1*( %x21 / %x23-5B / %x5D-7E )`. The
/// challenge of a refusal could not contain any other byte.
fn check_scopes(key_path: &str, route: &Route, problems: &mut Problems) {
    let is_scope_byte = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
    for (key, scopes) in [("scopes", &route.scopes), ("any_scopes", &route.any_scopes)] {
        for (index, scope) in scopes.iter().enumerate() {
            if scope.is_empty() || !scope.bytes().all(is_scope_byte) {
                problems.add_with_hint(
                    element(&child(key_path, key), index),
                    format!("{} is not a valid scope", quoted(scope)),
                    "write each scope as a string of its own: printable ASCII, without spaces, `\"` and `\\`",
                );
            }
        }
    }
}

fn compile_claims(key_path: &str, route: &Route, problems: &mut Problems) -> Vec<ClaimRule> {
    let mut rules = Vec::new();
    for (claim, values) in &route.claims {
        let key_path = child(&child(key_path, "claims"), claim);
        let allowed: Vec<Value> = values.as_slice().iter().map(to_json).collect();
        if allowed.is_empty() {
            problems.add_with_hint(key_path.clone(), "an empty list allows no value", "list the allowed values");
        }
        let is_inexact = |value: &&ClaimValue| matches!(value, ClaimValue::Float(float) if !is_exact_float(*float));
        if let Some(ClaimValue::Float(float)) = values.as_slice().iter().find(is_inexact) {
            problems.add_with_hint(
                key_path.clone(),
                format!("`{float:e}` stands for several integers, and could not be compared exactly"),
                "write a whole number below 2^63, without a fraction or an exponent",
            );
        }
        if let Some(path) = parse_claim_path(&key_path, claim, problems) {
            rules.push(ClaimRule { path, allowed });
        }
    }
    rules
}

fn to_json(value: &ClaimValue) -> Value {
    match value {
        ClaimValue::Boolean(value) => Value::from(*value),
        ClaimValue::Float(value) => Value::from(*value),
        ClaimValue::Integer(value) => Value::from(*value),
        ClaimValue::String(value) => Value::from(value.clone()),
    }
}
