//! Routes that require a client certificate, connections for other hosts, and tokens that are bound
//! to a certificate.

use serde_json::json;

use super::{
    CertificateFiles, Fixture, Issued, TlsClient, VERSIONS, client_auth, clients, config, files, numbered, with_crl,
};
use crate::support::certificates::authority;
use crate::support::client::{Conn, Response};
use crate::support::config::Config;

/// Further routes with a certificate required: `/secure/*` without a token, `/both/*` with one, and
/// `/tried/*`, which only reports.
fn with_routes(config: Config) -> Config {
    let route = |name: &str, lines: &str| {
        format!("[[routes]]\nname = {name:?}\nupstream = \"main\"\nclient_cert = \"required\"\n{lines}\n")
    };
    config
        .append(&route("secure", "path = \"/secure/*\"\naccess = \"public\""))
        .append(&route("both", "path = \"/both/*\""))
        .append(&route("tried", "path = \"/tried/*\"\naccess = \"public\"\nreport_only = true"))
}

async fn start(files: &CertificateFiles, mode: &str) -> Fixture {
    files.write("a", &authority().issue(&["localhost", "secure.test"]));
    Fixture::start(with_routes(config(files, &with_crl(files, mode)))).await
}

fn client(name: &'static str, issued: Option<&Issued>) -> TlsClient {
    let client = TlsClient::new(name);
    issued.map_or(client.clone(), |issued| client.with_identity(issued))
}

async fn get(conn: &mut Conn, target: &str, host: &str) -> Response {
    conn.request("GET", target, &[("Host", host)], b"").await
}

fn code(response: &Response) -> (u16, Option<String>) {
    let code =
        (response.status != 200).then(|| response.json()["code"].as_str().expect("a problem document").to_owned());
    (response.status, code)
}

const OK: (u16, Option<&str>) = (200, None);
const REQUIRED: (u16, Option<&str>) = (403, Some("client_cert_required"));
const MISDIRECTED: (u16, Option<&str>) = (421, Some("misdirected_request"));

/// Threat TC-6.
#[tokio::test]
async fn a_route_that_requires_a_certificate_refuses_a_connection_without_one() {
    let files = files();
    let site = start(&files, "optional").await;
    let (addr, good) = (site.gateway.addr(), numbered(1));
    for version in VERSIONS {
        for (issued, target, expected) in [
            (None, "/public/x", OK),
            (None, "/secure/x", REQUIRED),
            // Before the token is looked at.
            (None, "/both/x", REQUIRED),
            (None, "/tried/x", OK),
            (Some(&good), "/public/x", OK),
            (Some(&good), "/secure/x", OK),
            (Some(&good), "/both/x", (401, Some("credentials_missing"))),
        ] {
            let what = format!("{version:?}, {target}, {}", issued.is_some());
            let client = client("localhost", issued).version(version);
            let mut http1 = client.open(addr).await;
            let response = get(&mut http1, target, "localhost").await;
            let shown = code(&response);
            assert_eq!((shown.0, shown.1.as_deref()), expected, "{what}");
            if expected == REQUIRED {
                assert_eq!(response.header("www-authenticate"), None, "there is no scheme for it");
                assert_eq!(response.header("connection"), Some("close"), "it can present one on another connection");
                let line = site.gateway.access_line_of(&response).await;
                assert_eq!(line["reason"], "no client certificate", "{what}");
            }
            let target = format!("https://localhost{target}");
            let response = client.open_h2(addr).await.get(&target, &[]).await;
            let shown = code(&response);
            assert_eq!((shown.0, shown.1.as_deref()), expected, "{what}, HTTP/2");
        }
    }
    let refused = "portcullis_would_reject_total{route=\"tried\",code=\"client_cert_required\"}";
    assert_eq!(site.gateway.count(refused).await, 4);
}

#[tokio::test]
async fn a_listener_without_tls_cannot_reach_a_route_that_requires_a_certificate() {
    let files = files();
    let text = config(&files, &client_auth(&files, "required")).add("server", "plain_listen = [\"127.0.0.1:0\"]");
    let site = Fixture::start(with_routes(text)).await;
    let plain = site.gateway.addrs()[1];
    for (target, expected) in [("/secure/x", 403), ("/public/x", 200)] {
        let forged = [("Client-Cert", ":AAAA:")];
        assert_eq!(crate::support::client::get(plain, target, &forged).await.status, expected, "{target}");
    }
}

