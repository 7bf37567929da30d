//! Reload: all or nothing, while requests continue.

use std::time::Duration;

use portcullis::clock::Clock;

use crate::support::client;
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::gateway::Gateway;
use crate::support::idp::Idp;
use crate::support::origin::{Behaviour, Origin};
use crate::support::temporary::TempDir;
use crate::support::with_deadline;

/// A certificate of an authority that has signed nothing; valid until 2126.
const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBjDCCATGgAwIBAgIUJmghBotqaxIVRh0VphczeHSSOSswCgYIKoZIzj0EAwIw\n\
GjEYMBYGA1UEAwwPcG9ydGN1bGxpcyB0ZXN0MCAXDTI2MTEyNzAwNTcwM1oYDzIx\n\
MjYxMTAzMDA1NzAzWjAaMRgwFgYDVQQDDA9wb3J0Y3VsbGlzIHRlc3QwWTATBgcq\n\
hkjOPQIBBggqhkjOPQMBBwNCAAQbsWeIurlMJmvAaNkUBhhxa/pYycEAMCcW2E8q\n\
CX3XwkFV6ZeNQPDtrdTasNAuU/GtcRed5JxGdtVp1ZAoImjBo1MwUTAdBgNVHQ4E\n\
FgQUANiFMtnVuap9etohmgQ8lBg2E4swHwYDVR0jBBgwFoAUANiFMtnVuap9etoh\n\
mgQ8lBg2E4swDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEA8naf\n\
UOaoNXPQ1/kl8fL61vqjp6ph315G8hSKsqLxIVYCIQC1ra412blAMOAdWaMCortT\n\
6D3qn+0PuWYV5U1D8C25Tw==\n\
-----END CERTIFICATE-----\n";

/// The minimal configuration and one more route.
fn extended() -> Config {
    Config::minimal().route("extra", "path = \"/extra\"\naccess = \"public\"")
}

#[tokio::test]
async fn a_valid_file_takes_effect_at_once_and_is_counted() {
    let fixture = Fixture::start(Config::minimal()).await;
    assert_eq!(fixture.get("/extra", &[]).await.status, 404);
    fixture.reload(extended()).await;
    assert_eq!(fixture.get("/extra", &[]).await.status, 200);
    assert_eq!(fixture.gateway.count("portcullis_config_reloads_total{result=\"success\"}").await, 1);
}

#[tokio::test]
async fn an_invalid_file_is_rejected_reported_and_counted() {
    let fixture = Fixture::start(extended()).await;
    let no_file = "[issuers.b]\nissuer = \"b\"\naudiences = [\"b\"]\njwks_file = \"/none\"";
    fixture.gateway.rewrite("[server");
    let error = fixture.gateway.reload().await.expect_err("not TOML").to_string();
    assert!(error.contains("line 1"), "{error}");
    assert_eq!(fixture.get("/extra", &[]).await.status, 200, "not TOML: the old configuration is still active");
    for (name, config, message) in [
        ("an unknown key", extended().append("[servr]\nworkers = 1"), "unknown key `servr`"),
        ("an unknown upstream", extended().replace("routes.extra", "upstream = \"man\""), "did you mean `main`?"),
        ("a key file that is not there", extended().append(no_file), "/none"),
    ] {
        let error = fixture.try_reload(config).await.expect_err(name).to_string();
        assert!(error.contains(message), "{name}: {error}");
        assert_eq!(fixture.get("/extra", &[]).await.status, 200, "{name}: the old configuration is still active");
    }
    assert_eq!(fixture.gateway.count("portcullis_config_reloads_total{result=\"failure\"}").await, 4);
}

#[tokio::test]
async fn rejects_a_reload_that_needs_a_restart_and_names_the_key() {
    let fixture = Fixture::start(Config::minimal()).await;
    for (table, line, key) in [
        ("server", "listen = \"127.0.0.2:0\"", "server.listen"),
        ("server", "listen = \"unix:/run/http.sock\"", "server.listen"),
        ("server", "workers = 3", "server.workers"),
        ("admin", "listen = \"off\"", "admin.listen"),
    ] {
        let error = fixture.try_reload(extended().replace(table, line)).await.expect_err(key).to_string();
        assert!(error.starts_with(key), "{error}");
        assert_eq!(fixture.get("/extra", &[]).await.status, 404, "{key}: no part of the file applies");
    }
}

