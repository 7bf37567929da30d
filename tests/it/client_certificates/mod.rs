//! Client certificates: whose are accepted, what upstreams learn of them, and what routes demand.

mod demand;
mod files;
mod forwarding;
mod handshakes;
mod identity;
mod tunnels;

use std::net::SocketAddr;
use std::sync::LazyLock;

use rustls::{HandshakeKind, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use crate::support::certificates::{Authority, CertificateFiles, Issued};
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::tls::{TlsClient, agreed};
use crate::support::with_deadline;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// The day after the one that the fixture's clock shows, and the day before.
const TOMORROW: (i32, u8, u8) = (2027, 1, 16);
const YESTERDAY: (i32, u8, u8) = (2027, 1, 14);

/// The authority of the clients, which has issued no server's certificate.
fn clients() -> &'static Authority {
    static CLIENTS: LazyLock<Authority> = LazyLock::new(Authority::new);
    &CLIENTS
}

/// A client's certificate with this serial number.
fn numbered(serial: u64) -> Issued {
    let p256 = &rcgen::PKCS_ECDSA_P256_SHA256;
    clients().issue_with(&["client.test"], p256, |params| params.serial_number = Some(serial.into()))
}

/// The server's certificate `a`, the clients' authority `ca.pem`, and a list `crl.pem` on which the
/// certificate with the serial number 2 is.
pub(crate) fn files() -> CertificateFiles {
    let files = CertificateFiles::localhost("a");
    files.0.write("ca.pem", clients().pem());
    files.0.write("crl.pem", clients().revocation_list(&[2], TOMORROW));
    files
}

/// `[server.tls]` with these lines.
pub(crate) fn config(files: &CertificateFiles, lines: &str) -> Config {
    let certificates = files.certificates(&["a"]);
    Config::minimal().append(&format!("[server.tls]\ncertificates = {certificates}\n{lines}"))
}

/// The lines of `client_auth` in this mode.
fn client_auth(files: &CertificateFiles, mode: &str) -> String {
    format!("client_auth = {mode:?}\nclient_ca = {}\n", files.quoted("ca.pem"))
}

/// The lines of `client_auth` in this mode, with the revocation list.
pub(crate) fn with_crl(files: &CertificateFiles, mode: &str) -> String {
    format!("{}client_crl = {}\n", client_auth(files, mode), files.quoted("crl.pem"))
}

/// Sends a request on a connection of its own, and returns how the handshake was made and the
/// status of the response. With TLS 1.3, a client learns from the first bytes that it reads whether
/// the server accepts its certificate.
async fn attempt(
    client: &TlsClient,
    connector: &TlsConnector,
    addr: SocketAddr,
) -> std::io::Result<(HandshakeKind, String)> {
    let mut session = client.try_connect_with(connector, addr).await?;
    let kind = agreed(&session).handshake_kind().expect("the handshake is complete");
    let request = b"GET /public/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut response = Vec::new();
    with_deadline("a response over TLS", async {
        session.write_all(request).await?;
        session.read_to_end(&mut response).await
    })
    .await?;
    let response = String::from_utf8_lossy(&response);
    Ok((kind, response.split(' ').nth(1).unwrap_or("no response").to_owned()))
}

/// The status of a request on a session of its own; `None` if the handshake fails.
async fn status(site: &Fixture, client: &TlsClient) -> Option<String> {
    attempt(client, &client.connector(), site.gateway.addr()).await.ok().map(|(_, status)| status)
}

/// How many handshakes have failed for this reason.
async fn failures(site: &Fixture, reason: &str) -> f64 {
    site.gateway.metric(&failure(reason)).await
}

fn failure(reason: &str) -> String {
    format!("portcullis_tls_handshake_failures_total{{reason={reason:?}}}")
}
