//! Errors of the outbound client: what is wrong with its certificates, and why a request failed.
//!
//! For the operator. Text that comes from a peer or a library is escaped and cut before it is
//! stored.

use std::path::PathBuf;

use crate::primitives::escape::escape_for_log;

/// Why a request got no complete response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection could not be established, failed the TLS handshake or broke off.
    #[error("{cause}")]
    Connection {
        /// The innermost cause, escaped and cut.
        cause: String,
    },
    /// The response body exceeds the limit. The rest of it is not read.
    #[error("response is larger than the limit of {max_bytes} bytes")]
    ResponseTooLarge {
        /// The limit.
        max_bytes: usize,
    },
    /// The client's [`UrlPolicy`](super::UrlPolicy) does not allow the URL. Nothing was sent.
    #[error("URL scheme is not allowed")]
    SchemeNotAllowed,
    /// The connect timeout or the timeout of the whole request expired.
    #[error("timed out")]
    Timeout,
}

/// Why a client cannot be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The file of trusted certificates cannot be read or holds no certificate.
    #[error("cannot use the certificates in {}: {cause}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The innermost cause, escaped and cut.
        cause: String,
    },
    /// TLS cannot be set up, for example because the system has no trusted certificates.
    #[error("cannot set up HTTPS: {cause}")]
    Tls {
        /// The innermost cause, escaped and cut.
        cause: String,
    },
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() { Self::Timeout } else { Self::Connection { cause: innermost_cause(&error) } }
    }
}

/// The text of the innermost error in the chain: it says what happened, while those around it say
/// only which step failed.
pub(super) fn innermost_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    escape_for_log(&innermost.to_string())
}
