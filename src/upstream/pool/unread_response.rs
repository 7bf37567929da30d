//! Unread responses: when a client leaves, its response is read to the end if that is little work,
//! so that the connection to the upstream can be used again.
//!
//! Otherwise a client that sends requests and resets them at once would make the gateway open a
//! connection for each. The work is limited in bytes and in time, and in number by the connections
//! that may be open.

use std::rc::{Rc, Weak};
use std::time::Duration;

use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::{Http1Connection, Http1Pool};
use crate::telemetry::metrics::GaugeGuard;
use crate::upstream::response_framing;

/// The most that is read of a response without a client, in bytes. More costs more than the few
/// packets of a new connection.
const MAX_BYTES: u64 = 64 * 1024;

/// How long the rest of a response may take.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A connection in the middle of a response that no client waits for.
#[derive(Debug)]
pub(in crate::upstream) struct UnreadResponse {
    connection: Http1Connection,
    /// `None` if the head has not arrived either.
    body: Option<Incoming>,
    _active: GaugeGuard,
}

impl UnreadResponse {
    /// A response whose head has not arrived.
    pub(in crate::upstream) fn without_head(connection: Http1Connection, active: GaugeGuard) -> Self {
        Self { connection, body: None, _active: active }
    }

    /// The rest of a response.
    pub(in crate::upstream) fn rest(connection: Http1Connection, body: Incoming, active: GaugeGuard) -> Self {
        Self { connection, body: Some(body), _active: active }
    }

    /// Reads the response, within the limits; then returns the connection to `pool` or closes it.
    async fn read(mut self, pool: Rc<Http1Pool>) {
        if timeout(TIMEOUT, self.read_to_end()).await.unwrap_or(false) {
            pool.put_back(self.connection);
        } else {
            self.connection.abort();
        }
    }

    /// Returns whether the response has come to its end within [`MAX_BYTES`].
    async fn read_to_end(&mut self) -> bool {
        let mut body = match self.body.take() {
            Some(body) => body,
            None => match (&mut self.connection.pending).await {
                // What follows a 101 is not HTTP.
                Ok(response) if response.status().is_informational() => return false,
                Ok(mut response) => match response_framing::check(&mut response) {
                    Ok(()) => response.into_body(),
                    // Where the next response would begin is in doubt.
                    Err(_) => return false,
                },
                Err(_) => return false,
            },
        };
        let mut allowance = MAX_BYTES;
        while is_short(&body, allowance) {
            match body.frame().await {
                None => return true,
                Some(Err(_)) => return false,
                Some(Ok(frame)) => {
                    let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                    let Some(rest) = allowance.checked_sub(length) else { return false };
                    allowance = rest;
                }
            }
        }
        false
    }
}

/// Whether the rest of a body may have at most `bytes`, as far as is known.
fn is_short(body: &Incoming, bytes: u64) -> bool {
    body.size_hint().lower() <= bytes
}

/// Reads the unread responses of a pool, for as long as the pool exists.
pub(super) async fn read_unread_responses(mut unread: UnboundedReceiver<UnreadResponse>, pool: Weak<Http1Pool>) {
    while let Some(response) = unread.recv().await {
        let Some(pool) = pool.upgrade() else { return };
        tokio::task::spawn_local(response.read(pool));
    }
}
