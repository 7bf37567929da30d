//! One client connection, from accept to close: TLS or not, which protocol, and then its requests.

use std::io;
use std::rc::Rc;

use rustls::{HandshakeKind, ProtocolVersion};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout_at};

use super::connection_context::ConnectionContext;
use super::connection_state::ConnectionState;
use super::http_connection::last_request_grace_over;
use super::idle_connections::IdleHandle;
use super::linger::linger;
use super::protocol::{self, Detected, Protocol};
use super::socket::ClientSocket;
use super::tls_handshake::{FailedHandshake, Handshakes};
use super::transport::Transport;
use super::{http1, http2, tls_session};
use crate::gateway::{Gateway, Peer, PeerAddress, ServerSettings, TlsPeer};
use crate::primitives::clock::WallTime;
use crate::primitives::listen_address::ListenerService;
use crate::primitives::log_interval::LogInterval;
use crate::primitives::shutdown::Shutdown;
use crate::telemetry::metrics::{CompletedHandshake, ConnectionMetrics, HandshakeFailure};
use crate::tls::server::ServerTlsState;
use crate::tls::{ALPN_ACME, ALPN_HTTP2};

/// What the connections of one worker share.
#[derive(Clone, Debug)]
pub(super) struct ConnectionResources {
    pub(super) gateway: Rc<Gateway>,
    pub(super) handshakes: Rc<Handshakes>,
    pub(super) shutdown: Shutdown,
}

/// Serves a connection that this worker has accepted or taken over at `opened_at`, until it is
/// closed.
///
/// The settings are those of the moment: a reload applies to new connections.
pub(super) async fn serve(
    socket: ClientSocket,
    address: PeerAddress,
    service: ListenerService,
    idle: IdleHandle,
    opened_at: Instant,
    resources: ConnectionResources,
) {
    let ConnectionResources { gateway, handshakes, shutdown } = resources;
    let ServerSettings { timeouts, max_header_size, .. } = gateway.settings();
    let metrics = gateway.connection_metrics();
    let deadline = opened_at + timeouts.header;
    let opened = tokio::select! {
        opened = async { match service {
            // TLS cannot be turned off without a restart, so there is a configuration.
            ListenerService::Tls => {
                let tls = gateway.tls()?;
                let handshake = Handshake { handshakes: &handshakes, tls: &tls, now: gateway.now(), deadline };
                Box::pin(open_tls(socket, handshake, address, &metrics)).await
            }
            ListenerService::HttpsRedirect | ListenerService::Plain => {
                timeout_at(deadline, open_plain(socket, address, &metrics)).await.ok().flatten()
            }
        }} => opened,
        () = last_request_grace_over(shutdown.clone()) => return,
        () = idle.closed_while_silent() => return,
    };
    // Otherwise the client has closed the connection or sent too little in time: there is no
    // request to respond to.
    let Some(Opened { transport, protocol, buffered, tls }) = opened else { return };
    let state = ConnectionState::new(opened_at, timeouts);
    let peer = match (service, tls) {
        (ListenerService::HttpsRedirect, _) => Peer::to_redirect(address),
        (ListenerService::Plain | ListenerService::Tls, None) => Peer::new(address, "http"),
        (ListenerService::Plain | ListenerService::Tls, Some(tls)) => Peer::with_tls(address, tls),
    };
    let context = ConnectionContext { gateway, peer, state, idle, metrics, shutdown, timeouts, max_header_size };
    match protocol {
        Protocol::Http1 => http1::serve(transport, buffered, &context).await,
        // Boxed, because few connections use HTTP/2 with prior knowledge and every task would
        // reserve the space for it.
        Protocol::Http2 => Box::pin(http2::serve(transport, buffered, &context)).await,
    }
}

/// A connection whose client has begun to send a request.
struct Opened {
    transport: Transport,
    protocol: Protocol,
    /// Bytes that were read already.
    buffered: Vec<u8>,
    /// The session; `None` without TLS.
    tls: Option<Rc<TlsPeer>>,
}

