//! Whose handshakes succeed, and why the others fail.

use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};

use super::{Authority, Issued, TOMORROW, VERSIONS, YESTERDAY};
use super::{attempt, client_auth, clients, config, failure, failures, files, numbered, status, with_crl};
use crate::support::fixture::Fixture;
use crate::support::tls::TlsClient;

fn presenting(issued: &Issued) -> TlsClient {
    TlsClient::new("localhost").with_identity(issued)
}

#[tokio::test]
async fn the_mode_says_whether_a_client_needs_a_certificate() {
    let files = files();
    let (good, foreign) = (numbered(1), Authority::new().issue(&["client.test"]));
    for (mode, without, with_good, with_foreign) in [
        // A client that is not asked presents nothing.
        ("none", Ok("200"), Ok("200"), Ok("200")),
        ("optional", Ok("200"), Ok("200"), Err("client_certificate_untrusted")),
        ("required", Err("client_certificate_missing"), Ok("200"), Err("client_certificate_untrusted")),
    ] {
        let lines = if mode == "none" { String::new() } else { client_auth(&files, mode) };
        let site = Fixture::start(config(&files, &lines)).await;
        for version in VERSIONS {
            for (who, client, expected) in [
                ("no certificate", TlsClient::new("localhost"), without),
                ("a good one", presenting(&good), with_good),
                ("one of another authority", presenting(&foreign), with_foreign),
            ] {
                let client = client.version(version);
                let what = format!("{mode}, {version:?}, {who}");
                let before = failures(&site, expected.err().unwrap_or("closed")).await;
                assert_eq!(status(&site, &client).await.as_deref(), expected.ok(), "{what}");
                match expected {
                    Ok(_) => {
                        let response = client.open_h2(site.gateway.addr()).await.get("/public/x", &[]).await;
                        assert_eq!(response.status, 200, "{what}, HTTP/2");
                    }
                    Err(reason) => site.gateway.wait_for_metric(&failure(reason), before + 1.0).await,
                }
            }
        }
    }
}

/// Threat TC-1.
#[tokio::test]
async fn a_certificate_that_is_not_valid_is_refused_with_the_reason() {
    let files = files();
    let p256 = &rcgen::PKCS_ECDSA_P256_SHA256;
    let issue = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        clients().issue_with(&["client.test"], p256, |params| {
            params.serial_number = Some(1_u64.into());
            change(params);
        })
    };
    let expired = issue(&|params| params.not_after = date_time_ymd(2027, 1, 14));
    let early = issue(&|params| params.not_before = date_time_ymd(2027, 1, 16));
    let of_a_server = issue(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let of_a_client = issue(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    for mode in ["optional", "required"] {
        let site = Fixture::start(config(&files, &with_crl(&files, mode))).await;
        for version in VERSIONS {
            for (reason, certificate) in [
                (None, &numbered(1)),
                (None, &of_a_client),
                (Some("client_certificate_expired"), &expired),
                (Some("client_certificate_expired"), &early),
                (Some("client_certificate_invalid"), &of_a_server),
                (Some("client_certificate_revoked"), &numbered(2)),
                (Some("client_certificate_untrusted"), &Issued::self_signed(&["client.test"])),
            ] {
                let what = format!("{mode}, {version:?}, {reason:?}");
                let before = failures(&site, reason.unwrap_or("closed")).await;
                let status = status(&site, &presenting(certificate).version(version)).await;
                assert_eq!(status.as_deref(), reason.is_none().then_some("200"), "{what}");
                if let Some(reason) = reason {
                    site.gateway.wait_for_metric(&failure(reason), before + 1.0).await;
                }
            }
        }
        assert_eq!(status(&site, &presenting(&numbered(3))).await.as_deref(), Some("200"), "no other is harmed");
    }
}

/// Otherwise an attacker who keeps a new list from the gateway could hide a revocation.
#[tokio::test]
async fn a_certificate_that_no_current_list_covers_is_refused() {
    for (name, list) in [
        ("an outdated list", clients().revocation_list(&[2], YESTERDAY)),
        ("a list of another authority", Authority::new().revocation_list(&[2], TOMORROW)),
    ] {
        let files = files();
        files.0.write("crl.pem", list);
        let site = Fixture::start(config(&files, &with_crl(&files, "optional"))).await;
        assert_eq!(status(&site, &presenting(&numbered(1))).await, None, "{name}");
        site.gateway.wait_for_metric(&failure("client_certificate_revocation_unknown"), 1.0).await;
        assert_eq!(status(&site, &TlsClient::new("localhost")).await.as_deref(), Some("200"), "{name}: without one");
    }
}

/// The client learns why, although it may have sent its request before the gateway verified the
/// certificate.
#[tokio::test]
async fn the_client_reads_the_alert_that_says_why() {
    let files = files();
    let site = Fixture::start(config(&files, &with_crl(&files, "required"))).await;
    let addr = site.gateway.addr();
    for (client, expected) in [
        (TlsClient::new("localhost"), "CertificateRequired"),
        (presenting(&numbered(2)), "CertificateRevoked"),
        (presenting(&Authority::new().issue(&["client.test"])), "UnknownCA"),
    ] {
        let client = client.version(&rustls::version::TLS13);
        let shown = attempt(&client, &client.connector(), addr).await.unwrap_err().to_string();
        assert!(shown.contains(expected), "{shown}");
    }
}