#[tokio::test]
async fn reloads_a_changed_file_without_a_signal() {
    let (idp, origin) = (Idp::start().await, Origin::start().await);
    let toml = |config: Config| config.to_toml(&idp.issuer(), origin.addr());
    let interval = Duration::from_millis(10);
    let gateway = Gateway::start_watching(&toml(Config::minimal()), Clock::system(), interval).await;
    gateway.rewrite(&toml(extended()));
    gateway.wait_for_metric("portcullis_config_reloads_total{result=\"success\"}", 1.0).await;
    assert_eq!(client::get(gateway.addr(), "/extra", &[]).await.status, 200);
    gateway.rewrite("nonsense");
    gateway.wait_for_metric("portcullis_config_reloads_total{result=\"failure\"}", 1.0).await;
    // The response takes several intervals: an invalid file is tried once, not at every check.
    origin.behave("/public/slow", Behaviour::SlowBody { pieces: vec!["x".into(); 6], every: 2 * interval });
    assert_eq!(client::get(gateway.addr(), "/public/slow", &[]).await.text(), "xxxxxx");
    gateway.rewrite(&toml(Config::minimal()));
    gateway.wait_for_metric("portcullis_config_reloads_total{result=\"success\"}", 2.0).await;
    assert_eq!(gateway.count("portcullis_config_reloads_total{result=\"failure\"}").await, 1);
}

#[tokio::test]
async fn an_active_request_keeps_the_configuration_it_started_with() {
    let fixture = Fixture::start(extended()).await;
    let chunks = fixture.origin.stream("/extra");
    let mut connection = fixture.connect().await;
    connection.send("GET /extra HTTP/1.1\r\nHost: gateway\r\n\r\n").await;
    chunks.send("before ");
    assert_eq!(connection.read_head().await.status, 200);
    fixture.reload(Config::minimal()).await;
    assert_eq!(fixture.get("/extra", &[]).await.status, 404, "a new request");
    chunks.send("after");
    chunks.finish();
    assert!(connection.read_until("after").await.contains("before"));
}

#[tokio::test]
async fn a_reload_keeps_the_counts_of_an_unchanged_limit() {
    let limited = |config: Config| {
        let table = "[limits.two]\nkey = \"ip\"\nrate = \"1/h\"\nburst = 2";
        config.append(table).route("l", "path = \"/l\"\naccess = \"public\"\nlimits = [\"two\"]")
    };
    let fixture = Fixture::start(limited(Config::minimal())).await;
    assert_eq!(fixture.get("/l", &[]).await.status, 200);
    assert_eq!(fixture.get("/l", &[]).await.status, 200);
    fixture.reload(limited(extended())).await;
    assert_eq!(fixture.get("/l", &[]).await.status, 429, "the quota is still spent");
    fixture.reload(limited(Config::minimal()).replace("limits.two", "burst = 3")).await;
    assert_eq!(fixture.get("/l", &[]).await.status, 200, "a changed limit starts with a full quota");
}

#[tokio::test]
async fn a_reload_keeps_the_fetched_keys() {
    let fixture = Fixture::start(Config::minimal()).await;
    assert_eq!(fixture.get("/token/a", &[("authorization", &fixture.bearer("alice"))]).await.status, 200);
    let before = fixture.idp.fetches();
    fixture.reload(extended()).await;
    fixture.reload(Config::minimal().append("[identity.headers]\nX-User = \"subject\"")).await;
    let response = fixture.get("/token/a", &[("authorization", &fixture.bearer("alice"))]).await;
    assert_eq!(response.status, 200);
    assert_eq!(fixture.idp.fetches(), before, "a reload fetches nothing");
    let seen = fixture.origin.requests().pop().expect("the request");
    assert_eq!((seen.header("x-user"), seen.header("x-identity-subject")), (Some("alice"), None));
}

/// A provider that is down cannot give keys again, so a reload must not throw good ones away: they
/// are the issuer's, whatever the timing, the name or the certificates of its provider are.
#[tokio::test]
async fn a_reload_keeps_the_keys_of_an_issuer_while_its_provider_is_down() {
    let directory = TempDir::new();
    let authorities = directory.write("ca.pem", CERTIFICATE);
    let with = |line: &str| Config::minimal().add("issuers.main", line);
    let fixture = Fixture::start(Config::minimal()).await;
    let cached = fixture.good_token();
    assert_eq!(fixture.get_with_token("/token/a", &cached).await.status, 200);
    fixture.idp.fail_with(500);
    for (name, issuer, config) in [
        ("jwks_cooldown", "main", with("jwks_cooldown = \"10s\"")),
        ("jwks_refresh", "main", with("jwks_refresh = \"1m\"")),
        ("jwks_max_stale", "main", with("jwks_max_stale = \"1h\"")),
        ("the name", "renamed", Config::minimal()),
        ("the name and the timing", "main", with("jwks_refresh = \"1m\"")),
        ("ca_file", "main", with(&format!("ca_file = \"{}\"", authorities.display()))),
        (
            "the keys' address in place of discovery",
            "main",
            with(&format!("jwks_url = \"{}\"", fixture.idp.jwks_url())),
        ),
    ] {
        let toml = config.to_toml(&fixture.idp.issuer(), fixture.origin.addr());
        fixture.gateway.rewrite(&toml.replace("[issuers.main]", &format!("[issuers.{issuer}]")));
        fixture.gateway.reload().await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let fresh = fixture.token().claim("sub", name).to_jwt();
        assert_eq!(fixture.get_with_token("/token/a", &cached).await.status, 200, "cached, {name}");
        assert_eq!(fixture.get_with_token("/token/a", &fresh).await.status, 200, "fresh, {name}");
        assert_eq!(client::get(fixture.gateway.admin(), "/readyz", &[]).await.status, 200, "{name}");
        assert_eq!(fixture.gateway.count(&format!("portcullis_jwks_keys{{issuer=\"{issuer}\"}}")).await, 1, "{name}");
    }
}

