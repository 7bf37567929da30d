//! What an upstream receives, and what a client gets back: identity only from the token, forwarding
//! headers only from the gateway and trusted proxies, no connection headers.

use serde_json::json;

use crate::support::client::h2;
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::origin::{Behaviour, RecordedRequest};

mod forwarding;
mod identity;

/// Sends a `GET` that must pass; returns the request as the upstream received it.
async fn forwarded(fixture: &Fixture, target: &str, fields: &[(&str, &str)]) -> RecordedRequest {
    let response = fixture.get(target, fields).await;
    assert_eq!(response.status, 200, "{target}: {}", response.text());
    fixture.origin.requests().pop().expect("a request at the origin")
}

fn values<'a>(received: &'a RecordedRequest, name: &str) -> Vec<&'a str> {
    received.headers.iter().filter(|(given, _)| given == name).map(|(_, value)| value.as_str()).collect()
}

/// HH-2, I5; RFC 9110 §7.6.1.
#[tokio::test]
async fn connection_options_remove_client_headers_but_none_of_the_gateways() {
    let fixture = Fixture::start(Config::minimal()).await;
    let bearer = fixture.bearer("alice");
    let ours = "x-identity-subject, X-Identity-Issuer, host, via, x-request-id, forwarded, x-forwarded-for, authorization, cookie";
    let received = forwarded(
        &fixture,
        "/token/a",
        &[
            ("Connection", ours),
            ("Connection", "X-Private, close, , @, x-private-two"),
            ("X-Private", "1"),
            ("X-Private-Two", "2"),
            ("X-Public", "3"),
            ("Cookie", "a=1"),
            ("Authorization", &bearer),
        ],
    )
    .await;
    for name in [
        "x-identity-subject",
        "x-identity-issuer",
        "host",
        "via",
        "x-request-id",
        "forwarded",
        "x-forwarded-for",
        "x-public",
    ] {
        assert_eq!(values(&received, name).len(), 1, "{name}");
    }
    for name in ["x-private", "x-private-two", "connection", "authorization"] {
        assert_eq!(received.header(name), None, "{name}");
    }
    assert_eq!(received.header("cookie"), Some("a=1"), "only nominated headers are removed");
}

/// HH-4, A74, C7; RFC 6750 §5.3.
#[tokio::test]
async fn removes_authorization_unless_forward_token_is_set() {
    for (name, forward) in [("by default", false), ("with forward_token", true)] {
        let config = Config::minimal().add("upstreams.main", &format!("forward_token = {forward}"));
        let fixture = Fixture::start(config).await;
        let bearer = fixture.bearer("alice");
        for (target, value) in [("/token/a", bearer.as_str()), ("/public/a", &bearer), ("/public/a", "Basic YTpi")] {
            let fields = [
                ("Authorization", value),
                ("Cookie", "session=1"),
                ("X-Api-Key", "k"),
                ("Proxy-Authorization", "Basic YTpi"),
            ];
            let received = forwarded(&fixture, target, &fields).await;
            assert_eq!(
                values(&received, "authorization"),
                if forward { vec![value] } else { vec![] },
                "{name}: {target}"
            );
            assert_eq!(
                (received.header("cookie"), received.header("x-api-key")),
                (Some("session=1"), Some("k")),
                "{name}"
            );
            assert_eq!(received.header("proxy-authorization"), None, "{name}");
        }
    }
}

/// HH-4, A39; RFC 9110 §11.4: on a route that looks at tokens, `Authorization` reaches the upstream
/// only with the token that the gateway has verified. A backend that trusts what the gateway lets
/// through, and reads other schemes or separators than RFC 6750 has, would take a forged credential
/// for a verified one.
#[tokio::test]
async fn forwards_no_credential_that_was_not_verified() {
    let config = Config::minimal()
        .add("upstreams.main", "forward_token = true")
        .route("optional", "access = \"optional\"")
        .route("tried", "report_only = true\naudiences = [\"other\"]");
    let fixture = Fixture::start(config).await;
    let good = fixture.bearer("alice");
    let tabbed = good.replace(' ', "\t");
    let forged = good.replace("Bearer ", "");
    let reported = ["/tried/x"];
    let both = ["/optional/x", "/tried/x"];
    for (name, value, targets) in [
        ("another scheme", "Basic YTpi".to_owned(), &both[..]),
        ("a scheme that some servers take for Bearer", format!("JWT {forged}"), &both),
        ("a token without a scheme", forged.clone(), &both),
        ("a longer scheme", format!("Bearers {forged}"), &both),
        ("a quoted scheme", format!("\"Bearer\" {forged}"), &both),
        ("a comma instead of a space", format!("Bearer,{forged}"), &both),
        ("nothing", String::new(), &both),
        ("a token for another audience", good.clone(), &reported),
        ("an invalid token", "Bearer abc".to_owned(), &reported),
        ("no token", "Bearer".to_owned(), &reported),
    ] {
        for target in targets {
            let received = forwarded(&fixture, target, &[("Authorization", &value), ("X-Api-Key", "k")]).await;
            assert_eq!(values(&received, "authorization"), Vec::<&str>::new(), "{name}: {target}");
            assert_eq!(values(&received, "x-identity-subject"), Vec::<&str>::new(), "{name}: {target}");
            assert_eq!(values(&received, "x-api-key"), ["k"], "{name}: {target}");
        }
    }
    for (name, value) in [("a tab", "Bearer\tforged"), ("a tab and a space", "bearer\t forged")] {
        let response = fixture.get("/optional/x", &[("Authorization", value)]).await;
        assert_eq!((response.status, &response.json()["code"]), (401, &json!("token_invalid")), "{name}");
    }
    for (target, value) in [("/optional/x", &good), ("/optional/x", &tabbed), ("/token/x", &good)] {
        let received = forwarded(&fixture, target, &[("Authorization", value)]).await;
        assert_eq!(values(&received, "authorization"), [value], "{target}: a verified token is forwarded");
        assert_eq!(values(&received, "x-identity-subject"), ["alice"], "{target}");
    }
}

