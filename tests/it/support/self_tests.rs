//! Tests of the fixtures themselves: a test is worth no more than its fixtures.

use serde_json::json;

use super::client::{self, Conn};
use super::config::Config;
use super::gateway::Samples;
use super::idp::Idp;
use super::nginx::Nginx;
use super::origin::{Behaviour, Origin};
use super::provider::Provider;
use super::raw_origin::{RawOrigin, Step};
use super::token::{TestKey, TokenBuilder};
use super::wire::{Body, Framing};

#[test]
fn an_independent_library_verifies_the_tokens() {
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    for (name, key, algorithm) in [
        ("RSA", TestKey::rsa("k1"), Algorithm::RS256),
        ("RSA with PSS", TestKey::rsa("k1").with_algorithm("PS384"), Algorithm::PS384),
        ("P-256", TestKey::es256("e1"), Algorithm::ES256),
        ("P-384", TestKey::es384("e2"), Algorithm::ES384),
        ("Ed25519", TestKey::ed25519("d1"), Algorithm::EdDSA),
    ] {
        let token = TokenBuilder::new("https://idp.test").claim("roles", json!(["admin"])).sign(&key);
        let jwk = serde_json::from_value(key.public_jwk()).expect(name);
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&["api"]);
        let decoded = decode::<serde_json::Value>(&token, &DecodingKey::from_jwk(&jwk).expect(name), &validation);
        let decoded = decoded.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(decoded.claims["roles"], json!(["admin"]), "{name}");
        assert_eq!(decoded.header.kid.as_deref(), Some(key.kid()), "{name}");
    }
}

#[test]
fn one_kid_always_means_the_same_key() {
    assert_eq!(TestKey::rsa("k1").public_jwk(), TestKey::rsa("k1").public_jwk());
    assert_ne!(TestKey::rsa("k1").public_jwk()["n"], TestKey::rsa("k2").with_kid("k1").public_jwk()["n"]);
}

#[test]
fn a_chunked_body_ends_at_its_last_chunk() {
    for (name, bytes, expect) in [
        ("whole", "3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\nNEXT", Some(("abcde", 30))),
        ("without trailer", "1\r\na\r\n0\r\n\r\n", Some(("a", 11))),
        ("cut in a chunk", "3\r\nab", None),
        ("cut before the end", "1\r\na\r\n0\r\n", None),
    ] {
        let body = Body::parse(Framing::Chunked, bytes.as_bytes(), false);
        let expect = expect.map(|(content, length)| Body { content: content.as_bytes().to_vec(), length });
        assert_eq!(body, expect, "{name}");
    }
}

#[test]
fn edits_of_the_configuration_change_what_they_name() {
    let config = Config::minimal()
        .add("issuers.main", "leeway = \"5s\"")
        .replace("routes.scope", "scopes = [\"other\"]")
        .append("[limits.calls]\nkey = \"ip\"")
        .route("extra", "access = \"public\"");
    let origin = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let text = config.to_toml("https://idp.test", origin);
    for part in [
        "issuer = \"https://idp.test\"\n",
        "leeway = \"5s\"\n",
        "servers = [\"http://127.0.0.1:9\"]\n",
        "scopes = [\"other\"]\n",
        "[limits.calls]\nkey = \"ip\"\n",
        "path = \"/extra/*\"\n",
    ] {
        assert_eq!(text.matches(part).count(), 1, "{part} in\n{text}");
    }
}

#[test]
fn an_edit_that_does_not_fit_the_configuration_panics() {
    type Edit = fn(Config) -> Config;
    let rows: [(&str, Edit); 10] = [
        ("an existing key", |config| config.add("server", "workers = 3")),
        ("a missing table", |config| config.add("issuers.other", "leeway = \"5s\"")),
        ("a missing route", |config| config.add("routes.other", "methods = [\"GET\"]")),
        ("no line", |config| config.add("server", "")),
        ("a missing key to replace", |config| config.replace("server", "realm = \"x\"")),
        ("the current value", |config| config.replace("server", "workers = 2")),
        ("an existing key of a table", |config| config.append("[server]\nworkers = 3")),
        ("an existing route name", |config| config.route("scope", "")),
        ("a value in place of a table", |config| config.append("server = 1")),
        ("not TOML", |config| config.append("[server")),
    ];
    for (name, edit) in rows {
        assert!(std::panic::catch_unwind(|| edit(Config::minimal())).is_err(), "{name}");
    }
}

#[tokio::test]
async fn the_idp_counts_fetches_fails_and_recovers() {
    let mut idp = Idp::reserve();
    let addr = idp.issuer().trim_start_matches("http://").parse().expect("an address");
    assert!(tokio::net::TcpStream::connect(addr).await.is_err(), "no listener yet");
    idp.listen().await;
    idp.set_header("Cache-Control", "no-store");
    let discovery = client::get(addr, "/.well-known/openid-configuration", &[]).await;
    assert_eq!(discovery.json()["issuer"], json!(idp.issuer()));
    assert_eq!(discovery.header("cache-control"), Some("no-store"));
    idp.set_keys(&[&TestKey::rsa("k1"), &TestKey::es256("e1")]);
    assert_eq!(client::get(addr, "/jwks", &[]).await.json()["keys"][1]["kid"], json!("e1"));
    idp.fail_with(503);
    assert_eq!(client::get(addr, "/jwks", &[]).await.status, 503);
    idp.hang();
    let mut waiting = Conn::open(addr).await;
    waiting.send("GET /jwks HTTP/1.1\r\nHost: a\r\n\r\n").await;
    idp.wait_for_fetches(3).await;
    idp.stop().await;
    assert!(tokio::net::TcpStream::connect(addr).await.is_err(), "no listener any more");
    assert_eq!(waiting.read_to_close().await, b"", "a hung request gets no response");
    idp.recover();
    idp.listen().await;
    assert_eq!(client::get(addr, "/jwks", &[]).await.status, 200);
    assert_eq!((idp.fetches(), idp.discovery_fetches()), (4, 1));
}

