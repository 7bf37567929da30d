//! Log fields that need thought: how a person may appear in a log.

use std::sync::LazyLock;

use aws_lc_rs::hmac;

use crate::primitives::random;

/// Drawn at the first use and never shown. A new one with each process: hashes link the lines of one run, not the life of a
/// person, and nobody can test a guessed subject against an old log.
static SUBJECT_KEY: LazyLock<hmac::Key> = LazyLock::new(|| hmac::Key::new(hmac::HMAC_SHA256, &random::bytes::<32>()));

/// How many bytes of the code are written. Eight tell the subjects of one log apart.
const SHOWN_BYTES: usize = 8;

/// A stand-in for `subject` of `issuer`: sixteen hexadecimal digits, the same throughout this process.
///
/// HMAC-SHA-256 (RFC 2104) under a key of this process, cut to 64 bits. The issuer counts: two issuers may use one name.
#[must_use]
pub fn hashed_subject(issuer: &str, subject: &str) -> String {
    let mut context = hmac::Context::with_key(&SUBJECT_KEY);
    // The length goes first, so that moving the border between the two texts gives another code.
    context.update(&(issuer.len() as u64).to_be_bytes());
    context.update(issuer.as_bytes());
    context.update(subject.as_bytes());
    random::hex(&context.sign().as_ref()[..SHOWN_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_keeps_its_hash_and_shares_it_with_no_other() {
        let hash = hashed_subject("https://idp.test", "alice");
        assert_eq!(hash, hashed_subject("https://idp.test", "alice"));
        for (name, issuer, subject) in [
            ("another subject", "https://idp.test", "bob"),
            ("another issuer", "https://idp.example", "alice"),
            ("the border moved", "https://idp.testa", "lice"),
        ] {
            assert_ne!(hash, hashed_subject(issuer, subject), "{name}");
        }
    }

    #[test]
    fn a_hash_is_sixteen_hexadecimal_digits() {
        let hash = hashed_subject("https://idp.test", "alice");
        assert_eq!(hash.len(), 16);
        assert!(hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
