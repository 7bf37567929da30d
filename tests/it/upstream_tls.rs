//! TLS to upstreams: protocols, whom the gateway trusts, what it presents, and what goes wrong.

use std::net::SocketAddr;
use std::process::Command;

use rustls::SupportedProtocolVersion;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::certificates::{Authority, CertificateFiles, Issued, authority};
use crate::support::client;
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::server::{Server, bind};
use crate::support::temporary::TempDir;
use crate::support::tls_origin::{TlsOrigin, TlsServer};
use crate::support::with_deadline;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// A certificate for the servers of these tests.
fn certificate() -> Issued {
    authority().issue(&["localhost", "127.0.0.1"])
}

/// Files that the gateway reads: `ca.pem`, and the certificates that a test adds.
fn files() -> CertificateFiles {
    let files = CertificateFiles::empty();
    files.0.write("ca.pem", authority().pem());
    files
}

/// The public route `/app/*` to `servers`, which begin with `https://` unless they say otherwise.
fn config(servers: &[&str], files: &CertificateFiles, tls: &str, keys: &str) -> Config {
    let ca_file = files.quoted("ca.pem");
    upstream(servers, &format!("tls = {{ ca_file = {ca_file}{tls} }}\n{keys}"))
}

fn upstream(servers: &[&str], keys: &str) -> Config {
    let url =
        |server: &&str| if server.contains("://") { format!("{server:?}") } else { format!("\"https://{server}\"") };
    let servers: Vec<String> = servers.iter().map(url).collect();
    Config::minimal()
        .one_worker()
        .append(&format!("[upstreams.app]\nservers = [{}]\n{keys}\n", servers.join(", ")))
        .route("app", "access = \"public\"\nupstream = \"app\"")
}

fn localhost(addr: SocketAddr) -> String {
    format!("localhost:{}", addr.port())
}

/// `GET /app/1`: status, code, reason and blame.
async fn outcome(fixture: &Fixture) -> (u16, String, String, String) {
    let response = fixture.get("/app/1", &[]).await;
    let line = fixture.gateway.access_line_of(&response).await;
    let [code, reason, blame] = ["code", "reason", "blame"].map(|field| line[field].as_str().unwrap_or("").to_owned());
    (response.status, code, reason, blame)
}

fn unreachable(reason: &str) -> (u16, String, String, String) {
    (502, "upstream_unreachable".to_owned(), reason.to_owned(), "upstream".to_owned())
}

#[tokio::test]
async fn a_connection_speaks_what_the_server_chooses() {
    let files = files();
    for (keys, alpn, expected) in [
        ("", &["h2", "http/1.1"][..], "HTTP/2.0"),
        ("", &["http/1.1"], "HTTP/1.1"),
        ("", &[], "HTTP/1.1"),
        ("protocol = \"auto\"", &["h2"], "HTTP/2.0"),
        ("protocol = \"http1\"", &["h2", "http/1.1"], "HTTP/1.1"),
        ("protocol = \"http1\"", &[], "HTTP/1.1"),
        ("protocol = \"http2\"", &["h2", "http/1.1"], "HTTP/2.0"),
    ] {
        let origin = TlsServer::new(&certificate()).alpn(alpn).start("tls").await;
        let fixture = Fixture::start(config(&[&localhost(origin.addr())], &files, "", keys)).await;
        for number in 0..3 {
            let headers = [("Host", "client.example")];
            let response = fixture.request("POST", "/app/1?q", &headers, b"order").await;
            assert_eq!(response.status, 200, "{keys}, {alpn:?}: {}", response.text());
            let seen = response.json();
            assert_eq!((&seen["protocol"], &seen["body"]), (&json!(expected), &json!("order")), "{keys}, {alpn:?}");
            let (target, host) = match expected {
                "HTTP/2.0" => (json!("https://client.example/app/1?q"), json!(null)),
                _ => (json!("/app/1?q"), json!("client.example")),
            };
            assert_eq!((&seen["target"], &seen["host"]), (&target, &host), "{keys}, {alpn:?}");
            assert_eq!(origin.handshakes().len(), 1, "request {number} uses the same connection: {keys}, {alpn:?}");
        }
        assert_eq!(origin.handshakes()[0].name.as_deref(), Some("localhost"));
    }
}