/// RFC 9110 §15.5.20, RFC 9113 §9.1.1. Threat TC-7.
#[tokio::test]
async fn a_connection_for_another_host_does_not_reach_a_route_that_requires_a_certificate() {
    let files = files();
    let site = start(&files, "optional").await;
    let (addr, good) = (site.gateway.addr(), numbered(1));
    for (issued, name, host, target, expected) in [
        (Some(&good), "localhost", "secure.test", "/secure/x", MISDIRECTED),
        (None, "localhost", "secure.test", "/secure/x", MISDIRECTED),
        (None, "localhost", "secure.test", "/public/x", OK),
        (Some(&good), "secure.test", "SECURE.test.:8443", "/secure/x", OK),
        (Some(&good), "secure.test", "secure.test", "/secure/x", OK),
        (None, "secure.test", "secure.test", "/secure/x", REQUIRED),
    ] {
        let what = format!("{name} for {host}{target}, {}", issued.is_some());
        let client = client(name, issued);
        let mut http1 = client.open(addr).await;
        // The connection goes on after a 421.
        for _ in 0..if expected == REQUIRED { 1 } else { 2 } {
            let shown = code(&get(&mut http1, target, host).await);
            assert_eq!((shown.0, shown.1.as_deref()), expected, "{what}");
        }
        let http2 = client.open_h2(addr).await;
        let own = http2.get(&format!("https://{name}/public/x"), &[]).await;
        assert_eq!(own.status, 200, "{what}");
        let shown = code(&http2.get(&format!("https://{host}{target}"), &[]).await);
        assert_eq!((shown.0, shown.1.as_deref()), expected, "{what}, coalesced over HTTP/2");
    }
    let without_name = TlsClient { sends_name: false, ..client("localhost", Some(&good)) };
    let mut conn = without_name.open(addr).await;
    assert_eq!(get(&mut conn, "/secure/x", "secure.test").await.status, 200, "no other name was asked for");
}

/// Threat TC-4: an open connection does not keep a certificate that is no longer accepted.
#[tokio::test]
async fn an_open_connection_loses_its_certificate_with_a_revocation_or_its_expiry() {
    let files = files();
    let short = clients().issue_with(&["client.test"], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
        params.serial_number = Some(13_u64.into());
        params.not_after = rcgen::date_time_ymd(2027, 1, 17);
    });
    for (mode, target) in [("optional", "/secure/x"), ("required", "/public/x")] {
        files.0.write("crl.pem", clients().revocation_list(&[2], (2027, 2, 1)));
        let site = start(&files, mode).await;
        let mut conns = Vec::new();
        for issued in [&numbered(1), &numbered(11), &short] {
            let mut conn = client("localhost", Some(issued)).open(site.gateway.addr()).await;
            assert_eq!(get(&mut conn, target, "localhost").await.status, 200, "{mode}");
            conns.push(conn);
        }
        files.0.write("crl.pem", clients().revocation_list(&[11], (2027, 2, 1)));
        site.gateway.reload().await.unwrap();
        site.gateway.wait_for_metric("portcullis_tls_reloads_total{result=\"success\"}", 1.0).await;
        site.clock.advance(std::time::Duration::from_secs(3 * 24 * 60 * 60));
        for (conn, reason) in conns.iter_mut().zip([
            None,
            Some("the client certificate is no longer accepted"),
            Some("the client certificate has expired"),
        ]) {
            let response = get(conn, target, "localhost").await;
            let line = site.gateway.access_line_of(&response).await;
            assert_eq!(response.status, if reason.is_some() { 403 } else { 200 }, "{mode}, {reason:?}");
            assert_eq!(line["reason"].as_str(), reason, "{mode}");
        }
    }
}

/// Threat TC-4: an attacker who keeps a new list away must not hide a revocation.
#[tokio::test]
async fn an_open_connection_loses_its_certificate_when_the_revocation_list_expires() {
    let files = files();
    let other = super::Authority::new();
    let of_other = other.issue(&["client.test"]);
    files.0.write("ca.pem", clients().pem() + &other.pem());
    files.0.write(
        "crl.pem",
        clients().revocation_list(&[2], super::TOMORROW) + &other.revocation_list(&[2], (2027, 2, 1)),
    );
    for (mode, target) in [("optional", "/secure/x"), ("required", "/public/x")] {
        let site = start(&files, mode).await;
        let mut conns = Vec::new();
        for issued in [&numbered(1), &of_other] {
            let mut conn = client("localhost", Some(issued)).open(site.gateway.addr()).await;
            assert_eq!(get(&mut conn, target, "localhost").await.status, 200, "{mode}");
            conns.push(conn);
        }
        site.clock.advance(std::time::Duration::from_secs(24 * 60 * 60));
        let reasons = [Some("the client certificate is no longer accepted"), None];
        for (conn, reason) in conns.iter_mut().zip(reasons) {
            let response = get(conn, target, "localhost").await;
            let line = site.gateway.access_line_of(&response).await;
            assert_eq!(response.status, if reason.is_some() { 403 } else { 200 }, "{mode}, {reason:?}");
            assert_eq!(line["reason"].as_str(), reason, "{mode}");
        }
    }
}

