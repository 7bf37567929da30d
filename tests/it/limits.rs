//! Rate limits as clients see them: which callers share a quota, what the responses say, and which
//! requests spend it.

use std::time::Duration;

use serde_json::json;

use crate::support::client::{self, Response};
use crate::support::config::Config;
use crate::support::fixture::{Fixture, NOW};
use crate::support::idp::Idp;
use crate::support::token::{TestKey, TokenBuilder};

/// The route `/calls/*` with the limit `calls`, with further keys for both.
fn limited(limit: &str, route: &str) -> Config {
    with_limit(Config::minimal(), "calls", limit, route)
}

fn with_limit(config: Config, name: &str, limit: &str, route: &str) -> Config {
    config.append(&format!("[limits.{name}]\n{limit}")).route(name, &format!("limits = [\"{name}\"]\n{route}"))
}

fn trust_loopback(config: Config) -> Config {
    config.add("server", "trusted_proxies = [\"127.0.0.1\"]")
}

/// The policies and the states of all limits that were counted.
fn ratelimit_headers(response: &Response) -> (Vec<&str>, Vec<&str>) {
    (response.headers_named("ratelimit-policy"), response.headers_named("ratelimit"))
}

/// RFC 6585 §4, RFC 9110 §10.2.3, draft-ietf-httpapi-ratelimit-headers-10; threats RL-6.
#[tokio::test]
async fn allows_a_burst_and_then_refuses_with_retry_after() {
    let fixture = Fixture::start(limited("key = \"subject\"\nrate = \"60/min\"\nburst = 3", "")).await;
    let alice = fixture.bearer("alice");
    let call = async || fixture.get("/calls/1", &[("Authorization", &alice)]).await;
    for state in ["\"calls\";r=2;t=1", "\"calls\";r=1;t=2", "\"calls\";r=0;t=3"] {
        let response = call().await;
        assert_eq!((response.status, ratelimit_headers(&response)), (200, (vec!["\"calls\";q=60;w=60"], vec![state])));
        assert_eq!(response.header("retry-after"), None);
    }
    let refused = call().await;
    assert_eq!(refused.status, 429);
    assert_eq!(ratelimit_headers(&refused), (vec!["\"calls\";q=60;w=60"], vec!["\"calls\";r=0;t=1"]));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert_eq!(refused.header("cache-control"), Some("no-store"));
    assert_eq!(refused.header("www-authenticate"), None);
    assert_eq!(
        refused.json(),
        json!({
            "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
            "title": "Too Many Requests",
            "status": 429,
            "detail": "Too many requests; see Retry-After.",
            "code": "rate_limited",
            "request_id": refused.header("x-request-id"),
            "violated-policies": ["calls"],
        })
    );
    fixture.clock.advance(Duration::from_millis(999));
    assert_eq!(call().await.status, 429, "a millisecond too early");
    fixture.clock.advance(Duration::from_millis(1));
    let again = call().await;
    assert_eq!((again.status, ratelimit_headers(&again).1), (200, vec!["\"calls\";r=0;t=3"]));
    assert_eq!(call().await.status, 429, "only one request was refilled");
    fixture.clock.advance(Duration::from_secs(60));
    assert_eq!(ratelimit_headers(&call().await).1, ["\"calls\";r=2;t=1"], "never more than the burst");

    let samples = fixture.gateway.metrics().await;
    assert_eq!(samples.count(r#"portcullis_limited_total{limit="calls"}"#), 3);
    assert_eq!(samples.count(r#"portcullis_limiter_cells{limit="calls"}"#), 1);
    assert_eq!(samples.count(r#"portcullis_rejections_total{route="calls",code="rate_limited"}"#), 3);
    assert_eq!(fixture.origin.requests().len(), 5, "a refused request never reaches the upstream");
}

/// Retry-After is in whole seconds, rounded up: never too early (RFC 9110 §10.2.3).
#[tokio::test]
async fn retry_after_matches_the_rate() {
    for (rate, seconds) in [("10/s", "1"), ("60/min", "1"), ("40/min", "2"), ("4/min", "15"), ("1/h", "3600")] {
        let limit = format!("key = \"route\"\nrate = \"{rate}\"\nburst = 1");
        let fixture = Fixture::start(limited(&limit, "access = \"public\"")).await;
        assert_eq!(fixture.get("/calls/1", &[]).await.status, 200, "{rate}");
        let refused = fixture.get("/calls/1", &[]).await;
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some(seconds)), "{rate}");
        assert_eq!(refused.headers_named("ratelimit"), [format!("\"calls\";r=0;t={seconds}")], "{rate}");
    }
}

/// A caller: a subject of the issuer `main` unless `foreign` is set.
#[derive(Clone, Copy, Default)]
struct Caller {
    subject: &'static str,
    /// A subject of the second issuer instead.
    foreign: bool,
    claims: &'static [(&'static str, &'static str)],
    /// The address that the trusted proxy reports.
    address: &'static str,
    /// The values of `X-Api-Key`.
    header: &'static [&'static str],
    /// The value of `X_Api_Key`.
    alias: Option<&'static str>,
    /// A path other than `/…/1`.
    path: Option<&'static str>,
}

const ALICE: Caller = Caller {
    subject: "alice",
    foreign: false,
    claims: &[],
    address: "192.0.2.1",
    header: &[],
    alias: None,
    path: None,
};
const BOB: Caller = Caller { subject: "bob", ..ALICE };

/// Which callers share a quota, for each kind of key; every accept row has a refuse row.
/// Threats RL-3, RL-4, RL-5, A72.
#[tokio::test]
async fn each_key_type_counts_its_own_group_of_callers() {
    let other = Idp::start().await;
    let kinds = ["ip", "subject", "client", "issuer", "route", "claim:org.tenant", "header:X-Api-Key"];
    let other_issuer = format!("[issuers.other]\nissuer = \"{}\"\naudiences = [\"api\"]", other.issuer());
    let mut config = trust_loopback(Config::minimal()).append(&other_issuer);
    for (index, kind) in kinds.iter().enumerate() {
        let (limit, second) = (format!("key = \"{kind}\"\nrate = \"1/h\"\nburst = 1"), format!("second-{index}"));
        config = with_limit(config, &format!("k{index}"), &limit, "")
            .route(&second, &format!("path = \"/second/k{index}\"\nlimits = [\"k{index}\"]"));
    }
    let fixture = Fixture::start(config).await;
    let app = |name: &'static str| -> &'static [(&str, &str)] {
        if name == "app" { &[("client_id", "app")] } else { &[("client_id", "web")] }
    };
    let acme: &[_] = &[("org", r#"{"tenant":"acme"}"#)];
    let beta: &[_] = &[("org", r#"{"tenant":"beta"}"#)];
    let seven: &[_] = &[("org", r#"{"tenant":7}"#)];
    let seven_as_text: &[_] = &[("org", r#"{"tenant":"7"}"#)];
    let elsewhere = "198.51.100.7";
    for (kind, name, caller, expect) in [
        ("ip", "the first", ALICE, 200),
        ("ip", "another caller at the same address", BOB, 429),
        ("ip", "the same caller elsewhere", Caller { address: elsewhere, ..ALICE }, 200),
        ("ip", "the same address in IPv6 notation", Caller { address: "::ffff:192.0.2.1", ..BOB }, 429),
        ("ip", "an IPv6 host", Caller { address: "2001:db8:1:2::1", ..ALICE }, 200),
        ("ip", "its neighbour in the /64", Caller { address: "2001:db8:1:2:ffff::99", ..ALICE }, 429),
        ("ip", "the next /64", Caller { address: "2001:db8:1:3::1", ..ALICE }, 200),
        ("subject", "the first", ALICE, 200),
        (
            "subject",
            "the same subject elsewhere, with another token",
            Caller { address: elsewhere, claims: acme, ..ALICE },
            429,
        ),
        ("subject", "another path, with a query", Caller { path: Some("/k1/2?x=1"), ..ALICE }, 429),
        ("subject", "the second route with this limit", Caller { path: Some("/second/k1"), ..ALICE }, 429),
        ("subject", "another subject", BOB, 200),
        ("subject", "the same name at another issuer", Caller { foreign: true, ..ALICE }, 200),
        ("client", "the first", Caller { claims: app("app"), ..ALICE }, 200),
        ("client", "another subject with the same client", Caller { claims: app("app"), ..BOB }, 429),
        ("client", "the same subject with another client", Caller { claims: app("web"), ..ALICE }, 200),
        ("client", "the same client at another issuer", Caller { claims: app("app"), foreign: true, ..ALICE }, 200),
        ("client", "no client: counted as the subject", ALICE, 200),
        ("client", "no client, again", ALICE, 429),
        ("client", "no client, another subject", BOB, 200),
        ("issuer", "the first", ALICE, 200),
        ("issuer", "another subject elsewhere", Caller { address: elsewhere, ..BOB }, 429),
        ("issuer", "another issuer", Caller { foreign: true, ..ALICE }, 200),
        ("route", "the first", ALICE, 200),
        ("route", "any other caller", Caller { foreign: true, address: elsewhere, ..BOB }, 429),
        ("route", "another route with this limit", Caller { path: Some("/second/k4"), ..ALICE }, 200),
        ("claim:org.tenant", "the first", Caller { claims: acme, ..ALICE }, 200),
        ("claim:org.tenant", "another subject of the tenant", Caller { claims: acme, ..BOB }, 429),
        ("claim:org.tenant", "another tenant", Caller { claims: beta, ..ALICE }, 200),
        ("claim:org.tenant", "the same tenant at another issuer", Caller { claims: acme, foreign: true, ..ALICE }, 200),
        ("claim:org.tenant", "a number", Caller { claims: seven, ..ALICE }, 200),
        ("claim:org.tenant", "the same number as text", Caller { claims: seven_as_text, ..BOB }, 429),
        ("claim:org.tenant", "no such claim: counted as the subject", ALICE, 200),
        ("claim:org.tenant", "no such claim, again", ALICE, 429),
        ("claim:org.tenant", "no such claim, another subject", BOB, 200),
        ("header:X-Api-Key", "the first", Caller { header: &["red"], ..ALICE }, 200),
        (
            "header:X-Api-Key",
            "another caller with the same value",
            Caller { header: &["red"], address: elsewhere, ..BOB },
            429,
        ),
        ("header:X-Api-Key", "another value", Caller { header: &["blue"], ..ALICE }, 200),
        ("header:X-Api-Key", "another case is another value", Caller { header: &["Red"], ..ALICE }, 200),
        ("header:X-Api-Key", "no header: counted by address", ALICE, 200),
        ("header:X-Api-Key", "no header, again", BOB, 429),
        ("header:X-Api-Key", "no header, elsewhere", Caller { address: elsewhere, ..ALICE }, 200),
        ("header:X-Api-Key", "two values: counted by address", Caller { header: &["grey", "red"], ..ALICE }, 429),
        ("header:X-Api-Key", "other values before it", Caller { header: &["pink", "red"], ..ALICE }, 429),
        (
            "header:X-Api-Key",
            "another spelling beside it",
            Caller { header: &["plum"], alias: Some("red"), ..ALICE },
            429,
        ),
        ("header:X-Api-Key", "another spelling alone", Caller { alias: Some("red"), ..ALICE }, 429),
        ("header:X-Api-Key", "the same value twice", Caller { header: &["pink", "pink"], ..BOB }, 429),
    ] {
        let index = kinds.iter().position(|known| *known == kind).expect(kind);
        let issuer = if caller.foreign { other.issuer() } else { fixture.idp.issuer() };
        let mut token = TokenBuilder::at(&issuer, NOW).claim("sub", caller.subject);
        for (claim, text) in caller.claims {
            let value = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
            token = token.claim(claim, value);
        }
        let bearer = token.to_bearer();
        let mut headers = vec![("Authorization", &*bearer), ("X-Forwarded-For", caller.address)];
        headers.extend(caller.header.iter().map(|value| ("X-Api-Key", *value)));
        headers.extend(caller.alias.map(|value| ("X_Api_Key", value)));
        let path = caller.path.map_or_else(|| format!("/k{index}/1"), str::to_owned);
        let response = fixture.get(&path, &headers).await;
        assert_eq!(response.status, expect, "{kind}: {name}: {}", response.text());
    }
}

/// Threat RL-1: an untrusted peer gets no new quota by claiming another address.
#[tokio::test]
async fn ignores_forwarding_headers_of_untrusted_peers() {
    let config = limited("key = \"ip\"\nrate = \"1/h\"\nburst = 1", "access = \"public\"");
    let fixture = Fixture::start(config).await;
    assert_eq!(fixture.get("/calls/1", &[("X-Forwarded-For", "192.0.2.1")]).await.status, 200);
    for field in ["X-Forwarded-For", "Forwarded", "X-Real-IP", "True-Client-IP"] {
        let value = if field == "Forwarded" { "for=198.51.100.7" } else { "198.51.100.7" };
        assert_eq!(fixture.get("/calls/1", &[(field, value)]).await.status, 429, "{field}");
    }
}

/// Threat RL-2: a client behind a trusted proxy cannot leave its quota by adding a field that the
/// proxy passes on, neither for a new one nor for that of all whose address is unknown.
#[tokio::test]
async fn no_field_that_a_client_adds_changes_its_quota() {
    let config = limited("key = \"ip\"\nrate = \"1/h\"\nburst = 1", "access = \"public\"");
    let fixture = Fixture::start(trust_loopback(config)).await;
    assert_eq!(fixture.get("/calls/1", &[]).await.status, 200, "the proxy's own quota is used up");
    let added = ["for=198.51.100.7", "for=unknown", "for=\"", "x", ""];
    for (index, value) in added.iter().enumerate() {
        let address = format!("192.0.2.{index}");
        let fields = [("X-Forwarded-For", &*address), ("Forwarded", value)];
        assert_eq!(fixture.get("/calls/1", &fields).await.status, 200, "{value}: not the quota of the proxy");
        for value in added {
            let fields = [("Forwarded", value), ("X-Forwarded-For", &*address)];
            assert_eq!(fixture.get("/calls/1", &fields).await.status, 429, "{value}: the same quota");
        }
    }
}

/// A limit by address, route or header is counted before the token is verified, and
/// so saves that work.
#[tokio::test]
async fn a_limit_by_address_counts_requests_that_are_refused_later() {
    let fixture = Fixture::start(limited("key = \"ip\"\nrate = \"1/h\"\nburst = 3", "scopes = [\"admin\"]")).await;
    let alice = fixture.bearer("alice");
    let forged = format!("Bearer {}", fixture.token().sign(&TestKey::rsa("k2").with_kid("k1")));
    for (name, authorization, status, state) in [
        ("no token", None, 401, "\"calls\";r=2;t=3600"),
        ("a forged token", Some(&forged), 401, "\"calls\";r=1;t=7200"),
        ("too little scope", Some(&alice), 403, "\"calls\";r=0;t=10800"),
        ("one too many", Some(&alice), 429, "\"calls\";r=0;t=3600"),
        ("one too many, without token", None, 429, "\"calls\";r=0;t=3600"),
    ] {
        let headers: Vec<_> = authorization.map(|value| ("Authorization", &**value)).into_iter().collect();
        let response = fixture.get("/calls/1", &headers).await;
        assert_eq!((response.status, response.headers_named("ratelimit")), (status, vec![state]), "{name}");
    }
    // The last token was not verified.
    let refused = r#"portcullis_token_verifications_total{issuer="main",result="refused",cache="miss"}"#;
    assert_eq!(fixture.gateway.count(refused).await, 1);
    assert!(fixture.origin.requests().is_empty());
}

/// Threat RL-4: only the caller itself spends its quota, and only with allowed requests.
#[tokio::test]
async fn only_allowed_requests_spend_a_limit_by_subject() {
    let fixture = Fixture::start(limited("key = \"subject\"\nrate = \"1/h\"\nburst = 1", "roles = [\"staff\"]")).await;
    let token = || fixture.token().claim("sub", "alice");
    let staff = token().claim("roles", json!(["staff"]));
    let forged = staff.sign(&TestKey::rsa("k2").with_kid("k1"));
    let (poor, good) = (token().to_jwt(), staff.to_jwt());
    for (name, token, status, is_counted) in [
        ("her subject with a forged signature", &forged, 401, false),
        ("alice without the role", &poor, 403, false),
        ("without the role, again", &poor, 403, false),
        ("with the role", &good, 200, true),
        ("with the role, again", &good, 429, true),
        ("without the role, after the quota is spent", &poor, 403, false),
    ] {
        let response = fixture.get("/calls/1", &[("Authorization", &format!("Bearer {token}"))]).await;
        assert_eq!((response.status, response.header("ratelimit").is_some()), (status, is_counted), "{name}");
    }
    fixture.get("/calls/1", &[]).await;
    assert_eq!(fixture.gateway.count(r#"portcullis_limited_total{limit="calls"}"#).await, 1);
}

/// On a route that accepts callers without a token, those are counted by address.
#[tokio::test]
async fn counts_anonymous_callers_by_address() {
    let config = limited("key = \"subject\"\nrate = \"1/h\"\nburst = 1", "access = \"optional\"");
    let fixture = Fixture::start(trust_loopback(config)).await;
    let alice = fixture.bearer("alice");
    for (name, headers, expect) in [
        ("anonymous", vec![("X-Forwarded-For", "192.0.2.1")], 200),
        ("anonymous, again", vec![("X-Forwarded-For", "192.0.2.1")], 429),
        ("anonymous, from another address", vec![("X-Forwarded-For", "192.0.2.2")], 200),
        ("alice at the first address", vec![("X-Forwarded-For", "192.0.2.1"), ("Authorization", &*alice)], 200),
    ] {
        assert_eq!(fixture.get("/calls/1", &headers).await.status, expect, "{name}");
    }
}

/// `tiers` set other rates by the value of a claim.
#[tokio::test]
async fn a_tier_sets_its_own_rate() {
    let limit =
        "key = \"subject\"\nrate = \"60/min\"\nburst = 1\ntiers = { claim = \"plan\", rates = { gold = \"600/min\" } }";
    let fixture = Fixture::start(limited(limit, "")).await;
    for (name, plan, policy, wait_millis) in [
        ("no plan", None, "\"calls\";q=60;w=60", 1_000),
        ("gold", Some(json!("gold")), "\"calls\";q=600;w=60", 100),
        ("a plan without a tier", Some(json!("Gold")), "\"calls\";q=60;w=60", 1_000),
        ("a list", Some(json!(["gold"])), "\"calls\";q=60;w=60", 1_000),
    ] {
        let mut token = fixture.token().claim("sub", name);
        if let Some(plan) = plan {
            token = token.claim("plan", plan);
        }
        let bearer = token.to_bearer();
        let call = async || fixture.get("/calls/1", &[("Authorization", &bearer)]).await;
        let first = call().await;
        assert_eq!((first.status, first.headers_named("ratelimit-policy")), (200, vec![policy]), "{name}");
        fixture.clock.advance(Duration::from_millis(wait_millis - 1));
        assert_eq!(call().await.status, 429, "{name}");
        fixture.clock.advance(Duration::from_millis(1));
        assert_eq!(call().await.status, 200, "{name}");
    }
}

/// Several limits on a route: each has its own header line. A request that one limit refuses is not
/// counted by the limits after it.
#[tokio::test]
async fn counts_several_limits_in_order_until_one_refuses() {
    let limits = r#"
[limits.address]
key = "ip"
rate = "1/h"
burst = 3
[limits.person]
key = "subject"
rate = "1/h"
burst = 2
[limits.tenant]
key = "claim:tenant"
rate = "1/h"
burst = 9
"#;
    let config = Config::minimal().append(limits).route("calls", "limits = [\"person\", \"tenant\", \"address\"]");
    let fixture = Fixture::start(config).await;
    let alice = fixture.bearer("alice");
    let bob = fixture.bearer("bob");
    let (address, person, tenant) = ("\"address\";q=1;w=3600", "\"person\";q=1;w=3600", "\"tenant\";q=1;w=3600");
    for (name, caller, status, policies, violated) in [
        ("first", &alice, 200, vec![address, person, tenant], None),
        ("second", &alice, 200, vec![address, person, tenant], None),
        ("the quota of the person is spent", &alice, 429, vec![address, person], Some("person")),
        ("the quota of the address is spent", &bob, 429, vec![address], Some("address")),
    ] {
        let response = fixture.get("/calls/1", &[("Authorization", caller)]).await;
        assert_eq!((response.status, response.headers_named("ratelimit-policy")), (status, policies.clone()), "{name}");
        assert_eq!(response.headers_named("ratelimit").len(), policies.len(), "{name}");
        if let Some(violated) = violated {
            assert_eq!(response.json()["violated-policies"], json!([violated]), "{name}");
        }
    }
    let samples = fixture.gateway.metrics().await;
    for (limit, count) in [("address", 1), ("person", 1), ("tenant", 0)] {
        assert_eq!(samples.count(&format!("portcullis_limited_total{{limit=\"{limit}\"}}")), count, "{limit}");
    }
}

/// Threat RL-5: another method, path spelling, host or protocol does not make another caller.
#[tokio::test]
async fn variants_of_a_request_share_one_quota() {
    let fixture = Fixture::start(limited("key = \"subject\"\nrate = \"1/h\"\nburst = 4", "")).await;
    let (addr, alice) = (fixture.gateway.addr(), fixture.bearer("alice"));
    let authorized = [("Authorization", &*alice)];
    let h2 = client::h2(addr).await;
    let mut statuses = vec![
        client::request(addr, "POST", "/calls/1", &authorized, b"x").await.status,
        client::request(addr, "HEAD", "/calls/%31", &authorized, b"").await.status,
        client::request(addr, "OPTIONS", "/calls/1", &authorized, b"").await.status,
        h2.get("/calls/1", &authorized).await.status,
    ];
    statuses.push(h2.get("/calls/2", &authorized).await.status);
    statuses.push(fixture.get("/calls", &[("Authorization", &alice), ("Host", "ANOTHER.example")]).await.status);
    assert_eq!(statuses, [200, 200, 200, 200, 429, 429]);
}

/// `report_only`: a request over the limit is counted, logged and forwarded.
#[tokio::test]
async fn report_only_counts_and_logs_a_rate_limit_but_forwards() {
    let fixture = Fixture::start(limited("key = \"subject\"\nrate = \"1/h\"\nburst = 1", "report_only = true")).await;
    let alice = fixture.bearer("alice");
    for expect in ["\"calls\";r=0;t=3600", "\"calls\";r=0;t=3600"] {
        let response = fixture.get("/calls/1", &[("Authorization", &alice)]).await;
        assert_eq!((response.status, response.headers_named("ratelimit")), (200, vec![expect]));
    }
    let lines = fixture.gateway.wait_for_access_lines(2).await;
    let logged: Vec<_> = lines.iter().map(|line| (&line["status"], &line["code"], &line["would_reject"])).collect();
    assert_eq!(
        logged,
        [(&json!(200), &json!(null), &json!(null)), (&json!(200), &json!(null), &json!("rate_limited"))]
    );
    let samples = fixture.gateway.metrics().await;
    assert_eq!(samples.count(r#"portcullis_would_reject_total{route="calls",code="rate_limited"}"#), 1);
    assert_eq!(samples.get(r#"portcullis_rejections_total{route="calls",code="rate_limited"}"#), None);
    assert_eq!(fixture.origin.requests().len(), 2);
}
