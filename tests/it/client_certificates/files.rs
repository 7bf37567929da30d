//! The authorities and revocation lists change while the gateway runs.

use std::process::Command;
use std::time::Duration;

use rustls::HandshakeKind::{Full, Resumed};

use super::{Authority, Fixture, Issued, TOMORROW, TlsClient, VERSIONS, YESTERDAY};
use super::{attempt, client_auth, clients, config, files, numbered, status, with_crl};
use crate::support::certificates::authority;

/// A client that resumes its sessions.
struct ReturningClient {
    client: TlsClient,
    connector: tokio_rustls::TlsConnector,
}

impl ReturningClient {
    fn new(issued: Option<&Issued>, version: &'static rustls::SupportedProtocolVersion) -> Self {
        let client = TlsClient::new("localhost").version(version).resuming();
        let client = issued.map_or(client.clone(), |issued| client.with_identity(issued));
        Self { connector: client.connector(), client }
    }

    /// How the session began; `None` if the gateway refused it.
    async fn connect(&self, site: &Fixture) -> Option<rustls::HandshakeKind> {
        attempt(&self.client, &self.connector, site.gateway.addr()).await.ok().map(|(kind, _)| kind)
    }
}

async fn reload_files(site: &Fixture, reloads: f64) {
    site.gateway.reload().await.expect("the configuration is the same");
    site.gateway.wait_for_metric("portcullis_tls_reloads_total{result=\"success\"}", reloads).await;
}

/// Threat TC-2: what was verified when a session began is not verified again when it is resumed.
#[tokio::test]
async fn a_new_revocation_list_ends_the_resumption_of_sessions() {
    let files = files();
    let site = Fixture::start(config(&files, &with_crl(&files, "required"))).await;
    let (first, second) = (numbered(11), numbered(12));
    let mut revoked = Vec::new();
    for version in VERSIONS {
        let (one, other) = (ReturningClient::new(Some(&first), version), ReturningClient::new(Some(&second), version));
        assert_eq!([one.connect(&site).await, one.connect(&site).await], [Some(Full), Some(Resumed)], "{version:?}");
        assert_eq!(
            [other.connect(&site).await, other.connect(&site).await],
            [Some(Full), Some(Resumed)],
            "{version:?}"
        );
        revoked.push((one, other));
    }
    files.0.write("crl.pem", clients().revocation_list(&[11], TOMORROW));
    reload_files(&site, 1.0).await;
    for (one, other) in revoked {
        assert_eq!(one.connect(&site).await, None, "revoked");
        assert_eq!([other.connect(&site).await, other.connect(&site).await], [Some(Full), Some(Resumed)]);
    }
}

/// Threat TC-2: tickets are good for twelve hours, and the list may expire before.
#[tokio::test]
async fn a_session_is_not_resumed_once_the_revocation_list_has_expired() {
    let files = files();
    let site = Fixture::start(config(&files, &with_crl(&files, "required"))).await;
    let issued = numbered(1);
    // The list expires in sixteen hours.
    site.clock.advance(Duration::from_secs(10 * 60 * 60));
    let clients = VERSIONS.map(|version| ReturningClient::new(Some(&issued), version));
    for client in &clients {
        assert_eq!([client.connect(&site).await, client.connect(&site).await], [Some(Full), Some(Resumed)]);
    }
    site.clock.advance(Duration::from_secs(7 * 60 * 60));
    for (client, failures) in clients.iter().zip([1.0, 2.0]) {
        assert_eq!(client.connect(&site).await, None);
        site.gateway.wait_for_metric(&super::failure("client_certificate_revocation_unknown"), failures).await;
    }
}

