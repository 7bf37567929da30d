//! Principal: the identity that a valid token states.
//!
//! Only a [`Verifier`](super::Verifier) creates one, after all checks, and nothing changes it. It
//! is neither `Default` nor `Deserialize`.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, LazyLock, OnceLock};

use serde_json::{Map, Value};

use super::claim_path::ClaimPath;
use super::claims::ValidatedClaims;
use crate::primitives::clock::WallTime;
use crate::telemetry::pseudonym::hash_subject;

/// The identity that a valid token states.
#[derive(Clone, Debug)]
pub struct Principal {
    issuer_name: Arc<str>,
    issuer: Arc<str>,
    accepted: ValidatedClaims,
    claims: Map<String, Value>,
    subject_hash: u64,
    pseudonym: OnceLock<Box<str>>,
}

/// What the sender of a token must prove besides having the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Nothing: it is a bearer token (RFC 6750 §1.2).
    Bearer,
    /// That it has the key of the certificate with this SHA-256 (RFC 8705 §3.1). Tokens that are
    /// bound to a key in another way are refused.
    Certificate([u8; 32]),
}

impl Principal {
    pub(super) fn new(
        issuer_name: Arc<str>,
        issuer: Arc<str>,
        accepted: ValidatedClaims,
        claims: Map<String, Value>,
    ) -> Self {
        let subject_hash = subject_hash(&issuer, &accepted.subject);
        Self { issuer_name, issuer, accepted, claims, subject_hash, pseudonym: OnceLock::new() }
    }

    /// The issuer's name in the configuration, for logs and metrics.
    #[must_use]
    pub fn issuer_name(&self) -> &Arc<str> {
        &self.issuer_name
    }

    /// `iss`. Subjects of different issuers may be equal.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The subject. Never empty.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.accepted.subject
    }

    /// A keyed hash of the subject, for logs that must not show the subject: see [`hash_subject`].
    #[must_use]
    pub fn pseudonym(&self) -> &str {
        self.pseudonym.get_or_init(|| hash_subject(&self.issuer, self.subject()).into())
    }

    /// The client that the token was issued to.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.accepted.client.as_deref()
    }

    /// The scopes, sorted.
    #[must_use]
    pub fn scopes(&self) -> &[Box<str>] {
        &self.accepted.scopes
    }

    /// Whether the token has `scope`, compared exactly (RFC 6749 §3.3).
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        has(&self.accepted.scopes, scope)
    }

    /// The roles, sorted.
    #[must_use]
    pub fn roles(&self) -> &[Box<str>] {
        &self.accepted.roles
    }

    /// Whether the token has `role`, compared exactly.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        has(&self.accepted.roles, role)
    }

    /// All audiences of the token. At least one of them is in the issuer's settings.
    #[must_use]
    pub fn audiences(&self) -> &[String] {
        &self.accepted.audiences
    }

    /// The claim at `path`.
    #[must_use]
    pub fn claim(&self, path: &ClaimPath) -> Option<&Value> {
        path.find(&self.claims)
    }

    /// When the token becomes valid, including the leeway.
    #[must_use]
    pub fn valid_from(&self) -> WallTime {
        self.accepted.valid_from
    }

    /// When the token expires: `exp` plus the leeway.
    #[must_use]
    pub fn expires_at(&self) -> WallTime {
        self.accepted.expires_at
    }

    /// The `exp` of the token, without the leeway.
    #[must_use]
    pub fn exp(&self) -> WallTime {
        self.accepted.exp
    }

    /// A hash of issuer and subject, to count by subject. The same for all tokens of one subject.
    /// Keyed per process, so that no subject can be chosen to collide with another.
    #[must_use]
    pub fn subject_hash(&self) -> u64 {
        self.subject_hash
    }

    /// What the sender must prove besides having the token.
    #[must_use]
    pub fn binding(&self) -> Binding {
        self.accepted.binding
    }

    /// The estimated memory of the principal, in bytes. Errs on the high side.
    #[must_use]
    pub fn estimated_bytes(&self) -> usize {
        const FIXED: usize = 512;
        let names = self.scopes().iter().chain(self.roles()).map(|name| name.len() + 32).sum::<usize>();
        let audiences = self.audiences().iter().map(|audience| audience.len() + 32).sum::<usize>();
        FIXED + names + self.subject().len() + audiences + bytes_of_object(&self.claims)
    }
}

fn bytes_of_object(members: &Map<String, Value>) -> usize {
    // A B-tree node has room for eleven members.
    const MEMBER: usize = 96;
    640 + members.iter().map(|(name, value)| MEMBER + name.len() + bytes_of_value(value)).sum::<usize>()
}

