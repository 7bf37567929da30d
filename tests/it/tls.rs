//! TLS towards clients: certificates by name, versions, protocols, resumption, and what goes wrong.

use std::process::Command;
use std::time::Duration;

use rustls::{HandshakeKind, ProtocolVersion, SignatureScheme};
use tokio::io::AsyncReadExt as _;

use crate::support::certificates::{Authority, CertificateFiles, authority};
use crate::support::client::{self, Conn};
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::origin::RecordedRequest;
use crate::support::tls::{TlsClient, agreed, presented};
use crate::support::with_deadline;

fn config(files: &CertificateFiles, names: &[&str]) -> Config {
    Config::minimal().add("server", &files.tls(names))
}

const HOST: [(&str, &str); 1] = [("Host", "localhost")];

#[tokio::test]
async fn requests_over_tls_are_served_in_both_protocols() {
    let files = CertificateFiles::localhost("a");
    let site = Fixture::start(config(&files, &["a"])).await;
    let client = TlsClient::new("localhost");
    let mut http1 = client.open(site.gateway.addr()).await;
    for number in 0..2 {
        let response = http1.request("GET", "/public/x", &HOST, b"").await;
        assert_eq!(response.status, 200, "request {number} on one connection");
    }
    let response = http1.request("POST", "/public/x", &HOST, &vec![b'x'; 100_000]).await;
    assert_eq!(response.status, 200);
    let mut agreed = client.clone().alpn(&["http/1.1"]).open(site.gateway.addr()).await;
    assert_eq!(agreed.request("GET", "/public/x", &HOST, b"").await.status, 200);
    let http2 = client.open_h2(site.gateway.addr()).await;
    assert_eq!(http2.get("/public/x", &[]).await.status, 200);
    for request in site.origin.requests() {
        assert_eq!(request.header("x-forwarded-proto"), Some("https"));
        let forwarded = request.header("forwarded").unwrap();
        assert!(forwarded.contains("proto=https"), "{forwarded}");
    }
    let handshakes = site.gateway.count("portcullis_tls_handshakes_total{version=\"1.3\",resumed=\"false\"}").await;
    assert_eq!(handshakes, 3);
}

#[tokio::test]
async fn the_client_and_the_gateway_agree_on_a_version_and_a_protocol() {
    let files = CertificateFiles::localhost("a");
    let site = Fixture::start(config(&files, &["a"])).await;
    for (name, client, version, alpn) in [
        ("TLS 1.3", TlsClient::new("localhost").version(&rustls::version::TLS13), ProtocolVersion::TLSv1_3, None),
        ("TLS 1.2", TlsClient::new("localhost").version(&rustls::version::TLS12), ProtocolVersion::TLSv1_2, None),
        (
            "the gateway prefers HTTP/2",
            TlsClient::new("localhost").alpn(&["http/1.1", "h2"]),
            ProtocolVersion::TLSv1_3,
            Some(&b"h2"[..]),
        ),
        (
            "HTTP/1.1",
            TlsClient::new("localhost").alpn(&["spdy/1", "http/1.1"]),
            ProtocolVersion::TLSv1_3,
            Some(b"http/1.1"),
        ),
    ] {
        let session = client.connect(site.gateway.addr()).await;
        assert_eq!(agreed(&session).protocol_version(), Some(version), "{name}");
        assert_eq!(agreed(&session).alpn_protocol(), alpn, "{name}");
    }
    let session = TlsClient::new("localhost").connect(site.gateway.addr()).await;
    let group = agreed(&session).negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768, "the post-quantum hybrid");
}

#[tokio::test]
async fn http_2_frames_without_an_agreement_on_http_2_end_the_connection() {
    let files = CertificateFiles::localhost("a");
    let site = Fixture::start(config(&files, &["a"])).await;
    let mut conn = TlsClient::new("localhost").open(site.gateway.addr()).await;
    conn.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(conn.read_to_close().await.is_empty());
}

