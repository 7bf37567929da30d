//! What upstreams learn of a client's certificate from identity headers.

use super::{CertificateFiles, Fixture, Issued, TlsClient, client_auth, clients, config, files, numbered, with_crl};
use crate::support::client::Conn;
use crate::support::config::Config;
use crate::support::origin::RecordedRequest;

const HEADERS: [&str; 3] = ["x-cert-subject", "x-cert-san", "x-cert-print"];

/// With an identity header for each source.
fn with_headers(config: Config) -> Config {
    config.append(
        "[identity.headers]\nX-Identity-Subject = \"subject\"\nX-Cert-Subject = \"client_cert_subject\"\n\
         X-Cert-San = \"client_cert_san\"\nX-Cert-Print = \"client_cert_thumbprint\"",
    )
}

fn named(name: &str, serial: u64) -> Issued {
    clients().issue_with(&["Client.test", "192.0.2.7"], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
        params.serial_number = Some(serial.into());
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Example, Inc.");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let uri = "spiffe://test/a,b".try_into().expect("ASCII");
        params.subject_alt_names.push(rcgen::SanType::URI(uri));
    })
}

/// As `x5t#S256` has it (RFC 8705 §3.1).
fn thumbprint(issued: &Issued) -> String {
    use base64::Engine as _;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, issued.certificate.der());
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest)
}

fn received(request: &RecordedRequest) -> [Option<&str>; 3] {
    HEADERS.map(|name| request.header(name))
}

async fn open(site: &Fixture, issued: Option<&Issued>) -> Conn {
    let client = TlsClient::new("localhost");
    issued.map_or(client.clone(), |issued| client.with_identity(issued)).open(site.gateway.addr()).await
}

/// The request that the origin has received last.
fn last(site: &Fixture) -> RecordedRequest {
    site.origin.requests().pop().expect("a request at the origin")
}

async fn start(files: &CertificateFiles, mode: &str) -> Fixture {
    Fixture::start(with_headers(config(files, &client_auth(files, mode)))).await
}

#[tokio::test]
async fn the_upstream_learns_who_the_certificate_is_for() {
    let files = files();
    let site = start(&files, "optional").await;
    let alice = named("Zoë", 1);
    let expected = [
        "CN=Zo%C3%AB,O=Example\\, Inc.".to_owned(),
        "DNS:client.test,IP:192.0.2.7,URI:spiffe://test/a%2Cb".to_owned(),
        thumbprint(&alice),
    ];
    let forged = HEADERS.map(|name| (name, "forged"));
    let headers = [&[("Host", "localhost"), ("X_Cert_Subject", "forged")][..], &forged[..]].concat();
    for (name, issued, expected) in [
        ("with", Some(&alice), [Some(&*expected[0]), Some(&*expected[1]), Some(&*expected[2])]),
        ("without", None, [None; 3]),
    ] {
        let mut conn = open(&site, issued).await;
        assert_eq!(conn.request("GET", "/public/x", &headers, b"").await.status, 200, "{name}");
        let request = last(&site);
        assert_eq!(received(&request), expected, "{name}, HTTP/1.1");
        assert_eq!(request.header("x_cert_subject"), None, "{name}");
        let client = TlsClient::new("localhost");
        let client = issued.map_or(client.clone(), |issued| client.with_identity(issued));
        let response = client.open_h2(site.gateway.addr()).await.get("/public/x", &forged).await;
        assert_eq!(response.status, 200, "{name}");
        assert_eq!(received(&last(&site)), expected, "{name}, HTTP/2");
    }
}

/// Threat TC-3: the identity headers of a token are kept with it, those of a certificate with its
/// connection.
#[tokio::test]
async fn one_token_over_several_connections_has_the_certificate_of_each() {
    let files = files();
    let site = start(&files, "optional").await;
    let bearer = site.bearer("alice");
    let (alice, bob) = (named("Alice", 1), named("Bob", 3));
    let mut connections = [
        (Some(&alice), open(&site, Some(&alice)).await),
        (Some(&bob), open(&site, Some(&bob)).await),
        (None, open(&site, None).await),
    ];
    for round in 0..2 {
        for (issued, conn) in &mut connections {
            for (target, authorization) in
                [("/token/x", Some(&*bearer)), ("/public/x", None), ("/public/x", Some(&*bearer))]
            {
                let authorization = authorization.map(|value| ("Authorization", value));
                let headers: Vec<_> = [("Host", "localhost")].into_iter().chain(authorization).collect();
                assert_eq!(conn.request("GET", target, &headers, b"").await.status, 200);
                let request = last(&site);
                let print = issued.map(thumbprint);
                assert_eq!(request.header("x-cert-print"), print.as_deref(), "round {round}, {target}");
                let subject = (target == "/token/x").then_some("alice");
                assert_eq!(request.header("x-identity-subject"), subject, "round {round}, {target}");
            }
        }
    }
    assert_eq!(site.verifications("accepted", "miss").await, 1, "the token was verified once");
}

