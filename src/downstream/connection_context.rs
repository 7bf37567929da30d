//! What the code that serves a connection shares, whichever protocol it speaks.

use std::rc::Rc;
use std::sync::Arc;

use super::connection_state::ConnectionState;
use super::idle_connections::IdleHandle;
use crate::gateway::runtime::ClientTimeouts;
use crate::gateway::{Gateway, Peer};
use crate::primitives::shutdown::Shutdown;
use crate::telemetry::metrics::ConnectionMetrics;

/// What serving a connection takes, apart from its socket. The connection's task owns it.
#[derive(Debug)]
pub(super) struct ConnectionContext {
    pub(super) gateway: Rc<Gateway>,
    pub(super) peer: Peer,
    pub(super) state: Arc<ConnectionState>,
    pub(super) idle: IdleHandle,
    pub(super) metrics: ConnectionMetrics,
    pub(super) shutdown: Shutdown,
    pub(super) timeouts: ClientTimeouts,
    /// In bytes.
    pub(super) max_header_size: usize,
}
