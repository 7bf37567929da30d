//! The one crypto provider, installed before anything needs it.
//!
//! Both libraries panic at their first use if no provider was chosen; with this, the choice is made once, at the start.

/// Installs aws-lc-rs for TLS and for signatures. A second call changes nothing.
pub(super) fn install() {
    // The error is the provider that is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}