/// New times apply to the keys that are in use: their age counts from when they were fetched.
#[tokio::test]
async fn a_reload_changes_the_timing_of_the_keys_in_use() {
    let fixture = Fixture::start(Config::minimal()).await;
    let token = fixture.token().claim("exp", 1_900_000_000).to_jwt();
    assert_eq!(fixture.get_with_token("/token/a", &token).await.status, 200);
    fixture.clock.advance(Duration::from_secs(120));
    fixture.idp.fail_with(500);
    fixture.reload(Config::minimal().add("issuers.main", "jwks_refresh = \"1m\"")).await;
    fixture.gateway.wait_for_metric("portcullis_jwks_refreshes_total{issuer=\"main\",result=\"failure\"}", 1.0).await;
    fixture.reload(Config::minimal().add("issuers.main", "jwks_max_stale = \"1m\"")).await;
    assert_eq!(fixture.get_with_token("/token/a", &token).await.status, 503, "older than the new limit");
    fixture.reload(Config::minimal().add("issuers.main", "jwks_max_stale = \"1h\"")).await;
    assert_eq!(fixture.get_with_token("/token/a", &token).await.status, 200);
}

/// Verdicts do not depend on the timing. If a change of it ended them, an address that is over its
/// `auth_failures` could send no good token any more.
#[tokio::test]
async fn a_reload_of_the_timing_keeps_cached_verdicts() {
    let fixture = Fixture::start(Config::minimal()).await;
    let token = fixture.good_token();
    assert_eq!(fixture.get_with_token("/token/a", &token).await.status, 200);
    fixture.reload(Config::minimal().add("issuers.main", "jwks_cooldown = \"10s\"")).await;
    assert_eq!(fixture.get_with_token("/token/a", &token).await.status, 200);
    assert_eq!(fixture.verifications("accepted", "hit").await, 1);
    fixture.reload(Config::minimal().add("issuers.main", "leeway = \"10s\"")).await;
    assert_eq!(fixture.get_with_token("/token/a", &token).await.status, 200);
    assert_eq!(fixture.verifications("accepted", "hit").await, 1, "other settings do end them");
}

/// A pipe that nothing is written to would hold up whoever opens it. The gateway rejects it, and
/// goes on to reload, to refresh keys and to stop.
#[tokio::test]
async fn a_reload_with_a_file_that_is_a_pipe_is_rejected_and_holds_nothing_up() {
    let (fixture, directory) = (Fixture::start(Config::minimal()).await, TempDir::new());
    let pipe = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo can be run").success());
    for key in ["jwks_file", "ca_file"] {
        let config = Config::minimal().add("issuers.main", &format!("{key} = \"{}\"", pipe.display()));
        let error = fixture.try_reload(config).await.expect_err(key).to_string();
        assert!(error.contains("issuers.main") && error.contains("not a regular file"), "{key}: {error}");
    }
    fixture.reload(extended()).await;
    assert_eq!(fixture.get("/extra", &[]).await.status, 200);
    fixture.gateway.drain();
    fixture.gateway.wait_for_end().await;
}

/// Keys from another source are not known to be the issuer's. Readiness says that they are gone.
#[tokio::test]
async fn a_reload_that_loses_the_keys_of_an_issuer_is_not_ready() {
    let (fixture, mut elsewhere) = (Fixture::start(Config::minimal()).await, Idp::reserve());
    let token = fixture.good_token();
    assert_eq!(fixture.get_with_token("/token/a", &token).await.status, 200);
    let moved = Config::minimal().add("issuers.main", &format!("jwks_url = \"{}\"", elsewhere.jwks_url()));
    fixture.reload(moved).await;
    assert_eq!(fixture.get_with_token("/token/a", &token).await.status, 503);
    let readiness = client::get(fixture.gateway.admin(), "/readyz", &[]).await;
    assert_eq!(readiness.status, 503);
    assert!(readiness.text().contains("issuer main has no usable keys"), "{}", readiness.text());
    assert_eq!(fixture.gateway.count("portcullis_jwks_keys{issuer=\"main\"}").await, 0);
    elsewhere.listen().await;
    fixture.clock.advance(Duration::from_secs(31));
    with_deadline("readiness", async {
        while client::get(fixture.gateway.admin(), "/readyz", &[]).await.status != 200 {}
    })
    .await;
    assert_eq!(fixture.get_with_token("/token/a", &token).await.status, 200);
}
