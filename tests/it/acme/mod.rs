//! Certificates by ACME: what a gateway does before it has one, with one on disk, and with an ACME
//! server that fails. `make test-acme` checks whole orders with Pebble.

mod orders;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::certificates::{CertificateFiles, Issued, authority};
use crate::support::client;
use crate::support::config::Config;
use crate::support::fixture::{Fixture, NOW};
use crate::support::server::{self, Server};
use crate::support::temporary::TempDir;
use crate::support::tls::{TlsClient, presented};

const DAY: u64 = 24 * 60 * 60;

/// 4096-01-01, when certificates expire unless a test wants something else.
const END: u64 = 67_090_118_400;

const FAILURES: &str = "portcullis_acme_orders_total{result=\"failure\"}";

/// An ACME server that responds the same to every request.
struct FakeAcme {
    url: String,
    response: Arc<Mutex<String>>,
    requests: Arc<AtomicUsize>,
    _server: Server,
}

impl FakeAcme {
    async fn start(response: &str) -> Self {
        let (listener, addr) = server::bind().await;
        let (response, requests) = (Arc::new(Mutex::new(response.to_owned())), Arc::<AtomicUsize>::default());
        let shared = (Arc::clone(&response), Arc::clone(&requests));
        let running = Server::start(listener, move |mut connection| {
            let (response, requests) = shared.clone();
            async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    if connection.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                requests.fetch_add(1, Ordering::SeqCst);
                let response = response.lock().expect("no panic while it is locked").clone();
                let _ = connection.write_all(response.as_bytes()).await;
            }
        });
        Self { url: format!("http://{addr}/directory"), response, requests, _server: running }
    }

    fn respond(&self, response: &str) {
        response.clone_into(&mut self.response.lock().expect("no panic while it is locked"));
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn response(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}", body.len())
}

/// A state directory that does not exist yet.
struct State(TempDir);

impl State {
    fn new() -> Self {
        Self(TempDir::new())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("acme").join(name)
    }

    /// Writes a certificate as an earlier process would have.
    fn write_certificate(&self, host: &str, issued: &Issued, directory: &str) {
        std::fs::create_dir_all(self.path("certificates")).expect("a directory for the test");
        let text = format!("Obtained from {directory}\n{}{}", issued.key.serialize_pem(), issued.certificate.pem());
        std::fs::write(self.path(&format!("certificates/{host}.pem")), text).expect("a file for the test");
    }

    /// The stored attempts for a host.
    fn attempt(&self, host: &str) -> Value {
        let text = std::fs::read(self.path(&format!("attempts/{host}.json"))).expect("an attempt was stored");
        serde_json::from_slice(&text).expect("an attempt is JSON")
    }

    fn table(&self, hosts: &[&str], directory: &str, more: &str) -> String {
        let state_dir = self.path("").display().to_string();
        format!(
            "acme = {{ hosts = {hosts:?}, terms_agreed = true, directory = {directory:?}, state_dir = {state_dir:?}{more} }}"
        )
    }

    fn config(&self, hosts: &[&str], server: &FakeAcme) -> Config {
        Config::minimal().add("server", &format!("tls = {{ {} }}", self.table(hosts, &server.url, "")))
    }
}

/// A certificate that is valid until the year 4096, and not due before the year 3300.
fn issue(host: &str) -> Issued {
    authority().issue(&[host])
}

async fn reasons(site: &Fixture) -> String {
    client::get(site.gateway.admin(), "/readyz", &[]).await.json()["reasons"].to_string()
}

