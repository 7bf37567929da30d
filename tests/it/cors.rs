//! CORS as a browser sees it (Fetch, "CORS protocol"): preflights, and the headers on every kind of
//! response.

use serde_json::json;

use crate::support::client::Response;
use crate::support::closed_port;
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::origin::Behaviour;

const SHOP: &str = "https://shop.example.com";
const EXPOSED: &str = "WWW-Authenticate, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id, X-Total";

const POLICIES: &str = r#"
[cors.shop]
origins = ["https://shop.example.com", "http://localhost:3000"]
headers = ["Authorization", "X-Trace"]
expose = ["X-Total"]
max_age = "5m"
[cors.account]
origins = ["https://shop.example.com"]
credentials = true
methods = ["GET", "PUT"]
[cors.open]
origins = ["*"]
[limits.calls]
key = "ip"
rate = "1/h"
burst = 2
[[routes]]
name = "read"
path = "/shop/*"
methods = ["GET"]
upstream = "main"
cors = "shop"
scopes = ["orders:read"]
[[routes]]
name = "write"
path = "/shop/*"
methods = ["PUT"]
upstream = "main"
[[routes]]
name = "account"
path = "/account/*"
upstream = "main"
cors = "account"
[[routes]]
name = "open"
path = "/open/*"
access = "public"
upstream = "main"
cors = "open"
[[routes]]
name = "limited"
path = "/limited/*"
access = "public"
upstream = "main"
cors = "shop"
limits = ["calls"]
[[routes]]
name = "tried"
path = "/tried/*"
access = "public"
upstream = "main"
cors = "shop"
report_only = true
"#;

fn config() -> Config {
    Config::minimal().append(POLICIES)
}

async fn preflight(fixture: &Fixture, path: &str, origin: &str, method: &str) -> Response {
    let headers = [("Origin", origin), ("Access-Control-Request-Method", method)];
    fixture.request("OPTIONS", path, &headers, b"").await
}

/// The fields of the CORS protocol and `Vary`, without the prefix, sorted.
fn cors_headers(response: &Response) -> Vec<String> {
    let short = |name: &str| match name.to_ascii_lowercase().as_str() {
        "vary" => Some("vary".to_owned()),
        name => name.strip_prefix("access-control-").map(str::to_owned),
    };
    let mut fields: Vec<_> =
        response.headers.iter().filter_map(|(name, value)| Some(format!("{}: {value}", short(name)?))).collect();
    fields.sort();
    fields
}

/// What a listed origin gets with every response except to a preflight.
fn granted() -> Vec<String> {
    [format!("allow-origin: {SHOP}"), format!("expose-headers: {EXPOSED}"), "vary: Origin".to_owned()].into()
}

/// Fetch §3.2.2 and §4.9; threats CO-1, CO-3: the gateway responds itself, by the route of the
/// requested method, and needs no token.
#[tokio::test]
async fn the_policy_of_the_requested_method_answers_a_preflight() {
    let fixture = Fixture::start(config()).await;
    let vary = "vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
    let read = [
        "allow-headers: Authorization, X-Trace",
        "allow-methods: GET, HEAD",
        "allow-origin: https://shop.example.com",
        "max-age: 300",
        vary,
    ];
    let account = [
        "allow-credentials: true",
        "allow-headers: Authorization, Content-Type",
        "allow-methods: GET, PUT",
        "allow-origin: https://shop.example.com",
        "max-age: 600",
        vary,
    ];
    let open = [
        "allow-headers: Authorization, Content-Type",
        "allow-methods: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        "allow-origin: *",
        "max-age: 600",
        vary,
    ];
    for (name, path, origin, method, expect) in [
        ("a listed origin", "/shop/1", SHOP, "GET", &read[..]),
        ("HEAD is allowed wherever GET is", "/shop/1", SHOP, "HEAD", &read),
        ("with credentials, and its own methods", "/account/1", SHOP, "DELETE", &account),
        ("any origin", "/open/1", "https://any.example", "POST", &open),
        ("an origin that is not listed", "/shop/1", "https://evil.example", "GET", &[vary]),
        (
            "a listed origin as a prefix of another domain",
            "/shop/1",
            "https://shop.example.com.evil.example",
            "GET",
            &[vary],
        ),
        ("another scheme", "/shop/1", "http://shop.example.com", "GET", &[vary]),
        ("another port", "/shop/1", "http://localhost:3001", "GET", &[vary]),
        ("another case", "/shop/1", "https://SHOP.example.com", "GET", &[vary]),
        ("null", "/shop/1", "null", "GET", &[vary]),
    ] {
        let response = preflight(&fixture, path, origin, method).await;
        assert_eq!(
            (response.status, cors_headers(&response)),
            (204, expect.iter().map(ToString::to_string).collect()),
            "{name}"
        );
        assert_eq!((&*response.body, response.header("content-length")), (&b""[..], None), "{name}: RFC 9110 §8.6");
        assert!(response.header("x-request-id").is_some(), "{name}");
    }
    assert!(fixture.origin.requests().is_empty(), "no preflight reaches the upstream");
    let preflights = r#"portcullis_requests_total{route="read",method="OPTIONS",status="204"}"#;
    fixture.gateway.wait_for_metric(preflights, 8.0).await;
}

