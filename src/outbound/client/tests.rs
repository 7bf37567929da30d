//! The client's guards, over real sockets on loopback.

use std::pin::pin;

use http::HeaderValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::outbound::test_support::{TestServer, Then};

const LIMITS: ClientLimits = ClientLimits {
    connect_timeout: Duration::from_secs(3),
    total_timeout: Duration::from_secs(5),
    max_response_bytes: 1024,
    max_concurrent_requests: 4,
};

fn client(limits: ClientLimits) -> Client {
    Client::new(&TrustedRoots::None, UrlPolicy::LoopbackOrHttps, limits).unwrap()
}

async fn get(client: &Client, url: &Url) -> Result<Vec<u8>, Error> {
    client.send(Request::get(url)).await?.into_body().await
}

#[tokio::test]
async fn a_response_has_its_status_headers_and_body() {
    let server = TestServer::start();
    server.put_raw("/x", "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\nx-a: b\r\n\r\nno", Then::Close);
    let url = server.url("/x");
    let request = Request {
        headers: HeaderMap::from_iter([("x-c".parse().unwrap(), HeaderValue::from_static("d"))]),
        ..Request::get(&url)
    };
    let response = client(LIMITS).send(request).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["x-a"]), (404, &HeaderValue::from_static("b")));
    assert_eq!(response.into_body().await, Ok(b"no".to_vec()));
    let head = server.last_head("/x");
    assert!(head.starts_with("GET /x HTTP/1.1\r\n") && head.contains("x-c: d\r\n"), "{head}");
}

#[tokio::test]
async fn a_request_carries_its_method_and_body() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let request = Request { method: Method::POST, body: Bytes::from_static(b"token=x"), ..Request::get(&url) };
    let server = async {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"\r\n\r\ntoken=x") {
            assert_ne!(connection.read_buf(&mut received).await.unwrap(), 0, "the client closed too early");
        }
        connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        String::from_utf8(received).unwrap()
    };
    let client = client(LIMITS);
    let (received, response) = tokio::join!(server, client.send(request));
    assert!(received.starts_with("POST / HTTP/1.1\r\n") && received.contains("content-length: 7\r\n"), "{received}");
    assert_eq!(response.unwrap().status(), StatusCode::NO_CONTENT);
}

/// Threats J-64, J-65.
#[tokio::test]
async fn a_response_body_is_bounded() {
    let server = TestServer::start();
    let too_large = Err(Error::ResponseTooLarge { max_bytes: 1024 });
    for (name, response, then, expected) in [
        (
            "as large as allowed",
            "HTTP/1.1 200 OK\r\ncontent-length: 1024\r\n\r\n",
            Then::SendForever,
            Ok(vec![b' '; 1024]),
        ),
        ("declared larger", "HTTP/1.1 200 OK\r\ncontent-length: 1025\r\n\r\n", Then::Hang, too_large.clone()),
        ("endless", "HTTP/1.1 200 OK\r\n\r\n", Then::SendForever, too_large),
    ] {
        server.put_raw("/", response, then);
        assert_eq!(get(&client(LIMITS), &server.url("/")).await, expected, "{name}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let server = TestServer::start();
    server.put("/target", "", b"{}");
    let redirect = format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", server.url("/target"));
    server.put_raw("/", redirect, Then::Close);
    let url = server.url("/");
    assert_eq!(client(LIMITS).send(Request::get(&url)).await.unwrap().status(), StatusCode::FOUND);
    assert_eq!(server.hits("/target"), 0);
}

#[tokio::test]
async fn a_broken_or_refused_connection_is_an_error() {
    let server = TestServer::start();
    server.put_raw("/", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}", Then::Close);
    assert!(matches!(get(&client(LIMITS), &server.url("/")).await, Err(Error::Connection { .. })));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}/").parse().unwrap();
    assert!(matches!(get(&client(LIMITS), &url).await, Err(Error::Connection { .. })));
}

#[tokio::test]
async fn the_total_timeout_covers_head_and_body() {
    let server = TestServer::start();
    let client = client(ClientLimits { total_timeout: Duration::from_millis(300), ..LIMITS });
    for (name, response) in [
        ("no head", ""),
        ("half a head", "HTTP/1.1 200"),
        ("half a body", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}"),
    ] {
        server.put_raw("/", response, Then::Hang);
        assert_eq!(get(&client, &server.url("/")).await, Err(Error::Timeout), "{name}");
    }
}

#[tokio::test]
async fn a_request_waits_until_another_one_has_ended() {
    let server = TestServer::start();
    server.put("/", "", b"{}");
    let client = client(ClientLimits { max_concurrent_requests: 1, ..LIMITS });
    let url = server.url("/");
    let first = client.send(Request::get(&url)).await.unwrap();
    let mut second = pin!(get(&client, &url));
    assert!(poll_once(second.as_mut()).await.is_pending());
    assert_eq!(client.slots.available_permits(), 0);
    drop(first);
    assert_eq!(second.await, Ok(b"{}".to_vec()));
    assert_eq!(server.hits("/"), 2);
}

/// Polls once, and says whether the future is ready.
async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context))).await
}

