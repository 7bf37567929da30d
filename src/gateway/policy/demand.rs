//! Demands: the conditions of a route on its caller, beyond a valid token.
//!
//! Each kind of demand is one variant. Its check, its configuration key, its refusal and its text
//! are all defined here, so that a new kind works in authorization, `explain` and `check` alike.

use std::fmt;

use serde_json::Value;

use crate::token::{ClaimPath, Principal, number};

/// One condition of a route on its caller.
#[derive(Clone, Debug, PartialEq)]
pub enum Demand {
    /// The token has all of these scopes. Never empty.
    Scopes(Vec<String>),
    /// The token has at least one of these scopes.
    AnyScope(Vec<String>),
    /// The caller has all of these roles. Never empty.
    Roles(Vec<String>),
    /// The caller has at least one of these roles.
    AnyRole(Vec<String>),
    /// A claim has one of the allowed values.
    Claim(ClaimRule),
}

/// How the gateway refuses a caller that does not meet a demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The token lacks a scope, which the client can ask its issuer for (RFC 6750 §3.1).
    Scope,
    /// The caller lacks a right. The text is the reason for the log.
    Access(&'static str),
}

/// One entry of a route's `claims`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimRule {
    /// The path of the claim.
    pub path: ClaimPath,
    /// The allowed values: strings, numbers and booleans. Types must match too.
    pub allowed: Vec<Value>,
}

impl Demand {
    /// The key in `[[routes]]` that configures it.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Scopes(_) => "scopes",
            Self::AnyScope(_) => "any_scopes",
            Self::Roles(_) => "roles",
            Self::AnyRole(_) => "any_roles",
            Self::Claim(_) => "claims",
        }
    }

    /// Whether `principal` meets the demand. Scopes and roles are compared exactly.
    #[must_use]
    pub fn is_met_by(&self, principal: &Principal) -> bool {
        match self {
            Self::Scopes(scopes) => scopes.iter().all(|scope| principal.has_scope(scope)),
            Self::AnyScope(scopes) => scopes.iter().any(|scope| principal.has_scope(scope)),
            Self::Roles(roles) => roles.iter().all(|role| principal.has_role(role)),
            Self::AnyRole(roles) => roles.iter().any(|role| principal.has_role(role)),
            Self::Claim(rule) => rule.is_met_by(principal),
        }
    }

    /// Whether every caller that meets this demand meets `other` too, as far as the two demands
    /// alone can tell.
    #[must_use]
    pub fn implies(&self, other: &Self) -> bool {
        let all = |few: &[String], many: &[String]| few.iter().all(|name| many.contains(name));
        let some = |some: &[String], many: &[String]| some.iter().any(|name| many.contains(name));
        match other {
            Self::Scopes(wanted) => matches!(self, Self::Scopes(own) if all(wanted, own)),
            Self::Roles(wanted) => matches!(self, Self::Roles(own) if all(wanted, own)),
            Self::AnyScope(wanted) => match self {
                Self::Scopes(own) => some(own, wanted),
                Self::AnyScope(own) => all(own, wanted),
                Self::Roles(_) | Self::AnyRole(_) | Self::Claim(_) => false,
            },
            Self::AnyRole(wanted) => match self {
                Self::Roles(own) => some(own, wanted),
                Self::AnyRole(own) => all(own, wanted),
                Self::Scopes(_) | Self::AnyScope(_) | Self::Claim(_) => false,
            },
            Self::Claim(wanted) => {
                let is_as_narrow = |own: &ClaimRule| own.allowed.iter().all(|value| wanted.allowed.contains(value));
                matches!(self, Self::Claim(own) if own.path == wanted.path && is_as_narrow(own))
            }
        }
    }

    /// How the gateway refuses a caller that does not meet the demand.
    #[must_use]
    pub fn denial(&self) -> Denial {
        match self {
            Self::Scopes(_) | Self::AnyScope(_) => Denial::Scope,
            Self::Roles(_) => Denial::Access("lacks a role"),
            Self::AnyRole(_) => Denial::Access("has none of any_roles"),
            Self::Claim(_) => Denial::Access("a claim does not match"),
        }
    }

    /// The scopes that the demand names, for the challenge.
    #[must_use]
    pub fn scopes(&self) -> &[String] {
        match self {
            Self::Scopes(scopes) | Self::AnyScope(scopes) => scopes,
            Self::Roles(_) | Self::AnyRole(_) | Self::Claim(_) => &[],
        }
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scopes(scopes) => write!(formatter, "scopes {}", scopes.join(" ")),
            Self::AnyScope(scopes) => write!(formatter, "any scope of {}", scopes.join(" ")),
            Self::Roles(roles) => write!(formatter, "roles {}", roles.join(" ")),
            Self::AnyRole(roles) => write!(formatter, "any role of {}", roles.join(" ")),
            Self::Claim(rule) => {
                let allowed = rule.allowed.iter().map(Value::to_string).collect::<Vec<_>>();
                write!(formatter, "claim {} = {}", rule.path, allowed.join(" or "))
            }
        }
    }
}

impl ClaimRule {
    fn is_met_by(&self, principal: &Principal) -> bool {
        match principal.claim(&self.path) {
            None => false,
            Some(Value::Array(items)) => items.iter().any(|item| self.allows(item)),
            Some(value) => self.allows(value),
        }
    }

    fn allows(&self, value: &Value) -> bool {
        self.allowed.iter().any(|allowed| is_equal(allowed, value))
    }
}

/// Whether two scalars are equal. Types must match; numbers are compared by value.
fn is_equal(allowed: &Value, value: &Value) -> bool {
    match (allowed, value) {
        (Value::Number(allowed), Value::Number(value)) => number::is_equal(allowed, value),
        (allowed, value) => allowed == value,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As `check` and `explain` show it.
    #[test]
    fn a_demand_names_what_satisfies_it() {
        let names = || vec!["a".to_owned(), "b".to_owned()];
        let rule = ClaimRule { path: ClaimPath::parse("org.plan").unwrap(), allowed: vec![json!("gold"), json!(7)] };
        for (demand, expected) in [
            (Demand::Scopes(names()), "scopes a b"),
            (Demand::AnyScope(names()), "any scope of a b"),
            (Demand::Roles(names()), "roles a b"),
            (Demand::AnyRole(names()), "any role of a b"),
            (Demand::Claim(rule), "claim org.plan = \"gold\" or 7"),
        ] {
            assert_eq!(demand.to_string(), expected);
        }
    }

    /// A number or a boolean never equals its text.
    #[test]
    fn claim_values_compare_by_type_and_value() {
        for (name, allowed, value, expected) in [
            ("equal strings", json!("gold"), json!("gold"), true),
            ("another case", json!("gold"), json!("Gold"), false),
            ("a number is not its text", json!(1), json!("1"), false),
            ("one number in two spellings", json!(1), json!(1.0), true),
            ("integers beyond the range of i64", json!(i64::MAX), json!(1_u64 << 63), false),
            ("a float beside an integer", json!(9_007_199_254_740_993_i64), json!(9_007_199_254_740_992.0), false),
            ("a float that several integers have", json!(1_i64 << 53), json!(9_007_199_254_740_992.0), false),
            ("fractions", json!(0.5), json!(0.5), true),
            ("other numbers", json!(1), json!(2), false),
            ("a boolean", json!(true), json!(true), true),
            ("a boolean is not its text", json!(true), json!("true"), false),
            ("null", json!("null"), json!(null), false),
        ] {
            assert_eq!(is_equal(&allowed, &value), expected, "{name}");
        }
    }
}
