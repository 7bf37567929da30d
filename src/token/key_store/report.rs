//! What the log says about a new key set: the keys that were added, removed and left out.

use super::KeySet;
use crate::primitives::escape::escape_for_log;
use crate::token::key_rejection::KeyRejection;

/// Logs what has changed from `previous` to `set`, the new key set of `issuer`.
pub(super) fn key_set_changed(issuer: &str, previous: Option<&KeySet>, set: &KeySet) {
    let added = keys_missing_from(previous, set);
    let removed = previous.map(|previous| keys_missing_from(Some(set), previous)).unwrap_or_default();
    tracing::info!(
        issuer,
        keys = set.keys().len(),
        added = added.count,
        added_ids = added.ids,
        removed = removed.count,
        removed_ids = removed.ids,
        "new key set"
    );
    for (rejection, count) in set.rejected() {
        match rejection {
            KeyRejection::Private => {
                tracing::error!(
                    issuer,
                    count,
                    "the issuer publishes private keys: anyone who has read them can sign tokens"
                );
            }
            KeyRejection::Algorithm
            | KeyRejection::BeyondLimit
            | KeyRejection::Curve
            | KeyRejection::Exponent
            | KeyRejection::KeyId
            | KeyRejection::KeyOperations
            | KeyRejection::KeyType
            | KeyRejection::Malformed
            | KeyRejection::Modulus
            | KeyRejection::Point
            | KeyRejection::Symmetric
            | KeyRejection::Use => {
                tracing::info!(issuer, count, why = rejection.label(), "keys left out");
            }
        }
    }
}

/// Most key ids in one log line. The line always has their number.
const MAX_LOGGED_KEY_IDS: usize = 5;

/// Some keys, for the log.
#[derive(Default)]
struct LoggedKeys {
    count: usize,
    /// The key ids, escaped and cut, separated by commas; at most [`MAX_LOGGED_KEY_IDS`] of them.
    ids: String,
}

/// The keys of `set` that `other` does not have.
fn keys_missing_from(other: Option<&KeySet>, set: &KeySet) -> LoggedKeys {
    let is_missing = |identity| other.is_none_or(|other| !other.contains(identity));
    let ids: Vec<&str> =
        set.keys().iter().filter(|key| is_missing(key.identity())).map(|key| key.kid().unwrap_or("")).collect();
    let logged: Vec<String> = ids.iter().take(MAX_LOGGED_KEY_IDS).map(|id| escape_for_log(id)).collect();
    LoggedKeys { count: ids.len(), ids: logged.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::logging::tests::events_of;
    use crate::token::test_support::{OTHER_RSA, P256, RSA, jwks};

    #[test]
    fn a_new_key_set_is_an_event_with_the_reasons_for_the_keys_left_out() {
        let secret = serde_json::json!({ "kty": "oct", "k": "AAAA" });
        let private = serde_json::json!({ "kty": "RSA", "n": "AAAA", "e": "AQAB", "d": "AAAA" });
        let set = KeySet::read(&jwks(&[RSA.jwk("k1"), secret, private])).unwrap();
        let events = events_of(|| key_set_changed("main", None, &set));
        for expected in [
            r#""level":"info","target":"portcullis::token::key_store::report","message":"new key set","issuer":"main","keys":1,"added":1,"added_ids":"k1","removed":0"#,
            r#""level":"error","target":"portcullis::token::key_store::report","message":"the issuer publishes private keys"#,
            KeyRejection::Symmetric.label(),
        ] {
            assert!(events.contains(expected), "{expected} in {events}");
        }
    }

    #[test]
    fn added_and_removed_keys_are_named() {
        let set = |keys: &[serde_json::Value]| KeySet::read(&jwks(keys)).unwrap();
        let old = set(&[RSA.jwk("k1"), P256.jwk("k2")]);
        let new = set(&[P256.jwk("k2"), OTHER_RSA.jwk("k3"), OTHER_RSA.jwk("k1")]);
        let missing = |other: Option<&KeySet>, set: &KeySet| {
            let LoggedKeys { count, ids } = keys_missing_from(other, set);
            (count, ids)
        };
        assert_eq!(missing(Some(&old), &new), (2, "k3, k1".to_owned()), "another key under an old id is a new one");
        assert_eq!(missing(Some(&new), &old), (1, "k1".to_owned()));
        assert_eq!(missing(None, &old), (2, "k1, k2".to_owned()));
        assert_eq!(missing(Some(&old), &old), (0, String::new()));
        let many: Vec<_> = (0..9).map(|number| RSA.jwk(&number.to_string())).collect();
        assert_eq!(missing(None, &set(&many)), (9, "0, 1, 2, 3, 4".to_owned()));
    }
}
