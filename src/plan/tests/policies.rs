//! `[cors.NAME]`, `[limits.NAME]` and `[identity]`: for each rule a file that breaks it.

use super::report_of_each_addition;

#[test]
fn a_broken_rule_of_a_policy_is_reported_with_its_key() {
    let limit = |key| format!("[limits.l]\nkey = \"{key}\"\nrate = \"1/s\"");
    let pass = |names| format!("[server]\ntrusted_proxies = [\"10.0.0.1\"]\n[identity]\npass = {names}");
    report_of_each_addition(&[
        ("any origin with credentials", "[cors.b]\norigins = [\"*\"]\ncredentials = true", Some("cors.b.origins[0]")),
        ("any origin without credentials", "[cors.b]\norigins = [\"*\"]", None),
        ("the null origin", "[cors.b]\norigins = [\"null\"]", Some("cors.b.origins[0]")),
        ("a wildcard for headers", "[cors.b]\norigins = [\"https://b\"]\nheaders = [\"*\"]", Some("cors.b.headers[0]")),
        ("an unknown limit key", "[limits.b]\nkey = \"caller\"\nrate = \"1/s\"", Some("limits.b.key")),
        ("a limit without a rate", "[limits.b]\nkey = \"ip\"", Some("limits.b.rate")),
        (
            "tiers with a key that is known before authentication",
            "[limits.b]\nkey = \"ip\"\nrate = \"1/s\"\ntiers = { claim = \"p\", rates = { x = \"2/s\" } }",
            Some("limits.b.tiers"),
        ),
        (
            "tiers with a key that identifies the caller",
            "[limits.b]\nkey = \"subject\"\nrate = \"1/s\"\ntiers = { claim = \"p\", rates = { x = \"2/s\" } }",
            None,
        ),
        (
            "the reserved limit name",
            "[limits.auth_failures]\nkey = \"ip\"\nrate = \"1/s\"",
            Some("limits.auth_failures"),
        ),
        (
            "identity in a forwarding header",
            "[identity.headers]\nX-Forwarded-For = \"subject\"",
            Some("identity.headers.X-Forwarded-For"),
        ),
        (
            "identity in a header that names another path",
            "[identity.headers]\nX-Original-URL = \"subject\"",
            Some("identity.headers.X-Original-URL"),
        ),
        (
            "identity headers of other systems",
            "[identity.headers]\nX-Forwarded-User = \"subject\"\nRemote-User = \"subject\"\nX-SSL-Client-DN = \"client\"",
            None,
        ),
        (
            "two spellings of an identity header",
            "[identity.headers]\nX-User = \"subject\"\nX_User = \"client\"",
            Some("identity.headers.X_User"),
        ),
        ("passed identity", &pass(r#"["Remote-User", "SM_USER"]"#), None),
        ("passed identity twice", &pass(r#"["Remote-User", "remote-user"]"#), Some("identity.pass[1]")),
        ("passed identity that would pass anyway", &pass(r#"["X-User"]"#), Some("identity.pass[0]")),
        ("passed identity that is the gateway's", &pass(r#"["X-Identity-Subject"]"#), Some("identity.pass[0]")),
        (
            "passed identity that the gateway sets",
            &(pass(r#"["X-Forwarded-User"]"#) + "\n[identity.headers]\nX-Forwarded-User = \"subject\""),
            Some("identity.pass[0]"),
        ),
        ("the largest identity headers", "[identity]\nmax_value_size = \"32 KiB\"", None),
        ("larger ones", "[identity]\nmax_value_size = \"33 KiB\"", Some("identity.max_value_size")),
        ("identity headers without a byte", "[identity]\nmax_value_size = \"0 B\"", Some("identity.max_value_size")),
        ("passed identity without a proxy", "[identity]\npass = [\"Remote-User\"]", Some("identity.pass")),
        ("a limit by a header that proxies send", &limit("header:CF-Connecting-IP"), None),
        ("a limit by a header that can be passed", &limit("header:Remote-User"), None),
        ("a limit by a forwarding header", &limit("header:X-Forwarded-For"), Some("limits.l.key")),
        ("a limit by a header that is always removed", &limit("header:X-Original-URL"), Some("limits.l.key")),
        ("a limit by an alias that is always removed", &limit("header:X_Real_IP"), Some("limits.l.key")),
        (
            "an unknown identity source",
            "[identity.headers]\nX-Identity-Subject = \"sub\"",
            Some("identity.headers.X-Identity-Subject"),
        ),
    ]);
}
