//! Readiness: whether traffic should come here, and if not, why.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::admin::Readiness;
use crate::gateway::Runtime;

/// What `/readyz` answers.
///
/// Ready once every issuer has had keys. An issuer that loses them later does not count: its routes answer 503 by themselves, and taking every
/// replica out at the same moment would make one identity provider's outage everybody's.
#[derive(Debug)]
pub(super) struct Ready {
    runtime: Arc<ArcSwap<Runtime>>,
    draining: AtomicBool,
    have_had_keys: Mutex<BTreeSet<String>>,
}

impl Ready {
    pub(super) fn new(runtime: Arc<ArcSwap<Runtime>>) -> Self {
        Self { runtime, draining: AtomicBool::new(false), have_had_keys: Mutex::default() }
    }

    /// From now on not ready.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }
}

impl Readiness for Ready {
    fn readiness(&self) -> Result<(), Vec<String>> {
        if self.draining.load(Ordering::Acquire) {
            return Err(vec!["draining".to_owned()]);
        }
        let runtime = self.runtime.load();
        let mut had = self.have_had_keys.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reasons = Vec::new();
        for verifier in runtime.issuers().iter() {
            let settings = verifier.settings();
            let status = verifier.keys().status();
            // An age, not `ready`: keys may have come and grown too old before anybody asked here.
            if status.age.is_some() {
                had.insert(settings.issuer.to_string());
            } else if !had.contains(&*settings.issuer) {
                let why = status.last_error.unwrap_or_else(|| "not fetched yet".to_owned());
                reasons.push(format!("issuer {} has no usable keys: {why}", settings.name));
            }
        }
        // The issuers come in no order, the reasons do.
        reasons.sort();
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }
}
