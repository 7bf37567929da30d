//! Crypto provider: installs aws-lc-rs for TLS and token signatures before they are used.
//!
//! rustls and jsonwebtoken panic at first use if the process has no provider. The command line
//! installs it once at the start.

/// Installs the provider. A second call has no effect.
pub(super) fn install() {
    // An error means that a provider is already installed.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}
