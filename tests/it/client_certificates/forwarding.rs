//! `Client-Cert` and `Client-Cert-Chain` (RFC 9440) to upstreams that ask for them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Fixture, Issued, TlsClient, client_auth, clients, config, files, numbered};
use crate::support::config::Config;

fn with(config: Config, forward_client_cert: &str) -> Config {
    config.add("upstreams.main", &format!("forward_client_cert = {forward_client_cert:?}"))
}

fn byte_sequence(der: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(der))
}

/// `Client-Cert`, `Client-Cert-Chain` and `Client-Cert-Other` at the origin, after a request that
/// claims to have other ones.
async fn received(site: &Fixture, client: &TlsClient) -> [Option<String>; 3] {
    const NAMES: [&str; 3] = ["client-cert", "client-cert-chain", "client-cert-other"];
    let forged = NAMES.map(|name| (name, ":Zm9yZ2Vk:"));
    let headers = [&[("Host", "localhost"), ("Client_Cert", ":Zm9yZ2Vk:")][..], &forged[..]].concat();
    let mut conn = client.open(site.gateway.addr()).await;
    assert_eq!(conn.request("GET", "/public/x", &headers, b"").await.status, 200);
    let request = site.origin.requests().pop().expect("a request at the origin");
    assert_eq!(request.header("client_cert"), None);
    NAMES.map(|name| request.header(name).map(str::to_owned))
}

fn presenting(issued: &Issued) -> TlsClient {
    TlsClient::new("localhost").with_identity(issued).with_chain(&[clients().der()])
}

/// Threat TC-5.
#[tokio::test]
async fn the_upstream_gets_the_certificate_of_this_connection_and_no_other() {
    let files = files();
    let issued = numbered(1);
    let (own, chain) = (byte_sequence(issued.certificate.der()), byte_sequence(&clients().der()));
    for (wanted, expected) in
        [("none", [None, None]), ("certificate", [Some(own.clone()), None]), ("chain", [Some(own), Some(chain)])]
    {
        let site = Fixture::start(with(config(&files, &client_auth(&files, "optional")), wanted)).await;
        let [cert, chain, other] = received(&site, &presenting(&issued)).await;
        assert_eq!(([cert, chain], other), (expected, None), "{wanted}");
        let without = received(&site, &TlsClient::new("localhost")).await;
        assert_eq!(without, [None, None, None], "{wanted}, without a certificate");
    }
}

/// A proxy in front may report its clients' certificates, but not to an upstream that wants to know
/// of the gateway's own.
#[tokio::test]
async fn fields_of_a_trusted_proxy_do_not_pass_for_the_gateways() {
    let files = files();
    let trusted = |config: Config| config.add("server", "trusted_proxies = [\"127.0.0.1\"]");
    let text = config(&files, &client_auth(&files, "optional"));
    let forged = Some(":Zm9yZ2Vk:".to_owned());
    let site = Fixture::start(trusted(with(text.clone(), "none"))).await;
    let all = [forged.clone(), forged.clone(), forged.clone()];
    assert_eq!(received(&site, &TlsClient::new("localhost")).await, all, "as before");
    let site = Fixture::start(trusted(with(text, "certificate"))).await;
    assert_eq!(received(&site, &TlsClient::new("localhost")).await, [None, None, forged.clone()]);
    let issued = numbered(1);
    let own = Some(byte_sequence(issued.certificate.der()));
    assert_eq!(received(&site, &presenting(&issued)).await, [own, None, forged]);
}
