//! Readiness: whether traffic should be sent to this gateway, and which issuers have no keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::admin::{Readiness, ReadinessReport};
use crate::gateway::CurrentRuntime;

/// The state behind `/readyz`.
///
/// The gateway is ready while the key store of every issuer has had keys at least once. An issuer
/// whose keys expire later does not make it unready, but is reported: the routes of that issuer
/// respond 503 anyway, and if all replicas became unready at the same time, the outage of one
/// identity provider would take down all routes. A key store that a reload has put in the place of
/// another, and that could not take over its keys, has had none.
#[derive(Debug)]
pub(super) struct ReadinessState {
    runtime: Arc<CurrentRuntime>,
    draining: AtomicBool,
}

impl ReadinessState {
    pub(super) fn new(runtime: Arc<CurrentRuntime>) -> Self {
        Self { runtime, draining: AtomicBool::new(false) }
    }

    /// Reports that the gateway is not ready from now on.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }
}

impl Readiness for ReadinessState {
    fn readiness(&self) -> ReadinessReport {
        let is_draining = self.draining.load(Ordering::Acquire);
        let (mut has_had_all_keys, mut reasons) = (true, Vec::new());
        for verifier in self.runtime.load().issuers().iter() {
            let status = verifier.keys().status();
            if status.ready {
                continue;
            }
            // The age is there even if the keys have become too old.
            has_had_all_keys &= status.age.is_some();
            let why = status.last_error.unwrap_or_else(|| "not fetched yet".to_owned());
            reasons.push(format!("issuer {} has no usable keys: {why}", verifier.settings().name));
        }
        // The iteration order of issuers is unspecified; that of the reasons is not.
        reasons.sort();
        if is_draining {
            reasons.insert(0, "draining".to_owned());
        }
        ReadinessReport { is_ready: has_had_all_keys && !is_draining, reasons }
    }
}