/// A credential for the upstream that the operator sets is not the client's.
#[tokio::test]
async fn a_credential_that_the_route_sets_is_forwarded_without_a_token() {
    let config = Config::minimal()
        .add("upstreams.main", "forward_token = true")
        .route("optional", "access = \"optional\"\nset_headers = { Authorization = \"Basic b3Vycw==\" }");
    let fixture = Fixture::start(config).await;
    for fields in [&[][..], &[("Authorization", "Basic dGhlaXJz")]] {
        let received = forwarded(&fixture, "/optional/x", fields).await;
        assert_eq!(values(&received, "authorization"), ["Basic b3Vycw=="]);
    }
}

/// Names that have a meaning for backends which no rule of the gateway has checked, by whom they
/// are forwarded from.
const OVERRIDES: [&str; 15] = [
    "X-Original-URL",
    "X-Original-URI",
    "X-Original-Path",
    "X-Original-Method",
    "X-Original-Host",
    "X-Rewrite-URL",
    "X-Override-URL",
    "X-HTTP-Path-Override",
    "X-HTTP-Method-Override",
    "X-HTTP-Method",
    "X-Method-Override",
    "X-Forwarded-Uri",
    "X-Host",
    "X-Middleware-Subrequest",
    "X-Envoy-Original-Path",
];
const FROM_PROXIES: [&str; 16] = [
    "X-Real-IP",
    "CF-Connecting-IP",
    "True-Client-IP",
    "Fastly-Client-IP",
    "X-Azure-ClientIP",
    "X-Client-IP",
    "X-Accel-Redirect",
    "X-Accel-Internal",
    "Front-End-Https",
    "X-Forwarded-Ssl",
    "X-Client-Cert",
    "Client-Cert",
    "Client-Cert-Chain",
    "SSL-Client-Verify",
    "X-SSL-Client-DN",
    "X-Forwarded-Client-Cert",
];
const FOREIGN_IDENTITY: [&str; 12] = [
    "Remote-User",
    "X-Remote-User",
    "X-Forwarded-User",
    "X-Forwarded-Email",
    "X-Forwarded-Groups",
    "X-Forwarded-Preferred-Username",
    "X-Forwarded-Access-Token",
    "X-Auth-Request-User",
    "X-Auth-Request-Anything",
    "X-WEBAUTH-USER",
    "X-MS-CLIENT-PRINCIPAL",
    "Impersonate-Group",
];

/// HH-5, HH-8: headers that name another path, method, host, address or caller.
#[tokio::test]
async fn headers_with_a_meaning_that_no_rule_has_checked_pass_from_trusted_proxies_at_most() {
    let all = || OVERRIDES.into_iter().chain(FROM_PROXIES).chain(FOREIGN_IDENTITY);
    let aliases: Vec<String> = all().map(|name| name.replace('-', "_")).collect();
    let dotted: Vec<String> = all().map(|name| name.replace('-', ".")).collect();
    let names = all().chain(aliases.iter().chain(&dotted).map(String::as_str));
    let fields: Vec<_> = names.map(|name| (name, "1")).chain([("X-Kept", "1")]).collect();
    let trust = "trusted_proxies = [\"127.0.0.1\"]";
    let pass = "[identity]\npass = [\"Remote-User\", \"X-Auth-Request-User\"]";
    for (name, config, more) in [
        ("an untrusted peer", Config::minimal(), vec![]),
        ("a trusted proxy", Config::minimal().add("server", trust), FROM_PROXIES.to_vec()),
        (
            "a trusted proxy that authenticates",
            Config::minimal().add("server", trust).append(pass),
            [&FROM_PROXIES[..], &["Remote-User", "X-Auth-Request-User"]].concat(),
        ),
    ] {
        let fixture = Fixture::start(config).await;
        let mut passed = Vec::new();
        // A request may have a hundred fields.
        for fields in fields.chunks(50) {
            let received = forwarded(&fixture, "/public/a", fields).await;
            passed.extend(received.headers.into_iter().filter(|(_, value)| value == "1").map(|(name, _)| name));
        }
        passed.sort_unstable();
        let mut expected: Vec<_> = more.iter().chain(&["X-Kept"]).map(|name| name.to_ascii_lowercase()).collect();
        expected.sort_unstable();
        assert_eq!(passed, expected, "{name}");
    }
}

