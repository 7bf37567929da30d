//! The certificates of `[server.tls]` while the gateway runs: uses changed files, keeps bad ones
//! out, and warns of certificates that expire soon.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::primitives::clock::Clock;
use crate::telemetry::Rfc3339;
use crate::telemetry::metrics::Metrics;
use crate::tls::certificate::Expiry;
use crate::tls::follow::{Contents, LookTimes};
use crate::tls::server::{LoadedCertificate, ServerTls};

/// How often the log repeats that a certificate expires soon.
const WARNING_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// Follows the files of the certificates in use.
pub(super) struct CertificateWatch {
    times: LookTimes,
    clock: Clock,
    metrics: Arc<Metrics>,
    task: Option<FollowTask>,
}

/// The task that follows the files of one [`ServerTls`].
struct FollowTask {
    tls: Arc<ServerTls>,
    /// Asks for a look at once.
    request: Rc<Notify>,
    handle: JoinHandle<()>,
}

impl CertificateWatch {
    pub(super) fn new(times: LookTimes, clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self { times, clock, metrics, task: None }
    }

    /// Follows the files of `tls` from now on. If it follows them already, it looks at them at
    /// once: the operator has asked for a reload.
    pub(super) fn follow(&mut self, tls: Option<&Arc<ServerTls>>) {
        match (&self.task, tls) {
            (Some(task), Some(tls)) if Arc::ptr_eq(&task.tls, tls) => task.request.notify_one(),
            (Some(_) | None, tls) => {
                if let Some(task) = self.task.take() {
                    task.handle.abort();
                }
                self.task = tls.map(|tls| self.start(Arc::clone(tls)));
            }
        }
    }

    fn start(&self, tls: Arc<ServerTls>) -> FollowTask {
        let request = Rc::new(Notify::new());
        let work =
            run(Arc::clone(&tls), self.times, self.clock.clone(), Arc::clone(&self.metrics), Rc::clone(&request));
        FollowTask { tls, request, handle: tokio::task::spawn_local(work) }
    }
}

async fn run(tls: Arc<ServerTls>, times: LookTimes, clock: Clock, metrics: Arc<Metrics>, request: Rc<Notify>) {
    let mut follower = tls.follow(times);
    let mut warning_due = Instant::now();
    loop {
        tokio::select! {
            contents = follower.changed() => use_changed(&tls, &contents, &metrics),
            () = request.notified() => {
                if let Some(contents) = follower.look_now().await {
                    use_changed(&tls, &contents, &metrics);
                }
            }
            () = sleep_until(warning_due) => {
                tls.certificates().iter().for_each(|certificate| warn_of_expiry(certificate, &clock));
                warning_due = Instant::now() + WARNING_INTERVAL;
            }
        }
    }
}

/// Uses the files for new connections, or reports why they cannot be used.
fn use_changed(tls: &ServerTls, contents: &Contents, metrics: &Metrics) {
    let outcome = tls.replace(contents);
    metrics.connections().tls().count_reload(outcome.is_ok());
    match outcome {
        Ok(()) => {
            for LoadedCertificate { file, facts } in tls.certificates() {
                let (names, expires) = (facts.names(), Rfc3339(facts.not_after));
                tracing::info!(certificate = %file, names, %expires, "certificate files reloaded");
            }
        }
        Err(errors) => {
            for error in errors {
                let (key, error) = (format!("server.tls.{}", error.key), error.error);
                tracing::warn!(key, %error, "changed certificate files rejected; the previous ones stay in use");
            }
        }
    }
}

fn warn_of_expiry(LoadedCertificate { file, facts }: &LoadedCertificate, clock: &Clock) {
    let (names, expires) = (facts.names(), Rfc3339(facts.not_after));
    match facts.expiry(clock.now()) {
        Expiry::Distant => {}
        Expiry::Expired => tracing::error!(certificate = %file, names, %expires, "a certificate has expired"),
        Expiry::Soon { days_left } => {
            tracing::warn!(certificate = %file, names, %expires, days_left, "a certificate expires soon");
        }
    }
}
