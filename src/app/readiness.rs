//! Readiness: whether traffic should be sent to this gateway, which issuers have no keys, and which
//! certificates expire soon, and which servers are not up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::admin::{Readiness, ReadinessReport};
use crate::gateway::{CurrentRuntime, Runtime};
use crate::tls::certificate::Expiry;
use crate::tls::server::LoadedCertificate;
use crate::upstream::server::Server;

/// The state behind `/readyz`.
///
/// The gateway is ready while the key store of every issuer has had keys at least once. An issuer
/// whose keys expire later does not make it unready, but is reported: the routes of that issuer
/// respond 503 anyway, and if all replicas became unready at the same time, the outage of one
/// identity provider would take down all routes. A key store that a reload has put in the place of
/// another, and that could not take over its keys, has had none.
///
/// Servers that are not up do not make it unready either, for the same reason: every replica sees
/// the same servers.
#[derive(Debug)]
pub(super) struct ReadinessState {
    runtime: Arc<CurrentRuntime>,
    draining: AtomicBool,
}

impl ReadinessState {
    pub(super) fn new(runtime: Arc<CurrentRuntime>) -> Self {
        Self { runtime, draining: AtomicBool::new(false) }
    }

    /// Waits, on this thread, until the gateway is ready.
    ///
    /// # Errors
    ///
    /// Why it is not ready after `timeout`.
    pub(super) fn wait_until_ready(&self, timeout: Duration) -> Result<(), Vec<String>> {
        /// Fetching keys takes some tens of milliseconds.
        const POLL_INTERVAL: Duration = Duration::from_millis(5);
        let started = Instant::now();
        loop {
            let report = self.readiness();
            if report.is_ready {
                return Ok(());
            }
            if started.elapsed() >= timeout {
                return Err(report.reasons);
            }
            std::thread::sleep(POLL_INTERVAL);
        }
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
        let runtime = self.runtime.load();
        for verifier in runtime.issuers().iter() {
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
        reasons.extend(expiring_certificates(&runtime));
        reasons.extend(expired_revocations(&runtime));
        for upstream in runtime.upstreams() {
            let name = upstream.name();
            let reason = |server: Arc<Server>| {
                let why = server.down_reason()?;
                Some(format!("upstream {name}: server {} is not up: {why}", server.label()))
            };
            reasons.extend(upstream.servers().into_iter().filter_map(reason));
        }
        if is_draining {
            reasons.insert(0, "draining".to_owned());
        }
        ReadinessReport { is_ready: has_had_all_keys && !is_draining, reasons }
    }
}

/// A certificate that expires soon does not make the gateway unready, and neither does one that has
/// expired: all replicas have the same. One that is yet to be obtained must not either: the ACME
/// server has to reach the gateway through the load balancer first.
fn expiring_certificates(runtime: &Runtime) -> Vec<String> {
    let now = runtime.clock().now();
    let reason = |certificate: LoadedCertificate| match (certificate.expiry(now), certificate.file) {
        (Expiry::Distant, _) => None,
        (Expiry::Expired, file) => Some(format!("certificate {file} has expired")),
        (Expiry::Soon { days_left }, file) => Some(format!("certificate {file} expires in {days_left} days")),
    };
    let missing = runtime.tls().into_iter().flat_map(|tls| tls.managed().all());
    let missing = missing.filter(|(_, identity)| identity.is_none());
    let missing = missing.map(|(managed, _)| format!("no certificate for {} yet", managed.host));
    runtime.certificates().into_iter().filter_map(reason).chain(missing).collect()
}

/// As with certificates, an expired revocation list does not make the gateway unready.
fn expired_revocations(runtime: &Runtime) -> Option<String> {
    let lists = runtime.tls()?.revocations().filter(|lists| lists.have_expired(runtime.clock().now()))?;
    Some(format!("a revocation list in {} has expired; client certificates that it covers are refused", lists.file))
}
