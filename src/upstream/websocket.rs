//! The opening handshake of a WebSocket with an upstream, for a client that speaks HTTP/2.
//!
//! Over HTTP/2 a client opens a WebSocket with an extended `CONNECT` and without the key of
//! HTTP/1.1 (RFC 8441 §5). The upstream speaks HTTP/1.1 and expects one, so the gateway generates
//! one and checks the upstream's proof of having read it (RFC 6455 §4.1).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};

use crate::primitives::random;

/// The protocol's name in `Upgrade` and in `:protocol`.
pub(crate) const WEBSOCKET: &str = "websocket";

/// The key, from the client.
pub(crate) const SEC_WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");

/// The proof, from the server.
pub(crate) const SEC_WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// The key of one handshake.
#[derive(Clone, Debug)]
pub(crate) struct WebSocketKey(HeaderValue);

impl WebSocketKey {
    /// A random key.
    #[must_use]
    pub(crate) fn random() -> Self {
        let text = STANDARD.encode(random::bytes::<16>());
        Self(HeaderValue::try_from(text).expect("base64 is a valid value"))
    }

    /// The value of `Sec-WebSocket-Key`.
    #[must_use]
    pub(crate) fn value(&self) -> &HeaderValue {
        &self.0
    }

    /// Whether `accept` proves that the server has read the key. It is no secret: SHA-1 is what the
    /// protocol asks for, and nothing depends on its strength.
    #[must_use]
    pub(crate) fn is_accepted_by(&self, accept: &HeaderValue) -> bool {
        const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
        let proof = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[self.0.as_bytes(), GUID].concat());
        accept.as_bytes() == STANDARD.encode(proof).as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 §1.3.
    #[test]
    fn the_proof_is_that_of_the_key() {
        let key = WebSocketKey(HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        assert!(key.is_accepted_by(&HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
        for other in ["", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo", "dGhlIHNhbXBsZSBub25jZQ=="] {
            assert!(!key.is_accepted_by(&HeaderValue::from_static(other)), "{other}");
        }
    }

    #[test]
    fn a_key_is_sixteen_random_bytes() {
        let (one, other) = (WebSocketKey::random(), WebSocketKey::random());
        assert_eq!(STANDARD.decode(one.value()).unwrap().len(), 16);
        assert_ne!(one.value(), other.value());
    }
}
