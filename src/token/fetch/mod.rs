//! Bounded HTTPS GET: how discovery documents and key sets are fetched.
//!
//! Everything that a client library leaves open is closed here: no redirects, no proxy from the environment, no bodies without end, no waiting
//! without end, no clear text but to the machine itself. What the answer's cache headers mean is said here too, and not obeyed literally.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use http::header;
use http::{HeaderMap, StatusCode};
use reqwest::redirect;
use url::Url;

use super::discovery;
use super::error::{KeyError, StartError, shown};

/// Longest answer that is read, in bytes. Real key sets have 1 to 20 KiB.
pub(super) const MAX_ANSWER_BYTES: usize = 512 * 1024;

/// Longest time for name resolution, TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest time for a whole fetch, body included. A request may be waiting for it.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Shortest and longest lifetime that cache headers can give to a key set. Issuers say `no-store`, 15 seconds and a month.
const LIFETIME_SECONDS: std::ops::RangeInclusive<u64> = 60..=24 * 60 * 60;

/// Fetches for one issuer.
#[derive(Clone, Debug)]
pub struct Fetcher(reqwest::Client);

/// A full answer with status 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// At most [`MAX_ANSWER_BYTES`].
    pub body: Vec<u8>,
    /// How long it may be used before it is fetched again; `None` if its headers do not say.
    pub lifetime: Option<Duration>,
}

impl Fetcher {
    /// A client that trusts the certificates in `ca_file`, or the system's. With `only_http`, for issuers on the machine itself, none are
    /// loaded, so that a system without any will do.
    ///
    /// # Errors
    ///
    /// [`StartError::CaFile`], [`StartError::Client`].
    pub fn new(ca_file: Option<&Path>, only_http: bool) -> Result<Self, StartError> {
        Self::with_timeouts(ca_file, only_http, CONNECT_TIMEOUT, FETCH_TIMEOUT)
    }

    fn with_timeouts(
        ca_file: Option<&Path>,
        only_http: bool,
        connect: Duration,
        whole: Duration,
    ) -> Result<Self, StartError> {
        let mut builder = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .https_only(!only_http)
            .connect_timeout(connect)
            .timeout(whole)
            // Minutes lie between two fetches; by then the other side has closed the connection.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = ca_file {
            builder = builder.tls_certs_only(certificates(path)?);
        } else if only_http {
            builder = builder.tls_certs_only([]);
        }
        builder.build().map(Self).map_err(|error| StartError::Client { what: causes(&error) })
    }

    /// GET `url`.
    ///
    /// # Errors
    ///
    /// [`KeyError::Connection`], [`KeyError::Timeout`], [`KeyError::Status`] for anything but 200, [`KeyError::AnswerTooLong`].
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time; the connection is closed.
    pub async fn get(&self, url: &Url) -> Result<Fetched, KeyError> {
        if !discovery::is_secure(url) {
            return Err(KeyError::JwksUriRefused { why: "it is not https" });
        }
        let request = self.0.get(url.clone()).header(header::ACCEPT, "application/json, application/jwk-set+json");
        let mut answer = request.send().await.map_err(|error| failed(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(KeyError::Status { status: answer.status().as_u16() });
        }
        let too_long = KeyError::AnswerTooLong { max_bytes: MAX_ANSWER_BYTES };
        if answer.content_length().is_some_and(|length| length > MAX_ANSWER_BYTES as u64) {
            return Err(too_long);
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| failed(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(too_long);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Fetched { body, lifetime: lifetime(answer.headers()) })
    }
}

fn certificates(path: &Path) -> Result<Vec<reqwest::Certificate>, StartError> {
    let unusable = |what: String| StartError::CaFile { path: path.to_owned(), what };
    let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unusable(causes(&error)))?;
    if certificates.is_empty() { Err(unusable("no certificate in it".to_owned())) } else { Ok(certificates) }
}

fn failed(error: &reqwest::Error) -> KeyError {
    if error.is_timeout() { KeyError::Timeout } else { KeyError::Connection { what: causes(error) } }
}

/// The last of the causes says what happened; those before it say only that something did.
fn causes(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    shown(&last.to_string())
}

/// How long an answer may be used (RFC 9111 §4.2): `max-age` less `Age`, within [`LIFETIME_SECONDS`]. `no-store` and `no-cache` mean the
/// shortest, not never: keys are needed for every token. `None` if the headers say nothing.
fn lifetime(headers: &HeaderMap) -> Option<Duration> {
    let text = |value: &http::HeaderValue| value.to_str().map(str::to_ascii_lowercase).unwrap_or_default();
    let fields: Vec<String> = headers.get_all(header::CACHE_CONTROL).iter().map(text).collect();
    let directives = || fields.iter().flat_map(|field| field.split(',')).map(str::trim);
    let (shortest, longest) = (*LIFETIME_SECONDS.start(), *LIFETIME_SECONDS.end());
    // Also with an argument, which limits them to some fields (RFC 9111 §5.2.2.4): being fetched too often does no harm.
    if directives().any(|directive| matches!(directive.split('=').next(), Some("no-store" | "no-cache"))) {
        return Some(Duration::from_secs(shortest));
    }
    let max_age = directives()
        .filter_map(|directive| directive.strip_prefix("max-age="))
        .map(|seconds| delta_seconds(seconds.trim_matches('"')))
        .min()?;
    let age = headers.get(header::AGE).map_or(0, |age| delta_seconds(text(age).trim()));
    Some(Duration::from_secs(max_age.saturating_sub(age).clamp(shortest, longest)))
}

/// RFC 9111 §1.2.2: what is too large to read is very long; what is no number is as good as nothing.
fn delta_seconds(text: &str) -> u64 {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        0
    } else {
        text.parse().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
