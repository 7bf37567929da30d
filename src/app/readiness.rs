//! Readiness: whether traffic should be sent to this gateway, and if not, why.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::admin::Readiness;
use crate::gateway::Runtime;

/// The state behind `/readyz`.
///
/// The gateway is ready once it has fetched the keys of every issuer at least once. An issuer whose
/// keys expire later does not make it unready: the routes of that issuer respond 503 anyway, and if
/// all replicas became unready at the same time, the outage of one identity provider would take
/// down all routes.
#[derive(Debug)]
pub(super) struct ReadinessState {
    runtime: Arc<ArcSwap<Runtime>>,
    draining: AtomicBool,
    issuers_with_keys: Mutex<BTreeSet<String>>,
}

impl ReadinessState {
    pub(super) fn new(runtime: Arc<ArcSwap<Runtime>>) -> Self {
        Self { runtime, draining: AtomicBool::new(false), issuers_with_keys: Mutex::default() }
    }

    /// Reports that the gateway is not ready from now on.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }
}

impl Readiness for ReadinessState {
    fn readiness(&self) -> Result<(), Vec<String>> {
        if self.draining.load(Ordering::Acquire) {
            return Err(vec!["draining".to_owned()]);
        }
        let runtime = self.runtime.load();
        let mut with_keys = self.issuers_with_keys.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reasons = Vec::new();
        for verifier in runtime.issuers().iter() {
            let settings = verifier.settings();
            let status = verifier.keys().status();
            // The age and not `ready` decides: keys may have been fetched and become too old before
            // the first query.
            if status.age.is_some() {
                with_keys.insert(settings.issuer.to_string());
            } else if !with_keys.contains(&*settings.issuer) {
                let why = status.last_error.unwrap_or_else(|| "not fetched yet".to_owned());
                reasons.push(format!("issuer {} has no usable keys: {why}", settings.name));
            }
        }
        // The iteration order of issuers is unspecified; that of the reasons is not.
        reasons.sort();
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }
}
