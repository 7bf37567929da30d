//! Principal: who a verified token speaks for.
//!
//! Made by the [`Verifier`](super::Verifier) alone, after every check, and never changed: neither `Default` nor `Deserialize`.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, LazyLock, OnceLock};

use serde_json::{Map, Value};

use super::claim_path::ClaimPath;
use super::claims::ValidatedClaims;
use crate::primitives::clock::WallTime;
use crate::telemetry::pseudonym::hash_subject;

/// The bearer of a token that was accepted.
#[derive(Clone, Debug)]
pub struct Principal {
    issuer_name: Arc<str>,
    issuer: Arc<str>,
    accepted: ValidatedClaims,
    claims: Map<String, Value>,
    subject_hash: u64,
    pseudonym: OnceLock<Box<str>>,
    binding: Binding,
}

/// What the sender of a token has to show beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Nothing: a bearer token (RFC 6750 §1.2). Tokens that are bound to a key are refused.
    Bearer,
}

impl Principal {
    pub(super) fn new(
        issuer_name: Arc<str>,
        issuer: Arc<str>,
        accepted: ValidatedClaims,
        claims: Map<String, Value>,
    ) -> Self {
        let subject_hash = hash(&issuer, &accepted.subject);
        let (pseudonym, binding) = (OnceLock::new(), Binding::Bearer);
        Self { issuer_name, issuer, accepted, claims, subject_hash, pseudonym, binding }
    }

    /// The issuer's name in the configuration: for logs and metrics.
    #[must_use]
    pub fn issuer_name(&self) -> &Arc<str> {
        &self.issuer_name
    }

    /// `iss`. A subject is unique per issuer only.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The subject; never empty.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.accepted.subject
    }

    /// A stand-in for the subject, for logs that are not to name it: see [`hash_subject`].
    #[must_use]
    pub fn pseudonym(&self) -> &str {
        self.pseudonym.get_or_init(|| hash_subject(&self.issuer, self.subject()).into())
    }

    /// The client that the token was issued to.
    #[must_use]
    pub fn client(&self) -> Option<&str> {
        self.accepted.client.as_deref()
    }

    /// Its scopes, sorted.
    #[must_use]
    pub fn scopes(&self) -> &[Box<str>] {
        &self.accepted.scopes
    }

    /// Whether it has `scope`; compared exactly (RFC 6749 §3.3).
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        has(&self.accepted.scopes, scope)
    }

    /// Its roles, sorted.
    #[must_use]
    pub fn roles(&self) -> &[Box<str>] {
        &self.accepted.roles
    }

    /// Whether it has `role`; compared exactly.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        has(&self.accepted.roles, role)
    }

    /// All audiences of the token: one of them is the issuer's settings'.
    #[must_use]
    pub fn audiences(&self) -> &[String] {
        &self.accepted.audiences
    }

    /// One claim.
    #[must_use]
    pub fn claim(&self, path: &ClaimPath) -> Option<&Value> {
        path.find(&self.claims)
    }

    /// The moment from which on the token counts, the leeway included.
    #[must_use]
    pub fn valid_from(&self) -> WallTime {
        self.accepted.valid_from
    }

    /// The moment at which the token is over: `exp` and the leeway.
    #[must_use]
    pub fn expires_at(&self) -> WallTime {
        self.accepted.expires_at
    }

    /// A key for counting by subject: a hash over issuer and subject. Keyed per process, so that nobody can choose a subject that collides
    /// with another's; the same for all tokens of one subject.
    #[must_use]
    pub fn subject_hash(&self) -> u64 {
        self.subject_hash
    }

    /// What the sender has to show beside the token.
    #[must_use]
    pub fn binding(&self) -> Binding {
        self.binding
    }

    /// About how much memory it takes, in bytes; rather too much than too little.
    #[must_use]
    pub fn estimated_bytes(&self) -> usize {
        const FIXED: usize = 512;
        let names = self.scopes().iter().chain(self.roles()).map(|name| name.len() + 32).sum::<usize>();
        let audiences = self.audiences().iter().map(|audience| audience.len() + 32).sum::<usize>();
        FIXED + names + self.subject().len() + audiences + bytes_of_object(&self.claims)
    }
}

fn bytes_of_object(members: &Map<String, Value>) -> usize {
    // A node of the tree has room for eleven members.
    const MEMBER: usize = 96;
    640 + members.iter().map(|(name, value)| MEMBER + name.len() + bytes_of_value(value)).sum::<usize>()
}

/// Recursion is bounded by the depth that the reader allows.
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

fn hash(issuer: &str, subject: &str) -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let mut hasher = KEY.build_hasher();
    // With its length before it: `a` of issuer `bc` is not `ab` of issuer `c`.
    for part in [issuer, subject] {
        hasher.write_usize(part.len());
        hasher.write(part.as_bytes());
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_counted_per_issuer() {
        assert_eq!(hash("https://a", "alice"), hash("https://a", "alice"));
        assert_ne!(hash("https://a", "alice"), hash("https://b", "alice"));
        assert_ne!(hash("https://a", "alice"), hash("https://aa", "lice"));
    }

    #[test]
    fn names_are_compared_exactly() {
        let names: Vec<Box<str>> = ["orders:read", "orders:write"].map(Box::from).into();
        assert!(has(&names, "orders:read"));
        for other in ["", "orders", "orders:rea", "Orders:read", "orders:read "] {
            assert!(!has(&names, other), "{other:?}");
        }
    }
}
