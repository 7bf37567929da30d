//! The HTTP client of the ACME library: the outbound client, with its bounds on time and size.
//!
//! The library trusts the ACME server in three ways that we do not. It adds any number in
//! `Retry-After` to the time, and takes `newNonce` in the directory for a URL; with other values it
//! panics. And it takes the body of every error for a problem document, so that the error page of a
//! proxy would be reported as malformed JSON.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Uri};
use http_body_util::{BodyExt as _, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use serde::Deserialize;
use url::Url;

use super::AcmeSettings;
use super::LIMITS;
use super::error::AcmeError;
use crate::outbound::{Client, Request, TrustedRoots};
use crate::primitives::file::FileReader;
use crate::tls::files::{self, FileFault};

/// The longest pause between two polls of an order that the ACME server can ask for, in seconds.
const MAX_POLL_SECONDS: u64 = 60;

/// The pause if the ACME server asks for one in a form that is not read, in seconds.
const USUAL_POLL_SECONDS: u64 = 2;

/// The HTTP client of one round of orders. Clones share `retry_after`.
#[derive(Clone, Debug)]
pub(super) struct AcmeHttp {
    client: Client,
    /// `Retry-After` of the last response that was an error, in seconds; 0 without one.
    retry_after: Arc<AtomicU64>,
}

impl AcmeHttp {
    /// A client for the ACME server of `settings`.
    ///
    /// # Errors
    ///
    /// [`AcmeError::CaFile`] and [`AcmeError::Setup`].
    pub(super) async fn new(settings: &AcmeSettings) -> Result<Self, AcmeError> {
        let roots = match &settings.ca_file {
            Some(path) => {
                let reader: FileReader = files::authorities_reader(path);
                let pem = reader.read().await.map_err(|error| FileFault::from(error).at(path))?;
                TrustedRoots::Certificates { path: path.clone(), pem }
            }
            None => TrustedRoots::System,
        };
        let client = Client::new(&roots, settings.url_policy, LIMITS)?;
        Ok(Self { client, retry_after: Arc::default() })
    }

    /// How long the ACME server wants to get no further request, if its last response was an error
    /// that says so.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.retry_after.load(Ordering::Relaxed);
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }

    async fn send(&self, request: http::Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let (mut parts, body) = request.into_parts();
        let url = Url::parse(&parts.uri.to_string()).map_err(|error| Error::Other(Box::new(error)))?;
        // The outbound client sends a `User-Agent` of its own.
        parts.headers.remove(USER_AGENT);
        let body = body.collect().await.map_err(|error| Error::Other(Box::new(error)))?.to_bytes();
        let request = Request { method: parts.method, url: &url, headers: parts.headers, body };
        let other =
            |error: crate::outbound::Error| Error::Other(format!("{}: {error}", url.host_str().unwrap_or("")).into());
        let response = self.client.send(request).await.map_err(other)?;
        let (status, mut headers) = (response.status(), response.headers().clone());
        let body = response.into_body().await.map_err(other)?;
        let wish = take_retry_after(&mut headers);
        let is_error = status.is_client_error() || status.is_server_error();
        self.retry_after.store(wish.filter(|_| is_error).unwrap_or(0), Ordering::Relaxed);
        if is_error && !body.trim_ascii_start().starts_with(b"{") {
            return Err(Error::Other(format!("{}: responds {}", url.host_str().unwrap_or(""), status.as_u16()).into()));
        }
        if !has_usable_nonce_url(&body) {
            return Err(Error::Other("the directory of the ACME server has no usable URL in newNonce".into()));
        }
        let mut response = http::Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response.into())
    }
}

/// Whether `newNonce` is a URL, if the response is a directory (RFC 8555 §7.1.1).
fn has_usable_nonce_url(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Directory {
        new_nonce: String,
    }
    let Ok(Directory { new_nonce }) = serde_json::from_slice(body) else { return true };
    new_nonce.parse::<Uri>().is_ok_and(|url| url.scheme().is_some() && url.authority().is_some())
}

