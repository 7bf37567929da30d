//! Key fetcher: gets discovery documents and key sets from an identity provider.
//!
//! The guards on size, time, redirects and plain http are those of
//! [`outbound::Client`](crate::outbound::Client). This module adds what is particular to keys:
//! which media types it asks for, that only status 200 counts, and how long a key set may be
//! cached. Cache headers are bounded, not obeyed literally.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use http::header;
use http::{HeaderMap, HeaderValue, StatusCode};
use url::Url;

use super::error::KeyError;
use crate::outbound::{Client, ClientLimits, Request, SetupError, TrustedRoots, UrlPolicy};
use crate::primitives::escape::escape_for_log;

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

/// Fetches documents for one issuer.
#[derive(Clone, Debug)]
pub(crate) struct KeyFetcher(Client);

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
    /// A fetcher for the issuer whose keys, or whose discovery document, are at `url`. It trusts
    /// the certificates in `ca_file`, or else those of the system.
    ///
    /// # Errors
    ///
    /// [`SetupError`].
    pub(crate) fn new(url: &Url, ca_file: Option<&Path>) -> Result<Self, SetupError> {
        let is_http = url.scheme() == "http";
        let url_policy = if is_http { UrlPolicy::HttpsOrLoopback } else { UrlPolicy::HttpsOnly };
        let roots = match ca_file {
            Some(path) => TrustedRoots::File(path.to_owned()),
            // Without the system's certificates, an issuer on this machine also works on a system
            // that has none.
            None if is_http => TrustedRoots::None,
            None => TrustedRoots::System,
        };
        Client::new(&roots, url_policy, LIMITS).map(Self)
    }

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
