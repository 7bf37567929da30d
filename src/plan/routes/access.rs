//! Who may use a route: `access`, and the demands on its callers.

use serde_json::Value;

use crate::config::key_path::child;
use crate::config::problem::quoted;
use crate::config::units::{self, ClaimValue};
use crate::config::{Problems, Route};
use crate::gateway::policy::{Access, ClaimRule, Demand};

pub(super) fn compile(path: &str, written: &Route, problems: &mut Problems) -> Access {
    let asked = [
        ("scopes", !written.scopes.is_empty()),
        ("any_scopes", !written.any_scopes.is_empty()),
        ("roles", !written.roles.is_empty()),
        ("any_roles", !written.any_roles.is_empty()),
        ("claims", !written.claims.is_empty()),
    ];
    let about_tokens = [("issuers", written.issuers.is_some()), ("audiences", written.audiences.is_some())];
    let refuse = |keys: &[(&str, bool)], why: &str, problems: &mut Problems| {
        for (name, _) in keys.iter().filter(|(_, asked)| *asked) {
            problems.add_with_hint(child(path, name), why, "write `access = \"token\"`, or leave the key out");
        }
    };
    match written.access {
        units::Access::Public => {
            refuse(&asked, "asks for nothing on a public route: no token is looked at", problems);
            refuse(&about_tokens, "means nothing on a public route: no token is looked at", problems);
            Access::Public
        }
        units::Access::Optional => {
            refuse(
                &asked,
                "asks for nothing where a token is optional: whoever lacks it leaves the token out",
                problems,
            );
            Access::Optional
        }
        units::Access::Token => {
            check_scopes(path, written, problems);
            Access::Token(demands(path, written, problems))
        }
    }
}

/// In the order in which they are judged. Scopes come first: a missing scope is what a client can mend.
fn demands(path: &str, written: &Route, problems: &mut Problems) -> Vec<Demand> {
    let mut demands = Vec::new();
    for (names, demand) in [
        (&written.scopes, Demand::Scopes as fn(Vec<String>) -> Demand),
        (&written.any_scopes, Demand::AnyScope),
        (&written.roles, Demand::Roles),
        (&written.any_roles, Demand::AnyRole),
    ] {
        if !names.is_empty() {
            demands.push(demand(names.clone()));
        }
    }
    demands.extend(claims(path, written, problems).into_iter().map(Demand::Claim));
    demands
}

/// RFC 6749 §3.3: `scope-token = 1*( %x21 / %x23-5B / %x5D-7E )`. Another byte could not stand in the challenge.
fn check_scopes(path: &str, written: &Route, problems: &mut Problems) {
    for (key, scopes) in [("scopes", &written.scopes), ("any_scopes", &written.any_scopes)] {
        for (index, scope) in scopes.iter().enumerate() {
            let fits = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
            if scope.is_empty() || !scope.bytes().all(fits) {
                problems.add_with_hint(
                    format!("{}[{index}]", child(path, key)),
                    format!("{} is not one scope", quoted(scope)),
                    "each scope is a word of its own in the list",
                );
            }
        }
    }
}

fn claims(path: &str, written: &Route, problems: &mut Problems) -> Vec<ClaimRule> {
    let mut rules = Vec::new();
    for (claim, values) in &written.claims {
        let place = child(&child(path, "claims"), claim);
        let allowed: Vec<Value> = values.as_slice().iter().map(json).collect();
        if allowed.is_empty() {
            problems.add(place.clone(), "an empty list allows no value");
        }
        if let Some(path) = crate::plan::issuers::claim_path(&place, claim, problems) {
            rules.push(ClaimRule { path, allowed });
        }
    }
    rules
}

fn json(value: &ClaimValue) -> Value {
    match value {
        ClaimValue::Boolean(value) => Value::from(*value),
        ClaimValue::Float(value) => Value::from(*value),
        ClaimValue::Integer(value) => Value::from(*value),
        ClaimValue::String(value) => Value::from(value.clone()),
    }
}
