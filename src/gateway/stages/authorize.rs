//! Authorisation: what a route demands, held against who is calling.
//!
//! Stage 6 of [`Gateway::handle`](super::Gateway::handle). [`permit`] is the only constructor of [`Permit`], and
//! [`forward`](crate::gateway::stages::forward) needs one: a path to the upstream that leaves this file out does not compile.

use std::sync::Arc;

use serde_json::Value;

use crate::gateway::response::refusal::{Demand, Refusal};
use crate::gateway::stages::authenticate::Caller;
use crate::gateway::stages::routing::{Access, RoutedRequest};
use crate::gateway::{ResponseContext, Route};
use crate::token::{ClaimPath, Principal};

/// What a route asks of its caller. An empty list asks for nothing: a valid token suffices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Requirements {
    /// All of these scopes.
    pub scopes: Vec<String>,
    /// At least one of these, unless empty.
    pub any_scopes: Vec<String>,
    /// All of these roles.
    pub roles: Vec<String>,
    /// At least one of these, unless empty.
    pub any_roles: Vec<String>,
    /// All of these claims.
    pub claims: Vec<ClaimRule>,
}

/// One entry of a route's `claims`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimRule {
    /// Where the claim stands.
    pub path: ClaimPath,
    /// Which values will do: strings, numbers and booleans, compared as such.
    pub allowed: Vec<Value>,
}

/// Proof that a route's demands were met. Neither `Clone` nor constructible elsewhere.
#[derive(Debug)]
pub struct Permit {
    routed: RoutedRequest,
    caller: Caller,
}

impl Permit {
    /// The request and the route that it was permitted on.
    #[must_use]
    pub fn routed(&self) -> &RoutedRequest {
        &self.routed
    }

    /// Who is calling.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The request, for the one who sends it on.
    pub(in crate::gateway) fn into_parts(self) -> (RoutedRequest, Caller) {
        (self.routed, self.caller)
    }
}

/// Holds `caller` against what the route demands.
///
/// # Errors
///
/// 401 without a caller, 403 for one who lacks something.
pub fn permit(routed: RoutedRequest, caller: Caller, context: &mut ResponseContext) -> Result<Permit, Refusal> {
    let judged = judge(routed.route(), &caller);
    routed.enforce(judged, context)?;
    Ok(Permit { routed, caller })
}

fn judge(route: &Arc<Route>, caller: &Caller) -> Result<(), Refusal> {
    match (&route.rules().access, caller) {
        (Access::Public | Access::Optional, Caller::Anonymous) | (Access::Optional, Caller::Known(_)) => Ok(()),
        (Access::Token(requirements), Caller::Known(principal)) => requirements.met_by(principal),
        (Access::Token(_), Caller::Anonymous) => Err(Refusal::CredentialsMissing),
        // On a public route no token is looked at, so that nobody can be known there.
        (Access::Public, Caller::Known(_)) => Err(Refusal::Internal),
    }
}

impl Requirements {
    /// Whether `principal` has all that is asked for. Scopes first: lacking one is what a client can mend by itself.
    ///
    /// # Errors
    ///
    /// [`Refusal::ScopeInsufficient`], or [`Refusal::AccessDenied`] with the first demand that was not met.
    pub fn met_by(&self, principal: &Principal) -> Result<(), Refusal> {
        let has_scope = |scope: &String| principal.has_scope(scope);
        if !self.scopes.iter().all(has_scope) || !(self.any_scopes.is_empty() || self.any_scopes.iter().any(has_scope))
        {
            return Err(Refusal::ScopeInsufficient);
        }
        let has_role = |role: &String| principal.has_role(role);
        if !self.roles.iter().all(has_role) {
            return Err(Refusal::AccessDenied(Demand::Role));
        }
        if !(self.any_roles.is_empty() || self.any_roles.iter().any(has_role)) {
            return Err(Refusal::AccessDenied(Demand::AnyRole));
        }
        match self.claims.iter().position(|rule| !rule.met_by(principal)) {
            Some(index) => Err(Refusal::AccessDenied(Demand::Claim(index))),
            None => Ok(()),
        }
    }

    /// All scopes that are named, for the challenge: separated by spaces.
    #[must_use]
    pub fn scope_text(&self) -> String {
        self.scopes.iter().chain(&self.any_scopes).map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

impl ClaimRule {
    fn met_by(&self, principal: &Principal) -> bool {
        match principal.claim(&self.path) {
            None => false,
            Some(Value::Array(items)) => items.iter().any(|item| self.allows(item)),
            Some(value) => self.allows(value),
        }
    }

    fn allows(&self, value: &Value) -> bool {
        self.allowed.iter().any(|allowed| same(allowed, value))
    }
}

/// Equality of scalars. Numbers by value, so that `1` and `1.0`, which are one number in JSON, are one here.
fn same(allowed: &Value, value: &Value) -> bool {
    match (allowed, value) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a == b,
            _ => a.as_f64() == b.as_f64(),
        },
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Numbers and booleans compare as such, never as text.
    #[test]
    fn claim_values_compare_by_type_and_value() {
        for (name, allowed, value, expected) in [
            ("equal strings", json!("gold"), json!("gold"), true),
            ("another case", json!("gold"), json!("Gold"), false),
            ("a number is not its text", json!(1), json!("1"), false),
            ("one number in two spellings", json!(1), json!(1.0), true),
            ("fractions", json!(0.5), json!(0.5), true),
            ("other numbers", json!(1), json!(2), false),
            ("a boolean", json!(true), json!(true), true),
            ("a boolean is not its text", json!(true), json!("true"), false),
            ("null", json!("null"), json!(null), false),
        ] {
            assert_eq!(same(&allowed, &value), expected, "{name}");
        }
    }
}
