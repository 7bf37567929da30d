//! What a new TLS session says about its client: the server name and the certificate.

use std::sync::Arc;

use rustls::{HandshakeKind, ServerConnection};

use super::tls_handshake::FailedHandshake;
use crate::gateway::TlsPeer;
use crate::primitives::clock::WallTime;
use crate::telemetry::metrics::HandshakeFailure;
use crate::tls::client_certificate::ClientCertificate;
use crate::tls::server::ServerTlsState;

/// The client of `session`, which was accepted with `tls`.
///
/// # Errors
///
/// The certificate of the client was verified, but the gateway cannot read it; or the session was
/// resumed, and its certificate or the revocation list that covers it has expired since it was
/// verified.
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
    let trust = tls.client_trust();
    // A ticket is good for the rules that it was made under only. What they say changes when a list
    // expires; until then there is nothing to verify again.
    if let (Some(certificate), Some(trust)) = (&certificate, trust)
        && session.handshake_kind() == Some(HandshakeKind::Resumed)
        && trust.has_expired_list(now)
        && !trust.accepts(certificate.chain(), now)
    {
        let reason = HandshakeFailure::ClientCertificateRevocationUnknown;
        return Err(failed(reason, "its revocation list has expired since the session began"));
    }
    Ok(TlsPeer::new(session.server_name(), certificate, trust.map(Arc::clone), now))
}
