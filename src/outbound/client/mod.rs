//! The client: one request at a time through all the guards.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use reqwest::redirect;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::address::is_secure_url;
use super::error::{Error, SetupError, innermost_cause};
use super::resolver::LoopbackResolver;

/// An HTTP client with its own trusted certificates and limits. Cheap to clone; clones share the
/// limit on concurrent requests.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url_policy: UrlPolicy,
    limits: ClientLimits,
    slots: Arc<Semaphore>,
}

/// Bounds on what a request may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientLimits {
    /// Longest time for name resolution, TCP and TLS.
    pub connect_timeout: Duration,
    /// Longest time from the call until the body is complete, the wait for other requests included.
    pub total_timeout: Duration,
    /// Largest response body, in bytes.
    pub max_response_bytes: usize,
    /// Most requests at the same time; further ones wait. A request ends with its response body.
    pub max_concurrent_requests: usize,
}

/// Whose certificates a server must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TrustedRoots {
    /// The certificates in this PEM text, and no others.
    Certificates {
        /// The file that the text is from, for error messages.
        path: PathBuf,
        /// The text.
        pem: Vec<u8>,
    },
    /// None: every TLS handshake fails. For plain http on a system that has no certificates.
    None,
    /// Those that the system trusts.
    System,
}

/// Which URLs a client may request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UrlPolicy {
    /// `https` only.
    HttpsOnly,
    /// `https`, or `http` to any machine. Anyone on the network path can forge a response.
    HttpsOrHttp,
    /// `https`, or `http` to this machine.
    LoopbackOrHttps,
}

impl UrlPolicy {
    /// The policy of a client whose first request is for `url`, so that a response cannot lead to a
    /// URL that is less secure. `allow_http`: whether `url` may be plain http to another machine.
    /// `None` if `url` itself is not allowed.
    #[must_use]
    pub(crate) fn of(url: &Url, allow_http: bool) -> Option<Self> {
        let policies = [Self::HttpsOnly, Self::LoopbackOrHttps, Self::HttpsOrHttp];
        policies.into_iter().take(if allow_http { 3 } else { 2 }).find(|policy| policy.allows(url))
    }

    /// Whether a client with this policy may request `url`.
    #[must_use]
    pub(crate) fn allows(self, url: &Url) -> bool {
        match self {
            Self::HttpsOnly => url.scheme() == "https" && url.has_host(),
            Self::HttpsOrHttp => matches!(url.scheme(), "https" | "http") && url.has_host(),
            Self::LoopbackOrHttps => is_secure_url(url),
        }
    }
}

/// A request: method, URL, headers and a body, which may be empty.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The URL.
    pub url: &'a Url,
    /// Headers, besides those that the client sets: `Host`, `User-Agent`, `Content-Length`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// A response whose body has not been read yet.
#[derive(Debug)]
pub(crate) struct Response {
    http: reqwest::Response,
    deadline: Instant,
    max_bytes: usize,
    /// Given back when the body is complete or dropped.
    _slot: OwnedSemaphorePermit,
}

impl Client {
    /// Sets up a client. Connects to nothing, and reads no files but those of the system.
    ///
    /// # Errors
    ///
    /// [`SetupError`].
    pub(crate) fn new(roots: &TrustedRoots, url_policy: UrlPolicy, limits: ClientLimits) -> Result<Self, SetupError> {
        let mut builder = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .https_only(url_policy == UrlPolicy::HttpsOnly)
            .dns_resolver(LoopbackResolver)
            .connect_timeout(limits.connect_timeout)
            // Minutes pass between two requests; by then the server has closed the connection.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")));
        match roots {
            TrustedRoots::Certificates { path, pem } => {
                builder = builder.tls_certs_only(parse_certificates(path, pem)?);
            }
            TrustedRoots::None => builder = builder.tls_certs_only([]),
            TrustedRoots::System => {}
        }
        let http = builder.build().map_err(|error| SetupError::Tls { cause: innermost_cause(&error) })?;
        Ok(Self { http, url_policy, limits, slots: Arc::new(Semaphore::new(limits.max_concurrent_requests)) })
    }

    /// Sends `request` and waits for the head of the response, whatever its status.
    ///
    /// # Errors
    ///
    /// [`Error`], but never [`Error::ResponseTooLarge`].
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time, which closes the connection.
    pub(crate) async fn send(&self, request: Request<'_>) -> Result<Response, Error> {
        if !self.url_policy.allows(request.url) {
            return Err(Error::SchemeNotAllowed);
        }
        let deadline = Instant::now() + self.limits.total_timeout;
        let head = async {
            let slot = Arc::clone(&self.slots).acquire_owned().await.expect("the semaphore is never closed");
            let mut builder = self.http.request(request.method, request.url.clone()).headers(request.headers);
            if !request.body.is_empty() {
                builder = builder.body(request.body);
            }
            Ok::<_, Error>((builder.send().await?, slot))
        };
        let (http, slot) = timeout_at(deadline, head).await.map_err(|_| Error::Timeout)??;
        Ok(Response { http, deadline, max_bytes: self.limits.max_response_bytes, _slot: slot })
    }
}

impl<'a> Request<'a> {
    /// A GET request for `url`, without further headers.
    #[must_use]
    pub(crate) fn get(url: &'a Url) -> Self {
        Self { method: Method::GET, url, headers: HeaderMap::new(), body: Bytes::new() }
    }
}

impl Response {
    /// The status; redirects are not followed.
    #[must_use]
    pub(crate) fn status(&self) -> StatusCode {
        self.http.status()
    }

    /// The headers.
    #[must_use]
    pub(crate) fn headers(&self) -> &HeaderMap {
        self.http.headers()
    }

    /// Reads the whole body. Stops at the size limit, and before the first byte if `Content-Length`
    /// is already beyond it.
    ///
    /// # Errors
    ///
    /// [`Error::Connection`], [`Error::ResponseTooLarge`], [`Error::Timeout`].
    pub(crate) async fn into_body(mut self) -> Result<Vec<u8>, Error> {
        let too_large = Error::ResponseTooLarge { max_bytes: self.max_bytes };
        if self.http.content_length().is_some_and(|length| length > self.max_bytes as u64) {
            return Err(too_large);
        }
        let mut body = Vec::new();
        while let Some(chunk) = timeout_at(self.deadline, self.http.chunk()).await.map_err(|_| Error::Timeout)?? {
            if body.len() + chunk.len() > self.max_bytes {
                return Err(too_large);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

fn parse_certificates(path: &Path, pem: &[u8]) -> Result<Vec<reqwest::Certificate>, SetupError> {
    let unusable = |cause: String| SetupError::CaFile { path: path.to_owned(), cause };
    let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(|error| unusable(innermost_cause(&error)))?;
    if certificates.is_empty() {
        return Err(unusable("it contains no certificate".to_owned()));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests;