#[tokio::test]
async fn another_list_that_has_expired_is_refused_by_a_reload_of_the_configuration() {
    let files = files();
    let site = Fixture::start(config(&files, &with_crl(&files, "required"))).await;
    files.0.write("old.pem", clients().revocation_list(&[], YESTERDAY));
    let lines = format!("{}client_crl = {}", client_auth(&files, "required"), files.quoted("old.pem"));
    let error = site.try_reload(config(&files, &lines)).await.expect_err("the list has expired").to_string();
    assert!(error.contains("old.pem` a revocation list has expired"), "{error}");
    let revoked = TlsClient::new("localhost").with_identity(&numbered(2));
    assert_eq!(status(&site, &TlsClient::new("localhost").with_identity(&numbered(1))).await.as_deref(), Some("200"));
    assert_eq!(status(&site, &revoked).await, None);
}

#[tokio::test]
async fn other_authorities_end_the_resumption_of_sessions() {
    let files = files();
    let site = Fixture::start(config(&files, &client_auth(&files, "optional"))).await;
    let known = ReturningClient::new(Some(&numbered(1)), &rustls::version::TLS13);
    let without = ReturningClient::new(None, &rustls::version::TLS13);
    for client in [&known, &without] {
        assert_eq!([client.connect(&site).await, client.connect(&site).await], [Some(Full), Some(Resumed)]);
    }
    // A new certificate of the server changes nothing for clients.
    files.write("a", &authority().issue(&["localhost"]));
    reload_files(&site, 1.0).await;
    assert_eq!(known.connect(&site).await, Some(Resumed));
    files.0.write("ca.pem", Authority::new().pem());
    reload_files(&site, 2.0).await;
    assert_eq!(known.connect(&site).await, None);
    assert_eq!(without.connect(&site).await, Some(Full));
}

#[tokio::test]
async fn another_mode_ends_the_resumption_of_sessions() {
    let files = files();
    let site = Fixture::start(config(&files, "")).await;
    for version in VERSIONS {
        site.reload(config(&files, "")).await;
        let without = ReturningClient::new(None, version);
        assert_eq!([without.connect(&site).await, without.connect(&site).await], [Some(Full), Some(Resumed)]);
        site.reload(config(&files, &client_auth(&files, "optional"))).await;
        assert_eq!([without.connect(&site).await, without.connect(&site).await], [Some(Full), Some(Resumed)]);
        site.reload(config(&files, &client_auth(&files, "required"))).await;
        assert_eq!(without.connect(&site).await, None, "{version:?}: it has no certificate");
    }
}

#[tokio::test]
async fn a_list_behind_a_swapped_symbolic_link_is_noticed_without_a_signal() {
    let files = files();
    for (name, revoked) in [("old", 2), ("new", 1)] {
        std::fs::create_dir(files.path(name)).unwrap();
        files.0.write(&format!("{name}/crl.pem"), clients().revocation_list(&[revoked], TOMORROW));
    }
    std::os::unix::fs::symlink("old", files.path("data")).unwrap();
    let lines = format!("{}client_crl = {}", client_auth(&files, "required"), files.quoted("data/crl.pem"));
    let site = Fixture::start_watching(config(&files, &lines), Duration::from_millis(10)).await;
    let client = TlsClient::new("localhost").with_identity(&numbered(1));
    assert_eq!(status(&site, &client).await.as_deref(), Some("200"));
    std::os::unix::fs::symlink("new", files.path("data.new")).unwrap();
    std::fs::rename(files.path("data.new"), files.path("data")).unwrap();
    site.gateway.wait_for_metric("portcullis_tls_reloads_total{result=\"success\"}", 1.0).await;
    assert_eq!(status(&site, &client).await, None);
}

#[tokio::test]
async fn a_bad_new_authority_or_list_is_kept_out_and_counted() {
    let files = files();
    let site = Fixture::start(config(&files, &with_crl(&files, "required"))).await;
    let client = TlsClient::new("localhost").with_identity(&numbered(1));
    let (ca, list) = (clients().pem(), clients().revocation_list(&[2], TOMORROW));
    let mut failures = 0.0;
    for (name, file, text, good) in [
        ("no PEM", "ca.pem", "x".to_owned(), &ca),
        ("no certificate", "ca.pem", list.clone(), &ca),
        ("no list", "crl.pem", ca.clone(), &list),
        ("an outdated list", "crl.pem", clients().revocation_list(&[], YESTERDAY), &list),
    ] {
        files.0.write(file, text);
        site.gateway.reload().await.unwrap();
        failures += 1.0;
        site.gateway.wait_for_metric("portcullis_tls_reloads_total{result=\"failure\"}", failures).await;
        assert_eq!(status(&site, &client).await.as_deref(), Some("200"), "{name}");
        files.0.write(file, good);
    }
    assert_eq!(status(&site, &TlsClient::new("localhost").with_identity(&numbered(2))).await, None, "still revoked");
}