/// HH-3, HH-6; RFC 9110 §7.6.1.
#[tokio::test]
async fn removes_hop_by_hop_headers_in_both_directions() {
    let fixture = Fixture::start(Config::minimal()).await;
    let gone = [
        "X-Forwarded-Server",
        "X-Forwarded-Port",
        "Keep-Alive",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Upgrade",
        "Proxy",
        "HTTP2-Settings",
        "Proxy-Authorization",
    ];
    let fields: Vec<_> = gone
        .iter()
        .map(|name| (*name, "1"))
        .chain([("X-Kept", "1"), ("Origin", "https://a.example"), ("Range", "bytes=0-1")])
        .collect();
    let received = forwarded(&fixture, "/public/a", &fields).await;
    for name in gone {
        assert_eq!(received.header(name), None, "{name}");
    }
    for name in ["x-kept", "origin", "range"] {
        assert_eq!(values(&received, name).len(), 1, "{name}");
    }
    let back = [
        ("Connection", "X-Private"),
        ("X-Private", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Upgrade", "h2c"),
        ("Trailer", "X-A"),
        ("X-Identity-Subject", "alice"),
        ("X_Identity_Roles", "admin"),
        ("X-Request-Id", "upstreams-own"),
        ("X-Kept", "1"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("Server", "fred"),
    ];
    fixture.origin.behave("/public/back", Behaviour::response(201, &back, "made"));
    let response = fixture.get("/public/back", &[]).await;
    assert_eq!((response.status, &*response.text()), (201, "made"));
    for name in
        ["x-private", "keep-alive", "proxy-connection", "upgrade", "trailer", "x-identity-subject", "x_identity_roles"]
    {
        assert_eq!(response.headers_named(name), Vec::<&str>::new(), "HH-6: {name}");
    }
    assert_eq!(response.headers_named("set-cookie"), ["a=1", "b=2"]);
    assert_eq!((response.header("x-kept"), response.header("server")), (Some("1"), Some("fred")));
    let ids = response.headers_named("x-request-id");
    assert_eq!(ids, [fixture.origin.requests()[1].header("x-request-id").expect("an id")], "the gateway's id, once");
}

/// TG-4: `host` of an upstream.
#[tokio::test]
async fn host_is_the_clients_or_the_upstreams_as_configured() {
    for (mode, of_server) in [("preserve", false), ("upstream", true)] {
        let config = Config::minimal().add("upstreams.main", &format!("host = \"{mode}\""));
        let fixture = Fixture::start(config).await;
        let received = forwarded(&fixture, "/public/a", &[("Host", "Shop.Example:81")]).await;
        let expected = if of_server { fixture.origin.addr().to_string() } else { "Shop.Example:81".into() };
        assert_eq!(values(&received, "host"), [expected], "{mode}");
        assert_eq!(received.header("x-forwarded-host"), Some("Shop.Example:81"), "{mode}");
    }
}

/// HH-9: a backend may read `X_Tenant` as `X-Tenant`, and may see either of two such fields.
#[tokio::test]
async fn what_a_route_sets_or_removes_counts_in_every_spelling() {
    let keys = r#"
access = "public"
set_headers = { X-Tenant = "shop", X_Plan = "gold" }
remove_headers = ["X-Secret", "X_Debug"]
"#;
    let fixture = Fixture::start(Config::minimal().route("set", keys)).await;
    let fields: Vec<(&str, &str)> = [
        "X-Tenant",
        "X_Tenant",
        "X.Tenant",
        "x_TENANT",
        "X-Plan",
        "X_Plan",
        "X.Plan",
        "X-Secret",
        "X_Secret",
        "X.Secret",
        "X-Debug",
        "X_Debug",
        "Content_Length",
        "Transfer_Encoding",
        "Transfer.Encoding",
        "X_Request_Id",
    ]
    .map(|name| (name, "clients"))
    .into();
    let similar = [("X-Tenants", "1"), ("XTenant", "2"), ("X_Other", "3")];
    let fields = [&fields[..], &similar].concat();
    for (name, received) in [
        ("HTTP/1.1", forwarded(&fixture, "/set/a", &fields).await),
        ("HTTP/2", {
            let lower: Vec<_> = fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), *value)).collect();
            let lower: Vec<_> = lower.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            assert_eq!(h2(fixture.gateway.addr()).await.get("/set/a", &lower).await.status, 200);
            fixture.origin.requests().pop().expect("a request at the origin")
        }),
    ] {
        assert!(!received.headers.iter().any(|(_, value)| value == "clients"), "{name}: {:?}", received.headers);
        assert_eq!(
            (values(&received, "x-tenant"), values(&received, "x_plan")),
            (vec!["shop"], vec!["gold"]),
            "{name}"
        );
        assert_eq!(["x-tenants", "xtenant", "x_other"].map(|n| received.header(n)), [Some("1"), Some("2"), Some("3")]);
    }
}

