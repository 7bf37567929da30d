//! Tables of claims and the expected verdict. No signature is involved.

use serde_json::json;

use super::*;
use crate::token::test_support::{NOW, claims_with, idle_settings};

fn check_changed(changes: &Value) -> Result<ValidatedClaims, VerifyError> {
    check_changed_with(changes, &idle_settings())
}

fn check_changed_with(changes: &Value, settings: &IssuerSettings) -> Result<ValidatedClaims, VerifyError> {
    check(&claims_with(changes), TokenType::Jwt, settings, WallTime::from_seconds(NOW))
}

fn outcome(changes: &Value, settings: &IssuerSettings) -> Result<(), VerifyError> {
    check_changed_with(changes, settings).map(drop)
}

fn raw(text: &str) -> Result<(), VerifyError> {
    check(&read(text.as_bytes())?, TokenType::Jwt, &idle_settings(), WallTime::from_seconds(NOW)).map(drop)
}

/// Threats J-22 … J-28, A01; RFC 7519 §4.1.4 to §4.1.6. The leeway is 30 s.
#[test]
fn now_must_lie_within_the_validity_period() {
    let type_of = |claim| Err(VerifyError::ClaimType { claim });
    let over = |ago_seconds| Err(VerifyError::Expired { ago_seconds });
    for (name, changes, expected) in [
        ("exp ahead", json!({ "exp": NOW + 1 }), Ok(())),
        ("exp within the leeway", json!({ "exp": NOW - 29 }), Ok(())),
        ("exp at the leeway's end", json!({ "exp": NOW - 30, "iat": NOW - 300 }), over(30)),
        ("exp behind the leeway", json!({ "exp": NOW - 31, "iat": NOW - 300 }), over(31)),
        ("exp 0", json!({ "exp": 0, "iat": 0 }), over(NOW)),
        ("exp 0.0", json!({ "exp": 0.0, "iat": 0.0 }), over(NOW)),
        ("exp with a fraction", json!({ "exp": 1_800_000_000.9 }), Ok(())),
        ("exp with a fraction, over", json!({ "exp": 1_799_999_970.9, "iat": NOW - 300 }), over(30)),
        ("no exp", json!({ "exp": null }), Err(VerifyError::RequiredClaimMissing { claim: "exp" })),
        ("exp a string", json!({ "exp": "9999999999" }), type_of("exp")),
        ("exp true", json!({ "exp": true }), type_of("exp")),
        ("exp an array", json!({ "exp": [NOW + 300] }), type_of("exp")),
        ("exp an object", json!({ "exp": {} }), type_of("exp")),
        ("exp negative", json!({ "exp": -1 }), type_of("exp")),
        ("exp a negative fraction", json!({ "exp": -0.5 }), type_of("exp")),
        ("exp in the year 10000", json!({ "exp": 253_402_300_800_u64 }), Ok(())),
        ("exp 2^63", json!({ "exp": 1_u64 << 63 }), Ok(())),
        ("exp 2^64 - 1", json!({ "exp": u64::MAX }), Ok(())),
        ("exp 1.8e19", json!({ "exp": 1.8e19 }), Ok(())),
        ("exp 1e308", json!({ "exp": 1e308 }), Ok(())),
        ("nbf now", json!({ "nbf": NOW }), Ok(())),
        ("nbf within the leeway", json!({ "nbf": NOW + 30 }), Ok(())),
        ("nbf behind the leeway", json!({ "nbf": NOW + 31 }), Err(VerifyError::NotYetValid)),
        ("nbf behind the leeway by a fraction", json!({ "nbf": 1_800_000_030.1 }), Err(VerifyError::NotYetValid)),
        ("nbf a string", json!({ "nbf": "99999999999" }), type_of("nbf")),
        ("nbf an object", json!({ "nbf": {} }), type_of("nbf")),
        ("iat within the leeway", json!({ "iat": NOW + 30 }), Ok(())),
        ("iat behind the leeway", json!({ "iat": NOW + 31 }), Err(VerifyError::IssuedInFuture)),
        ("no iat", json!({ "iat": null }), Ok(())),
        ("iat a string", json!({ "iat": "1" }), type_of("iat")),
        ("exp before iat, within the leeway", json!({ "exp": NOW - 29, "iat": NOW }), Ok(())),
    ] {
        assert_eq!(outcome(&changes, &idle_settings()), expected, "{name}");
    }
    assert_eq!(
        raw(r#"{"iss":"https://idp.test","aud":"api","sub":"a","exp":1e400}"#),
        Err(VerifyError::ClaimsMalformed)
    );
}

/// Some issuers write every claim that they know of. In the other tables, `null` removes a claim;
/// here the claim itself is null.
#[test]
fn a_claim_that_is_null_counts_as_absent() {
    let with =
        |members: &str| raw(&format!(r#"{{"iss":"https://idp.test","aud":"api","sub":"a","exp":2e9{members}}}"#));
    for claim in ["nbf", "iat", "azp", "client_id", "scope", "nonce", "at_hash", "cnf", "events", "typ", "token_use"] {
        assert_eq!(with(&format!(r#","{claim}":null"#)), Ok(()), "{claim}");
    }
    for (payload, expected) in [
        (r#"{"iss":null,"aud":"api","sub":"a","exp":2e9}"#, VerifyError::IssuerMissing),
        (r#"{"iss":"https://idp.test","aud":null,"sub":"a","exp":2e9}"#, VerifyError::AudienceMissing),
        (r#"{"iss":"https://idp.test","aud":"api","sub":null,"exp":2e9}"#, VerifyError::SubjectMissing),
        (
            r#"{"iss":"https://idp.test","aud":"api","sub":"a","exp":null}"#,
            VerifyError::RequiredClaimMissing { claim: "exp" },
        ),
        (r#"{"iss":"https://idp.test","aud":["api",null],"sub":"a","exp":2e9}"#, VerifyError::AudienceMalformed),
        (r#"{"iss":"https://idp.test","aud":"api","sub":null,"sub":"a","exp":2e9}"#, VerifyError::ClaimsMalformed),
    ] {
        assert_eq!(raw(payload), Err(expected), "{payload}");
    }
    let nested = read(br#"{"realm_access":{"roles":null,"x":1},"groups":[{"id":null}]}"#).unwrap();
    assert_eq!(Value::Object(nested), json!({ "realm_access": { "x": 1 }, "groups": [{}] }));
}

/// Threat J-28. With a maximum lifetime, the times must also be consistent.
#[test]
fn a_maximum_lifetime_is_enforced() {
    let settings = IssuerSettings { max_lifetime: Some(Duration::from_secs(600)), ..idle_settings() };
    let long = Err(VerifyError::LifetimeTooLong);
    for (name, changes, expected) in [
        ("as long as allowed", json!({ "iat": NOW - 300, "exp": NOW + 300 }), Ok(())),
        ("longer", json!({ "iat": NOW - 300, "exp": NOW + 301 }), long.clone()),
        ("a hundred years", json!({ "exp": NOW + 3_155_760_000 }), long.clone()),
        ("without end", json!({ "exp": u64::MAX }), long.clone()),
        ("unknown", json!({ "iat": null }), long),
        ("exp is nbf", json!({ "exp": NOW + 5, "nbf": NOW + 5 }), Err(VerifyError::InconsistentTimes)),
        ("exp before iat", json!({ "exp": NOW - 5, "iat": NOW }), Err(VerifyError::InconsistentTimes)),
        ("exp is iat", json!({ "exp": NOW, "iat": NOW }), Ok(())),
    ] {
        assert_eq!(outcome(&changes, &settings), expected, "{name}");
    }
}

#[test]
fn the_validity_period_of_a_principal_includes_the_leeway() {
    let validated = check_changed(&json!({ "nbf": NOW - 100, "iat": NOW - 200, "exp": NOW + 300 })).unwrap();
    assert_eq!((validated.valid_from.seconds(), validated.expires_at.seconds()), (NOW - 130, NOW + 330));
    assert_eq!(validated.exp.seconds(), NOW + 300);
    let endless = check_changed(&json!({ "exp": u64::MAX, "iat": null })).unwrap();
    assert!(endless.valid_from.seconds() == 0 && endless.expires_at > WallTime::from_seconds(1 << 40));
}

/// Threats J-30 … J-33, A21; RFC 7519 §4.1.3.
#[test]
fn one_audience_must_match_exactly() {
    for (name, aud, expected) in [
        ("ours", json!("api"), Ok(())),
        ("our second", json!("api-2"), Ok(())),
        ("ours alone in an array", json!(["api"]), Ok(())),
        ("ours among others", json!(["x", "api", "y"]), Ok(())),
        ("another", json!("other"), Err(VerifyError::AudienceMismatch)),
        ("another case", json!("API"), Err(VerifyError::AudienceMismatch)),
        ("a space behind", json!("api "), Err(VerifyError::AudienceMismatch)),
        ("longer", json!("apis"), Err(VerifyError::AudienceMismatch)),
        ("ours at the end", json!("xapi"), Err(VerifyError::AudienceMismatch)),
        ("a list in a string", json!("api other"), Err(VerifyError::AudienceMismatch)),
        ("others", json!(["x", "y"]), Err(VerifyError::AudienceMismatch)),
        ("empty text", json!(""), Err(VerifyError::AudienceMismatch)),
        ("none", json!(null), Err(VerifyError::AudienceMissing)),
        ("an empty array", json!([]), Err(VerifyError::AudienceMissing)),
        ("ours beside a number", json!(["api", 7]), Err(VerifyError::AudienceMalformed)),
        ("a number", json!(7), Err(VerifyError::AudienceMalformed)),
        ("an object", json!({ "api": true }), Err(VerifyError::AudienceMalformed)),
        ("arrays in an array", json!([["api"]]), Err(VerifyError::AudienceMalformed)),
    ] {
        assert_eq!(outcome(&json!({ "aud": aud }), &idle_settings()), expected, "{name}");
    }
}

#[test]
fn the_audience_may_come_from_another_claim() {
    let mut settings = idle_settings();
    settings.claims.audience = vec![ClaimPath::parse("client_id").unwrap(), ClaimPath::parse("azp").unwrap()];
    assert_eq!(outcome(&json!({ "aud": null, "client_id": "api" }), &settings), Ok(()));
    assert_eq!(outcome(&json!({ "azp": "api" }), &settings), Ok(()));
    // The first claim that is present counts.
    assert_eq!(outcome(&json!({ "client_id": "x", "azp": "api" }), &settings), Err(VerifyError::AudienceMismatch));
    assert_eq!(outcome(&json!({}), &settings), Err(VerifyError::AudienceMissing));
}

/// Threats J-35, J-36, A03, A23; OpenID Connect Discovery §4.3: no normalization.
#[test]
fn the_issuer_must_match_exactly() {
    for iss in [
        "https://idp.tes",
        "https://idp.test/",
        "https://idp.test:443",
        "https://IDP.test",
        "http://idp.test",
        "https://u@idp.test",
        "https://idp.test?",
        "https://idp%2Etest",
        " https://idp.test",
        "https://idp.test\u{0}",
        "",
    ] {
        assert_eq!(outcome(&json!({ "iss": iss }), &idle_settings()), Err(VerifyError::UnknownIssuer), "{iss:?}");
    }
    for iss in [
        json!(null),
        json!(7),
        json!({}),
        json!(["https://idp.test"]),
        json!(["https://evil.test", "https://idp.test"]),
    ] {
        assert_eq!(outcome(&json!({ "iss": iss }), &idle_settings()), Err(VerifyError::IssuerMissing), "{iss}");
    }
}

/// Threat J-38.
#[test]
fn the_subject_is_a_printable_and_bounded_string() {
    let (missing, not_a_string) = (Err(VerifyError::SubjectMissing), Err(VerifyError::SubjectNotAString));
    for (sub, expected) in [
        (json!("alice"), Ok(())),
        (json!("auth0|5f7c8ec7c33c6c004bbafe82"), Ok(())),
        (json!("Ünal"), Ok(())),
        (json!("x".repeat(4_096)), Ok(())),
        (json!("x".repeat(4_097)), missing.clone()),
        (json!(null), missing.clone()),
        (json!(""), missing.clone()),
        (json!("a\r\nX-Identity-Subject: root"), missing.clone()),
        (json!("a\u{0}"), missing.clone()),
        (json!("a\u{85}"), missing),
        (json!(7), not_a_string.clone()),
        (json!({}), not_a_string.clone()),
        (json!(["alice"]), not_a_string.clone()),
        (json!(false), not_a_string),
    ] {
        assert_eq!(outcome(&json!({ "sub": sub }), &idle_settings()), expected, "{sub}");
    }
}

#[test]
fn subject_and_client_come_from_the_configured_claims() {
    let mut settings = idle_settings();
    settings.claims.subject = vec![ClaimPath::parse("uid").unwrap(), ClaimPath::parse("sub").unwrap()];
    assert_eq!(check_changed_with(&json!({ "uid": "00u1" }), &settings).unwrap().subject, "00u1");
    assert_eq!(check_changed_with(&json!({}), &settings).unwrap().subject, "alice");
    // A malformed claim is refused; the next one is not tried.
    assert_eq!(outcome(&json!({ "uid": 7 }), &settings), Err(VerifyError::SubjectNotAString));
    for (changes, client) in [
        (json!({ "client_id": "svc", "azp": "web" }), Some("svc")),
        (json!({ "azp": "web" }), Some("web")),
        (json!({ "client_id": "" }), None),
        (json!({}), None),
    ] {
        assert_eq!(check_changed(&changes).unwrap().client.as_deref(), client, "{changes}");
    }
    assert_eq!(outcome(&json!({ "azp": 7 }), &idle_settings()), Err(VerifyError::ClaimType { claim: "client" }));
}

/// Threats J-39, J-40; RFC 6749 §3.3.
#[test]
fn scopes_and_roles_of_all_configured_claims_are_combined() {
    let mut settings = idle_settings();
    settings.claims.roles =
        ["realm_access.roles", "roles", "urn:x:roles"].map(|path| ClaimPath::parse(path).unwrap()).into();
    for (name, changes, scopes, roles) in [
        ("a string", json!({ "scope": "b a" }), &["a", "b"][..], &[][..]),
        ("more spaces", json!({ "scope": "  b  a " }), &["a", "b"], &[]),
        ("an array", json!({ "scope": null, "scp": ["b", "a"] }), &["a", "b"], &[]),
        ("both", json!({ "scope": "a b", "scp": ["b", "c"] }), &["a", "b", "c"], &[]),
        ("only spaces divide", json!({ "scope": "a,b\tc" }), &["a,b\tc"], &[]),
        ("case is kept", json!({ "scope": "A a" }), &["A", "a"], &[]),
        ("other types are no scopes", json!({ "scope": 7, "scp": [1, null, "a", ["b"]] }), &["a"], &[]),
        ("none", json!({ "scope": null }), &[], &[]),
        ("nested roles", json!({ "scope": null, "realm_access": { "roles": ["y", "x"] } }), &[], &["x", "y"]),
        (
            "an object's keys",
            json!({ "scope": null, "urn:x:roles": { "y": { "1": "org" }, "x": {} } }),
            &[],
            &["x", "y"],
        ),
        ("a wrong type on the way", json!({ "scope": null, "realm_access": "roles", "roles": true }), &[], &[]),
    ] {
        let validated = check_changed_with(&changes, &settings).unwrap();
        assert_eq!(validated.scopes.iter().map(|scope| &**scope).collect::<Vec<_>>(), scopes, "{name}");
        assert_eq!(validated.roles.iter().map(|role| &**role).collect::<Vec<_>>(), roles, "{name}");
    }
}

/// Threats J-16, J-44; RFC 8725 §2.8, RFC 9449 §7.2.
#[test]
fn tokens_of_other_kinds_are_refused() {
    let refused = |claim| Err(VerifyError::NotAnAccessToken { claim });
    let bound = || Err(VerifyError::SenderConstrained);
    let with_profile = |profile| IssuerSettings { profile, ..idle_settings() };
    let [default, id_token, strict] = [Profile::Default, Profile::IdToken, Profile::Rfc9068].map(with_profile);
    for (name, extra, as_access_token, as_id_token) in [
        ("nothing special", json!({}), Ok(()), Ok(())),
        ("typ Bearer, as Keycloak has it", json!({ "typ": "Bearer" }), Ok(()), Ok(())),
        ("token_use access", json!({ "token_use": "access" }), Ok(()), Ok(())),
        ("typ ID", json!({ "typ": "ID" }), refused("typ"), Ok(())),
        ("token_use id", json!({ "token_use": "id" }), refused("token_use"), Ok(())),
        ("at_hash", json!({ "at_hash": "x" }), refused("at_hash"), Ok(())),
        ("c_hash", json!({ "c_hash": "x" }), refused("c_hash"), Ok(())),
        ("typ Refresh", json!({ "typ": "Refresh" }), refused("typ"), refused("typ")),
        ("typ Offline", json!({ "typ": "offline" }), refused("typ"), refused("typ")),
        ("events", json!({ "events": {} }), refused("events"), refused("events")),
        ("cnf", json!({ "cnf": { "jkt": "x" } }), bound(), bound()),
        ("cnf, malformed", json!({ "cnf": 7 }), bound(), bound()),
        ("cnf, a certificate", json!({ "cnf": { "x5t#S256": "A".repeat(43) } }), Ok(()), Ok(())),
        ("cnf, a certificate, too short", json!({ "cnf": { "x5t#S256": "A".repeat(42) } }), bound(), bound()),
        ("cnf, a certificate in base64", json!({ "cnf": { "x5t#S256": "A".repeat(43) + "=" } }), bound(), bound()),
        (
            "cnf, a certificate and a key",
            json!({ "cnf": { "x5t#S256": "A".repeat(43), "jkt": "x" } }),
            bound(),
            bound(),
        ),
        ("cnf, no text", json!({ "cnf": { "x5t#S256": 7 } }), bound(), bound()),
        ("cnf, nothing in it", json!({ "cnf": {} }), bound(), bound()),
    ] {
        let strictly = claims_with(&json!({ "client_id": "svc", "jti": "1" })).into_iter();
        let strictly = strictly.chain(extra.as_object().unwrap().clone()).collect();
        let strictly = check(&strictly, TokenType::AccessToken, &strict, WallTime::from_seconds(NOW));
        assert_eq!(outcome(&extra, &default), as_access_token, "{name}");
        assert_eq!(strictly.map(drop), as_access_token, "{name}, strictly");
        assert_eq!(outcome(&extra, &id_token), as_id_token, "{name}, as an ID token");
    }
}

/// Keycloak before 25, Azure B2C and Casdoor write `nonce` into access tokens. It marks an ID token
/// only where nothing marks an access token, and outweighs none of the other marks.
#[test]
fn a_sign_of_an_access_token_outweighs_a_nonce() {
    let refused = |claim| Err(VerifyError::NotAnAccessToken { claim });
    let plain = TokenType::Jwt;
    for (name, token_type, extra, expected) in [
        ("a nonce alone", plain, json!({ "nonce": "x" }), refused("nonce")),
        ("a nonce alone, of another type", plain, json!({ "nonce": 7 }), refused("nonce")),
        ("no type", TokenType::Absent, json!({ "nonce": "x" }), refused("nonce")),
        ("an empty nonce, as Casdoor writes it", plain, json!({ "nonce": "" }), Ok(())),
        ("header at+jwt", TokenType::AccessToken, json!({ "nonce": "x" }), Ok(())),
        ("typ Bearer, as Keycloak", plain, json!({ "nonce": "x", "typ": "Bearer" }), Ok(())),
        ("token_use access", plain, json!({ "nonce": "x", "token_use": "access" }), Ok(())),
        ("scope", plain, json!({ "nonce": "x", "scope": "openid" }), Ok(())),
        ("an empty scope", plain, json!({ "nonce": "x", "scope": " " }), refused("nonce")),
        ("scopes in an array", plain, json!({ "nonce": "x", "scp": ["read"] }), Ok(())),
        ("an array without scopes", plain, json!({ "nonce": "x", "scope": [], "scp": [""] }), refused("nonce")),
        ("a scope of another type", plain, json!({ "nonce": "x", "scp": 0 }), refused("nonce")),
        ("scp, as Azure B2C", plain, json!({ "nonce": "defaultNonce", "scp": "read" }), Ok(())),
        ("scope and at_hash", plain, json!({ "nonce": "x", "scope": "a", "at_hash": "h" }), refused("at_hash")),
        ("scope and c_hash", plain, json!({ "scope": "a", "c_hash": "h" }), refused("c_hash")),
        ("scope and typ ID", plain, json!({ "scope": "a", "typ": "ID" }), refused("typ")),
        ("scope and token_use id", plain, json!({ "scope": "a", "token_use": "id" }), refused("token_use")),
        ("at+jwt and at_hash", TokenType::AccessToken, json!({ "at_hash": "h" }), refused("at_hash")),
    ] {
        let without_scope = claims_with(&json!({ "scope": null })).into_iter();
        let claims = without_scope.chain(extra.as_object().unwrap().clone()).collect();
        let checked = check(&claims, token_type, &idle_settings(), WallTime::from_seconds(NOW));
        assert_eq!(checked.map(drop), expected, "{name}");
    }
}

/// RFC 9068 §2.2.
#[test]
fn rfc_9068_requires_all_its_claims() {
    let mut settings = IssuerSettings { profile: Profile::Rfc9068, ..idle_settings() };
    settings.claims.audience.push(ClaimPath::parse("azp").unwrap());
    let missing = |claim| Err(VerifyError::RequiredClaimMissing { claim });
    for (name, changes, expected) in [
        ("all", json!({ "client_id": "svc", "jti": "1" }), Ok(())),
        ("no client_id", json!({ "jti": "1" }), missing("client_id")),
        ("azp is no client_id", json!({ "azp": "svc", "jti": "1" }), missing("client_id")),
        ("no jti", json!({ "client_id": "svc" }), missing("jti")),
        ("no iat", json!({ "client_id": "svc", "jti": "1", "iat": null }), missing("iat")),
        ("no aud", json!({ "client_id": "svc", "jti": "1", "aud": null, "azp": "api" }), missing("aud")),
        ("jti a number", json!({ "client_id": "svc", "jti": 1 }), Err(VerifyError::ClaimType { claim: "jti" })),
        ("jti empty", json!({ "client_id": "svc", "jti": "" }), Err(VerifyError::ClaimType { claim: "jti" })),
    ] {
        assert_eq!(outcome(&changes, &settings), expected, "{name}");
    }
}

/// Threat J-15; RFC 9068 §4.
#[test]
fn each_profile_allows_its_token_types() {
    use TokenType::{Absent, AccessToken, Jose, Jwt, Other};
    for (profile, allowed, refused) in [
        (Profile::Default, &[AccessToken, Jose, Jwt, Absent][..], &[Other][..]),
        (Profile::IdToken, &[Jwt, Absent], &[AccessToken, Jose, Other]),
        (Profile::Rfc9068, &[AccessToken], &[Jose, Jwt, Other, Absent]),
    ] {
        assert!(allowed.iter().all(|kind| check_token_type(*kind, profile).is_ok()), "{profile:?}");
        assert!(
            refused.iter().all(|kind| check_token_type(*kind, profile) == Err(VerifyError::TokenTypeNotAllowed)),
            "{profile:?}"
        );
    }
}

/// Threats J-14, J-47.
#[test]
fn a_payload_is_one_object_with_unique_members() {
    for text in [
        "",
        "null",
        "[]",
        "\"x\"",
        "1",
        "{",
        "{}{}",
        r#"{"sub":"a","sub":"b"}"#,
        r#"{"scope":"a","sc\u006fpe":"b"}"#,
        r#"{"realm_access":{"roles":[],"roles":["admin"]}}"#,
    ] {
        assert_eq!(read(text.as_bytes()), Err(VerifyError::ClaimsMalformed), "{text}");
    }
    assert_eq!(raw("{}"), Err(VerifyError::IssuerMissing));
}
