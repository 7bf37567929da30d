//! Crypto provider: installs aws-lc-rs for TLS before it is used.
//!
//! rustls panics at first use if the process has no provider. The command line installs it once at
//! the start. `jsonwebtoken` takes the only provider that it is built with.

/// Installs the provider. A second call has no effect.
pub(super) fn install() {
    // An error means that a provider is already installed.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
