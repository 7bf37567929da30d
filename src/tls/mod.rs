//! TLS: certificates, keys and revocation lists from files, and what they say.
//!
//! [`files`] reads them and says what is wrong with a file: what was found, and what is wanted.
//! Everything here is rustls with aws-lc-rs, the one TLS stack and the one crypto provider of the
//! process. [`server`] is TLS towards clients; [`follow`] notices changed files; [`managed`] holds
//! the certificates that `acme` obtains, and [`challenges`] the answers that prove control of a
//! host. This module opens no connection; `downstream` and `upstream` do.

pub(crate) mod bounded_verifier;
pub(crate) mod certificate;
pub(crate) mod certified_key;
pub(crate) mod challenges;
pub(crate) mod client;
pub(crate) mod client_auth;
pub(crate) mod client_certificate;
pub(crate) mod files;
pub(crate) mod follow;
pub(crate) mod managed;
pub(crate) mod pin;
pub(crate) mod server;

mod distinguished_name;
mod loaded_certificate;
mod pem;
mod revocation;
mod server_certificates;
mod server_state;
mod server_verifier;

#[cfg(test)]
pub(crate) mod test_support;

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// The names of the protocols in ALPN (RFC 7301 §6, RFC 9113 §3.1).
pub(crate) const ALPN_HTTP2: &[u8] = b"h2";
pub(crate) const ALPN_HTTP1: &[u8] = b"http/1.1";

/// The name of the protocol of a challenge in ALPN (RFC 8737 §6.2).
pub(crate) const ALPN_ACME: &[u8] = b"acme-tls/1";

/// The crypto provider of every TLS connection: aws-lc-rs, with the post-quantum hybrid
/// X25519MLKEM768 as the preferred key exchange.
pub(crate) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    &PROVIDER
}
