//! Tunnels: opens the tunnel that an admitted request was upgraded to, and closes it when the
//! request would no longer be admitted.
//!
//! A decision holds for the moment, and a tunnel lasts. So the tunnel's task calls [`decide`] again
//! whenever something has changed that the decision depends on: the configuration, the keys of the
//! issuer whose token opened the tunnel, or whether the client's certificate is accepted. It keeps
//! the head of the request without its credentials, and the proof that the token was valid in place
//! of the token.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use super::decide::{Caller, Credentials, Decision, decide};
use super::observer::NoObserver;
use super::request::{Peer, RequestHead};
use super::response::body::{Body, TunnelUse};
use super::response::context::ResponseContext;
use super::response::record::Record;
use super::runtime::{CurrentRuntime, Runtime};
use super::worker::Worker;
use crate::upstream::ServerAddress;
use crate::upstream::upgrade::{BytesTransferred, Tunnel};

/// The request that a tunnel was opened for, to be judged again.
#[derive(Debug)]
pub(super) struct TunnelRequest {
    /// Without credentials.
    pub(super) head: RequestHead,
    pub(super) caller: Caller,
    pub(super) peer: Peer,
}

/// Relays bytes through `tunnel` once the response is sent that opens it. Returns the body of that
/// response, which is empty and starts the tunnel when it receives the request's record.
pub(super) fn open(worker: &Worker, tunnel: Tunnel, request: TunnelRequest) -> Body {
    let (record_sender, record_receiver) = oneshot::channel::<Box<Record>>();
    let (end_sender, end) = oneshot::channel();
    let (runtime, shutdown) = (Arc::clone(worker.runtime()), worker.shutdown());
    tokio::task::spawn_local(async move {
        // If the client disconnects before the response, the sender is dropped and no tunnel opens.
        let Ok(record) = record_receiver.await else { return };
        let mut record = TunnelRecord { record, transferred: BytesTransferred::default() };
        let server = tunnel.upstream.server().clone();
        let refused = request.refused(&runtime, &server);
        let transferred = record.transferred.clone();
        let end = tunnel.relay(refused, shutdown, transferred.clone()).await;
        record.record.set_tunnel_end(end);
        drop(record);
        let used = if transferred.down() > 0 { TunnelUse::Answered } else { TunnelUse::Unanswered };
        // Only HTTP/2 connections wait for it.
        let _ = end_sender.send(used);
    });
    Body::for_tunnel(record_sender, end)
}

impl TunnelRequest {
    /// Resolves when the request would no longer be admitted, with the reason for the log.
    async fn refused(&self, current: &CurrentRuntime, server: &ServerAddress) -> &'static str {
        let mut reloads = current.reloads();
        loop {
            let runtime = current.load_full();
            // Subscribed to before the decision, so that no change is missed.
            let mut key_fetches = self.key_fetches(&runtime);
            let mut tls_changes = self.tls_changes(&runtime);
            reloads.mark_unchanged();
            if let Err(reason) = self.judge(&runtime, server).await {
                return reason;
            }
            tokio::select! {
                () = changed(Some(&mut reloads)) => {}
                () = changed(key_fetches.as_mut()) => {}
                () = changed(tls_changes.as_mut()) => {}
                () = self.certificate_expired(&runtime) => {}
            }
        }
    }

    /// Changes when the keys of the caller's issuer may have changed; `None` without a caller.
    fn key_fetches(&self, runtime: &Runtime) -> Option<watch::Receiver<u64>> {
        let issuer = self.caller.principal()?.issuer_name();
        Some(runtime.issuers().by_name(issuer)?.keys().fetches())
    }

    /// Changes when the connection's certificate may no longer be accepted; `None` without a
    /// certificate.
    fn tls_changes(&self, runtime: &Runtime) -> Option<watch::Receiver<u64>> {
        self.peer.tls().filter(|tls| tls.has_certificate())?;
        Some(runtime.tls()?.changes())
    }

    /// Resolves once the certificate of the connection has expired, or a revocation list has. Never
    /// resolves without one, or if it has expired already.
    async fn certificate_expired(&self, runtime: &Runtime) {
        let good_until = self.peer.tls().and_then(|tls| tls.certificate_good_until());
        let now = runtime.clock().now().micros();
        match good_until.and_then(|good_until| good_until.micros().checked_sub(now)) {
            // One more, since it is still valid in that second.
            Some(left) => sleep(Duration::from_micros(left.saturating_add(1))).await,
            None => pending().await,
        }
    }

    /// Whether the request would be admitted now, and to the server that it was sent to.
    async fn judge(&self, runtime: &Arc<Runtime>, server: &ServerAddress) -> Result<(), &'static str> {
        let (head, credentials) = (self.head.clone(), Credentials::Established(&self.caller));
        let mut response = ResponseContext::without_record(runtime, &head, &self.peer);
        let decision = decide(head, credentials, &self.peer, runtime, &mut response, &mut NoObserver).await;
        match decision.map_err(|refusal| refusal.reason())? {
            Decision::Admitted(admitted) => {
                let servers = admitted.permit().routed().route().upstream().servers();
                let leads_there = servers.iter().any(|one| one.address() == server);
                if leads_there { Ok(()) } else { Err("the route leads to other servers") }
            }
            Decision::Preflight(_) | Decision::Redirect(_) => Err("the gateway itself responds to this request"),
        }
    }
}

/// Waits for a change. Never resolves if there is nothing that can change.
async fn changed(receiver: Option<&mut watch::Receiver<u64>>) {
    let has_changed = match receiver {
        Some(receiver) => receiver.changed().await.is_ok(),
        None => false,
    };
    if !has_changed {
        pending::<()>().await;
    }
}

/// Completes the record at the end of a tunnel, also when the process stops and drops the tunnel.
struct TunnelRecord {
    record: Box<Record>,
    transferred: BytesTransferred,
}

impl Drop for TunnelRecord {
    fn drop(&mut self) {
        self.record.set_complete();
        self.record.add_tunnel_bytes(self.transferred.up(), self.transferred.down());
    }
}