#[tokio::test]
async fn min_version_1_3_refuses_tls_1_2() {
    let files = CertificateFiles::localhost("a");
    let tls = format!("tls = {{ certificates = {}, min_version = \"1.3\" }}", files.certificates(&["a"]));
    let site = Fixture::start(Config::minimal().add("server", &tls)).await;
    let old = TlsClient::new("localhost").version(&rustls::version::TLS12);
    old.try_connect(site.gateway.addr()).await.unwrap_err();
    TlsClient::new("localhost").connect(site.gateway.addr()).await;
    site.gateway.wait_for_metric("portcullis_tls_handshake_failures_total{reason=\"version\"}", 1.0).await;
}

#[tokio::test]
async fn the_name_that_the_client_asks_for_chooses_the_certificate() {
    let files = CertificateFiles::empty();
    let issued = [
        authority().issue(&["localhost"]),
        authority().issue(&["*.apps.test"]),
        authority().issue(&["special.apps.test"]),
        authority().issue_with(&["localhost"], &rcgen::PKCS_RSA_SHA256, |_| ()),
    ];
    let names = ["a", "b", "c", "d"];
    for (name, issued) in names.iter().zip(&issued) {
        files.write(name, issued);
    }
    let site = Fixture::start(config(&files, &names)).await;
    let rsa_only = TlsClient { schemes: vec![SignatureScheme::RSA_PSS_SHA256], ..TlsClient::new("localhost") };
    for (what, client, expected) in [
        ("exact", TlsClient::new("special.apps.test"), 2),
        ("wildcard", TlsClient::new("other.apps.test"), 1),
        ("no name: the first", TlsClient { sends_name: false, ..TlsClient::new("localhost") }, 0),
        ("both keys: the first", TlsClient::new("localhost"), 0),
        ("RSA only, TLS 1.3", rsa_only.clone(), 3),
        ("RSA only, TLS 1.2", rsa_only.version(&rustls::version::TLS12), 3),
    ] {
        let session = client.connect(site.gateway.addr()).await;
        assert_eq!(presented(&session), issued[expected].certificate.der().as_ref(), "{what}");
    }
    let unknown = TlsClient::new("elsewhere.test").try_connect(site.gateway.addr()).await.unwrap_err();
    assert!(unknown.to_string().contains("not valid for name"), "the client gets the first one: {unknown}");
    site.gateway.wait_for_metric("portcullis_tls_handshake_failures_total{reason=\"alert\"}", 1.0).await;
}

#[tokio::test]
async fn a_session_is_resumed_by_every_worker() {
    let files = CertificateFiles::localhost("a");
    let site = Fixture::start(config(&files, &["a"]).replace("server", "workers = 4")).await;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let client = TlsClient::new("localhost").version(version).resuming();
        let connector = client.connector();
        let mut kinds = Vec::new();
        for _ in 0..8 {
            let mut session = client.try_connect_with(&connector, site.gateway.addr()).await.unwrap();
            kinds.push(agreed(&session).handshake_kind());
            // With TLS 1.3, tickets come with the first response.
            let request = b"GET /public/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut session, request).await.unwrap();
            let mut response = Vec::new();
            with_deadline("the response", session.read_to_end(&mut response)).await.unwrap();
            assert!(response.starts_with(b"HTTP/1.1 200"), "{version:?}");
        }
        assert_eq!(kinds[0], Some(HandshakeKind::Full), "{version:?}");
        assert!(kinds[1..].iter().all(|kind| *kind == Some(HandshakeKind::Resumed)), "{version:?}: {kinds:?}");
    }
}

#[tokio::test]
async fn plain_http_on_a_tls_listener_is_told_to_use_https() {
    let files = CertificateFiles::localhost("a");
    let site = Fixture::start(config(&files, &["a"])).await;
    let response = client::get(site.gateway.addr(), "/public/x", &[]).await;
    assert_eq!(response.status, 400);
    assert!(response.text().contains("https://"), "{}", response.text());
    site.gateway.wait_for_metric("portcullis_tls_handshake_failures_total{reason=\"plain_http\"}", 1.0).await;
    assert!(site.origin.requests().is_empty());
}

