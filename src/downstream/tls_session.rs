//! What a TLS session that has just begun says about its client.

use std::sync::Arc;

use rustls::ServerConnection;

use super::tls_handshake::FailedHandshake;
use crate::gateway::TlsPeer;
use crate::primitives::clock::WallTime;
use crate::telemetry::metrics::HandshakeFailure;
use crate::tls::client_certificate::ClientCertificate;
use crate::tls::server::ServerTlsState;

/// The peer of `session`, which was accepted with `tls`.
///
/// # Errors
///
/// The certificate of the client was verified, but the gateway cannot read it; or the session was
/// resumed, and its certificate has expired since it was verified.
pub(super) fn peer(
    session: &ServerConnection,
    tls: &ServerTlsState,
    now: WallTime,
) -> Result<TlsPeer, FailedHandshake> {
    let failed = |reason, cause: &str| FailedHandshake { reason, cause: cause.to_owned(), socket: None };
    let certificate = match session.peer_certificates() {
        None | Some([]) => None,
        Some(chain) => Some(
            ClientCertificate::read(chain.to_vec())
                .map_err(|cause| failed(HandshakeFailure::ClientCertificateInvalid, cause))?,
        ),
    };
    if certificate.as_ref().is_some_and(|certificate| certificate.has_expired(now)) {
        return Err(failed(HandshakeFailure::ClientCertificateExpired, "it has expired since the session began"));
    }
    Ok(TlsPeer::new(session.server_name(), certificate, tls.client_trust().map(Arc::clone)))
}