/// Threat AC-2.
#[tokio::test]
async fn attempts_become_rarer_while_the_acme_server_fails() {
    let (state, server) = (State::new(), FakeAcme::start(&response("500 Oops", "", "<html>")).await);
    let site = Fixture::start(state.config(&["api.test"], &server)).await;
    for (number, (what, answer)) in [
        ("an error page", response("500 Oops", "", "<html>")),
        ("no JSON", response("200 OK", "", "directory")),
        ("JSON, but no directory", response("200 OK", "", "{}")),
        ("a problem", response("403 Forbidden", "", r#"{"type":"urn:ietf:params:acme:error:unauthorized"}"#)),
    ]
    .into_iter()
    .enumerate()
    {
        let failures = u32::try_from(number).unwrap() + 1;
        site.gateway.wait_for_metric(FAILURES, f64::from(failures)).await;
        // 1, 4, 16 and 64 minutes, and a fifth of it at most.
        let pause = 60 * 4_u64.pow(failures - 1);
        let now = site.clock.clock().now().seconds();
        let attempt = state.attempt("api.test");
        assert_eq!(attempt["failures"], failures, "{what}");
        let next = attempt["next"].as_u64().unwrap();
        assert!((now + pause..=now + pause + pause / 5).contains(&next), "{what}: {next} after {now}");
        let requests = server.requests();
        site.clock.advance(Duration::from_secs(next - now - 1));
        site.gateway.reload().await.unwrap();
        site.gateway.wait_for_metric(FAILURES, f64::from(failures)).await;
        assert_eq!(server.requests(), requests, "{what}: not before its time");
        server.respond(&answer);
        site.clock.advance(Duration::from_secs(1));
        site.gateway.reload().await.unwrap();
    }
    site.gateway.wait_for_metric(FAILURES, 5.0).await;
    assert_eq!(site.gateway.count(FAILURES).await, 5);
}

#[tokio::test]
async fn a_longer_retry_after_of_the_server_is_respected() {
    let limited =
        response("429 Slow Down", "Retry-After: 7200\r\n", r#"{"type":"urn:ietf:params:acme:error:rateLimited"}"#);
    let (state, server) = (State::new(), FakeAcme::start(&limited).await);
    let site = Fixture::start(state.config(&["api.test"], &server)).await;
    site.gateway.wait_for_metric(FAILURES, 1.0).await;
    site.gateway.stop().await;
    assert_eq!(state.attempt("api.test")["next"], NOW + 7200);
}

#[tokio::test]
async fn failed_attempts_survive_a_restart_and_not_a_change_of_the_settings() {
    let (state, server) = (State::new(), FakeAcme::start(&response("500 Oops", "", "")).await);
    let config = || state.config(&["api.test"], &server);
    let site = Fixture::start(config()).await;
    site.gateway.wait_for_metric(FAILURES, 1.0).await;
    site.gateway.stop().await;
    let requests = server.requests();

    let site = Fixture::start(config()).await;
    // The state is read before the reload is answered.
    site.gateway.reload().await.unwrap();
    assert_eq!(site.gateway.count(FAILURES).await, 0);
    assert_eq!(server.requests(), requests);
    let tls = format!("tls = {{ {} }}", state.table(&["api.test"], &server.url, ", profile = \"other\""));
    site.reload(Config::minimal().add("server", &tls)).await;
    site.gateway.wait_for_metric(FAILURES, 1.0).await;
    assert_eq!(server.requests(), requests + 1);
}

#[tokio::test]
async fn without_a_certificate_a_handshake_for_the_host_fails_and_readyz_says_so() {
    let (state, server) = (State::new(), FakeAcme::start(&response("500 Oops", "", "")).await);
    let files = CertificateFiles::localhost("a");
    let tls = format!(
        "tls = {{ certificates = {}, {} }}",
        files.certificates(&["a"]),
        state.table(&["api.test"], &server.url, "")
    );
    let site = Fixture::start(Config::minimal().add("server", &tls)).await;
    TlsClient::new("api.test").try_connect(site.gateway.addr()).await.unwrap_err();
    site.gateway.wait_for_metric("portcullis_tls_handshake_failures_total{reason=\"no_certificate\"}", 1.0).await;
    TlsClient::new("localhost").connect(site.gateway.addr()).await;
    site.gateway.wait_for_metric("portcullis_jwks_keys{issuer=\"main\"}", 1.0).await;
    let ready = client::get(site.gateway.admin(), "/readyz", &[]).await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.json()["reasons"].to_string(), "[\"no certificate for api.test yet\"]");
}

/// Threat AC-1.
#[tokio::test]
async fn a_handshake_for_an_unexpected_challenge_is_refused() {
    let (state, server) = (State::new(), FakeAcme::start(&response("500 Oops", "", "")).await);
    state.write_certificate("api.test", &issue("api.test"), &server.url);
    let site = Fixture::start(state.config(&["api.test"], &server)).await;
    for alpn in [&["acme-tls/1"][..], &["acme-tls/1", "spdy/1"]] {
        let error = TlsClient::new("api.test").alpn(alpn).try_connect(site.gateway.addr()).await.unwrap_err();
        assert!(error.to_string().contains("NoApplicationProtocol"), "{alpn:?}: {error}");
    }
}

#[tokio::test]
async fn a_certificate_on_disk_is_used_without_an_order_until_it_is_due() {
    let (state, server) = (State::new(), FakeAcme::start(&response("500 Oops", "", "")).await);
    let issued = issue("api.test");
    state.write_certificate("api.test", &issued, &server.url);
    let site = Fixture::start(state.config(&["api.test"], &server)).await;
    let session = TlsClient::new("api.test").connect(site.gateway.addr()).await;
    assert_eq!(presented(&session), issued.certificate.der().as_ref());
    assert_eq!(server.requests(), 0);
    site.gateway.reload().await.unwrap();
    assert_eq!(site.gateway.count(FAILURES).await, 0);
    let label = state.path("certificates/api.test.pem").display().to_string();
    let sample = format!("portcullis_tls_certificate_expires_timestamp_seconds{{certificate={label:?}}}");
    assert_eq!(site.gateway.count(&sample).await, END);

    // Two thirds of its lifetime are over in 3389.
    site.clock.set_wall(END - 700 * 365 * DAY);
    site.gateway.reload().await.unwrap();
    site.gateway.wait_for_metric(FAILURES, 1.0).await;
    let session = TlsClient::new("api.test").connect(site.gateway.addr()).await;
    assert_eq!(presented(&session), issued.certificate.der().as_ref(), "it stays in use");
    assert_eq!(site.gateway.count(FAILURES).await, 1, "none before it was due");
    site.clock.set_wall(END - 10 * DAY);
    let reasons = reasons(&site).await;
    assert!(reasons.contains("api.test.pem expires in 10 days"), "{reasons}");
}

#[tokio::test]
async fn the_certificate_of_another_acme_server_is_used_until_there_is_another() {
    let (state, server) = (State::new(), FakeAcme::start(&response("500 Oops", "", "")).await);
    let issued = issue("api.test");
    state.write_certificate("api.test", &issued, "https://staging.test/directory");
    let site = Fixture::start(state.config(&["api.test"], &server)).await;
    site.gateway.wait_for_metric(FAILURES, 1.0).await;
    let session = TlsClient::new("api.test").connect(site.gateway.addr()).await;
    assert_eq!(presented(&session), issued.certificate.der().as_ref());
}

#[tokio::test]
async fn a_broken_file_costs_an_order_and_harms_no_other_host() {
    let (state, server) = (State::new(), FakeAcme::start(&response("500 Oops", "", "")).await);
    state.write_certificate("api.test", &issue("api.test"), &server.url);
    std::fs::write(state.path("certificates/www.test.pem"), "Obtained from here\n-----BEGIN").unwrap();
    let site = Fixture::start(state.config(&["www.test", "api.test"], &server)).await;
    site.gateway.wait_for_metric(FAILURES, 1.0).await;
    TlsClient::new("api.test").connect(site.gateway.addr()).await;
    TlsClient::new("www.test").try_connect(site.gateway.addr()).await.unwrap_err();
    assert_eq!(server.requests(), 1);
}

/// Threat AC-2: nothing is ordered that cannot be stored.
#[tokio::test]
async fn a_state_directory_that_cannot_be_used_is_no_reason_to_order() {
    let (state, server) = (State::new(), FakeAcme::start(&response("500 Oops", "", "")).await);
    state.0.write("acme", "a file");
    let site = Fixture::start(state.config(&["api.test"], &server)).await;
    site.gateway.wait_for_metric(FAILURES, 1.0).await;
    assert_eq!(server.requests(), 0);
    assert_eq!(site.get("/public/x", &[]).await.status, 400, "the listener is up");
}

#[tokio::test]
async fn other_hosts_take_effect_with_a_reload() {
    let (state, server) = (State::new(), FakeAcme::start(&response("500 Oops", "", "")).await);
    state.write_certificate("api.test", &issue("api.test"), &server.url);
    state.write_certificate("www.test", &issue("www.test"), &server.url);
    let site = Fixture::start(state.config(&["api.test"], &server)).await;
    TlsClient::new("www.test").try_connect(site.gateway.addr()).await.unwrap_err();
    site.reload(state.config(&["api.test", "www.test"], &server)).await;
    TlsClient::new("www.test").connect(site.gateway.addr()).await;
    TlsClient::new("api.test").connect(site.gateway.addr()).await;
    site.reload(state.config(&["www.test"], &server)).await;
    TlsClient::new("api.test").try_connect(site.gateway.addr()).await.unwrap_err();
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn an_unexpected_challenge_without_tls_is_redirected() {
    let (state, server) = (State::new(), FakeAcme::start(&response("500 Oops", "", "")).await);
    let acme = state.table(&["api.test"], &server.url, ", challenge = \"http-01\"");
    let lines = format!("redirect_listen = [\"127.0.0.1:0\"]\ntls = {{ {acme} }}");
    let site = Fixture::start(Config::minimal().add("server", &lines)).await;
    let [_, redirect] = site.gateway.addrs()[..] else { panic!("two addresses") };
    let target = "/.well-known/acme-challenge/token";
    let response = client::request(redirect, "GET", target, &[("Host", "api.test")], b"").await;
    assert_eq!((response.status, response.header("location")), (308, Some(&*format!("https://api.test{target}"))));
}

/// Runs `check` on a configuration with these keys of `acme`.
fn check(state: &State, acme: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let config = Config::minimal().add("server", &format!("tls = {{ {acme} }}"));
    let toml = config.to_toml("https://idp.test", ([127, 0, 0, 1], 9).into());
    let file = state.0.write("gateway.toml", toml);
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    let output = command.arg("check").args(arguments).arg("-c").arg(&file).output().expect("the program runs");
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).expect("text"))
}

#[test]
fn check_says_what_is_there_and_touches_nothing() {
    let state = State::new();
    let directory = "https://acme.test/directory";
    state.write_certificate("api.test", &issue("api.test"), directory);
    let (code, shown) = check(&state, &state.table(&["api.test", "www.test"], directory, ""), &[]);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("certificates/api.test.pem: api.test, expires 4096-01-01T00:00:00.000Z"), "{shown}");
    assert!(shown.contains("certificate for www.test: to be obtained from https://acme.test/directory"), "{shown}");
    assert!(!state.path("lock").exists());
    let (code, shown) = check(&state, &state.table(&["api.test"], directory, ", ca_file = \"/missing.pem\""), &[]);
    assert_eq!(code, Some(78), "{shown}");
    assert!(shown.contains("server.tls.acme.ca_file: `/missing.pem` cannot be read: No such file"), "{shown}");
}

