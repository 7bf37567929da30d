//! Answers that are taken, and those that are not, over real sockets on loopback.

use super::*;
use crate::token::test_support::{Ending, Site};

const SOON: Duration = Duration::from_millis(300);

fn fetcher() -> Fetcher {
    Fetcher::new(None, true).unwrap()
}

fn impatient() -> Fetcher {
    Fetcher::with_timeouts(None, true, SOON, SOON).unwrap()
}

#[tokio::test]
async fn an_answer_is_taken_with_its_lifetime() {
    let site = Site::start();
    site.put("/keys", "cache-control: public, max-age=600\r\nage: 100\r\n", b"{}");
    let expected = Fetched { body: b"{}".to_vec(), lifetime: Some(Duration::from_secs(500)) };
    assert_eq!(fetcher().get(&site.url("/keys")).await, Ok(expected));
}

/// Threats J-64, J-65; a redirect's target hears nothing.
#[tokio::test]
async fn only_a_whole_bounded_answer_with_status_200_counts() {
    let site = Site::start();
    site.put("/target", "", b"{}");
    let too_long = Err(KeyError::AnswerTooLong { max_bytes: MAX_ANSWER_BYTES });
    let status = |status| Err(KeyError::Status { status });
    let close = "connection: close\r\n";
    for (name, answer, ending, expected) in [
        (
            "a redirect",
            format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n{close}\r\n", site.url("/target")),
            Ending::Close,
            status(302),
        ),
        ("no content", format!("HTTP/1.1 204 No Content\r\n{close}\r\n"), Ending::Close, status(204)),
        (
            "not found",
            format!("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n{close}\r\n{{}}"),
            Ending::Close,
            status(404),
        ),
        ("an error", format!("HTTP/1.1 500 Oops\r\ncontent-length: 2\r\n{close}\r\n{{}}"), Ending::Close, status(500)),
        (
            "said to be long",
            format!("HTTP/1.1 200 OK\r\ncontent-length: 524289\r\n{close}\r\n"),
            Ending::Hang,
            too_long.clone(),
        ),
        ("without end", format!("HTTP/1.1 200 OK\r\n{close}\r\n"), Ending::Endless, too_long),
    ] {
        site.put_raw("/keys", answer, ending);
        assert_eq!(fetcher().get(&site.url("/keys")).await, expected, "{name}");
    }
    site.put("/keys", "", &vec![b' '; MAX_ANSWER_BYTES]);
    assert_eq!(fetcher().get(&site.url("/keys")).await.map(|answer| answer.body.len()), Ok(MAX_ANSWER_BYTES));
    assert_eq!(site.hits("/target"), 0);
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_does_not_come_is_an_error() {
    let site = Site::start();
    site.put_raw("/keys", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}", Ending::Close);
    assert!(matches!(fetcher().get(&site.url("/keys")).await, Err(KeyError::Connection { .. })));
    for (name, answer) in [
        ("no head", ""),
        ("half a head", "HTTP/1.1 200"),
        ("half a body", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}"),
    ] {
        site.put_raw("/keys", answer, Ending::Hang);
        assert_eq!(impatient().get(&site.url("/keys")).await, Err(KeyError::Timeout), "{name}");
    }
    let free = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let url = format!("http://{free}/").parse().unwrap();
    assert!(matches!(fetcher().get(&url).await, Err(KeyError::Connection { .. })));
}

#[tokio::test]
async fn nothing_is_fetched_in_the_clear_from_elsewhere() {
    for url in ["http://idp.test/", "http://192.0.2.1/", "ftp://127.0.0.1/", "file:///etc/passwd"] {
        let refused = fetcher().get(&url.parse().unwrap()).await;
        assert!(matches!(refused, Err(KeyError::JwksUriRefused { .. })), "{url}");
    }
}

/// RFC 9111 §4.2, and the bounds of the contract: one minute to one day.
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

#[test]
fn certificates_that_cannot_be_used_are_an_error_at_the_start() {
    let missing = Fetcher::new(Some(Path::new("/nonexistent/ca.pem")), false);
    assert!(matches!(missing, Err(StartError::CaFile { .. })));
    let not_pem = Fetcher::new(Some(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))), false);
    assert!(matches!(not_pem, Err(StartError::CaFile { .. })), "{not_pem:?}");
}
