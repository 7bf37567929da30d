//! Claim path: names a claim in a token, as the operator writes it in the configuration.

use std::fmt;

use serde_json::{Map, Value};

/// A path to a claim: names separated by dots, such as `realm_access.roles`, or a JSON Pointer (RFC
/// 6901) for names that contain dots or slashes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimPath {
    /// At least one.
    names: Vec<Box<str>>,
    written: Box<str>,
}

/// Why a text is not a claim path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidClaimPath {
    /// `~` is not followed by `0` or `1`.
    #[error("write `~` as `~0`, and `/` in a name as `~1`")]
    BrokenEscape,
    /// The text, or a name in it, is empty.
    #[error("it contains an empty name")]
    EmptyName,
    /// A dotted path contains a slash.
    #[error(
        "a claim whose name contains `/` must be written as a JSON Pointer: `/` before each name, `~1` for `/` in a name"
    )]
    SlashInDotted,
}

impl ClaimPath {
    /// Parses `a.b` or `/a/b`.
    ///
    /// # Errors
    ///
    /// [`InvalidClaimPath`].
    pub fn parse(text: &str) -> Result<Self, InvalidClaimPath> {
        let names = match text.strip_prefix('/') {
            Some(pointer) => pointer.split('/').map(unescape).collect::<Result<Vec<_>, _>>()?,
            None if text.contains('/') => return Err(InvalidClaimPath::SlashInDotted),
            None => text.split('.').map(Box::from).collect(),
        };
        if names.iter().any(|name| name.is_empty()) {
            return Err(InvalidClaimPath::EmptyName);
        }
        Ok(Self { names, written: text.into() })
    }

    /// The value at this path. `None` if a name is missing or an intermediate value is not an
    /// object. A JSON Pointer may also select an array element by its index (RFC 6901 §4).
    #[must_use]
    pub fn find<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let (first, rest) = self.names.split_first()?;
        rest.iter().try_fold(claims.get(&**first)?, |value, name| match value {
            Value::Object(members) => members.get(&**name),
            Value::Array(items) if self.is_pointer() => items.get(index(name)?),
            Value::Array(_) | Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => None,
        })
    }

    fn is_pointer(&self) -> bool {
        self.written.starts_with('/')
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.written)
    }
}

/// RFC 6901 §4: replaces `~1` first, then `~0`.
fn unescape(name: &str) -> Result<Box<str>, InvalidClaimPath> {
    if name.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1'])) {
        return Err(InvalidClaimPath::BrokenEscape);
    }
    Ok(name.replace("~1", "/").replace("~0", "~").into())
}

/// An array index (RFC 6901 §4): digits without a leading zero.
fn index(name: &str) -> Option<usize> {
    let plain = name == "0" || (!name.starts_with('0') && name.bytes().all(|byte| byte.is_ascii_digit()));
    if plain { name.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Threat J-40.
    #[test]
    fn a_path_finds_the_claim_that_it_names_and_no_other() {
        let Value::Object(claims) = json!({
            "sub": "alice",
            "realm_access": { "roles": ["reader"] },
            "https://example.com/roles": ["admin"],
            "kubernetes.io": { "namespace": "shop" },
            "urn:zitadel:iam:org:project:roles": { "reader": {} },
            "tilde~name": 1,
            "list": ["a", { "b": 2 }],
            "text": "x",
        }) else {
            unreachable!()
        };
        for (path, expected) in [
            ("sub", Some(json!("alice"))),
            ("/sub", Some(json!("alice"))),
            ("realm_access.roles", Some(json!(["reader"]))),
            ("/realm_access/roles", Some(json!(["reader"]))),
            ("/https:~1~1example.com~1roles", Some(json!(["admin"]))),
            ("/kubernetes.io/namespace", Some(json!("shop"))),
            ("urn:zitadel:iam:org:project:roles", Some(json!({ "reader": {} }))),
            ("/tilde~0name", Some(json!(1))),
            ("/list/0", Some(json!("a"))),
            ("/list/1/b", Some(json!(2))),
            ("kubernetes.io.namespace", None),
            ("list.0", None),
            ("/list/00", None),
            ("/list/2", None),
            ("/list/+1", None),
            ("realm_access.roles.reader", None),
            ("text.x", None),
            ("SUB", None),
            ("__proto__", None),
            ("realm_access.__proto__", None),
        ] {
            assert_eq!(ClaimPath::parse(path).unwrap().find(&claims), expected.as_ref(), "{path}");
        }
    }

    #[test]
    fn malformed_paths_are_refused_with_the_reason() {
        for (text, expected) in [
            ("", InvalidClaimPath::EmptyName),
            ("/", InvalidClaimPath::EmptyName),
            ("a..b", InvalidClaimPath::EmptyName),
            (".a", InvalidClaimPath::EmptyName),
            ("a.", InvalidClaimPath::EmptyName),
            ("/a//b", InvalidClaimPath::EmptyName),
            ("/a~2", InvalidClaimPath::BrokenEscape),
            ("/a~", InvalidClaimPath::BrokenEscape),
            ("https://example.com/roles", InvalidClaimPath::SlashInDotted),
        ] {
            assert_eq!(ClaimPath::parse(text), Err(expected), "{text}");
        }
    }
}
