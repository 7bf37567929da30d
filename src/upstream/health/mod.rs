//! Health of a server: whether requests may go to it, and how many of them.
//!
//! It depends on five things: failures to connect ([`Backoff`]), failures of requests
//! ([`ejection`]), the server's own `Retry-After` ([`pause`]), the gateway's checks
//! ([`check_state`]), and for a while a recovery from ejection or failed checks ([`recovery`]). The
//! state belongs to the server and is shared by all workers. A pick asks for it through
//! [`ServerHealth::availability`], and nothing else decides which servers are avoided. While none
//! is up, the [`circuit`] decides.

mod check;
mod check_state;
mod circuit;
mod ejection;
mod pause;
mod recovery;
mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::dialer::Dialer;
use super::{ConnectFault, Protocol, UpstreamError};
use crate::primitives::backoff::Backoff;
use crate::primitives::clock::Clock;
use crate::primitives::random;
use crate::telemetry::metrics::ServerMetrics;
use check::CheckFault;
use check_state::{CheckChange, Checks};
use circuit::Circuit;
pub(super) use circuit::Probe;
use ejection::Ejections;
use pause::Pause;
use recovery::{Phase, Recovery};
pub(crate) use settings::{CheckSettings, EjectSettings, HealthSettings, StatusSet};

/// The longest `Retry-After` while all servers are down, however rarely they are checked.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// Whether a server may be picked at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Availability {
    /// It takes `percent` of the requests that it would otherwise get. Less than 100 after a
    /// recovery, so that a server with cold caches is not hit with its full share at once.
    Up {
        /// 1 to 100.
        percent: u8,
    },
    /// It has failed lately. It is avoided, unless no server of the upstream is up.
    Suspect,
    /// It must not get a request, even if it is the only one.
    Down,
}

/// What the servers of one upstream have in common.
#[derive(Debug)]
pub(super) struct UpstreamHealth {
    name: Arc<str>,
    clock: Clock,
    settings: ArcSwap<HealthSettings>,
    circuit: Circuit,
    ejections: Ejections,
}

/// What is known of one server's health.
#[derive(Debug)]
pub(super) struct ServerHealth {
    server_id: u64,
    /// The server's name in logs.
    label: Box<str>,
    metrics: ServerMetrics,
    upstream: Arc<UpstreamHealth>,
    /// Failures to connect.
    connects: Backoff,
    /// Failures of requests and of connects since the last success.
    failures: AtomicU32,
    /// Whether its last ejection is not yet known to be over.
    is_ejected: AtomicBool,
    recovery: Recovery,
    /// What its `Retry-After` has asked for.
    pause: Pause,
    checks: Checks,
}

impl Availability {
    /// Whether the pick with this number may go to the server. Spreads the picks that may evenly:
    /// of a hundred numbers in a row, as many as `percent`.
    pub(super) fn admits(self, pick: usize) -> bool {
        match self {
            // The factor is coprime to 100, so that each remainder occurs once; it keeps the picks
            // that are admitted from falling on the same turns of a rotation.
            Self::Up { percent } => (pick % 100) * 61 % 100 < usize::from(percent),
            Self::Suspect | Self::Down => false,
        }
    }
}

