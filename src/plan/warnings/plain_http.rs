//! Warnings about issuers with `allow_http`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Warning;
use crate::config::key_path::child;
use crate::token::IssuerSettings;

/// A warning for each issuer whose keys may come over plain http from another machine.
pub(super) fn warnings(issuers: &BTreeMap<Arc<str>, IssuerSettings>) -> Vec<Warning> {
    let allowing = issuers.values().filter(|settings| settings.allow_http);
    allowing
        .map(|settings| {
            let (what, hint) = if settings.trusts_the_network() {
                (
                    "keys are fetched over plain http: anyone on the network path can replace them, and sign tokens \
                     that the gateway accepts",
                    "use https, with `ca_file` for a private certificate authority, or `jwks_file`",
                )
            } else {
                ("has no effect: no keys come over plain http from another machine", "remove the key")
            };
            let key = child(&child("issuers", &settings.name), "allow_http");
            Warning { key, what: what.to_owned(), hint: hint.to_owned() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::config;
    use crate::plan::Plan;

    /// The warnings about an issuer with these keys, as key and text.
    fn warnings(keys: &str) -> Vec<(String, String)> {
        let issuer = format!("[issuers.main]\nissuer = \"https://idp.test\"\naudiences = [\"api\"]\n{keys}\n");
        let text = issuer
            + "[upstreams.up]\nservers = [\"http://127.0.0.1:1\"]\n[[routes]]\npath = \"/\"\nupstream = \"up\"\n";
        let plan = Plan::compile(config::load_text("gateway.toml", &text, &|_| None)).unwrap();
        plan.warnings().into_iter().map(|warning| (warning.key, warning.what)).collect()
    }

    #[test]
    fn keys_over_plain_http_and_a_permission_that_is_not_needed_are_warned_of() {
        let insecure = "keys are fetched over plain http";
        let unneeded = "has no effect";
        for (keys, expected) in [
            ("", None),
            ("jwks_url = \"http://127.0.0.1:1/keys\"", None),
            ("allow_http = true\njwks_url = \"http://keycloak:8080/keys\"", Some(insecure)),
            ("allow_http = true\ndiscovery_url = \"http://10.0.0.1/d\"", Some(insecure)),
            ("allow_http = true", Some(unneeded)),
            ("allow_http = true\njwks_url = \"http://127.0.0.1:1/keys\"", Some(unneeded)),
            ("allow_http = true\njwks_file = \"/keys.json\"", Some(unneeded)),
        ] {
            match (&warnings(keys)[..], expected) {
                ([], None) => {}
                ([(key, what)], Some(expected)) => {
                    assert_eq!(key, "issuers.main.allow_http", "{keys}");
                    assert!(what.starts_with(expected), "{keys}: {what}");
                }
                (found, _) => panic!("{keys}: {found:?}"),
            }
        }
    }
}
