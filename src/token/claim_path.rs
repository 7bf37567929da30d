//! Claim path: where in a token's claims a value stands, as the operator writes it.

use std::fmt;

use serde_json::{Map, Value};

/// A path to a claim: `realm_access.roles`, or a JSON Pointer (RFC 6901) where a name has dots or slashes in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimPath {
    /// At least one.
    names: Vec<Box<str>>,
    written: Box<str>,
}

/// Why a text is no claim path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidClaimPath {
    /// `~` is followed by something else than `0` or `1`.
    #[error("`~` stands for itself only as `~0`, and for `/` as `~1`")]
    BrokenEscape,
    /// No text, or a name without one.
    #[error("a name in it is empty")]
    EmptyName,
    /// A dotted path with a slash in it.
    #[error("a claim whose name has a `/` is written as a JSON Pointer: `/` before each name, `~1` for `/` in a name")]
    SlashInDotted,
}

impl ClaimPath {
    /// Reads `a.b` or `/a/b`.
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

    /// The value there. `None` if a name on the way is missing or its value is no object; with a pointer, an array's element may be named by
    /// its index (RFC 6901 §4).
    #[must_use]
    pub fn find<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let (first, rest) = self.names.split_first()?;
        rest.iter().try_fold(claims.get(&**first)?, |value, name| match value {
            Value::Object(members) => members.get(&**name),
            Value::Array(items) if self.is_pointer() => items.get(index(name)?),
            Value::Array(_) | Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => None,
        })
    }

    /// The path as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
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

/// RFC 6901 §4: `~1` first, then `~0`.
fn unescape(name: &str) -> Result<Box<str>, InvalidClaimPath> {
    if name.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1'])) {
        return Err(InvalidClaimPath::BrokenEscape);
    }
    Ok(name.replace("~1", "/").replace("~0", "~").into())
}

/// RFC 6901 §4: digits without a leading zero.
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
    fn paths_find_what_they_name_and_nothing_else() {
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
    fn what_is_no_path_is_refused_with_the_reason() {
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