/// A connection may be older than the setting.
#[tokio::test]
async fn a_certificate_becomes_required_on_open_connections_too() {
    let files = files();
    let site = Fixture::start(config(&files, "")).await;
    let mut conn = TlsClient::new("localhost").open(site.gateway.addr()).await;
    assert_eq!(get(&mut conn, "/public/x", "localhost").await.status, 200);
    site.reload(config(&files, &client_auth(&files, "required"))).await;
    let response = get(&mut conn, "/public/x", "localhost").await;
    assert_eq!(code(&response), (403, Some("client_cert_required".to_owned())));
}

/// RFC 8705 §3; threat J-44.
#[tokio::test]
async fn a_token_that_is_bound_to_a_certificate_is_accepted_with_that_certificate_only() {
    let files = files();
    let site = start(&files, "optional").await;
    let (owner, thief) = (numbered(1), numbered(3));
    let thumbprint = {
        use base64::Engine as _;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, owner.certificate.der());
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest)
    };
    let bound = site.token().claim("cnf", json!({ "x5t#S256": thumbprint })).to_bearer();
    // Twice each, because the token is cached after the first time.
    for _ in 0..2 {
        for (name, issued, expected) in
            [("the owner", Some(&owner), 200), ("another client", Some(&thief), 401), ("no certificate", None, 401)]
        {
            let mut conn = client("localhost", issued).open(site.gateway.addr()).await;
            let headers = [("Host", "localhost"), ("Authorization", &*bound)];
            let response = conn.request("GET", "/token/x", &headers, b"").await;
            assert_eq!(response.status, expected, "{name}");
            if expected == 401 {
                let line = site.gateway.access_line_of(&response).await;
                assert_eq!(
                    (&line["code"], &line["reason"]),
                    (&json!("token_invalid"), &json!("bound to another client certificate"))
                );
                assert!(response.header("www-authenticate").unwrap().contains("invalid_token"), "{name}");
            }
        }
    }
}

#[test]
fn explain_and_check_show_the_demand() {
    let files = files();
    files.0.write("client.pem", numbered(1).certificate.pem());
    let toml = with_routes(config(&files, &client_auth(&files, "optional")));
    let file = files.0.write("gateway.toml", toml.to_toml("https://idp.test", ([127, 0, 0, 1], 9).into()));
    let run = |command: &str, arguments: &[&str]| {
        let mut portcullis = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"));
        let output = portcullis.args([command, "-c"]).arg(&file).args(arguments).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let certificate = files.path("client.pem").display().to_string();
    let explained = run("explain", &["GET", "https://secure.test/secure/x"]);
    assert!(explained.contains("FAIL  cert       no client certificate"), "{explained}");
    assert!(explained.contains("refused: 403 client_cert_required (no client certificate)"), "{explained}");
    let explained = run("explain", &["GET", "https://secure.test/secure/x", "--client-cert", &certificate]);
    assert!(explained.contains("pass  cert       the client has presented a valid certificate"), "{explained}");
    assert!(explained.ends_with("\nallowed\n"), "{explained}");
    assert!(explained.contains("without a look at `client_ca` and `client_crl`"), "{explained}");
    let checked = run("check", &[]);
    assert!(checked.contains("public, client certificate"), "{checked}");
    // A listener without TLS asks for none.
    let required = config(&files, &client_auth(&files, "required")).add("server", "plain_listen = [\"127.0.0.1:0\"]");
    std::fs::write(&file, required.to_toml("https://idp.test", ([127, 0, 0, 1], 9).into())).unwrap();
    for (url, expected) in [("https://a.test/public/x", "refused: 403"), ("http://a.test/public/x", "allowed")] {
        let explained = run("explain", &["GET", url]);
        assert!(explained.contains(expected), "{url}: {explained}");
    }
    let without = with_routes(Config::minimal())
        .add("upstreams.main", "forward_client_cert = \"chain\"")
        .append("[identity.headers]\nX-Cert = \"client_cert_subject\"");
    std::fs::write(&file, without.to_toml("https://idp.test", ([127, 0, 0, 1], 9).into())).unwrap();
    let checked = run("check", &[]);
    for (key, count) in [
        ("client_cert: no request can meet it", 3),
        ("forward_client_cert: has no effect", 1),
        ("identity.headers.X-Cert: never has a value", 1),
    ] {
        assert_eq!(checked.matches(key).count(), count, "{key} is not in:\n{checked}");
    }
}