#[tokio::test]
async fn an_outdated_list_is_used_at_the_start_and_reported() {
    let files = files();
    files.0.write("crl.pem", clients().revocation_list(&[2], YESTERDAY));
    let site = Fixture::start(config(&files, &with_crl(&files, "optional"))).await;
    site.gateway.wait_for_metric("portcullis_jwks_keys{issuer=\"main\"}", 1.0).await;
    let ready = crate::support::client::get(site.gateway.admin(), "/readyz", &[]).await;
    let reasons = ready.json()["reasons"].to_string();
    assert_eq!(ready.status, 200);
    assert!(reasons.contains("crl.pem has expired; client certificates that it covers are refused"), "{reasons}");
    let file = files.path("crl.pem").display().to_string();
    let sample = format!("portcullis_tls_revocation_lists_expire_timestamp_seconds{{file={file:?}}}");
    let (year, month, day) = YESTERDAY;
    let expires = rcgen::date_time_ymd(year, month, day).unix_timestamp().cast_unsigned();
    assert_eq!(site.gateway.count(&sample).await, expires);
}

#[test]
fn check_reports_what_is_wrong_with_the_authorities_and_the_lists() {
    let files = files();
    let check = || {
        let toml =
            config(&files, &with_crl(&files, "required")).to_toml("https://idp.test", ([127, 0, 0, 1], 9).into());
        let file = files.0.write("gateway.toml", toml);
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis")).arg("check").arg("-c").arg(&file).output().unwrap();
        let shown = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code().unwrap(), shown.replace(&format!("{}/", files.0.path().display()), ""))
    };
    // The clock of this machine decides here.
    files.0.write("crl.pem", clients().revocation_list(&[2], (4000, 1, 1)));
    let (code, shown) = check();
    assert_eq!((code, shown.contains("warning")), (0, false), "{shown}");
    files.0.write("crl.pem", clients().revocation_list(&[2], (2021, 1, 1)));
    let (code, shown) = check();
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("server.tls.client_crl: a revocation list in `crl.pem` has expired"), "{shown}");
    let broken = "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n";
    files.0.write("crl.pem", format!("{}{broken}", clients().revocation_list(&[2], TOMORROW)));
    std::fs::remove_file(files.path("ca.pem")).unwrap();
    let (code, shown) = check();
    assert_eq!(code, 78, "{shown}");
    assert!(shown.contains("server.tls.client_ca: `ca.pem` cannot be read: No such file"), "{shown}");
    // Threat TC-11.
    files.0.write("ca.pem", clients().pem() + &numbered(1).certificate.pem());
    let (code, shown) = check();
    assert_eq!(code, 78, "{shown}");
    let expected = "server.tls.client_ca: `ca.pem` certificate 2 is not that of an authority: it has no CA:TRUE";
    assert!(shown.contains(expected), "{shown}");
    files.0.write("ca.pem", clients().pem());
    let (code, shown) = check();
    assert_eq!(code, 78, "{shown}");
    assert!(shown.contains("server.tls.client_crl: `crl.pem` revocation list 2 is not valid"), "{shown}");
    let lists = [&[2][..], &[2, 3]].map(|serials| clients().revocation_list(serials, (4000, 1, 1)));
    files.0.write("crl.pem", lists.concat());
    let (code, shown) = check();
    assert_eq!(code, 78, "{shown}");
    assert!(shown.contains("server.tls.client_crl: `crl.pem` revocation lists 1 and 2 are both for"), "{shown}");
}