/// The first connection shows which protocol the server chooses; requests that wait for it must
/// neither fail nor open a connection each where one can carry them all.
#[tokio::test]
async fn a_burst_of_first_requests_is_served_in_either_protocol() {
    let files = files();
    for (alpn, connections) in [(&["h2", "http/1.1"][..], 1..=1), (&["http/1.1"], 1..=16)] {
        let origin = TlsServer::new(&certificate()).alpn(alpn).start("tls").await;
        let fixture = Fixture::start(config(&[&localhost(origin.addr())], &files, "", "")).await;
        let mut requests = JoinSet::new();
        for _ in 0..16 {
            let gateway = fixture.gateway.addr();
            requests.spawn(async move { client::get(gateway, "/app/1", &[]).await.status });
        }
        while let Some(status) = requests.join_next().await {
            assert_eq!(status.expect("no panic"), 200, "{alpn:?}");
        }
        let opened = origin.handshakes().len();
        assert!(connections.contains(&opened), "{alpn:?}: {opened} connections");
    }
}

/// A WebSocket needs HTTP/1.1, also where other requests use HTTP/2.
#[tokio::test]
async fn a_tunnel_passes_over_tls() {
    let files = files();
    let origin = TlsServer::new(&certificate()).start("tls").await;
    let fixture = Fixture::start(config(&[&localhost(origin.addr())], &files, "", "")).await;
    assert_eq!(fixture.get("/app/1", &[]).await.json()["protocol"], "HTTP/2.0");
    let mut conn = fixture.connect().await;
    conn.send("GET /app/ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert_eq!(conn.read_response().await.status, 101);
    let text = "x".repeat(100_000);
    conn.send(&text).await;
    assert_eq!(conn.read_bytes(text.len()).await, text.as_bytes());
    assert_eq!(fixture.get("/app/1", &[]).await.json()["protocol"], "HTTP/2.0");
    assert_eq!(origin.handshakes().len(), 2, "one connection is the tunnel, the other one for requests");
}

/// A resumed session costs no signature.
#[tokio::test]
async fn sessions_are_resumed() {
    let files = files();
    for version in VERSIONS {
        let origin = TlsServer::new(&certificate()).version(version).alpn(&[]).start("tls").await;
        let fixture = Fixture::start(config(&[&localhost(origin.addr())], &files, "", "")).await;
        for _ in 0..2 {
            assert_eq!(fixture.get("/app/close", &[]).await.status, 200);
        }
        let resumed: Vec<bool> = origin.handshakes().iter().map(|handshake| handshake.is_resumed).collect();
        assert_eq!(resumed, [false, true], "{version:?}");
    }
}

/// A server that reads until it has seen something, sends `answer`, and reads on.
async fn raw_server(answer: &'static [u8]) -> (Server, SocketAddr) {
    let (listener, addr) = bind().await;
    let server = Server::start(listener, move |mut stream: TcpStream| async move {
        let mut bytes = Vec::new();
        let _ = stream.read_buf(&mut bytes).await;
        let _ = stream.write_all(answer).await;
        if !answer.is_empty() {
            while matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {}
        }
    });
    (server, addr)
}

/// A `ServerHello` of TLS 1.1 (RFC 4346 §7.4.1.3).
const SERVER_HELLO_1_1: &[u8] = b"\x16\x03\x02\x00\x2a\x02\x00\x00\x26\x03\x02\
    01234567890123456789012345678901\x00\xc0\x13\x00";

/// Threat TU-1: a server that cannot be trusted gets no request, and the log says why.
#[tokio::test]
async fn a_server_that_cannot_be_verified_gets_no_request_and_the_log_says_why() {
    let files = files();
    // The fixture's clock says 15 January 2027.
    let (yesterday, tomorrow) = (rcgen::date_time_ymd(2027, 1, 14), rcgen::date_time_ymd(2027, 1, 16));
    let names = ["localhost"];
    let p256 = &rcgen::PKCS_ECDSA_P256_SHA256;
    let issue = |change: &dyn Fn(&mut rcgen::CertificateParams)| authority().issue_with(&names, p256, change);
    let rows = [
        ("expired", TlsServer::new(&issue(&|params| params.not_after = yesterday)), "", "certificate expired"),
        (
            "not yet valid",
            TlsServer::new(&issue(&|params| params.not_before = tomorrow)),
            "",
            "certificate not yet valid",
        ),
        ("another name", TlsServer::new(&authority().issue(&["other.example"])), "", "certificate name mismatch"),
        (
            "another name than `server_name`",
            TlsServer::new(&certificate()),
            ", server_name = \"orders.internal\"",
            "certificate name mismatch",
        ),
        ("another authority", TlsServer::new(&Authority::new().issue(&names)), "", "certificate issuer unknown"),
        ("self-signed", TlsServer::new(&Issued::self_signed(&names)), "", "certificate issuer unknown"),
        (
            "a certificate for clients",
            TlsServer::new(&issue(&|params| {
                params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
            })),
            "",
            "certificate invalid",
        ),
    ];
    for (name, server, tls, reason) in rows {
        let origin = server.start("tls").await;
        let fixture = Fixture::start(config(&[&localhost(origin.addr())], &files, tls, "")).await;
        assert_eq!(outcome(&fixture).await, unreachable(reason), "{name}");
        assert!(origin.handshakes().is_empty(), "{name}");
        let failures = format!(
            "portcullis_upstream_connect_failures_total{{upstream=\"app\",server=\"{}\"}}",
            localhost(origin.addr())
        );
        assert_eq!(fixture.gateway.count(&failures).await, 1, "{name}");
    }
}

/// Threat TU-2.
#[tokio::test]
async fn a_server_that_does_not_speak_the_same_tls_is_named_by_its_reason() {
    let files = files();
    for (name, answer, reason) in [
        ("plain HTTP", &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "the server does not speak TLS"),
        ("TLS 1.1 only, an alert", b"\x15\x03\x02\x00\x02\x02\x46", "tls version not supported"),
        ("TLS 1.1 only, a hello", SERVER_HELLO_1_1, "tls version not supported"),
        ("no cipher suite in common", b"\x15\x03\x03\x00\x02\x02\x28", "tls handshake failed"),
        ("closes", b"", "closed during the tls handshake"),
    ] {
        let (_server, addr) = raw_server(answer).await;
        let fixture = Fixture::start(config(&[&localhost(addr)], &files, "", "")).await;
        assert_eq!(outcome(&fixture).await, unreachable(reason), "{name}");
    }
    let (_listener, addr) = bind().await;
    let fixture = Fixture::start(config(&[&localhost(addr)], &files, "", "connect_timeout = \"100ms\"")).await;
    assert_eq!(outcome(&fixture).await, unreachable("tls handshake timeout"), "it never answers");
    for alpn in [&["http/1.1"][..], &[]] {
        let origin = TlsServer::new(&certificate()).alpn(alpn).start("tls").await;
        let config = config(&[&localhost(origin.addr())], &files, "", "protocol = \"http2\"");
        assert_eq!(outcome(&Fixture::start(config).await).await, unreachable("alpn refused"), "{alpn:?}");
    }
    let origin = TlsServer::new(&certificate()).alpn(&["h2"]).start("tls").await;
    let config = config(&[&localhost(origin.addr())], &files, "", "protocol = \"http1\"");
    assert_eq!(outcome(&Fixture::start(config).await).await, unreachable("alpn refused"));
}

/// The system's authorities have not issued the certificates of these tests.
#[tokio::test]
async fn without_a_file_the_systems_authorities_are_trusted() {
    let origin = TlsServer::new(&certificate()).start("tls").await;
    let fixture = Fixture::start(upstream(&[&localhost(origin.addr())], "")).await;
    assert_eq!(outcome(&fixture).await, unreachable("certificate issuer unknown"));
}

#[tokio::test]
async fn the_certificate_is_for_the_host_in_the_url_or_for_server_name() {
    let files = files();
    for (name, names, host, tls, sni) in [
        ("a DNS name", ["localhost"], "localhost", "", Some("localhost")),
        ("an IP address", ["127.0.0.1"], "127.0.0.1", "", None),
        (
            "another name",
            ["orders.internal"],
            "127.0.0.1",
            ", server_name = \"orders.internal\"",
            Some("orders.internal"),
        ),
    ] {
        let origin = TlsServer::new(&authority().issue(&names)).start("tls").await;
        let server = format!("{host}:{}", origin.addr().port());
        let fixture = Fixture::start(config(&[&server], &files, tls, "host = \"upstream\"")).await;
        let response = fixture.get("/app/1", &[]).await;
        assert_eq!(response.status, 200, "{name}: {}", response.text());
        assert_eq!(response.json()["target"], format!("https://{server}/app/1"), "{name}: `Host` is that of the URL");
        assert_eq!(origin.handshakes()[0].name.as_deref(), sni, "{name}");
    }
}

/// A server whose certificate is not accepted is like one that cannot be connected to: another
/// server gets the request.
#[tokio::test]
async fn another_server_takes_the_request() {
    let files = files();
    let bad = TlsServer::new(&Authority::new().issue(&["localhost"])).start("bad").await;
    let good = TlsServer::new(&certificate()).start("good").await;
    let servers = [&*localhost(bad.addr()), &*localhost(good.addr())];
    let fixture = Fixture::start(config(&servers, &files, "", "balance = \"round_robin\"")).await;
    for _ in 0..4 {
        let response = fixture.request("POST", "/app/1", &[], b"order").await;
        assert_eq!((response.status, &response.json()["server"]), (200, &json!("good")));
        assert_eq!(response.json()["body"], "order");
    }
    let failures =
        format!("portcullis_upstream_connect_failures_total{{upstream=\"app\",server=\"{}\"}}", localhost(bad.addr()));
    assert!(fixture.gateway.count(&failures).await > 0);
}

/// Threat TU-4.
#[tokio::test]
async fn a_pinned_key_must_be_in_the_chain() {
    let files = files();
    let (server, other) = (certificate(), Authority::new().issue(&["localhost"]));
    let pins = |keys: &[&Issued]| {
        let pins: Vec<String> = keys.iter().map(|issued| format!("{:?}", issued.pin())).collect();
        format!(", pins = [{}]", pins.join(", "))
    };
    for (name, tls, sent, expected) in [
        ("the server's key", pins(&[&server]), vec![], None),
        ("one of two keys", pins(&[&other, &server]), vec![], None),
        ("another key", pins(&[&other]), vec![], Some("pin mismatch")),
        ("another key that is sent", pins(&[&other]), vec![other.certificate.der().to_vec()], Some("pin mismatch")),
    ] {
        let origin = sent.into_iter().fold(TlsServer::new(&server), TlsServer::sending).start("tls").await;
        let fixture = Fixture::start(config(&[&localhost(origin.addr())], &files, &tls, "")).await;
        let (status, _, reason, _) = outcome(&fixture).await;
        let expected = expected.map_or((200, ""), |reason| (502, reason));
        assert_eq!((status, &*reason), expected, "{name}");
    }
}

/// Threat TU-5.
#[tokio::test]
async fn a_revoked_certificate_is_not_accepted() {
    let files = files();
    let numbered = |serial: u64| {
        let p256 = &rcgen::PKCS_ECDSA_P256_SHA256;
        authority().issue_with(&["localhost"], p256, |params| params.serial_number = Some(serial.into()))
    };
    let (good, revoked) = (numbered(1), numbered(2));
    // The fixture's clock says 15 January 2027.
    let (yesterday, tomorrow) = ((2027, 1, 14), (2027, 1, 16));
    let tls = format!(", crl_file = {}", files.quoted("crl.pem"));
    for (name, server, text, expected) in [
        ("not revoked", &good, authority().revocation_list(&[2], tomorrow), (200, "")),
        ("revoked", &revoked, authority().revocation_list(&[2], tomorrow), (502, "certificate revoked")),
        (
            "an outdated list",
            &good,
            authority().revocation_list(&[2], yesterday),
            (502, "certificate revocation unknown"),
        ),
        (
            "a list of another authority",
            &good,
            Authority::new().revocation_list(&[], tomorrow),
            (502, "certificate revocation unknown"),
        ),
    ] {
        files.0.write("crl.pem", text);
        let origin = TlsServer::new(server).start("tls").await;
        let fixture = Fixture::start(config(&[&localhost(origin.addr())], &files, &tls, "")).await;
        let (status, _, reason, _) = outcome(&fixture).await;
        assert_eq!((status, &*reason), expected, "{name}");
    }
}

#[tokio::test]
async fn the_gateway_presents_its_certificate() {
    let files = files();
    let (clients, others) = (Authority::new(), Authority::new());
    let mine = clients.issue(&["gateway"]);
    files.write("mine", &mine);
    files.write("foreign", &others.issue(&["gateway"]));
    let identity = |name: &str| {
        let [cert, key] = ["crt", "key"].map(|ending| files.quoted(&format!("{name}.{ending}")));
        format!(", cert = {cert}, key = {key}")
    };
    for version in VERSIONS {
        for alpn in [&["h2"][..], &["http/1.1"]] {
            let server = TlsServer::new(&certificate()).version(version).alpn(alpn);
            let origin = server.demanding_certificates_of(&clients).start("tls").await;
            for (tls, expected) in [
                (identity("mine"), None),
                (String::new(), Some("client certificate required")),
                (identity("foreign"), Some("client certificate refused")),
            ] {
                let what = format!("{version:?}, {alpn:?}, {tls}");
                let fixture = Fixture::start(config(&[&localhost(origin.addr())], &files, &tls, "")).await;
                match expected {
                    None => {
                        assert_eq!(fixture.get("/app/1", &[]).await.status, 200, "{what}");
                        assert_eq!(last_client(&origin).as_deref(), Some(&**mine.certificate.der()), "{what}");
                    }
                    Some(reason) => assert_eq!(outcome(&fixture).await, unreachable(reason), "{what}"),
                }
            }
        }
    }
}

/// Waits until the gateway has looked at changed files so often, with this result.
async fn wait_for_reloads(fixture: &Fixture, result: &str, count: f64) {
    fixture.gateway.reload().await.expect("the configuration is good");
    fixture.gateway.wait_for_metric(&format!("portcullis_tls_reloads_total{{result=\"{result}\"}}"), count).await;
}

#[tokio::test]
async fn a_renewed_certificate_is_presented_on_new_connections_and_old_ones_close() {
    let clients = Authority::new();
    for alpn in [&["h2"][..], &["http/1.1"]] {
        let files = files();
        let [first, second] = [0, 1].map(|_| clients.issue(&["gateway"]));
        files.write("mine", &first);
        let server = TlsServer::new(&certificate()).alpn(alpn).demanding_certificates_of(&clients);
        let origin = server.start("tls").await;
        let tls = format!(", cert = {}, key = {}", files.quoted("mine.crt"), files.quoted("mine.key"));
        let keys = "keep_alive = \"100ms\"";
        let fixture = Fixture::start(config(&[&localhost(origin.addr())], &files, &tls, keys)).await;
        assert_eq!(fixture.get("/app/1", &[]).await.status, 200);
        assert_eq!(last_client(&origin).as_deref(), Some(&**first.certificate.der()), "{alpn:?}");
        files.write("mine", &second);
        wait_for_reloads(&fixture, "success", 1.0).await;
        with_deadline("a connection with the new certificate", async {
            while last_client(&origin).as_deref() != Some(&**second.certificate.der()) {
                assert_eq!(fixture.get("/app/1", &[]).await.status, 200, "{alpn:?}");
            }
        })
        .await;
    }
}

/// A kept connection is not used again once the authorities have changed: it closes after at most
/// one further request.
#[tokio::test]
async fn a_pooled_connection_does_not_outlive_the_files_it_was_made_with() {
    let files = files();
    let origin = TlsServer::new(&certificate()).alpn(&["http/1.1"]).start("tls").await;
    let keys = "keep_alive = \"1h\"";
    let fixture = Fixture::start(config(&[&localhost(origin.addr())], &files, "", keys)).await;
    assert_eq!(fixture.get("/app/1", &[]).await.status, 200);
    files.0.write("ca.pem", Authority::new().pem() + &authority().pem());
    wait_for_reloads(&fixture, "success", 1.0).await;
    for _ in 0..2 {
        assert_eq!(fixture.get("/app/1", &[]).await.status, 200);
    }
    assert_eq!(origin.handshakes().len(), 2);
}

/// Threat TU-3: a session that was agreed with the old authorities is not resumed.
#[tokio::test]
async fn a_withdrawn_authority_is_no_longer_trusted() {
    for version in VERSIONS {
        let files = files();
        let origin = TlsServer::new(&certificate()).version(version).alpn(&[]).start("tls").await;
        let fixture = Fixture::start(config(&[&localhost(origin.addr())], &files, "", "")).await;
        assert_eq!(fixture.get("/app/close", &[]).await.status, 200);
        files.0.write("ca.pem", Authority::new().pem());
        wait_for_reloads(&fixture, "success", 1.0).await;
        assert_eq!(outcome(&fixture).await, unreachable("certificate issuer unknown"), "{version:?}");
    }
}

#[tokio::test]
async fn a_bad_new_file_is_kept_out_and_counted() {
    let files = files();
    let clients = Authority::new();
    files.write("mine", &clients.issue(&["gateway"]));
    let expired = clients.issue_with(&["gateway"], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
        params.not_after = rcgen::date_time_ymd(2027, 1, 14);
    });
    let server = TlsServer::new(&certificate()).alpn(&[]).demanding_certificates_of(&clients);
    let origin = server.start("tls").await;
    let tls = format!(", cert = {}, key = {}", files.quoted("mine.crt"), files.quoted("mine.key"));
    let fixture = Fixture::start(config(&[&localhost(origin.addr())], &files, &tls, "")).await;
    let other = clients.issue(&["other"]).certificate.pem();
    for (count, (name, break_it)) in [
        ("no certificate", &(|| drop(files.0.write("ca.pem", "x"))) as &dyn Fn()),
        ("the certificate of another key", &|| drop(files.0.write("mine.crt", &other))),
        ("missing", &|| std::fs::remove_file(files.path("mine.key")).expect("it is there")),
        ("expired", &|| {
            files.0.write("ca.pem", authority().pem());
            files.write("mine", &expired);
        }),
    ]
    .into_iter()
    .enumerate()
    {
        break_it();
        wait_for_reloads(&fixture, "failure", [1.0, 2.0, 3.0, 4.0][count]).await;
        assert_eq!(fixture.get("/app/close", &[]).await.status, 200, "{name}");
    }
    assert_eq!(fixture.gateway.count("portcullis_tls_reloads_total{result=\"success\"}").await, 0);
}