#[tokio::test]
async fn the_origin_echoes_and_misbehaves_on_demand() {
    let origin = Origin::start().await;
    let echoed = client::request(origin.addr(), "POST", "/a?b=c", &[("X-A", "1"), ("X-A", "2")], b"hello").await.json();
    assert_eq!((&echoed["method"], &echoed["target"]), (&json!("POST"), &json!("/a?b=c")));
    assert_eq!(
        (&echoed["body"], &echoed["body_length"], &echoed["complete"]),
        (&json!("hello"), &json!(5), &json!(true))
    );
    let sent = origin.requests()[0].headers.iter().filter(|(name, _)| name == "x-a").count();
    assert_eq!(sent, 2);

    origin.behave("/teapot", Behaviour::response(418, &[("x-b", "3")], "short"));
    let response = client::get(origin.addr(), "/teapot", &[]).await;
    assert_eq!((response.status, response.header("X-B"), &*response.text()), (418, Some("3"), "short"));

    origin.behave("/large", Behaviour::Large(100_000));
    assert_eq!(client::get(origin.addr(), "/large", &[]).await.body.len(), 100_000);

    origin.behave("/gone", Behaviour::CloseBeforeHead);
    assert_eq!(client::raw(origin.addr(), "GET /gone HTTP/1.1\r\nHost: a\r\n\r\n").await, "");

    origin.behave("/cut", Behaviour::CloseMidBody { announced: Some(9), sent: "four".into() });
    let cut = client::raw(origin.addr(), "GET /cut HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(cut.contains("content-length: 9") && cut.ends_with("\r\n\r\nfour"), "{cut}");

    let chunks = origin.stream("/stream");
    let mut conn = Conn::open(origin.addr()).await;
    conn.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(conn.read_head().await.status, 200);
    chunks.send("one");
    conn.read_until("3\r\none\r\n").await;
    chunks.finish();
    conn.read_until("0\r\n\r\n").await;

    origin.behave("/upgrade", Behaviour::Upgrade);
    conn.send("GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").await;
    assert_eq!(conn.read_response().await.header("upgrade"), Some("echo"));
    conn.send("ping").await;
    assert_eq!(conn.read_bytes(4).await, b"ping");
    origin.wait_for_open_connections(1).await;
    drop(conn);
    origin.wait_for_open_connections(0).await;
}

#[tokio::test]
async fn the_raw_origin_records_bytes_and_follows_its_script() {
    let steps = [Step::response("HTTP/1.1 204 No Content\r\n\r\n"), Step::response_and_close("nonsense")];
    let origin = RawOrigin::start(steps).await;
    let mut conn = Conn::open(origin.addr()).await;
    conn.send("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n").await;
    assert_eq!(conn.read_response().await.status, 204);
    conn.send("GET /2 HTTP/1.1\r\n\r\n").await;
    assert_eq!(conn.read_to_close().await, b"nonsense");
    assert!(origin.received()[0].ends_with("0\r\n\r\nGET /2 HTTP/1.1\r\n\r\n"));
}

#[tokio::test]
async fn the_provider_issues_tokens_and_rotates_its_keys() {
    let Some(provider) = Provider::start().await else { return };
    let addr = provider.issuer().trim_start_matches("http://").parse().expect("an address");
    assert_eq!(provider.token("orders:read", Provider::RESOURCE).await.split('.').count(), 3);
    assert_eq!(provider.token("orders:read", Provider::OPAQUE_RESOURCE).await.split('.').count(), 1);
    let mut kids = Vec::new();
    for drop_old in [false, true] {
        provider.rotate(drop_old).await;
        let keys = client::get(addr, "/jwks", &[]).await.json();
        kids.push(keys["keys"].as_array().expect("keys").len());
    }
    assert_eq!((kids, provider.jwks_fetches().await), (vec![2, 1], 2));
}

#[tokio::test]
async fn nginx_serves_files_and_passes_upgrades() {
    let origin = Origin::start().await;
    origin.behave("/proxied/upgrade", Behaviour::Upgrade);
    let Some(nginx) = Nginx::start(origin.addr()).await else { return };
    let document = client::get(nginx.addr(), "/orders/1", &[]).await;
    assert_eq!((document.body.len(), document.text()), (120, Nginx::DOCUMENT.to_owned()));
    assert_eq!(client::get(nginx.addr(), "/big", &[]).await.body.len(), Nginx::BIG_BYTES);
    let mut conn = Conn::open(nginx.addr()).await;
    let upgrade = [("Connection", "upgrade"), ("Upgrade", "websocket")];
    assert_eq!(conn.request("GET", "/proxied/upgrade", &upgrade, b"").await.status, 101);
    conn.send("ping").await;
    assert_eq!(conn.read_bytes(4).await, b"ping");
    assert_eq!(nginx.error_log(), "");
}

#[test]
fn finds_samples_with_labels_in_any_order() {
    let text = "# TYPE a counter\na_total{x=\"1\",y=\"2\"} 3\n# TYPE b gauge\nb 0.5\n# EOF\n";
    let samples = Samples::parse(text);
    assert_eq!((samples.get(r#"a_total{y="2",x="1"}"#), samples.get("b")), (Some(3.0), Some(0.5)));
    assert_eq!((samples.get("a_total"), samples.value(r#"a_total{x="9"}"#)), (None, 0.0));
    assert!(std::panic::catch_unwind(|| samples.value("misspelt_total")).is_err());
}
