//! Authorization: what a route requires of a good token. Each request is authorized by its own
//! route.
//!
//! Requirements that are only reported are in [`report_only`](super::report_only).

use serde_json::{Value, json};

use crate::support::client;
use crate::support::config::Config;
use crate::support::fixture::{Fixture, NOW};
use crate::support::idp::Idp;
use crate::support::token::{TestKey, TokenBuilder};

/// A route's name, the claims of the token besides the usual ones, and the result: `Err` with the
/// status and the reason in the log.
type Row = (&'static str, Value, Result<(), (u16, &'static str)>);

async fn assert_decisions(fixture: &Fixture, rows: impl IntoIterator<Item = Row>) {
    for (route, claims, expected) in rows {
        let name = format!("{route} {claims}");
        let token = claims
            .as_object()
            .expect("claims are an object")
            .iter()
            .fold(fixture.token().without("scope"), |token, (claim, value)| token.claim(claim, value.clone()));
        let before = fixture.origin.requests().len();
        let response = fixture.get_with_token(&format!("/{route}/x"), &token.to_jwt()).await;
        let line = fixture.gateway.access_line_of(&response).await;
        let found = if response.status == 200 {
            Ok(())
        } else {
            Err((response.status, line["reason"].as_str().unwrap_or("none")))
        };
        assert_eq!(found, expected, "{name}");
        assert_eq!(fixture.origin.requests().len() - before, usize::from(expected.is_ok()), "{name}");
    }
}

const LACKS_SCOPE: Result<(), (u16, &str)> = Err((403, "lacks a scope"));
const LACKS_ROLE: Result<(), (u16, &str)> = Err((403, "lacks a role"));
const LACKS_ANY_ROLE: Result<(), (u16, &str)> = Err((403, "has none of any_roles"));
const OTHER_CLAIM: Result<(), (u16, &str)> = Err((403, "a claim does not match"));