#[tokio::test]
async fn tls_on_a_plain_listener_is_closed_and_counted() {
    let site = Fixture::start(Config::minimal()).await;
    TlsClient::new("localhost").try_connect(site.gateway.addr()).await.unwrap_err();
    site.gateway.wait_for_metric("portcullis_tls_handshake_failures_total{reason=\"plain_listener\"}", 1.0).await;
    assert_eq!(site.get("/public/x", &[]).await.status, 200);
}

/// Threat A100: a handshake in small pieces, and garbage.
#[tokio::test]
async fn what_is_no_tls_ends_the_connection_and_harms_no_other() {
    let files = CertificateFiles::localhost("a");
    let site = Fixture::start(config(&files, &["a"])).await;
    let addr = site.gateway.addr();
    let mut open = TlsClient::new("localhost").open(addr).await;
    for (reason, bytes) in [
        ("malformed", &b"\x16\x03\x01\xff\xff"[..]),
        ("malformed", b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00"),
        ("malformed", b"\x00\x01\x02\x03\x04\x05"),
        ("malformed", b"get / http/1.1\r\n\r\n"),
        ("closed", b"\x16\x03\x01\x02\x00\x01"),
    ] {
        let before =
            site.gateway.metric(&format!("portcullis_tls_handshake_failures_total{{reason={reason:?}}}")).await;
        let mut conn = Conn::open(addr).await;
        conn.send(bytes).await;
        conn.finish_sending().await;
        let answer = conn.read_to_close().await;
        assert!(answer.is_empty() || answer[0] == 0x15, "an alert or nothing: {answer:?}");
        let sample = format!("portcullis_tls_handshake_failures_total{{reason={reason:?}}}");
        site.gateway.wait_for_metric(&sample, before + 1.0).await;
    }
    assert_eq!(open.request("GET", "/public/x", &HOST, b"").await.status, 200);
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_closed_after_header_timeout() {
    let files = CertificateFiles::localhost("a");
    let site = Fixture::start(config(&files, &["a"]).add("server", "header_timeout = \"100ms\"")).await;
    for bytes in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let mut conn = Conn::open(site.gateway.addr()).await;
        conn.send(bytes).await;
        assert!(conn.read_to_close().await.is_empty());
    }
    site.gateway.wait_for_metric("portcullis_tls_handshake_failures_total{reason=\"timeout\"}", 2.0).await;
    // After the handshake, the rest of the time is for the head of the request.
    let mut silent = TlsClient::new("localhost").open(site.gateway.addr()).await;
    assert!(silent.read_to_close().await.is_empty());
}

#[tokio::test]
async fn a_client_that_offers_no_protocol_of_ours_is_refused() {
    let files = CertificateFiles::localhost("a");
    let site = Fixture::start(config(&files, &["a"])).await;
    let error = TlsClient::new("localhost").alpn(&["spdy/1"]).try_connect(site.gateway.addr()).await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    let reason = "portcullis_tls_handshake_failures_total{reason=\"application_protocol\"}";
    site.gateway.wait_for_metric(reason, 1.0).await;
}

#[tokio::test]
async fn an_authority_that_the_client_does_not_know_is_refused_by_the_client() {
    let files = CertificateFiles::empty();
    files.write("a", &Authority::new().issue(&["localhost"]));
    let site = Fixture::start(config(&files, &["a"])).await;
    TlsClient::new("localhost").try_connect(site.gateway.addr()).await.unwrap_err();
    site.gateway.wait_for_metric("portcullis_tls_handshake_failures_total{reason=\"alert\"}", 1.0).await;
}

#[tokio::test]
async fn changed_files_are_used_and_no_connection_is_dropped() {
    let files = CertificateFiles::localhost("a");
    let text = config(&files, &["a"]);
    let site = Fixture::start(text).await;
    let addr = site.gateway.addr();
    let client = TlsClient::new("localhost");
    let mut open = client.open(addr).await;
    assert_eq!(open.request("GET", "/public/x", &HOST, b"").await.status, 200);
    let renewed = authority().issue(&["localhost"]);
    files.write("a", &renewed);
    site.gateway.reload().await.unwrap();
    site.gateway.wait_for_metric("portcullis_tls_reloads_total{result=\"success\"}", 1.0).await;
    let session = client.connect(addr).await;
    assert_eq!(presented(&session), renewed.certificate.der().as_ref());
    assert_eq!(open.request("GET", "/public/x", &HOST, b"").await.status, 200, "on the old session");
}

#[tokio::test]
async fn a_swapped_symbolic_link_is_noticed_without_a_signal() {
    let files = CertificateFiles::empty();
    let (old, new) = (authority().issue(&["localhost"]), authority().issue(&["localhost"]));
    for (name, issued) in [("old", &old), ("new", &new)] {
        std::fs::create_dir(files.path(name)).unwrap();
        files.write(&format!("{name}/tls"), issued);
    }
    // As Kubernetes does: a link to a directory, which is replaced by renaming.
    std::os::unix::fs::symlink("old", files.path("data")).unwrap();
    let toml = config(&files, &["data/tls"]);
    let site = Fixture::start_watching(toml, Duration::from_millis(10)).await;
    std::os::unix::fs::symlink("new", files.path("data.new")).unwrap();
    std::fs::rename(files.path("data.new"), files.path("data")).unwrap();
    site.gateway.wait_for_metric("portcullis_tls_reloads_total{result=\"success\"}", 1.0).await;
    let session = TlsClient::new("localhost").connect(site.gateway.addr()).await;
    assert_eq!(presented(&session), new.certificate.der().as_ref());
}

#[tokio::test]
async fn a_bad_new_file_is_kept_out_and_counted() {
    let files = CertificateFiles::localhost("a");
    let site = Fixture::start(config(&files, &["a"])).await;
    let first = TlsClient::new("localhost").connect(site.gateway.addr()).await;
    let good = std::fs::read(files.path("a.crt")).unwrap();
    let expired = authority().issue_with(&["localhost"], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let other = authority().issue(&["localhost"]);
    for (number, (name, break_it)) in [
        ("no PEM", &(|| drop(files.0.write("a.crt", "x"))) as &dyn Fn()),
        ("the certificate of another key", &|| drop(files.0.write("a.crt", other.certificate.pem()))),
        ("missing", &|| std::fs::remove_file(files.path("a.crt")).unwrap()),
        ("expired", &|| files.write("a", &expired)),
    ]
    .into_iter()
    .enumerate()
    {
        break_it();
        site.gateway.reload().await.unwrap();
        let failures = f64::from(u32::try_from(number).unwrap()) + 1.0;
        site.gateway.wait_for_metric("portcullis_tls_reloads_total{result=\"failure\"}", failures).await;
        let session = TlsClient::new("localhost").connect(site.gateway.addr()).await;
        assert_eq!(presented(&session), presented(&first), "{name}");
    }
    assert!(!good.is_empty());
    assert_eq!(site.gateway.count("portcullis_tls_reloads_total{result=\"success\"}").await, 0);
}

#[tokio::test]
async fn another_list_of_certificates_takes_effect_with_a_reload() {
    let files = CertificateFiles::localhost("a");
    files.write("b", &authority().issue(&["b.test"]));
    let site = Fixture::start(config(&files, &["a"])).await;
    let b = TlsClient::new("b.test");
    b.try_connect(site.gateway.addr()).await.unwrap_err();
    site.reload(config(&files, &["a", "b"])).await;
    b.connect(site.gateway.addr()).await;
    let missing = site.try_reload(config(&files, &["a", "b", "c"])).await.unwrap_err().to_string();
    assert!(missing.contains("server.tls.certificates[2].cert: `"), "{missing}");
    b.connect(site.gateway.addr()).await;
    let off = site.try_reload(Config::minimal()).await.unwrap_err().to_string();
    assert!(off.contains("server.tls changed, which requires a restart"), "{off}");
}

#[tokio::test]
async fn a_certificate_that_expires_soon_is_a_metric_and_a_detail_of_readyz() {
    let files = CertificateFiles::empty();
    // The clock shows 2027-01-15T08:00:00Z.
    let ends = [("soon", rcgen::date_time_ymd(2027, 1, 28)), ("late", rcgen::date_time_ymd(2027, 6, 1))];
    for (name, not_after) in ends {
        let issued = authority().issue_with(&["localhost"], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
            params.not_after = not_after;
        });
        files.write(name, &issued);
    }
    let site = Fixture::start(config(&files, &["soon", "late"])).await;
    for (name, not_after) in ends {
        let label = files.path(&format!("{name}.crt")).display().to_string();
        let sample = format!("portcullis_tls_certificate_expires_timestamp_seconds{{certificate={label:?}}}");
        assert_eq!(site.gateway.count(&sample).await, not_after.unix_timestamp().cast_unsigned());
    }
    site.gateway.wait_for_metric("portcullis_jwks_keys{issuer=\"main\"}", 1.0).await;
    let ready = client::get(site.gateway.admin(), "/readyz", &[]).await;
    let reasons = ready.json()["reasons"].to_string();
    assert_eq!(ready.status, 200);
    assert!(reasons.contains("soon.crt expires in 12 days") && !reasons.contains("late.crt"), "{reasons}");
}

#[test]
fn check_reports_every_file_that_cannot_be_used_and_lists_the_others() {
    let files = CertificateFiles::localhost("a");
    files.write("b", &authority().issue(&["b.test", "*.b.test"]));
    let check = |names: &[&str]| {
        let toml = config(&files, names).to_toml("https://idp.test", ([127, 0, 0, 1], 9).into());
        let file = files.0.write("gateway.toml", toml);
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis")).arg("check").arg("-c").arg(&file).output().unwrap();
        let shown = [output.stdout, output.stderr].concat();
        let shown = String::from_utf8(shown).unwrap().replace(&format!("{}/", files.0.path().display()), "");
        (output.status.code().unwrap(), shown)
    };
    let (code, shown) = check(&["a", "b"]);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("\ncertificate b.crt: b.test, *.b.test, expires 4096-01-01T00:00:00.000Z\n"), "{shown}");
    files.0.write("b.key", "x");
    std::fs::remove_file(files.path("a.crt")).unwrap();
    let (code, shown) = check(&["a", "b"]);
    assert_eq!(code, 78, "{shown}");
    for part in [
        "gateway.toml: 2 problems",
        "server.tls.certificates[0].cert: `a.crt` cannot be read: No such file",
        "server.tls.certificates[1].key: `b.key` has no PEM section, but a private key (BEGIN PRIVATE KEY) is needed",
    ] {
        assert!(shown.contains(part), "{part} is not in:\n{shown}");
    }
}