/// What a TLS handshake needs.
struct Handshake<'a> {
    handshakes: &'a Handshakes,
    tls: &'a ServerTlsState,
    now: WallTime,
    deadline: Instant,
}

/// Without TLS, the first bytes show which protocol it is.
async fn open_plain(mut socket: ClientSocket, address: PeerAddress, metrics: &ConnectionMetrics) -> Option<Opened> {
    match protocol::detect(&mut socket).await {
        Ok((Detected::Http(protocol), buffered)) => {
            Some(Opened { transport: Transport::Plain(socket), protocol, buffered, tls: None })
        }
        Ok((Detected::Tls, _)) => {
            static LOG: LogInterval = LogInterval::new();
            metrics.tls().count_failure(HandshakeFailure::PlainListener);
            if let Some(left_out) = LOG.is_due() {
                tracing::info!(client = %address.ip(), left_out, "a client speaks TLS, but this listener has none");
            }
            None
        }
        Err(_) => None,
    }
}

/// With TLS, the client has agreed to a protocol in the handshake (ALPN, RFC 7301); without an
/// agreement it is HTTP/1.1.
async fn open_tls(
    socket: ClientSocket,
    handshake: Handshake<'_>,
    address: PeerAddress,
    metrics: &ConnectionMetrics,
) -> Option<Opened> {
    let Handshake { handshakes, tls, now, deadline } = handshake;
    let accepted = timeout_at(deadline, handshakes.accept(socket, |hello| tls.settings_for(hello))).await;
    let accepted = accepted.unwrap_or_else(|_| Err(timed_out()));
    let opened = accepted.and_then(|stream| Ok((tls_session::peer(stream.get_ref().1, tls, now)?, stream)));
    let (peer, mut stream) = match opened {
        Ok(opened) => opened,
        Err(FailedHandshake { reason, cause, socket }) => {
            report(reason, &cause, address, metrics);
            if let Some(socket) = socket {
                let _ = timeout_at(deadline, linger(socket)).await;
            }
            return None;
        }
    };
    let session = stream.get_ref().1;
    metrics.tls().count_handshake(CompletedHandshake {
        is_tls13: session.protocol_version() == Some(ProtocolVersion::TLSv1_3),
        is_resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
    });
    let protocol = match session.alpn_protocol() {
        Some(ALPN_ACME) => {
            // The connection ends with the handshake (RFC 8737 §3): no byte of it is a request.
            tracing::debug!(client = %address.ip(), "answered a challenge of the ACME server");
            let _ = timeout_at(deadline, stream.shutdown()).await;
            return None;
        }
        Some(ALPN_HTTP2) => Protocol::Http2,
        Some(_) | None => Protocol::Http1,
    };
    let mut transport = Transport::Tls(Box::new(stream));
    // Until the request begins, the connection can still be closed for others.
    timeout_at(deadline, transport.readable()).await.ok()?.ok()?;
    Some(Opened { transport, protocol, buffered: Vec::new(), tls: Some(Rc::new(peer)) })
}

/// Counts and logs a handshake that has failed. An operator who has enabled client certificates
/// needs to see which clients fail because of them; scanners cause most of the other failures.
fn report(reason: HandshakeFailure, cause: &str, address: PeerAddress, metrics: &ConnectionMetrics) {
    static LOG: LogInterval = LogInterval::new();
    metrics.tls().count_failure(reason);
    let (client, reason_label) = (address.ip(), reason.label());
    tracing::debug!(%client, reason = reason_label, cause, "TLS handshake failed");
    if reason.is_of_client_certificate()
        && let Some(left_out) = LOG.is_due()
    {
        tracing::info!(%client, reason = reason_label, cause, left_out, "client refused because of its certificate");
    }
}

fn timed_out() -> FailedHandshake {
    let cause = io::Error::from(io::ErrorKind::TimedOut).to_string();
    FailedHandshake { reason: HandshakeFailure::Timeout, cause, socket: None }
}