/// Any other `OPTIONS` is an ordinary request: routed by its own method, and
/// authenticated.
#[tokio::test]
async fn other_options_requests_are_ordinary_requests() {
    let fixture = Fixture::start(config()).await;
    let asks = ("Access-Control-Request-Method", "GET");
    let put = ("Access-Control-Request-Method", "PUT");
    let nonsense = ("Access-Control-Request-Method", "G E T");
    let origin = ("Origin", SHOP);
    for (name, path, headers, status, code) in [
        ("no requested method", "/shop/1", &[origin][..], 405, "method_not_allowed"),
        ("no origin", "/shop/1", &[asks], 405, "method_not_allowed"),
        ("the requested method's route has no policy", "/shop/1", &[origin, put], 405, "method_not_allowed"),
        ("an invalid method", "/shop/1", &[origin, nonsense], 405, "method_not_allowed"),
        ("no route", "/nowhere", &[origin, asks], 404, "route_not_found"),
        ("a route for all methods", "/account/1", &[origin], 401, "credentials_missing"),
        ("a route without policy", "/token/1", &[origin, asks], 401, "credentials_missing"),
    ] {
        let response = fixture.request("OPTIONS", path, headers, b"").await;
        assert_eq!((response.status, &response.json()["code"]), (status, &json!(code)), "{name}");
    }
    let alice = fixture.bearer("alice");
    let headers = [origin, ("Authorization", &*alice)];
    let response = fixture.request("OPTIONS", "/account/1", &headers, b"").await;
    assert_eq!((response.status, &response.json()["method"]), (200, &json!("OPTIONS")), "with a token it is forwarded");
}

/// A preflight that asks for a method without a route is answered by the route for `OPTIONS`: its
/// policy does not list the method, so a browser sends nothing.
#[tokio::test]
async fn the_route_for_options_answers_a_preflight_for_a_method_without_a_route() {
    let methods = "methods = [\"GET\", \"OPTIONS\"]\naccess = \"public\"\ncors = \"account\"";
    let fixture = Fixture::start(config().route("listed", methods)).await;
    let response = preflight(&fixture, "/listed/1", SHOP, "DELETE").await;
    let fields = cors_headers(&response);
    assert_eq!(response.status, 204, "{}", response.text());
    assert!(fields.contains(&"allow-methods: GET, PUT".to_owned()), "{fields:?}");
    assert!(fixture.origin.requests().is_empty());
}

/// Threat CO-3: a preflight spends no quota.
#[tokio::test]
async fn a_preflight_spends_no_quota() {
    let fixture = Fixture::start(config()).await;
    for _ in 0..5 {
        let response = preflight(&fixture, "/limited/1", SHOP, "GET").await;
        assert_eq!((response.status, response.header("ratelimit")), (204, None));
    }
    let first = fixture.get("/limited/1", &[("Origin", SHOP)]).await;
    assert_eq!((first.status, first.header("ratelimit")), (200, Some("\"calls\";r=1;t=3600")));
}