/// Replaces `Retry-After` by a number of seconds that is safe to add to a time. Returns the number
/// that it had; `None` if it had none, such as a date.
fn take_retry_after(headers: &mut HeaderMap) -> Option<u64> {
    let value = headers.remove(RETRY_AFTER)?;
    let seconds = value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok());
    let passed_on = seconds.unwrap_or(USUAL_POLL_SECONDS).min(MAX_POLL_SECONDS);
    headers.insert(RETRY_AFTER, HeaderValue::from(passed_on));
    seconds
}

impl HttpClient for AcmeHttp {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let http = self.clone();
        Box::pin(async move { http.send(request).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::UrlPolicy;
    use crate::outbound::test_support::{TestServer, Then};

    fn http() -> AcmeHttp {
        let client = Client::new(&TrustedRoots::None, UrlPolicy::LoopbackOrHttps, LIMITS).unwrap();
        AcmeHttp { client, retry_after: Arc::default() }
    }

    async fn get(http: &AcmeHttp, url: &Url) -> Result<BytesResponse, Error> {
        http.request(http::Request::get(url.as_str()).body(BodyWrapper::default()).unwrap()).await
    }

    #[tokio::test]
    async fn an_error_page_is_reported_by_its_status() {
        let server = TestServer::start();
        let url = server.url("/x");
        for (name, body, expected) in [
            ("a page", "<html>", Some("127.0.0.1: responds 502")),
            ("nothing", "", Some("127.0.0.1: responds 502")),
            ("a problem document", " {\"type\":\"x\"}", None),
        ] {
            let response = format!("HTTP/1.1 502 Bad Gateway\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            server.put_raw("/x", response, Then::Close);
            let error = get(&http(), &url).await.err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), expected, "{name}");
        }
    }

    /// Threat AC-4: the library adds the number to the time.
    #[tokio::test]
    async fn a_number_in_retry_after_is_bounded() {
        let server = TestServer::start();
        let url = server.url("/x");
        let max = u64::MAX;
        for (name, value, status, passed_on, remembered) in [
            ("seconds", "7".to_owned(), 429, Some("7"), Some(7)),
            ("many seconds", max.to_string(), 429, Some("60"), Some(max)),
            ("more than a number can hold", format!("{max}0"), 429, Some("2"), None),
            ("a date", "Fri, 31 Dec 9999 23:59:59 GMT".to_owned(), 503, Some("2"), None),
            ("not with an error", "7".to_owned(), 200, Some("7"), None),
        ] {
            let head = format!("HTTP/1.1 {status} X\r\nretry-after: {value}\r\ncontent-length: 2\r\n\r\n{{}}");
            server.put_raw("/x", head, Then::Close);
            let http = http();
            let response = get(&http, &url).await.unwrap();
            let header = response.parts.headers.get(RETRY_AFTER).map(|value| value.to_str().unwrap());
            assert_eq!(header, passed_on, "{name}");
            assert_eq!(http.retry_after(), remembered.map(Duration::from_secs), "{name}");
        }
    }

    /// Threat AC-4: the library takes it for a URL.
    #[tokio::test]
    async fn a_directory_without_a_url_for_nonces_is_an_error() {
        let server = TestServer::start();
        for (nonce_url, is_usable) in
            [("https://acme.test/nonce", true), ("", false), ("/nonce", false), ("http://127.0.0.1/a b", false)]
        {
            let directory = format!(r#"{{"newNonce":"{nonce_url}","newAccount":"x","newOrder":"x"}}"#);
            server.put("/directory", "", directory.as_bytes());
            let error = get(&http(), &server.url("/directory")).await.err().map(|error| error.to_string());
            let expected = "the directory of the ACME server has no usable URL in newNonce";
            assert_eq!(error.as_deref(), (!is_usable).then_some(expected), "{nonce_url:?}");
        }
    }

    #[tokio::test]
    async fn only_urls_that_the_policy_allows_are_requested() {
        let url = "http://192.0.2.1/x".parse().unwrap();
        let error = get(&http(), &url).await.err().unwrap().to_string();
        assert_eq!(error, "192.0.2.1: URL scheme is not allowed");
    }
}