#[tokio::test]
async fn waiting_for_another_request_counts_towards_the_timeout() {
    let server = TestServer::start();
    server.put_raw("/", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n", Then::Hang);
    let limits = ClientLimits { max_concurrent_requests: 1, total_timeout: Duration::from_millis(300), ..LIMITS };
    let (client, url) = (client(limits), server.url("/"));
    let _first = client.send(Request::get(&url)).await.unwrap();
    assert_eq!(get(&client, &url).await, Err(Error::Timeout));
    assert_eq!(server.hits("/"), 1);
}

#[tokio::test]
async fn plain_http_reaches_this_machine_only() {
    let both = client(LIMITS);
    let https_only = Client::new(&TrustedRoots::None, UrlPolicy::HttpsOnly, LIMITS).unwrap();
    for url in ["http://idp.test/", "http://192.0.2.1/", "ftp://127.0.0.1/", "file:///etc/passwd"] {
        assert_eq!(get(&both, &url.parse().unwrap()).await, Err(Error::SchemeNotAllowed), "{url}");
    }
    let server = TestServer::start();
    server.put("/", "", b"{}");
    for host in ["127.0.0.1", "localhost", "auth.localhost", "[::ffff:127.0.0.1]"] {
        let url = server.url_by_name(host, "/");
        assert_eq!(get(&both, &url).await, Ok(b"{}".to_vec()), "{host}");
        assert_eq!(get(&https_only, &url).await, Err(Error::SchemeNotAllowed), "{host}");
    }
}

/// A response must not lead to a URL that is less secure than the one it came from.
#[test]
fn the_first_url_decides_what_else_may_be_requested() {
    use UrlPolicy::{HttpsOnly, HttpsOrHttp, LoopbackOrHttps};
    for (url, without, with) in [
        ("https://idp.test", Some(HttpsOnly), Some(HttpsOnly)),
        ("http://127.0.0.1:1", Some(LoopbackOrHttps), Some(LoopbackOrHttps)),
        ("http://auth.localhost", Some(LoopbackOrHttps), Some(LoopbackOrHttps)),
        ("http://keycloak:8080", None, Some(HttpsOrHttp)),
        ("http://10.0.0.1", None, Some(HttpsOrHttp)),
        ("ftp://idp.test", None, None),
        ("file:///etc/passwd", None, None),
    ] {
        let url = url.parse().unwrap();
        assert_eq!((UrlPolicy::of(&url, false), UrlPolicy::of(&url, true)), (without, with), "{url}");
    }
    for (policy, allowed) in [(HttpsOnly, 1), (LoopbackOrHttps, 2), (HttpsOrHttp, 3)] {
        let urls = ["https://idp.test", "http://localhost", "http://idp.test", "ftp://idp.test"];
        let of_url = urls.map(|url| policy.allows(&url.parse().unwrap()));
        assert_eq!(of_url, std::array::from_fn(|index| index < allowed), "{policy:?}");
    }
}

/// On Linux, 0.0.0.0 leads to this machine; as an address it is not loopback.
#[tokio::test]
async fn plain_http_reaches_other_machines_only_if_that_is_allowed() {
    let server = TestServer::start();
    server.put("/", "", b"{}");
    let url = server.url_by_name("0.0.0.0", "/");
    let get_with = async |policy| get(&Client::new(&TrustedRoots::None, policy, LIMITS).unwrap(), &url).await;
    assert_eq!(get_with(UrlPolicy::LoopbackOrHttps).await, Err(Error::SchemeNotAllowed));
    assert_eq!(get_with(UrlPolicy::HttpsOrHttp).await, Ok(b"{}".to_vec()));
}

#[test]
fn unusable_certificates_are_an_error_at_setup() {
    for pem in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n"] {
        let roots = TrustedRoots::Certificates { path: "ca.pem".into(), pem: pem.into() };
        let refused = Client::new(&roots, UrlPolicy::HttpsOnly, LIMITS).map(drop);
        assert!(matches!(refused, Err(SetupError::CaFile { .. })), "{pem}: {refused:?}");
    }
}
