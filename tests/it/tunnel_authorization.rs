//! Tunnels are authorized for as long as they are open: the request that opened one is decided on
//! again with each new key set and each reload.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::Conn;
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::origin::{Behaviour, Origin};
use crate::support::token::TestKey;

/// The default `jwks_cooldown`, and a second.
const COOLDOWN: Duration = Duration::from_secs(31);

async fn open(fixture: &Fixture, path: &str, lines: &str) -> Conn {
    fixture.origin.behave(path, Behaviour::Upgrade);
    let mut conn = fixture.connect().await;
    let head = "Host: g\r\nConnection: Upgrade\r\nUpgrade: websocket";
    conn.send(format!("GET {path} HTTP/1.1\r\n{head}\r\n{lines}\r\n")).await;
    let response = conn.read_response().await;
    assert_eq!(response.status, 101, "{}", response.text());
    conn
}

async fn open_with_token(fixture: &Fixture, path: &str) -> Conn {
    let bearer = fixture.token().scope("orders:read").to_bearer();
    open(fixture, path, &format!("Authorization: {bearer}\r\n")).await
}

async fn echo(conn: &mut Conn, text: &str) {
    conn.send(text).await;
    assert_eq!(String::from_utf8_lossy(&conn.read_bytes(text.len()).await), text);
}

/// Waits until the gateway has closed the tunnel on both sides, and returns its log line.
async fn line_of_closed(fixture: &Fixture, conn: &mut Conn) -> Value {
    assert_eq!(conn.read_to_close().await, b"");
    fixture.origin.wait_for_open_connections(0).await;
    let mut lines = 1;
    loop {
        let all = fixture.gateway.wait_for_access_lines(lines).await;
        if let Some(line) = all.iter().find(|line| line["status"] == 101) {
            return line.clone();
        }
        lines = all.len() + 1;
    }
}

fn ended(upstream: &str, reason: &str) -> String {
    format!("portcullis_tunnels_ended_total{{upstream=\"{upstream}\",reason=\"{reason}\"}}")
}

/// Threats UP-7, D6: a revoked key ends the tunnels that its tokens have opened.
#[tokio::test]
async fn a_tunnel_ends_when_its_key_leaves_the_key_set() {
    let fixture = Fixture::start(Config::minimal().one_worker()).await;
    let mut conn = open_with_token(&fixture, "/token/ws").await;
    let (old, new) = (TestKey::rsa("k1"), TestKey::es256("e1"));
    for (name, keys, by) in
        [("another key appears", vec![&old, &new], &new), ("nothing changes", vec![&old, &new], &TestKey::rsa("none"))]
    {
        fixture.idp.set_keys(&keys);
        fixture.clock.advance(COOLDOWN);
        let fetches = fixture.idp.fetches();
        fixture.get_with_token("/token/x", &fixture.token().sign(by)).await;
        assert_eq!(fixture.idp.fetches(), fetches + 1, "{name}");
        echo(&mut conn, name).await;
    }
    fixture.idp.set_keys(&[&new]);
    fixture.clock.advance(COOLDOWN);
    fixture.get_with_token("/token/x", &fixture.token().sign(&TestKey::rsa("unknown"))).await;
    let line = line_of_closed(&fixture, &mut conn).await;
    assert_eq!(json!([line["status"], line["reason"]]), json!([101, "the token is no longer valid"]));
    assert_eq!(fixture.gateway.count(&ended("main", "refused")).await, 1);
}

/// Threat UP-7: a reload applies to open tunnels, by the same decision as to new requests.
#[tokio::test]
async fn a_tunnel_ends_when_a_reload_no_longer_admits_its_request() {
    let other = Origin::start().await;
    let base = || Config::minimal().route("ws", "path = \"/ws\"");
    let public = || Config::minimal().route("ws", "path = \"/ws\"\naccess = \"public\"");
    let moved = base().upstream("other", &[other.addr()], "");
    for (name, before, after, reason) in [
        ("the route is removed", base(), Config::minimal(), "route_not_found"),
        ("another scope is asked for", base(), base().add("routes.ws", "scopes = [\"other\"]"), "lacks a scope"),
        ("a public route asks for a token", public(), base(), "credentials_missing"),
        (
            "a stricter route covers the path",
            base().replace("routes.ws", "path = \"/*\""),
            base().replace("routes.ws", "path = \"/*\"").route("strict", "path = \"/ws\"\nroles = [\"admin\"]"),
            "lacks a role",
        ),
        (
            "the issuer's settings change",
            base(),
            base().replace("issuers.main", "audiences = [\"api\", \"more\"]"),
            "the token is no longer valid",
        ),
        (
            "the route leads elsewhere",
            base(),
            moved.replace("routes.ws", "upstream = \"other\""),
            "the route leads to other servers",
        ),
    ] {
        let fixture = Fixture::start(before).await;
        let mut conn = open_with_token(&fixture, "/ws").await;
        echo(&mut conn, name).await;
        fixture.reload(after).await;
        let line = line_of_closed(&fixture, &mut conn).await;
        assert_eq!(json!([line["status"], line["reason"]]), json!([101, reason]), "{name}");
        assert_eq!(fixture.gateway.access_lines().len(), 1, "{name}: only the request is logged");
        assert_eq!(fixture.gateway.count(&ended("main", "refused")).await, 1, "{name}");
    }
}

/// A reload that still admits the request leaves its tunnel open, and counts against no limit.
#[tokio::test]
async fn a_tunnel_stays_open_when_a_reload_still_admits_its_request() {
    let base = || {
        Config::minimal()
            .append("[limits.one]\nkey = \"ip\"\nrate = \"1/h\"\nburst = 2\n[limits.caller]\nkey = \"subject\"\nrate = \"1/h\"\nburst = 2")
            .route("ws", "path = \"/ws\"\nlimits = [\"one\", \"caller\"]")
    };
    let fixture = Fixture::start(base()).await;
    let mut conn = open_with_token(&fixture, "/ws").await;
    for (name, config) in [
        ("another route", base().route("more", "access = \"public\"")),
        ("the same file", base()),
        ("a scope that the token has", base().add("routes.ws", "scopes = [\"orders:read\"]")),
        ("other identity headers", base().append("[identity.headers]\nX-User = \"subject\"")),
        ("another setting of the upstream", base().add("upstreams.main", "keep_alive = \"3s\"")),
    ] {
        fixture.reload(config).await;
        echo(&mut conn, name).await;
    }
    let bearer = fixture.bearer("bob");
    fixture.reload(base()).await;
    let headers = [("authorization", bearer.as_str())];
    assert!(fixture.get("/ws", &headers).await.header("ratelimit").is_some());
    assert_eq!(fixture.get("/ws", &headers).await.status, 429, "only the two requests have counted");
    echo(&mut conn, "still open").await;
    assert_eq!(fixture.gateway.wait_for_access_lines(2).await.len(), 2, "only the requests are logged");
}
