//! Which responses count as documents, and how long they may be cached.

use super::*;
use crate::outbound::Error;
use crate::outbound::test_support::{TestServer, Then};
use crate::primitives::test_directory::TestDirectory;
use crate::token::test_support::CERTIFICATE;

async fn fetch(server: &TestServer) -> Result<FetchedDocument, KeyError> {
    let url = server.url("/keys");
    KeyFetcher::new(UrlPolicy::LoopbackOrHttps, None).unwrap().begin().await?.get(&url).await
}

#[tokio::test]
async fn a_document_comes_with_its_lifetime() {
    let server = TestServer::start();
    server.put("/keys", "cache-control: public, max-age=600\r\nage: 100\r\n", b"{}");
    let expected = FetchedDocument { body: b"{}".to_vec(), lifetime: Some(Duration::from_secs(500)) };
    assert_eq!(fetch(&server).await, Ok(expected));
    let head = server.last_head("/keys");
    assert!(head.contains("accept: application/json, application/jwk-set+json\r\n"), "{head}");
    assert!(head.contains("accept-encoding: identity\r\n"), "{head}");
}

/// A cache in front of a provider may compress a response that was requested uncompressed.
#[tokio::test]
async fn an_encoded_body_is_named() {
    let server = TestServer::start();
    for (value, accepted) in [("identity", true), ("Identity", true), ("", true), ("gzip", false), ("br, gzip", false)]
    {
        server.put("/keys", &format!("content-encoding: {value}\r\n"), b"{}");
        let fetched = fetch(&server).await.map(|document| document.body);
        let refused = KeyError::ContentEncoding { encoding: value.to_owned() };
        assert_eq!(fetched, if accepted { Ok(b"{}".to_vec()) } else { Err(refused) }, "{value}");
    }
}

/// Threats J-64, J-65. The body of such a response does not matter: it is not even read.
#[tokio::test]
async fn only_status_200_counts() {
    let server = TestServer::start();
    for status in [204, 206, 302, 404, 500] {
        let response = format!("HTTP/1.1 {status} Any\r\nlocation: {}\r\n\r\n", server.url("/target"));
        server.put_raw("/keys", response, Then::SendForever);
        assert_eq!(fetch(&server).await, Err(KeyError::Status { status }), "{status}");
    }
    assert_eq!(server.hits("/target"), 0);
}

/// Threats J-64, J-65.
#[tokio::test]
async fn a_document_is_bounded_in_size() {
    let server = TestServer::start();
    server.put("/keys", "", &vec![b' '; MAX_DOCUMENT_BYTES]);
    assert_eq!(fetch(&server).await.map(|document| document.body.len()), Ok(MAX_DOCUMENT_BYTES));
    server.put("/keys", "", &vec![b' '; MAX_DOCUMENT_BYTES + 1]);
    let too_large = Error::ResponseTooLarge { max_bytes: MAX_DOCUMENT_BYTES };
    assert_eq!(fetch(&server).await, Err(KeyError::Fetch(too_large)));
}

#[tokio::test]
async fn plain_http_is_allowed_only_if_the_configured_url_uses_it() {
    let server = TestServer::start();
    server.put("/keys", "", b"{}");
    let fetched =
        KeyFetcher::new(UrlPolicy::HttpsOnly, None).unwrap().begin().await.unwrap().get(&server.url("/keys")).await;
    assert_eq!(fetched, Err(KeyError::Fetch(Error::SchemeNotAllowed)));
}

/// The certificates of the attempt are those that are in the file now.
#[tokio::test]
async fn the_ca_file_is_read_again_at_each_attempt() {
    let directory = TestDirectory::new();
    let path = directory.file("ca.pem");
    let setup = |path: &Path| KeyFetcher::new(UrlPolicy::HttpsOnly, Some(path));
    assert!(matches!(setup(&path), Err(SetupError::CaFile { .. })));
    // The other one is larger than any bundle in use.
    let (certificate, other) = (CERTIFICATE.to_owned(), CERTIFICATE.repeat(2_000));
    std::fs::write(&path, &certificate).unwrap();
    let fetcher = setup(&path).unwrap();
    let pem = || match &fetcher.trust.lock().unwrap().roots {
        TrustedRoots::Certificates { pem, .. } => String::from_utf8(pem.clone()).unwrap(),
        TrustedRoots::None | TrustedRoots::System => panic!("the certificates of the file"),
    };
    assert!(fetcher.begin().await.is_ok() && pem() == certificate);
    for (name, content, expected) in [
        ("damaged", Some("-----BEGIN CERTIFICATE-----".to_owned()), None),
        ("larger than the limit", Some(CERTIFICATE.repeat(10_000)), None),
        ("replaced", Some(other.clone()), Some(&other)),
        ("removed", None, None),
        ("as before", Some(certificate.clone()), Some(&certificate)),
    ] {
        match &content {
            Some(content) => std::fs::write(&path, content).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let attempt = fetcher.begin().await.map(drop);
        match expected {
            Some(expected) => assert!(attempt.is_ok() && pem() == *expected, "{name}: {attempt:?}"),
            None => assert!(matches!(attempt, Err(KeyError::Setup(SetupError::CaFile { .. }))), "{name}: {attempt:?}"),
        }
    }
}

/// RFC 9111 §4.2, within one minute and one day.
#[test]
fn cache_headers_are_bounded_and_not_obeyed_literally() {
    for (lines, expected) in [
        (&[][..], None),
        (&[("cache-control", "public")][..], None),
        (&[("age", "10")], None),
        (&[("cache-control", "max-age=600")], Some(600)),
        (&[("cache-control", "public, max-age=24873, must-revalidate"), ("age", "5059")], Some(19_814)),
        (&[("cache-control", "Public, Max-Age=600")], Some(600)),
        (&[("cache-control", "public"), ("cache-control", "max-age=600")], Some(600)),
        (&[("cache-control", "max-age=\"600\"")], Some(600)),
        (&[("cache-control", "max-age=600, max-age=300")], Some(300)),
        (&[("cache-control", "max-age=15, stale-while-revalidate=15")], Some(60)),
        (&[("cache-control", "max-age=0")], Some(60)),
        (&[("cache-control", "max-age=3293198")], Some(86_400)),
        (&[("cache-control", "max-age=99999999999999999999999")], Some(86_400)),
        (&[("cache-control", "max-age=600"), ("age", "99999999999999999999999")], Some(60)),
        (&[("cache-control", "max-age=600"), ("age", "-1")], Some(600)),
        (&[("cache-control", "max-age=x")], Some(60)),
        (&[("cache-control", "s-maxage=600")], None),
        (&[("cache-control", "no-cache")], Some(60)),
        (&[("cache-control", "no-cache, no-store, max-age=600")], Some(60)),
        (&[("cache-control", "max-age=600, no-cache=\"set-cookie\"")], Some(60)),
    ] {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        assert_eq!(lifetime(&headers).map(|lifetime| lifetime.as_secs()), expected, "{lines:?}");
    }
}