/// The recursion is bounded, because the claims reader limits the depth.
fn bytes_of_value(value: &Value) -> usize {
    match value {
        Value::Array(items) => 32 + items.iter().map(|item| 32 + bytes_of_value(item)).sum::<usize>(),
        Value::Bool(_) | Value::Null | Value::Number(_) => 0,
        Value::Object(members) => bytes_of_object(members),
        Value::String(text) => 16 + text.len(),
    }
}

fn has(sorted: &[Box<str>], name: &str) -> bool {
    sorted.binary_search_by(|candidate| (**candidate).cmp(name)).is_ok()
}

/// See [`Principal::subject_hash`].
pub(super) fn subject_hash(issuer: &str, subject: &str) -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let mut hasher = KEY.build_hasher();
    // Each part is preceded by its length, so that moving a byte from one part to the other changes
    // the hash.
    for part in [issuer, subject] {
        hasher.write_usize(part.len());
        hasher.write(part.as_bytes());
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::primitives::clock::ManualClock;
    use crate::token::test_support::{NOW, P256, claims_with, idle_settings, verifier};

    #[test]
    fn a_subject_is_counted_per_issuer() {
        assert_eq!(subject_hash("https://a", "alice"), subject_hash("https://a", "alice"));
        assert_ne!(subject_hash("https://a", "alice"), subject_hash("https://b", "alice"));
        assert_ne!(subject_hash("https://a", "alice"), subject_hash("https://aa", "lice"));
    }

    #[test]
    fn a_principal_is_logged_under_the_hash_of_its_subject() {
        let verifier = verifier(idle_settings(), &ManualClock::at(NOW).clock(), &[P256.jwk("k")]);
        let principal = |subject: &str| verifier.check_claims(claims_with(&json!({ "sub": subject }))).unwrap();
        assert_eq!(principal("alice").pseudonym(), hash_subject(&idle_settings().issuer, "alice"));
        assert_ne!(principal("alice").pseudonym(), principal("bob").pseudonym());
    }

    #[test]
    fn names_are_compared_exactly() {
        let names: Vec<Box<str>> = ["orders:read", "orders:write"].map(Box::from).into();
        assert!(has(&names, "orders:read"));
        for other in ["", "orders", "orders:rea", "Orders:read", "orders:read "] {
            assert!(!has(&names, other), "{other:?}");
        }
    }

    /// Threat J-87: the estimate grows with every part of the claims, and not much faster.
    #[test]
    fn the_estimated_memory_of_a_principal_covers_its_claims() {
        const BYTES: usize = 10_000;
        let mut settings = idle_settings();
        settings.claims.roles.push(ClaimPath::parse("roles").unwrap());
        let verifier = verifier(settings, &ManualClock::at(NOW).clock(), &[P256.jwk("k")]);
        let estimate = |changes: Value| verifier.check_claims(claims_with(&changes)).unwrap().estimated_bytes();
        let (text, base) = ("x".repeat(BYTES), estimate(json!({})));
        assert!((1_000..4_000).contains(&base), "{base}");
        // The subject, the scopes, the roles and the audiences are kept twice: in the claims, too.
        for (name, changes, bytes) in [
            ("the subject", json!({ "sub": "x".repeat(4_000) }), 4_000),
            ("a scope", json!({ "scope": text }), BYTES),
            ("many scopes", json!({ "scope": (100..BYTES / 4).map(|n| n.to_string()).collect::<Vec<_>>() }), BYTES),
            ("a role", json!({ "roles": [text] }), BYTES),
            ("audiences", json!({ "aud": ["api", text] }), BYTES),
        ] {
            let added = estimate(changes) - base;
            assert!(added > 2 * bytes * 9 / 10, "{name}: {added}");
            assert!(added < 25 * bytes, "{name}: {added}");
        }
        for (name, changes) in [
            ("a text", json!({ "a": text })),
            ("an element", json!({ "a": [1, [text]] })),
            ("a member", json!({ "a": { "b": { "c": text } } })),
            ("a name", json!({ "a": { text: 1 } })),
            ("many numbers", json!({ "a": vec![7; BYTES / 16] })),
            (
                "many members",
                json!({ "a": (0..BYTES / 64).map(|number| (number.to_string(), json!(1))).collect::<Map<_, _>>() }),
            ),
        ] {
            let added = estimate(changes) - base;
            assert!((BYTES..4 * BYTES).contains(&added), "{name}: {added}");
        }
    }
}