/// A route's rules come after what the gateway writes, so that every entry has its effect.
#[tokio::test]
async fn a_route_can_remove_and_set_what_the_gateway_writes() {
    let removing = r#"
access = "public"
remove_headers = ["Forwarded", "Via", "X-Forwarded-For", "X_Forwarded_Host", "traceparent", "tracestate"]
"#;
    let setting = r#"
access = "public"
set_headers = { X-Forwarded-Proto = "https", X-Forwarded-Prefix = "/shop", Via = "1.1 edge", traceparent = "00-1" }
"#;
    let fixture = Fixture::start(Config::minimal().route("removing", removing).route("setting", setting)).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let fields = [("traceparent", trace), ("tracestate", "a=1"), ("Via", "1.0 fred"), ("X-Forwarded-Prefix", "/evil")];
    let received = forwarded(&fixture, "/removing/a", &fields).await;
    for name in ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "traceparent", "tracestate"] {
        assert_eq!(values(&received, name), Vec::<&str>::new(), "{name}");
    }
    assert_eq!(received.header("x-forwarded-proto"), Some("http"), "the others stay");
    let received = forwarded(&fixture, "/setting/a", &fields).await;
    for (name, value) in
        [("x-forwarded-proto", "https"), ("x-forwarded-prefix", "/shop"), ("via", "1.1 edge"), ("traceparent", "00-1")]
    {
        assert_eq!(values(&received, name), [value], "{name}");
    }
    assert_eq!(received.header("x-forwarded-for"), Some("127.0.0.1"), "the others stay");
}

/// The headers that a route sets and removes, also on refusals.
#[tokio::test]
async fn routes_set_and_remove_headers_in_both_directions() {
    let keys = r#"
set_headers = { X-Tenant = "shop", X-Api-Key = "gateways" }
remove_headers = ["Cookie", "User-Agent"]
set_response_headers = { Strict-Transport-Security = "max-age=63072000", Cache-Control = "private" }
remove_response_headers = ["Server", "X-Content-Type-Options"]
"#;
    let config = Config::minimal().route("set", &format!("access = \"public\"\n{keys}")).route("closed", keys);
    let fixture = Fixture::start(config).await;
    fixture
        .origin
        .behave("/set/back", Behaviour::response(200, &[("Server", "fred"), ("Cache-Control", "max-age=60")], ""));
    let fields = [
        ("X-Tenant", "evil"),
        ("X-Tenant", "worse"),
        ("X-Api-Key", "clients"),
        ("Cookie", "a=1"),
        ("User-Agent", "curl"),
        ("Accept", "*/*"),
    ];
    let received = forwarded(&fixture, "/set/a", &fields).await;
    assert_eq!((values(&received, "x-tenant"), values(&received, "x-api-key")), (vec!["shop"], vec!["gateways"]));
    assert_eq!(["cookie", "user-agent", "accept"].map(|name| received.header(name)), [None, None, Some("*/*")]);
    for (name, target, status) in
        [("a response", "/set/back", 200), ("a refusal", "/closed/a", 401), ("no route", "/nowhere", 404)]
    {
        let response = fixture.get(target, &[]).await;
        assert_eq!(response.status, status, "{name}");
        let applies = status != 404;
        assert_eq!(
            response.header("strict-transport-security").is_some(),
            applies,
            "{name}: without a route, no route's settings"
        );
        assert_eq!(response.headers_named("cache-control"), [if applies { "private" } else { "no-store" }], "{name}");
        assert_eq!(response.header("x-content-type-options").is_some(), !applies, "{name}");
        assert_eq!(response.header("server"), None, "{name}");
        assert!(response.header("x-request-id").is_some(), "{name}");
        assert_eq!(response.header("www-authenticate").is_some(), status == 401, "{name}");
    }
}