impl UpstreamHealth {
    pub(super) fn new(name: Arc<str>, settings: HealthSettings, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            name,
            clock,
            settings: ArcSwap::from_pointee(settings),
            circuit: Circuit::default(),
            ejections: Ejections::default(),
        })
    }

    /// Replaces the settings. What is known of the servers stays.
    pub(super) fn reconfigure(&self, settings: HealthSettings) {
        self.settings.store(Arc::new(settings));
    }

    /// From now on these are the upstream's servers, by their ids. `list` identifies the list that
    /// they are from.
    pub(super) fn use_servers(&self, list: u64, servers: Vec<u64>) {
        self.ejections.use_servers(list, servers);
    }

    /// Notes that the servers in `list` have changed. No effect unless that list is in use.
    pub(super) fn update_servers(&self, list: u64, servers: Vec<u64>) {
        self.ejections.update_servers(list, servers);
    }

    /// Permission for a request to try a server although none is up; see [`circuit`].
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Unavailable`].
    pub(super) fn admit_without_server_up(&self) -> Result<Option<Probe<'_>>, UpstreamError> {
        self.circuit.admit()
    }

    /// The error of a request for which there is no server that may be tried: all fail their
    /// checks, or have been tried for this request.
    pub(super) fn all_down(&self) -> UpstreamError {
        let interval = self.settings.load().check.as_ref().map(|check| check.interval);
        let retry_after = interval.unwrap_or_default().clamp(Duration::from_secs(1), MAX_RETRY_AFTER);
        UpstreamError::Unavailable { retry_after }
    }
}

impl ServerHealth {
    pub(super) fn new(server_id: u64, label: &str, upstream: &Arc<UpstreamHealth>, metrics: ServerMetrics) -> Self {
        Self {
            server_id,
            label: label.into(),
            metrics,
            upstream: Arc::clone(upstream),
            connects: Backoff::new(),
            failures: AtomicU32::new(0),
            is_ejected: AtomicBool::new(false),
            recovery: Recovery::default(),
            pause: Pause::new(),
            checks: Checks::default(),
        }
    }

    /// Whether the server may be picked at this moment.
    pub(super) fn availability(&self) -> Availability {
        if self.checks.is_down() {
            return Availability::Down;
        }
        let phase = self.recovery.phase(&self.upstream.clock);
        if phase != Phase::Ejected && self.is_ejected.load(Ordering::Relaxed) {
            self.end_ejection();
        }
        match phase {
            Phase::Ejected => Availability::Suspect,
            Phase::SlowStart { .. } | Phase::Full if self.pause.is_active() || !self.connects.allows_attempt() => {
                Availability::Suspect
            }
            Phase::SlowStart { percent } => Availability::Up { percent },
            Phase::Full => Availability::Up { percent: 100 },
        }
    }

    /// What is wrong with the server, for the operator; `None` if nothing is.
    pub(super) fn down_reason(&self) -> Option<String> {
        match self.availability() {
            Availability::Up { .. } => None,
            Availability::Down => {
                let fault = self.checks.last_fault().map(|fault| format!(": {fault}")).unwrap_or_default();
                Some(format!("it fails its health checks{fault}"))
            }
            Availability::Suspect if self.connects.is_failing() => Some("it cannot be reached".to_owned()),
            Availability::Suspect if self.pause.is_active() => Some("it has answered 503 with Retry-After".to_owned()),
            Availability::Suspect => Some("it is ejected because requests to it have failed".to_owned()),
        }
    }

    /// The metrics of the server, which all addresses of a name share.
    pub(super) fn metrics(&self) -> &ServerMetrics {
        &self.metrics
    }

    /// The name of its upstream.
    pub(super) fn upstream_name(&self) -> &str {
        &self.upstream.name
    }

    /// Notes that the server wants no requests for `time`.
    pub(super) fn pause(&self, time: Duration) {
        self.pause.start(time);
    }

    /// Notes that a request goes to this server; see [`Backoff::begin`].
    pub(super) fn begin_attempt(&self) {
        self.connects.begin();
    }

    /// Notes how an attempt to open a connection ended.
    pub(super) fn note_connect(&self, fault: Option<ConnectFault>) {
        let (upstream, server) = (&*self.upstream.name, &*self.label);
        let Some(fault) = fault else {
            if self.connects.succeed() {
                tracing::info!(upstream, server, "the server can be reached again");
            }
            return;
        };
        self.metrics.count_connect_failure();
        // If this machine is at fault, avoiding the server does not help.
        if fault == ConnectFault::LocalResources {
            return;
        }
        if self.connects.fail() {
            tracing::warn!(upstream, server, reason = fault.reason(), "the server cannot be reached");
        }
        self.note_failure();
    }

    /// Notes that the head of a response with this status has arrived.
    pub(super) fn note_response(&self, status: u16) {
        self.upstream.circuit.note_success();
        if status >= 500 && self.counts_as_failure(status) {
            self.count_failure();
        } else if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that the server did not respond to a request, and that the server is to blame.
    /// Failures to connect are noted by [`note_connect`](Self::note_connect) alone.
    pub(super) fn note_failure(&self) {
        self.upstream.circuit.note_failure();
        self.count_failure();
    }

    /// Notes that the server has rejected a connection after it was opened, and before its first
    /// response.
    pub(super) fn note_rejection(&self) {
        self.metrics.count_connect_failure();
        self.note_failure();
    }

    fn counts_as_failure(&self, status: u16) -> bool {
        self.upstream.settings.load().eject.as_ref().is_some_and(|eject| eject.statuses.contains(status))
    }

    /// Counts a failure, and ejects the server if it is one too many.
    fn count_failure(&self) {
        let settings = self.upstream.settings.load();
        let Some(eject) = &settings.eject else { return };
        // Requests that were in flight when it was ejected say nothing new.
        if self.recovery.phase(&self.upstream.clock) == Phase::Ejected {
            return;
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures < eject.failures {
            return;
        }
        let UpstreamHealth { ejections, clock, .. } = &*self.upstream;
        let now = clock.monotonic_micros();
        let Some(until) = ejections.eject(self.server_id, eject, now) else { return };
        self.recovery.begin(until, settings.slow_start);
        self.failures.store(0, Ordering::Relaxed);
        self.is_ejected.store(true, Ordering::Relaxed);
        self.metrics.count_ejection();
        let (upstream, server) = (&*self.upstream.name, &*self.label);
        let seconds = (until - now) / 1_000_000;
        tracing::warn!(upstream, server, failures, seconds, "the server is ejected");
    }

    fn end_ejection(&self) {
        if self.is_ejected.swap(false, Ordering::Relaxed) {
            let (upstream, server) = (&*self.upstream.name, &*self.label);
            tracing::info!(upstream, server, "the server is no longer ejected");
        }
    }

    /// Checks the server again and again, as `settings` say. Must run inside a local runtime.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time; what is known stays.
    pub(super) async fn run_checks(&self, dialer: &Dialer, protocol: Protocol, settings: &CheckSettings) {
        let counters = self.metrics.health_checks();
        loop {
            let result = check::run(dialer, protocol, settings).await;
            counters.count(result.is_ok());
            self.note_check(result, settings);
            tokio::time::sleep(check::jittered(settings.interval, random::fraction())).await;
        }
    }

    /// Notes the result of a check.
    fn note_check(&self, result: Result<(), CheckFault>, settings: &CheckSettings) {
        let (upstream, server) = (&*self.upstream.name, &*self.label);
        match self.checks.note(result, settings) {
            CheckChange::Down => {
                let reason = result.err().map(|fault| fault.to_string()).unwrap_or_default();
                tracing::warn!(upstream, server, reason, "the server fails its health checks");
            }
            CheckChange::Up => {
                self.begin_recovery();
                tracing::info!(upstream, server, "the server passes its health checks again");
            }
            CheckChange::None => {}
        }
    }

    /// Begins the slow start of a server that has been down. An ejection goes on.
    fn begin_recovery(&self) {
        let clock = &self.upstream.clock;
        if self.recovery.phase(clock) != Phase::Ejected {
            self.recovery.begin(clock.monotonic_micros(), self.upstream.settings.load().slow_start);
        }
    }

    /// Forgets the results of the checks: there are none any more.
    pub(super) fn forget_checks(&self) {
        self.checks.reset();
    }
}

#[cfg(test)]
mod tests;