fn last_client(origin: &TlsOrigin) -> Option<Vec<u8>> {
    origin.handshakes().last()?.client.clone()
}

fn check(file: &std::path::Path, online: bool) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.arg("check").args(online.then_some("--online")).arg("-c").arg(file);
    let output = command.output().expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text.into_owned())
}

fn write_config(directory: &TempDir, upstream: &str) -> std::path::PathBuf {
    let route = "[[routes]]\npath = \"/*\"\naccess = \"public\"\nupstream = \"app\"\n";
    directory.write("gateway.toml", format!("[upstreams.app]\n{upstream}\n{route}"))
}

#[tokio::test]
async fn check_reports_every_file_that_is_wrong() {
    let files = files();
    files.write("a", &certificate());
    files.write("b", &certificate());
    files.0.write("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let names = ["broken.pem", "missing.pem", "a.crt", "b.key"];
    let [ca_file, crl_file, cert, key] = names.map(|name| files.quoted(name));
    let directory = TempDir::new();
    let upstream = format!(
        "servers = [\"https://localhost\"]\n[upstreams.app.tls]\nca_file = {ca_file}\ncrl_file = {crl_file}\ncert = {cert}\nkey = {key}"
    );
    let (code, text) = check(&write_config(&directory, &upstream), false);
    assert_eq!(code, Some(78), "{text}");
    let [broken, missing, _, key] = names.map(|name| files.path(name));
    for part in [
        format!("line 4  upstreams.app.tls.ca_file: `{}` certificate 1 is not valid", broken.display()),
        format!("line 5  upstreams.app.tls.crl_file: `{}` cannot be read", missing.display()),
        format!("line 7  upstreams.app.tls.key: `{}` the private key does not belong to", key.display()),
    ] {
        assert!(text.contains(&part), "{part}\n{text}");
    }
}

#[tokio::test]
async fn check_online_verifies_the_servers() {
    let files = files();
    let (good, bad) = (certificate(), Authority::new().issue(&["localhost"]));
    let origins = [TlsServer::new(&good).start("good").await, TlsServer::new(&bad).start("bad").await];
    let [good, bad] = origins.each_ref().map(|origin| localhost(origin.addr()));
    let directory = TempDir::new();
    let ca_file = files.quoted("ca.pem");
    let upstream = format!("servers = [\"https://{good}\", \"https://{bad}\"]\ntls = {{ ca_file = {ca_file} }}");
    let (code, text) = check(&write_config(&directory, &upstream), true);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&format!("\nupstream app {good}: ok\n")), "{text}");
    assert!(text.contains(&format!("\nFAILED  upstream app {bad}: certificate issuer unknown\n")), "{text}");
}