#[tokio::test]
async fn listeners_with_and_without_tls_and_a_redirect_stand_side_by_side() {
    let files = CertificateFiles::localhost("a");
    let lines = "plain_listen = [\"127.0.0.1:0\"]\nredirect_listen = [\"127.0.0.1:0\"]";
    let site = Fixture::start(config(&files, &["a"]).add("server", lines)).await;
    let [tls, plain, redirect] = site.gateway.addrs()[..] else { panic!("three addresses") };
    assert_eq!(TlsClient::new("localhost").open(tls).await.request("GET", "/public/x", &HOST, b"").await.status, 200);
    assert_eq!(client::get(plain, "/public/x", &[]).await.status, 200);
    let scheme = |request: &RecordedRequest| request.header("x-forwarded-proto").map(str::to_owned);
    let schemes: Vec<_> = site.origin.requests().iter().map(scheme).collect();
    assert_eq!(schemes, [Some("https".to_owned()), Some("http".to_owned())]);
    let before = site.origin.requests().len();
    for (name, method, target, host, expected) in [
        ("no route is looked at", "GET", "/nowhere/x?a=b%20c", "api.test", Ok("https://api.test/nowhere/x?a=b%20c")),
        ("the port is that of the redirect", "POST", "/", "api.test:8080", Ok("https://api.test/")),
        ("an address", "GET", "/a/*", "[2001:db8::1]:80", Ok("https://[2001:db8::1]/a/*")),
        ("a host that is none", "GET", "/", "api.test/evil", Err("host_refused")),
        ("a path that is ambiguous", "GET", "/../x", "api.test", Err("path_refused")),
    ] {
        let response = client::request(redirect, method, target, &[("Host", host)], b"").await;
        match expected {
            Ok(location) => {
                assert_eq!((response.status, response.header("location")), (308, Some(location)), "{name}");
                assert!(response.header("x-request-id").is_some(), "{name}");
            }
            Err(code) => assert_eq!((response.status, response.json()["code"].as_str()), (400, Some(code)), "{name}"),
        }
    }
    let http2 = client::h2(redirect).await.get("http://api.test/x", &[]).await;
    assert_eq!((http2.status, http2.header("location")), (308, Some("https://api.test/x")));
    assert_eq!(site.origin.requests().len(), before);
    let lines = site.gateway.wait_for_access_lines(8).await;
    assert_eq!((&lines[2]["status"], &lines[2]["route"]), (&308.into(), &"".into()));
}