/// Threats CO-1, CO-5: every response to a listed origin has the headers, whether it
/// comes from the gateway or the upstream; a response to another origin never has them.
#[tokio::test]
async fn every_response_of_the_route_carries_the_cors_headers() {
    let gone = "access = \"public\"\nupstream = \"gone\"\ncors = \"shop\"";
    let fixture = Fixture::start(config().upstream("gone", &[closed_port()], "").route("gone", gone)).await;
    fixture.origin.behave("/shop/missing", Behaviour::response(404, &[], "no such order"));
    fixture.origin.behave("/shop/fails", Behaviour::response(500, &[], ""));
    for _ in 0..2 {
        fixture.get("/limited/1", &[]).await;
    }
    let good = fixture.bearer("alice");
    let poor = fixture.token().scope("other").to_bearer();
    for (name, path, authorization, status) in [
        ("a good response", "/shop/1", Some(&good), 200),
        ("not found by the upstream", "/shop/missing", Some(&good), 404),
        ("an error of the upstream", "/shop/fails", Some(&good), 500),
        ("no token", "/shop/1", None, 401),
        ("too little scope", "/shop/1", Some(&poor), 403),
        ("too many requests", "/limited/1", None, 429),
        ("no upstream", "/gone/1", None, 502),
    ] {
        for (origin, expect) in [
            (Some(SHOP), granted()),
            (Some("https://evil.example"), vec!["vary: Origin".to_owned()]),
            (None, vec!["vary: Origin".to_owned()]),
        ] {
            let mut headers: Vec<_> = authorization.map(|value| ("Authorization", &**value)).into_iter().collect();
            headers.extend(origin.map(|origin| ("Origin", origin)));
            let response = fixture.get(path, &headers).await;
            assert_eq!((response.status, cors_headers(&response)), (status, expect), "{name}, {origin:?}");
        }
    }
    // Without a route there is no policy.
    for (path, method, status) in [("/nowhere", "GET", 404), ("/shop/1", "POST", 405)] {
        let response = fixture.request(method, path, &[("Origin", SHOP)], b"").await;
        assert_eq!((response.status, cors_headers(&response)), (status, Vec::<String>::new()), "{path}");
    }
}

/// Threats CO-4, HH-6: the gateway's headers replace the upstream's. Without a policy the
/// upstream's remain.
#[tokio::test]
async fn the_policy_replaces_the_upstreams_cors_headers() {
    let fixture = Fixture::start(config()).await;
    let upstream_headers = [
        ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Allow-Credentials", "true"),
        ("Access-Control-Expose-Headers", "*"),
        ("Access-Control-Max-Age", "1"),
        ("Vary", "Accept"),
    ];
    for path in ["/shop/1", "/open/1", "/public/1", "/account/1"] {
        fixture.origin.behave(path, Behaviour::response(200, &upstream_headers, "{}"));
    }
    let alice = fixture.bearer("alice");
    let exposed = "expose-headers: WWW-Authenticate, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id";
    let origin = "allow-origin: https://shop.example.com";
    for (name, path, from, expect) in [
        (
            "a policy",
            "/shop/1",
            SHOP,
            vec![
                origin.to_owned(),
                format!("expose-headers: {EXPOSED}"),
                "vary: Accept".to_owned(),
                "vary: Origin".to_owned(),
            ],
        ),
        (
            "a policy, another origin",
            "/shop/1",
            "https://evil.example",
            vec!["vary: Accept".into(), "vary: Origin".into()],
        ),
        (
            "credentials",
            "/account/1",
            SHOP,
            vec![
                "allow-credentials: true".into(),
                origin.into(),
                exposed.into(),
                "vary: Accept".into(),
                "vary: Origin".into(),
            ],
        ),
        (
            "any origin, so the response does not vary",
            "/open/1",
            "https://any.example",
            vec!["allow-origin: *".into(), exposed.into(), "vary: Accept".into()],
        ),
        (
            "no policy",
            "/public/1",
            "https://any.example",
            vec![
                "allow-credentials: true".into(),
                "allow-origin: *".into(),
                "expose-headers: *".into(),
                "max-age: 1".into(),
                "vary: Accept".into(),
            ],
        ),
    ] {
        let response = fixture.get(path, &[("Origin", from), ("Authorization", &alice)]).await;
        assert_eq!((response.status, cors_headers(&response)), (200, expect), "{name}");
    }
}