#[tokio::test]
async fn a_value_that_is_too_long_is_omitted_and_counted() {
    let files = files();
    let text =
        with_headers(config(&files, &client_auth(&files, "optional"))).append("[identity]\nmax_value_size = \"50 B\"");
    let site = Fixture::start(text).await;
    let long = named(&"x".repeat(60), 1);
    let mut conn = open(&site, Some(&long)).await;
    for _ in 0..2 {
        assert_eq!(conn.request("GET", "/public/x", &[("Host", "localhost")], b"").await.status, 200);
        assert_eq!(received(&last(&site)), [None, None, Some(&*thumbprint(&long))]);
    }
    assert_eq!(site.gateway.count("portcullis_identity_headers_omitted_total").await, 2, "once per connection");
}

/// Threat TC-4: an open connection does not keep a certificate that is no longer accepted.
#[tokio::test]
async fn a_certificate_that_is_no_longer_accepted_is_not_reported() {
    let files = files();
    let site = Fixture::start(with_headers(config(&files, &with_crl(&files, "optional")))).await;
    let p256 = &rcgen::PKCS_ECDSA_P256_SHA256;
    let short = clients().issue_with(&["client.test"], p256, |params| {
        params.serial_number = Some(13_u64.into());
        params.not_after = rcgen::date_time_ymd(2027, 1, 16);
    });
    let revoked = numbered(11);
    let mut of_revoked = open(&site, Some(&revoked)).await;
    let mut of_short = open(&site, Some(&short)).await;
    let request = async |conn: &mut Conn| {
        assert_eq!(conn.request("GET", "/public/x", &[("Host", "localhost")], b"").await.status, 200);
        last(&site).header("x-cert-print").map(str::to_owned)
    };
    assert_eq!(request(&mut of_revoked).await, Some(thumbprint(&revoked)));
    assert_eq!(request(&mut of_short).await, Some(thumbprint(&short)));
    files.0.write("crl.pem", clients().revocation_list(&[11], (2027, 2, 1)));
    site.gateway.reload().await.unwrap();
    site.gateway.wait_for_metric("portcullis_tls_reloads_total{result=\"success\"}", 1.0).await;
    assert_eq!(request(&mut of_revoked).await, None);
    assert_eq!(request(&mut of_short).await, Some(thumbprint(&short)), "it is verified again, and is good");
    site.clock.advance(std::time::Duration::from_secs(24 * 60 * 60));
    assert_eq!(request(&mut of_short).await, None, "it has expired");
}

/// A session is resumed without a look at the certificate, which may have expired since.
#[tokio::test]
async fn a_session_is_not_resumed_once_its_certificate_has_expired() {
    let files = files();
    let site = start(&files, "required").await;
    let short = clients().issue_with(&["client.test"], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
        params.not_after = rcgen::date_time_ymd(2027, 1, 16);
    });
    let client = TlsClient::new("localhost").with_identity(&short).resuming();
    let connector = client.connector();
    let come = async || super::attempt(&client, &connector, site.gateway.addr()).await.ok().map(|(kind, _)| kind);
    assert_eq!(come().await, Some(rustls::HandshakeKind::Full));
    assert_eq!(come().await, Some(rustls::HandshakeKind::Resumed));
    // Tickets are good for twelve hours; the certificate ends in sixteen.
    site.clock.advance(std::time::Duration::from_secs(10 * 60 * 60));
    assert_eq!(come().await, Some(rustls::HandshakeKind::Resumed));
    site.clock.advance(std::time::Duration::from_secs(7 * 60 * 60));
    assert_eq!(come().await, None);
    site.gateway.wait_for_metric(&super::failure("client_certificate_expired"), 1.0).await;
}