/// RFC 6749 §3.3; threats J-39, J-41: names are compared exactly, and an empty list requires no
/// more than a good token.
#[tokio::test]
async fn requires_all_scopes_and_one_of_any_scopes() {
    let config = Config::minimal()
        .add("issuers.main", r#"scope_claims = ["scope", "scp", "permissions", "https.scopes"]"#)
        .route("all", r#"scopes = ["a", "b:c"]"#)
        .route("any", r#"any_scopes = ["a", "b:c"]"#)
        .route("both", "scopes = [\"a\"]\nany_scopes = [\"b\", \"c\"]")
        .route("empty", "scopes = []\nany_scopes = []\nroles = []\nany_roles = []");
    let fixture = Fixture::start(config).await;
    assert_decisions(
        &fixture,
        [
            ("all", json!({"scope": "a b:c"}), Ok(())),
            ("all", json!({"scope": "x b:c  a y"}), Ok(())),
            ("all", json!({"scope": "a"}), LACKS_SCOPE),
            ("all", json!({"scope": "b:c"}), LACKS_SCOPE),
            ("all", json!({}), LACKS_SCOPE),
            ("all", json!({"scope": "A b:c"}), LACKS_SCOPE),
            ("all", json!({"scope": "a b:C"}), LACKS_SCOPE),
            ("all", json!({"scope": "aa b:c"}), LACKS_SCOPE),
            ("all", json!({"scope": "a,b:c"}), LACKS_SCOPE),
            ("all", json!({"scope": "a\tb:c"}), LACKS_SCOPE),
            ("all", json!({"scope": "a b:c:d"}), LACKS_SCOPE),
            ("all", json!({"scope": "a b"}), LACKS_SCOPE),
            ("all", json!({"scope": "a *"}), LACKS_SCOPE),
            ("all", json!({"scp": ["a", "b:c"]}), Ok(())),
            ("all", json!({"scp": ["a b:c"]}), LACKS_SCOPE),
            ("all", json!({"scp": "a b:c"}), Ok(())),
            ("all", json!({"scope": ["a", "b:c"]}), Ok(())),
            ("all", json!({"scope": "a", "permissions": ["b:c"]}), Ok(())),
            ("all", json!({"scope": "a", "scp": ["b:c"]}), Ok(())),
            ("all", json!({"https": {"scopes": "a b:c"}}), Ok(())),
            ("all", json!({"scope": ["a", ["b:c"]]}), LACKS_SCOPE),
            ("all", json!({"scope": 7, "scp": true, "permissions": null}), LACKS_SCOPE),
            ("all", json!({"Scope": "a b:c", "scopes": "a b:c"}), LACKS_SCOPE),
            ("any", json!({"scope": "a"}), Ok(())),
            ("any", json!({"scope": "b:c"}), Ok(())),
            ("any", json!({"scope": "c"}), LACKS_SCOPE),
            ("any", json!({"scope": ""}), LACKS_SCOPE),
            ("both", json!({"scope": "a b"}), Ok(())),
            ("both", json!({"scope": "a c"}), Ok(())),
            ("both", json!({"scope": "a"}), LACKS_SCOPE),
            ("both", json!({"scope": "b c"}), LACKS_SCOPE),
            ("empty", json!({}), Ok(())),
            ("empty", json!({"scope": "x"}), Ok(())),
        ],
    )
    .await;
    let all = fixture.get_with_token("/both/x", &fixture.good_token()).await;
    let challenge = all.header("www-authenticate").expect("a challenge");
    assert!(challenge.ends_with(", scope=\"a b c\""), "{challenge}");
    let none = fixture.get("/empty/x", &[]).await;
    assert_eq!(none.status, 401, "a route with empty lists is not public");
}

/// Threat J-40: roles from the claims that several providers use. A value that is not a list of
/// names gives no roles.
#[tokio::test]
async fn reads_roles_from_every_configured_claim() {
    let claims = r#"role_claims = [
        "roles", "realm_access.roles", "/urn:zitadel:iam:org:project:roles", "/https:~1~1shop.example~1roles",
    ]"#;
    let config = Config::minimal()
        .replace("issuers.main", claims)
        .route("all", r#"roles = ["admin", "clerk"]"#)
        .route("any", r#"any_roles = ["admin", "clerk"]"#)
        .route("proto", r#"roles = ["__proto__"]"#)
        .route("mixed", "scopes = [\"a\"]\nroles = [\"admin\"]\nclaims = { plan = \"gold\" }");
    let fixture = Fixture::start(config).await;
    let zitadel = |roles: Value| json!({"urn:zitadel:iam:org:project:roles": roles});
    assert_decisions(
        &fixture,
        [
            ("all", json!({"roles": ["admin", "clerk", "x"]}), Ok(())),
            ("all", json!({"roles": "clerk admin"}), Ok(())),
            ("all", json!({"realm_access": {"roles": ["admin", "clerk"]}}), Ok(())),
            ("all", json!({"roles": ["admin"], "realm_access": {"roles": ["clerk"]}}), Ok(())),
            ("all", zitadel(json!({"admin": {"71": "shop.example"}, "clerk": {"71": "shop.example"}})), Ok(())),
            ("all", json!({"https://shop.example/roles": ["admin", "clerk"]}), Ok(())),
            ("all", json!({"https:": {"": {"shop.example": {"roles": ["admin", "clerk"]}}}}), LACKS_ROLE),
            ("all", json!({"roles": ["admin"]}), LACKS_ROLE),
            ("all", zitadel(json!({"admin": {"clerk": "shop.example"}})), LACKS_ROLE),
            ("all", json!({"realm_access.roles": ["admin", "clerk"]}), LACKS_ROLE),
            ("all", json!({"realm_access": ["admin", "clerk"]}), LACKS_ROLE),
            ("all", json!({"realm_access": {"roles": {"roles": ["admin", "clerk"]}}}), LACKS_ROLE),
            ("all", json!({"roles": ["Admin", "clerk"]}), LACKS_ROLE),
            ("all", json!({"roles": [["admin"], "clerk"]}), LACKS_ROLE),
            ("all", json!({"roles": true}), LACKS_ROLE),
            ("all", json!({"scope": "admin clerk"}), LACKS_ROLE),
            ("any", json!({"roles": ["clerk"]}), Ok(())),
            ("any", json!({"roles": ["admin"]}), Ok(())),
            ("any", json!({"roles": ["adminclerk"]}), LACKS_ANY_ROLE),
            ("any", json!({}), LACKS_ANY_ROLE),
            ("proto", json!({"roles": {}}), LACKS_ROLE),
            ("proto", json!({}), LACKS_ROLE),
            ("mixed", json!({"scope": "a", "roles": ["admin"], "plan": "gold"}), Ok(())),
            ("mixed", json!({"roles": ["admin"], "plan": "gold"}), LACKS_SCOPE),
            ("mixed", json!({"scope": "a", "plan": "gold"}), LACKS_ROLE),
            ("mixed", json!({"scope": "a", "roles": ["admin"]}), OTHER_CLAIM),
        ],
    )
    .await;
    let response = fixture.get_with_token("/any/x", &fixture.good_token()).await;
    assert_eq!((&response.json()["code"], response.header("www-authenticate")), (&json!("access_denied"), None));
}

/// `claims`: values are compared by type and value; of an array one element must match; every entry
/// must be met.
#[tokio::test]
async fn requires_one_of_the_listed_values_of_each_claim() {
    let config = Config::minimal()
        .route("plan", r#"claims = { plan = ["gold", "platinum"] }"#)
        .route("level", "claims = { level = [3, 4.5] }")
        .route("large", "claims = { id = [9223372036854775807, 9007199254740993, -9223372036854775808, 0] }")
        .route("beta", "claims = { beta = true }")
        .route("nested", r#"claims = { "org.unit.id" = "u-7" }"#)
        .route("pointer", r#"claims = { "/https:~1~1shop.example~1a.b" = "x" }"#)
        .route("element", r#"claims = { "/groups/0" = "staff" }"#)
        .route("two", r#"claims = { plan = "gold", beta = true }"#);
    let fixture = Fixture::start(config).await;
    assert_decisions(
        &fixture,
        [
            ("plan", json!({"plan": "gold"}), Ok(())),
            ("plan", json!({"plan": "platinum"}), Ok(())),
            ("plan", json!({"plan": ["silver", "gold"]}), Ok(())),
            ("plan", json!({"plan": "Gold"}), OTHER_CLAIM),
            ("plan", json!({"plan": "gold "}), OTHER_CLAIM),
            ("plan", json!({"plan": "gold platinum"}), OTHER_CLAIM),
            ("plan", json!({"plan": ["silver"]}), OTHER_CLAIM),
            ("plan", json!({"plan": []}), OTHER_CLAIM),
            ("plan", json!({"plan": [["gold"]]}), OTHER_CLAIM),
            ("plan", json!({"plan": {"gold": true}}), OTHER_CLAIM),
            ("plan", json!({"plan": null}), OTHER_CLAIM),
            ("plan", json!({}), OTHER_CLAIM),
            ("level", json!({"level": 3}), Ok(())),
            ("level", json!({"level": 3.0}), Ok(())),
            ("level", json!({"level": 4.5}), Ok(())),
            ("level", json!({"level": [1, 3]}), Ok(())),
            ("level", json!({"level": "3"}), OTHER_CLAIM),
            ("level", json!({"level": 4}), OTHER_CLAIM),
            ("level", json!({"level": true}), OTHER_CLAIM),
            ("large", json!({"id": i64::MAX}), Ok(())),
            ("large", json!({"id": i64::MIN}), Ok(())),
            ("large", json!({"id": 9_007_199_254_740_993_i64}), Ok(())),
            ("large", json!({"id": -0.0}), Ok(())),
            ("large", json!({"id": 9_223_372_036_854_775_808_u64}), OTHER_CLAIM),
            ("large", json!({"id": 9_223_372_036_854_775_808.0}), OTHER_CLAIM),
            ("large", json!({"id": 9_007_199_254_740_992_i64}), OTHER_CLAIM),
            ("large", json!({"id": 9_007_199_254_740_992.0}), OTHER_CLAIM),
            ("large", json!({"id": [9_007_199_254_740_994_i64, 1e19]}), OTHER_CLAIM),
            ("beta", json!({"beta": true}), Ok(())),
            ("beta", json!({"beta": false}), OTHER_CLAIM),
            ("beta", json!({"beta": "true"}), OTHER_CLAIM),
            ("beta", json!({"beta": 1}), OTHER_CLAIM),
            ("nested", json!({"org": {"unit": {"id": "u-7"}}}), Ok(())),
            ("nested", json!({"org.unit.id": "u-7"}), OTHER_CLAIM),
            ("nested", json!({"org": {"unit.id": "u-7"}}), OTHER_CLAIM),
            ("nested", json!({"org": [{"unit": {"id": "u-7"}}]}), OTHER_CLAIM),
            ("nested", json!({"org": {"unit": "u-7"}}), OTHER_CLAIM),
            ("pointer", json!({"https://shop.example/a.b": "x"}), Ok(())),
            ("pointer", json!({"https://shop.example/a": {"b": "x"}}), OTHER_CLAIM),
            ("element", json!({"groups": ["staff", "x"]}), Ok(())),
            ("element", json!({"groups": ["x", "staff"]}), OTHER_CLAIM),
            ("two", json!({"plan": "gold", "beta": true}), Ok(())),
            ("two", json!({"plan": "gold"}), OTHER_CLAIM),
            ("two", json!({"beta": true}), OTHER_CLAIM),
        ],
    )
    .await;
}

/// Threats A25, J-34, J-82, J-86: one token on routes with different requirements, repeatedly and
/// in every order. The gateway caches the caller's identity, never an authorization decision.
#[tokio::test]
async fn each_route_authorizes_a_cached_token_by_its_own_rules() {
    let other = Idp::start().await;
    let config = Config::minimal()
        .replace("issuers.main", r#"audiences = ["api", "web"]"#)
        .append(&format!("[issuers.other]\nissuer = \"{}\"\naudiences = [\"api2\"]", other.issuer()))
        .route("ours", r#"issuers = ["main"]"#)
        .route("theirs", r#"issuers = ["other"]"#)
        .route("web", r#"audiences = ["web"]"#)
        .route("either", r#"audiences = ["web", "api"]"#);
    let fixture = Fixture::start(config).await;
    let token = fixture.good_token();
    let expected = [
        ("/token/x", 200),
        ("/scope/x", 200),
        ("/admin/x", 403),
        ("/ours/x", 200),
        ("/theirs/x", 401),
        ("/web/x", 401),
        ("/either/x", 200),
    ];
    for round in 0..2 {
        for (target, status) in expected.iter().chain(expected.iter().rev()) {
            assert_eq!(fixture.get_with_token(target, &token).await.status, *status, "{target}, round {round}");
        }
    }
    let (h2, credentials) = (client::h2(fixture.gateway.addr()).await, format!("Bearer {token}"));
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..50 {
        for (target, status) in expected {
            let (h2, credentials) = (h2.clone(), credentials.clone());
            requests.spawn(
                async move { (target, status, h2.get(target, &[("Authorization", &credentials)]).await.status) },
            );
        }
    }
    while let Some(request) = requests.join_next().await {
        let (target, expected, status) = request.expect("requests do not panic");
        assert_eq!(status, expected, "{target}");
    }
    assert_eq!(
        fixture.verifications("accepted", "miss").await,
        1,
        "all but the first verification came from the cache"
    );
}

/// RFC 8725 §3.8; threats A38, J-37: a route accepts the issuers it names, and an issuer's key
/// never verifies another issuer's token, even if both keys have the same id.
#[tokio::test]
async fn a_route_accepts_only_its_issuers_and_audiences() {
    let other = Idp::start().await;
    let (ours, theirs) = (TestKey::rsa("k1"), TestKey::rsa("k2").with_kid("k1"));
    other.set_keys(&[&theirs]);
    let config = Config::minimal()
        .append(&format!("[issuers.other]\nissuer = \"{}\"\naudiences = [\"api2\", \"web\"]", other.issuer()))
        .route("ours", r#"issuers = ["main"]"#)
        .route("theirs", r#"issuers = ["other"]"#)
        .route("web", r#"audiences = ["web"]"#);
    let fixture = Fixture::start(config).await;
    let of_other = || TokenBuilder::at(&other.issuer(), NOW).claim("aud", "api2");
    let wrong_issuer = Err("of an issuer that this route does not take");
    let wrong_audience = Err("not for an audience of this route");
    for (target, rows) in [
        (
            "/token/x",
            vec![
                ("ours", fixture.good_token(), Ok(())),
                ("theirs", of_other().sign(&theirs), Ok(())),
                ("ours, signed by them", fixture.token().sign(&theirs), Err("signature invalid")),
                ("theirs, signed by us", of_other().sign(&ours), Err("signature invalid")),
                (
                    "ours, for their audience",
                    fixture.token().claim("aud", "api2").sign(&ours),
                    Err("audience is another"),
                ),
                ("theirs, for our audience", of_other().claim("aud", "api").sign(&theirs), Err("audience is another")),
            ],
        ),
        ("/ours/x", vec![("ours", fixture.good_token(), Ok(())), ("theirs", of_other().sign(&theirs), wrong_issuer)]),
        ("/theirs/x", vec![("ours", fixture.good_token(), wrong_issuer), ("theirs", of_other().sign(&theirs), Ok(()))]),
        (
            "/web/x",
            vec![
                ("theirs, for another audience of theirs", of_other().sign(&theirs), wrong_audience),
                ("theirs, for this audience", of_other().claim("aud", "web").sign(&theirs), Ok(())),
                ("theirs, for both audiences", of_other().claim("aud", json!(["api2", "web"])).sign(&theirs), Ok(())),
                ("ours, which has no such audience", fixture.good_token(), wrong_audience),
                ("ours, for both audiences", fixture.token().claim("aud", json!(["api", "web"])).sign(&ours), Ok(())),
            ],
        ),
    ] {
        fixture.assert_verdicts(target, rows).await;
    }
}
