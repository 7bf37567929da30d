//! `[issuers.NAME]`: for each rule a file that breaks it.

use super::report_of_each_addition;

#[test]
fn a_broken_rule_of_an_issuer_is_reported_with_its_key() {
    report_of_each_addition(&[
        (
            "an issuer over plain http",
            "[issuers.b]\nissuer = \"http://idp.b\"\naudiences = [\"a\"]",
            Some("issuers.b.issuer"),
        ),
        (
            "an issuer over plain http on loopback",
            "[issuers.b]\nissuer = \"http://127.0.0.1:1\"\naudiences = [\"a\"]",
            None,
        ),
        ("no audience", "[issuers.b]\nissuer = \"https://idp.b\"", Some("issuers.b.audiences")),
        ("no issuer", "[issuers.b]\naudiences = [\"a\"]", Some("issuers.b.issuer")),
        (
            "the same issuer twice",
            "[issuers.z]\nissuer = \"https://idp.example\"\naudiences = [\"a\"]",
            Some("issuers.z.issuer"),
        ),
        (
            "an issuer with a query",
            "[issuers.b]\nissuer = \"https://idp.b/?x\"\naudiences = [\"a\"]",
            Some("issuers.b.issuer"),
        ),
        (
            "a symmetric algorithm",
            "[issuers.b]\nissuer = \"https://idp.b\"\naudiences = [\"a\"]\nalgorithms = [\"HS256\"]",
            Some("issuers.b.algorithms[0]"),
        ),
        (
            "no algorithm",
            "[issuers.b]\nissuer = \"https://idp.b\"\naudiences = [\"a\"]\nalgorithms = []",
            Some("issuers.b.algorithms"),
        ),
        (
            "a leeway above the limit",
            "[issuers.b]\nissuer = \"https://idp.b\"\naudiences = [\"a\"]\nleeway = \"6m\"",
            Some("issuers.b.leeway"),
        ),
        (
            "two key sources",
            "[issuers.b]\nissuer = \"https://idp.b\"\naudiences = [\"a\"]\njwks_url = \"https://b/k\"\njwks_file = \"k\"",
            Some("issuers.b.jwks_file"),
        ),
        (
            "an issuer that is not a URL, with a key file",
            "[issuers.b]\nissuer = \"acme\"\naudiences = [\"a\"]\njwks_file = \"k\"",
            None,
        ),
        (
            "an issuer that is not a URL",
            "[issuers.b]\nissuer = \"acme\"\naudiences = [\"a\"]",
            Some("issuers.b.issuer"),
        ),
        (
            "an empty claim path",
            "[issuers.b]\nissuer = \"https://idp.b\"\naudiences = [\"a\"]\nsubject_claim = \"\"",
            Some("issuers.b.subject_claim"),
        ),
    ]);
}