#[tokio::test]
async fn check_online_fetches_the_directory_and_orders_nothing() {
    let urls = r#"{"newNonce":"https://a/n","newAccount":"https://a/a","newOrder":"https://a/o"}"#;
    let server = FakeAcme::start(&response("200 OK", "", urls)).await;
    let run = async |server: &FakeAcme| {
        let url = server.url.clone();
        let check = move || {
            let state = State::new();
            check(&state, &state.table(&["api.test"], &url, ""), &["--online"]).1
        };
        tokio::task::spawn_blocking(check).await.unwrap()
    };
    let shown = run(&server).await;
    assert!(shown.contains(&format!("\nACME server {}: ok\n", server.url)), "{shown}");
    assert_eq!(server.requests(), 1);
    server.respond(&response("404 Not Found", "", "nothing"));
    let shown = run(&server).await;
    assert!(shown.contains(&format!("FAILED  ACME server {}: 127.0.0.1: responds 404\n", server.url)), "{shown}");
}

#[tokio::test]
async fn the_state_directory_is_for_its_owner_only() {
    let (state, server) = (State::new(), FakeAcme::start(&response("500 Oops", "", "")).await);
    let site = Fixture::start(state.config(&["api.test"], &server)).await;
    site.gateway.wait_for_metric(FAILURES, 1.0).await;
    site.gateway.stop().await;
    let mode = |name: &str| std::fs::metadata(state.path(name)).unwrap().permissions().mode() & 0o777;
    let modes = ["", "accounts", "certificates", "attempts", "lock", "attempts/api.test.json"].map(mode);
    assert_eq!(modes, [0o700, 0o700, 0o700, 0o700, 0o600, 0o600]);
}
