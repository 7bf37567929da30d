//! Certificate files while the gateway runs, those of `[server.tls]` and of the upstreams' `tls`:
//! uses changed ones, rejects bad ones, and warns of certificates that expire soon.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::gateway::Runtime;
use crate::primitives::clock::Clock;
use crate::telemetry::Rfc3339;
use crate::telemetry::metrics::Metrics;
use crate::tls::certificate::Expiry;
use crate::tls::client::{ClientTls, ClientTlsError};
use crate::tls::client_auth::LoadedRevocations;
use crate::tls::follow::{Contents, Follower, LookTimes};
use crate::tls::server::{LoadedCertificate, ServerTls, SettingError};
use crate::upstream::Upstream;

/// How often the log repeats that a certificate expires soon.
const WARNING_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// Follows the files of TLS that are in use.
pub(super) struct CertificateWatch {
    times: LookTimes,
    clock: Clock,
    metrics: Arc<Metrics>,
    tasks: Vec<FollowTask>,
}

/// TLS whose files are followed.
#[derive(Clone)]
enum TlsSource {
    /// `[server.tls]`.
    Server(Arc<ServerTls>),
    /// `tls` of the upstream with this name.
    Upstream(Arc<str>, Arc<ClientTls>),
}

/// The task that follows the files of one table.
struct FollowTask {
    source: TlsSource,
    /// Asks for an immediate check.
    request: Rc<Notify>,
    handle: JoinHandle<()>,
}

impl CertificateWatch {
    pub(super) fn new(times: LookTimes, clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self { times, clock, metrics, tasks: Vec::new() }
    }

    /// Follows the files that `runtime` uses from now on. Those that it follows already are checked
    /// at once, because the operator has asked for a reload.
    pub(super) fn follow(&mut self, runtime: &Runtime) {
        let server = runtime.tls().cloned().map(TlsSource::Server);
        let upstream = |upstream: &Arc<Upstream>| {
            Some(TlsSource::Upstream(Arc::clone(upstream.name()), Arc::clone(upstream.tls()?)))
        };
        let wanted = server.into_iter().chain(runtime.upstreams().iter().filter_map(upstream));
        let mut running = std::mem::take(&mut self.tasks);
        for source in wanted {
            let task = match running.iter().position(|task| task.source.is(&source)) {
                Some(index) => {
                    running[index].request.notify_one();
                    running.swap_remove(index)
                }
                None => self.start(source),
            };
            self.tasks.push(task);
        }
        for task in running {
            task.handle.abort();
        }
    }

    fn start(&self, source: TlsSource) -> FollowTask {
        let request = Rc::new(Notify::new());
        let (clock, metrics) = (self.clock.clone(), Arc::clone(&self.metrics));
        let work = run(source.clone(), self.times, clock, metrics, Rc::clone(&request));
        FollowTask { source, request, handle: tokio::task::spawn_local(work) }
    }
}

impl TlsSource {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Server(one), Self::Server(other)) => Arc::ptr_eq(one, other),
            (Self::Upstream(_, one), Self::Upstream(_, other)) => Arc::ptr_eq(one, other),
            (Self::Server(_), Self::Upstream(..)) | (Self::Upstream(..), Self::Server(_)) => false,
        }
    }

    fn follow(&self, times: LookTimes) -> Follower {
        match self {
            Self::Server(tls) => tls.follow(times),
            Self::Upstream(_, tls) => tls.follow(times),
        }
    }

    fn certificates(&self) -> Vec<LoadedCertificate> {
        match self {
            Self::Server(tls) => tls.certificates(),
            Self::Upstream(_, tls) => tls.certificate().into_iter().collect(),
        }
    }

    /// Uses `contents` for new connections.
    ///
    /// # Errors
    ///
    /// The keys whose files cannot be used, and why.
    fn replace(&self, contents: &Contents) -> Result<(), Vec<(String, String)>> {
        match self {
            Self::Server(tls) => {
                let shown = |error: SettingError| (format!("server.tls.{}", error.key), error.error.to_string());
                tls.replace(contents).map_err(|errors| errors.into_iter().map(shown).collect())
            }
            Self::Upstream(name, tls) => {
                let shown =
                    |error: ClientTlsError| (format!("upstreams.{name}.tls.{}", error.key()), error.to_string());
                tls.replace(contents).map_err(|errors| errors.into_iter().map(shown).collect())
            }
        }
    }
}

async fn run(source: TlsSource, times: LookTimes, clock: Clock, metrics: Arc<Metrics>, request: Rc<Notify>) {
    let mut follower = source.follow(times);
    let mut warning_due = Instant::now();
    loop {
        tokio::select! {
            contents = follower.changed() => use_changed(&source, &contents, &metrics),
            () = request.notified() => {
                if let Some(contents) = follower.look_now().await {
                    use_changed(&source, &contents, &metrics);
                }
            }
            () = sleep_until(warning_due) => {
                source.certificates().iter().for_each(|certificate| warn_of_expiry(certificate, &clock));
                warn_of_expired_revocations(&source, &clock);
                warning_due = Instant::now() + WARNING_INTERVAL;
            }
        }
    }
}

/// Uses the files for new connections, or reports why they cannot be used.
fn use_changed(source: &TlsSource, contents: &Contents, metrics: &Metrics) {
    let outcome = source.replace(contents);
    metrics.connections().tls().count_reload(outcome.is_ok());
    match outcome {
        Ok(()) => {
            if let TlsSource::Upstream(upstream, _) = source {
                tracing::info!(upstream = &**upstream, "files for TLS to an upstream reloaded");
            }
            if let TlsSource::Server(tls) = source
                && let Some(LoadedRevocations { file, expires }) = tls.revocations()
            {
                let expires = expires.map(|expires| tracing::field::display(Rfc3339(expires)));
                tracing::info!(file = %file, expires, "revocation lists reloaded");
            }
            for LoadedCertificate { file, facts, .. } in source.certificates() {
                let (names, expires) = (facts.names(), Rfc3339(facts.not_after));
                tracing::info!(certificate = %file, names, %expires, "certificate files reloaded");
            }
        }
        Err(errors) => {
            for (key, error) in errors {
                tracing::warn!(key, error, "changed certificate files rejected; the previous ones stay in use");
            }
        }
    }
}

/// Reports a revocation list that has expired: client certificates that it covers are refused.
fn warn_of_expired_revocations(source: &TlsSource, clock: &Clock) {
    let TlsSource::Server(tls) = source else { return };
    if let Some(lists) = tls.revocations().filter(|lists| lists.have_expired(clock.now())) {
        tracing::error!(file = %lists.file, "a revocation list has expired; client certificates that it covers are refused");
    }
}

fn warn_of_expiry(certificate: &LoadedCertificate, clock: &Clock) {
    let LoadedCertificate { file, facts, .. } = certificate;
    let (names, expires) = (facts.names(), Rfc3339(facts.not_after));
    match certificate.expiry(clock.now()) {
        Expiry::Distant => {}
        Expiry::Expired => tracing::error!(certificate = %file, names, %expires, "a certificate has expired"),
        Expiry::Soon { days_left } => {
            tracing::warn!(certificate = %file, names, %expires, days_left, "a certificate expires soon");
        }
    }
}
