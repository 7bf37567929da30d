//! One client connection, from accept to close: detects the protocol and serves it.

use std::rc::Rc;

use tokio::time::{Instant, timeout};

use super::connection_context::ConnectionContext;
use super::connection_state::ConnectionState;
use super::http_connection::last_request_grace_over;
use super::idle_connections::IdleHandle;
use super::protocol::{self, Protocol};
use super::socket::ClientSocket;
use super::{http1, http2};
use crate::gateway::{Gateway, Peer, ServerSettings};
use crate::primitives::shutdown::Shutdown;

/// Serves a connection that this worker has accepted or taken over, until it is closed.
///
/// The settings are those of the moment: a reload applies to new connections.
pub(super) async fn serve(
    mut socket: ClientSocket,
    peer: Peer,
    idle: IdleHandle,
    gateway: Rc<Gateway>,
    shutdown: Shutdown,
) {
    let opened_at = Instant::now();
    let ServerSettings { timeouts, max_header_size, .. } = gateway.settings();
    let detected = tokio::select! {
        detected = timeout(timeouts.header, protocol::detect(&mut socket)) => detected,
        () = last_request_grace_over(shutdown.clone()) => return,
        () = idle.closed_while_silent() => return,
    };
    // Otherwise the client has closed the connection or sent too little in time: there is no
    // request to respond to.
    let Ok(Ok((protocol, buffered))) = detected else { return };
    let state = ConnectionState::new(opened_at, timeouts);
    let metrics = gateway.connection_metrics();
    let context = ConnectionContext { gateway, peer, state, idle, metrics, shutdown, timeouts, max_header_size };
    match protocol {
        Protocol::Http1 => http1::serve(socket, buffered, &context).await,
        // Boxed, because few connections use HTTP/2 with prior knowledge and every task would
        // reserve the space for it.
        Protocol::Http2 => Box::pin(http2::serve(socket, buffered, &context)).await,
    }
}