#[tokio::test]
async fn a_redirect_leads_to_the_public_url() {
    let files = CertificateFiles::localhost("a");
    let lines = "redirect_listen = [\"127.0.0.1:0\"]\npublic_url = \"https://API.example.com:8443/\"";
    let site = Fixture::start(config(&files, &["a"]).add("server", lines)).await;
    let response = client::get(site.gateway.addrs()[1], "/x?y", &[("Host", "other.test")]).await;
    assert_eq!(response.header("location"), Some("https://api.example.com:8443/x?y"));
}

/// A client that begins handshakes and does not complete them takes its own share only.
#[tokio::test]
async fn unfinished_handshakes_count_as_connections_of_their_client() {
    let files = CertificateFiles::localhost("a");
    let lines = "max_connections_per_client = 2";
    let site = Fixture::start(config(&files, &["a"]).add("server", lines).one_worker()).await;
    let addr = site.gateway.addr();
    let mut begun = Vec::new();
    for _ in 0..2 {
        let mut conn = Conn::open_as(7, addr).await;
        conn.send(b"\x16\x03\x01\x02\x00\x01").await;
        begun.push(conn);
    }
    site.gateway.wait_for_connections(2).await;
    let mut third = Conn::open_as(7, addr).await;
    assert!(third.read_to_close().await.is_empty());
    assert_eq!(site.gateway.count("portcullis_connections_refused_total").await, 1);
    let mut other = TlsClient::new("localhost").open(addr).await;
    assert_eq!(other.request("GET", "/public/x", &HOST, b"").await.status, 200);
}

/// A connection that has been idle for a second is parked; its session goes on where it was.
#[tokio::test]
async fn a_parked_connection_goes_on_over_tls() {
    let files = CertificateFiles::localhost("a");
    let site = Fixture::start(config(&files, &["a"])).await;
    let mut conn = TlsClient::new("localhost").open(site.gateway.addr()).await;
    for number in 0..2 {
        assert_eq!(conn.request("GET", "/public/x", &HOST, b"").await.status, 200, "request {number}");
        site.gateway.wait_for_metric("portcullis_connections_idle", 1.0).await;
    }
    let (head, rest) = "GET /public/y HTTP/1.1\r\nHost: localhost\r\n\r\n".split_at(9);
    conn.send(head).await;
    conn.send(rest).await;
    assert_eq!(conn.read_response().await.status, 200);
}
