//! Key fetcher: gets discovery documents and key sets from an identity provider.
//!
//! The guards on size, time, redirects and plain http are those of
//! [`outbound::Client`](crate::outbound::Client). This module adds what is particular to keys:
//! which media types it asks for, that only status 200 counts, and how long a key set may be
//! cached. Cache headers are bounded, not obeyed literally.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::header;
use http::{HeaderMap, HeaderValue, StatusCode};
use url::Url;

use super::error::KeyError;
use crate::outbound::{Client, ClientLimits, Request, SetupError, TrustedRoots, UrlPolicy};
use crate::primitives::escape::escape_for_log;
use crate::primitives::file::{FileReader, ReadError};

/// Largest document that is read, in bytes. Real key sets have 1 to 20 KiB.
pub(super) const MAX_DOCUMENT_BYTES: usize = 512 * 1024;

/// Longest time for a whole fetch, body included. A client's request may be waiting for it.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

const LIMITS: ClientLimits = ClientLimits {
    connect_timeout: Duration::from_secs(3),
    total_timeout: FETCH_TIMEOUT,
    max_response_bytes: MAX_DOCUMENT_BYTES,
    // A key store runs one attempt at a time, and an attempt sends one request after the other.
    max_concurrent_requests: 1,
};

/// Bounds on the lifetime that cache headers can give to a key set. Identity providers send
/// anything from `no-store` and 15 seconds to a month.
const LIFETIME_SECONDS: RangeInclusive<u64> = 60..=24 * 60 * 60;

/// Largest `ca_file`, in bytes. The bundles that systems trust have less than 300 KiB.
const MAX_CA_FILE_BYTES: usize = 4 * 1024 * 1024;

/// Fetches documents for one issuer.
#[derive(Debug)]
pub(crate) struct KeyFetcher {
    url_policy: UrlPolicy,
    ca_file: Option<FileReader>,
    trust: Mutex<Trust>,
}

/// The client of the last attempt, and whom it trusts.
#[derive(Clone, Debug)]
struct Trust {
    roots: TrustedRoots,
    client: Client,
}

/// One attempt to fetch keys, of one document or several.
#[derive(Debug)]
pub(crate) struct FetchAttempt(Client);

/// The body of a complete response with status 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FetchedDocument {
    /// The body: at most [`MAX_DOCUMENT_BYTES`].
    pub body: Vec<u8>,
    /// How long the document may be used before it is fetched again; `None` if its headers do not
    /// say.
    pub lifetime: Option<Duration>,
}

impl KeyFetcher {
    /// A fetcher that begins with a URL of this policy. It trusts the certificates in `ca_file`, or
    /// else those of the system. Blocks while it reads the file.
    ///
    /// # Errors
    ///
    /// [`SetupError`].
    pub(crate) fn new(url_policy: UrlPolicy, ca_file: Option<&Path>) -> Result<Self, SetupError> {
        let ca_file = ca_file.map(|path| FileReader::new(path, MAX_CA_FILE_BYTES));
        let roots = match &ca_file {
            Some(file) => certificates(file, file.read_blocking())?,
            None => match url_policy {
                UrlPolicy::HttpsOnly => TrustedRoots::System,
                // Without the system's certificates, an issuer with plain http also works on a
                // system that has none.
                UrlPolicy::HttpsOrHttp | UrlPolicy::LoopbackOrHttps => TrustedRoots::None,
            },
        };
        let client = Client::new(&roots, url_policy, LIMITS)?;
        Ok(Self { url_policy, ca_file, trust: Mutex::new(Trust { roots, client }) })
    }

    /// Begins an attempt to fetch keys: reads the `ca_file`, which may have changed, so that a
    /// certificate authority can be replaced without a reload.
    ///
    /// # Errors
    ///
    /// [`KeyError::Setup`]. An attempt with the certificates of before would hide that the file
    /// has become unusable.
    pub(crate) async fn begin(&self) -> Result<FetchAttempt, KeyError> {
        let lock = || self.trust.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = &self.ca_file else { return Ok(FetchAttempt(lock().client.clone())) };
        let roots = certificates(file, file.read().await)?;
        let mut trust = lock();
        if trust.roots != roots {
            *trust = Trust { client: Client::new(&roots, self.url_policy, LIMITS)?, roots };
        }
        Ok(FetchAttempt(trust.client.clone()))
    }
}

fn certificates(file: &FileReader, content: Result<Vec<u8>, ReadError>) -> Result<TrustedRoots, SetupError> {
    let path = file.path().to_owned();
    match content {
        Ok(pem) => Ok(TrustedRoots::Certificates { path, pem }),
        Err(error) => Err(SetupError::CaFile { path, cause: error.to_string() }),
    }
}

impl KeyFetcher {
    /// Which URLs it may fetch from.
    pub(crate) fn url_policy(&self) -> UrlPolicy {
        self.url_policy
    }
}

impl FetchAttempt {
    /// Fetches the document at `url`.
    ///
    /// # Errors
    ///
    /// [`KeyError::Fetch`]; [`KeyError::Status`] for any status other than 200;
    /// [`KeyError::ContentEncoding`].
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time; the connection is closed.
    pub(crate) async fn get(&self, url: &Url) -> Result<FetchedDocument, KeyError> {
        let mut request = Request::get(url);
        let accept = HeaderValue::from_static("application/json, application/jwk-set+json");
        request.headers.insert(header::ACCEPT, accept);
        request.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let response = self.0.send(request).await?;
        if response.status() != StatusCode::OK {
            return Err(KeyError::Status { status: response.status().as_u16() });
        }
        if let Some(encoding) = content_encoding(response.headers()) {
            return Err(KeyError::ContentEncoding { encoding });
        }
        let lifetime = lifetime(response.headers());
        Ok(FetchedDocument { body: response.into_body().await?, lifetime })
    }
}

/// What `Content-Encoding` says, for an error message; `None` if the body is the document itself.
fn content_encoding(headers: &HeaderMap) -> Option<String> {
    let encoding = headers.get(header::CONTENT_ENCODING)?;
    let is_identity = encoding.is_empty() || encoding.as_bytes().eq_ignore_ascii_case(b"identity");
    (!is_identity).then(|| escape_for_log(&String::from_utf8_lossy(encoding.as_bytes())))
}

/// How long a response may be used (RFC 9111 §4.2): `max-age` minus `Age`, within
/// [`LIFETIME_SECONDS`]. `None` if the headers do not say.
///
/// `no-store` and `no-cache` give the shortest lifetime rather than none: the keys are needed for
/// every token.
fn lifetime(headers: &HeaderMap) -> Option<Duration> {
    let text = |value: &HeaderValue| value.to_str().map(str::to_ascii_lowercase).unwrap_or_default();
    let fields: Vec<String> = headers.get_all(header::CACHE_CONTROL).iter().map(text).collect();
    let directives = || fields.iter().flat_map(|field| field.split(',')).map(str::trim);
    let (shortest, longest) = (*LIFETIME_SECONDS.start(), *LIFETIME_SECONDS.end());
    // An argument restricts these directives to some fields (RFC 9111 §5.2.2.4). It is ignored:
    // fetching more often than necessary does no harm.
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

/// Parses `delta-seconds` (RFC 9111 §1.2.2). A number too large to represent becomes the largest
/// one; text that is no number becomes 0.
fn delta_seconds(text: &str) -> u64 {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        0
    } else {
        text.parse().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
