//! Pseudonyms: hashes that stand for subjects in the access log.
//!
//! For deployments that must not log who made a request but need to see which requests one caller
//! made.

use std::sync::LazyLock;

use aws_lc_rs::hmac;

use crate::primitives::random;

/// Generated at first use and never shown. Each process has its own: a pseudonym links the lines of
/// one run only, and a guessed subject cannot be tested against an old log.
static SUBJECT_KEY: LazyLock<hmac::Key> = LazyLock::new(|| hmac::Key::new(hmac::HMAC_SHA256, &random::bytes::<32>()));

/// Number of bytes of the HMAC in a pseudonym. Eight bytes make collisions within one log unlikely.
const PSEUDONYM_BYTES: usize = 8;

/// The pseudonym of `subject` at `issuer`: sixteen hexadecimal digits, stable for the life of the
/// process.
///
/// HMAC-SHA-256 (RFC 2104) with a key of this process, truncated to 64 bits. It includes the
/// issuer, because two issuers may use the same subject for different callers.
#[must_use]
pub(crate) fn hash_subject(issuer: &str, subject: &str) -> String {
    let mut context = hmac::Context::with_key(&SUBJECT_KEY);
    // The length comes first, so that moving the boundary between the two texts changes the hash.
    context.update(&(issuer.len() as u64).to_be_bytes());
    context.update(issuer.as_bytes());
    context.update(subject.as_bytes());
    random::hex(&context.sign().as_ref()[..PSEUDONYM_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_depends_on_the_issuer_and_the_subject_only() {
        let hash = hash_subject("https://idp.test", "alice");
        assert_eq!(hash, hash_subject("https://idp.test", "alice"));
        for (name, issuer, subject) in [
            ("another subject", "https://idp.test", "bob"),
            ("another issuer", "https://idp.example", "alice"),
            ("the boundary moved", "https://idp.testa", "lice"),
        ] {
            assert_ne!(hash, hash_subject(issuer, subject), "{name}");
        }
    }

    #[test]
    fn a_hash_is_sixteen_hexadecimal_digits() {
        let hash = hash_subject("https://idp.test", "alice");
        assert_eq!(hash.len(), 16);
        assert!(hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