/// The route for `OPTIONS` only reports, so the upstream answers a preflight that the method's
/// route leaves alone.
#[tokio::test]
async fn report_only_leaves_a_preflight_for_another_route_to_the_upstream() {
    let config = config().route("delete", "path = \"/tried/*\"\nmethods = [\"DELETE\"]");
    let fixture = Fixture::start(config).await;
    fixture.origin.behave("/tried/1", Behaviour::response(200, &[("Access-Control-Allow-Origin", "*")], "{}"));
    let response = preflight(&fixture, "/tried/1", SHOP, "DELETE").await;
    assert_eq!((response.status, cors_headers(&response)), (200, vec!["allow-origin: *".to_owned()]));
}

/// `report_only`: an origin that the policy denies is reported, and the upstream's
/// headers remain.
#[tokio::test]
async fn report_only_leaves_unlisted_origins_to_the_upstream() {
    let fixture = Fixture::start(config()).await;
    fixture.origin.behave("/tried/1", Behaviour::response(200, &[("Access-Control-Allow-Origin", "*")], "{}"));
    let unlisted = fixture.get("/tried/1", &[("Origin", "https://new.example")]).await;
    assert_eq!(cors_headers(&unlisted), ["allow-origin: *"]);
    let asked = preflight(&fixture, "/tried/1", "https://new.example", "GET").await;
    assert_eq!(
        (asked.status, cors_headers(&asked)),
        (200, vec!["allow-origin: *".to_owned()]),
        "the upstream responds"
    );
    let listed = fixture.get("/tried/1", &[("Origin", SHOP)]).await;
    assert_eq!(cors_headers(&listed), granted());
    let would = r#"portcullis_would_reject_total{route="tried",code="origin_denied"}"#;
    assert_eq!(fixture.gateway.count(would).await, 2);
    let lines = fixture.gateway.wait_for_access_lines(3).await;
    let reported: Vec<_> = lines.iter().map(|line| &line["would_reject"]).collect();
    assert_eq!(reported, [&json!("origin_denied"), &json!("origin_denied"), &json!(null)]);
}

/// Threat CO-3: a route without a policy answers no page, and no other route of the path answers in
/// its place. A preflight for its method is an ordinary `OPTIONS` request, whose response carries
/// no permission.
#[tokio::test]
async fn a_preflight_gets_no_permission_from_the_policy_of_another_route() {
    let config = config()
        .route("all", "path = \"/mixed/*\"\naccess = \"public\"\ncors = \"account\"")
        .route("silent", "path = \"/mixed/*\"\nmethods = [\"DELETE\"]")
        .route("tried-patch", "path = \"/mixed/*\"\nmethods = [\"PATCH\"]\nreport_only = true\ncors = \"shop\"");
    let fixture = Fixture::start(config).await;
    let permissive = [
        ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Allow-Methods", "DELETE, PATCH"),
        ("Access-Control-Allow-Headers", "Authorization"),
    ];
    fixture.origin.behave("/mixed/1", Behaviour::response(200, &permissive, "{}"));
    for (name, origin, method) in [
        ("the method's route has no policy", SHOP, "DELETE"),
        ("the method's route only reports, and denies the origin", "http://localhost:4000", "PATCH"),
    ] {
        let response = preflight(&fixture, "/mixed/1", origin, method).await;
        let fields = cors_headers(&response);
        assert_eq!((response.status, fields), (200, vec!["vary: Origin".to_owned()]), "{name}");
    }
    for (name, path, method) in
        [("the method's route has the policy", "/mixed/1", "PUT"), ("a method without a route", "/mixed/1", "PURGE")]
    {
        let response = preflight(&fixture, path, SHOP, method).await;
        let fields = cors_headers(&response);
        assert_eq!(response.status, 204, "{name}");
        assert!(fields.contains(&format!("allow-origin: {SHOP}")), "{name}: {fields:?}");
    }
    let ordinary = fixture.request("OPTIONS", "/mixed/1", &[("Origin", SHOP)], b"").await;
    assert!(cors_headers(&ordinary).contains(&format!("allow-origin: {SHOP}")), "the policy still applies to others");
}
