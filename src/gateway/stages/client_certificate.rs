//! Client certificates (mutual TLS): checks that the connection has one if the route or the server
//! requires it. The first part of authentication, before the token.
//!
//! A route that requires one answers only requests on connections that were opened for its host. A
//! client may use a connection for several hosts (RFC 9113 §9.1.1), and its user may have chosen
//! another certificate, or none, for the host that the connection was opened for. Such a client
//! gets 421, and repeats the request on another connection (RFC 9110 §15.5.20).

use super::StageContext;
use super::normalize::InboundRequest;
use super::routing::RoutedRequest;
use crate::gateway::observer::{Check, Observer};
use crate::gateway::policy::ClientCertRule;
use crate::gateway::response::refusal::{ClientCertFault, Refusal};
use crate::gateway::tls_peer::PresentedCertificate;
use crate::tls::client_auth::ClientAuthMode;

/// Checks the certificate of the connection, if one is required.
///
/// # Errors
///
/// 421 if the connection was opened for another host, 403 without a valid certificate.
pub(super) fn check<O: Observer>(routed: &RoutedRequest, cx: &mut StageContext<'_, O>) -> Result<(), Refusal> {
    let (request, settings) = (routed.request(), routed.route().settings());
    let key = match settings.client_cert {
        ClientCertRule::Required => settings.key("client_cert"),
        // A connection may be older than the setting or than a revocation. `[server.tls]` does not
        // apply to a connection without TLS.
        ClientCertRule::Optional
            if cx.runtime.settings().client_auth == Some(ClientAuthMode::Required) && request.tls.is_some() =>
        {
            "server.tls.client_auth".to_owned()
        }
        ClientCertRule::Optional => return Ok(()),
    };
    let result = match settings.client_cert {
        ClientCertRule::Required => check_server_name(request).and_then(|()| check_certificate(request)),
        ClientCertRule::Optional => check_certificate(request),
    };
    cx.check(|| {
        let check = match &result {
            Ok(()) => Check::passed("cert", "the client has presented a valid certificate"),
            Err(refusal) => Check::failed("cert", refusal.reason()),
        };
        check.with_key(key)
    });
    routed.enforce(result, cx)
}

/// Checks that the connection was opened for the host of the request. A client that sent no SNI did
/// not ask for another host, so it passes.
fn check_server_name(request: &InboundRequest) -> Result<(), Refusal> {
    let Some(name) = request.tls.as_ref().and_then(|tls| tls.server_name()) else { return Ok(()) };
    let is_same = name.trim_end_matches('.').eq_ignore_ascii_case(request.host.name());
    if is_same { Ok(()) } else { Err(Refusal::Misdirected) }
}

fn check_certificate(request: &InboundRequest) -> Result<(), Refusal> {
    Err(Refusal::ClientCertRequired(match &request.certificate {
        PresentedCertificate::Valid(_) => return Ok(()),
        PresentedCertificate::Absent => ClientCertFault::Missing,
        PresentedCertificate::Expired => ClientCertFault::Expired,
        PresentedCertificate::Withdrawn => ClientCertFault::Withdrawn,
    }))
}
