//! Tunnels end when the certificate that they need is no longer accepted.

use std::time::Duration;

use super::{Fixture, Issued, TlsClient, client_auth, clients, config, files, with_crl};
use crate::support::client::Conn;
use crate::support::config::Config;
use crate::support::fixture::NOW;
use crate::support::origin::Behaviour;

fn with_route(config: Config) -> Config {
    config.append("[[routes]]\npath = \"/ws\"\naccess = \"public\"\nclient_cert = \"required\"\nupstream = \"main\"")
}

async fn open(site: &Fixture, path: &str, issued: &Issued) -> Conn {
    site.origin.behave(path, Behaviour::Upgrade);
    let mut conn = TlsClient::new("localhost").with_identity(issued).open(site.gateway.addr()).await;
    let head = "Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket";
    conn.send(format!("GET {path} HTTP/1.1\r\n{head}\r\n\r\n")).await;
    assert_eq!(conn.read_response().await.status, 101);
    conn
}

async fn echo(conn: &mut Conn, text: &str) {
    conn.send(text).await;
    assert_eq!(String::from_utf8_lossy(&conn.read_bytes(text.len()).await), text);
}

async fn reason(site: &Fixture) -> String {
    let lines = site.gateway.wait_for_access_lines(1).await;
    lines[0]["reason"].as_str().expect("the reason why the tunnel has ended").to_owned()
}

/// Threats UP-7, TC-4.
#[tokio::test]
async fn a_tunnel_ends_when_its_certificate_is_revoked() {
    let files = files();
    let site = Fixture::start(with_route(config(&files, &with_crl(&files, "optional")))).await;
    let [revoked, good] = [11, 12].map(super::numbered);
    let mut of_revoked = open(&site, "/ws", &revoked).await;
    let mut of_good = open(&site, "/ws", &good).await;
    let mut elsewhere = open(&site, "/public/ws", &revoked).await;
    echo(&mut of_revoked, "open").await;
    files.0.write("crl.pem", clients().revocation_list(&[11], super::TOMORROW));
    site.gateway.reload().await.unwrap();
    assert_eq!(of_revoked.read_to_close().await, b"");
    assert_eq!(reason(&site).await, "the client certificate is no longer accepted");
    echo(&mut of_good, "its certificate is good").await;
    echo(&mut elsewhere, "the route needs none").await;
}

#[tokio::test]
async fn a_tunnel_ends_when_its_certificate_expires() {
    let files = files();
    let site = Fixture::start(with_route(config(&files, &client_auth(&files, "optional")))).await;
    let short = clients().issue_with(&["client.test"], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(NOW + 1);
    });
    let mut conn = open(&site, "/ws", &short).await;
    echo(&mut conn, "open").await;
    site.clock.advance(Duration::from_secs(2));
    assert_eq!(conn.read_to_close().await, b"");
    assert_eq!(reason(&site).await, "the client certificate has expired");
}
