//! ACME: the task that obtains and renews certificates, on the control thread.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::acme::AcmeSettings;
use crate::acme::renewal::Renewal;
use crate::primitives::clock::Clock;
use crate::telemetry::metrics::TlsMetrics;
use crate::tls::server::ServerTls;

/// Wait before the task is started again after a panic, so that what caused it costs little.
const RESTART_PAUSE: Duration = Duration::from_secs(60 * 60);

/// Runs the task while `[server.tls.acme]` is configured.
pub(super) struct AcmeTask {
    clock: Clock,
    metrics: TlsMetrics,
    look_interval: Duration,
    running: Option<RunningTask>,
}

struct RunningTask {
    settings: AcmeSettings,
    tls: Arc<ServerTls>,
    /// Asks the task to read the state directory and place due orders at once.
    request: Rc<Notify>,
    handle: JoinHandle<()>,
}

impl AcmeTask {
    /// No task runs yet. A task looks for due orders every `look_interval`.
    pub(super) fn new(clock: Clock, metrics: TlsMetrics, look_interval: Duration) -> Self {
        Self { clock, metrics, look_interval, running: None }
    }

    /// From now on, obtains the certificates of `settings` and uses them with `tls`. If the running
    /// task already does so, it goes on, and looks for due orders at once because the operator has
    /// asked for a reload. Otherwise it is aborted, with any order in progress.
    pub(super) fn follow(&mut self, settings: Option<&AcmeSettings>, tls: Option<&Arc<ServerTls>>) {
        let Some((settings, tls)) = settings.zip(tls) else { return self.stop() };
        if let Some(running) = &self.running
            && running.settings == *settings
            && Arc::ptr_eq(&running.tls, tls)
        {
            running.request.notify_one();
            return;
        }
        self.stop();
        let request = Rc::new(Notify::new());
        let renewal = Renewal {
            settings: settings.clone(),
            tls: Arc::clone(tls),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            look_interval: self.look_interval,
            request: Rc::clone(&request),
            replace_not_before: Rc::default(),
        };
        let handle = tokio::task::spawn_local(keep_running(renewal));
        self.running = Some(RunningTask { settings: settings.clone(), tls: Arc::clone(tls), request, handle });
    }

    /// Ends the task at once. The process that takes over can then place orders.
    pub(super) fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.handle.abort();
        }
    }
}

/// Runs the task, and again after a panic: the library reads what an ACME server sends.
async fn keep_running(renewal: Renewal) {
    loop {
        // Aborts the task when it is dropped.
        let mut task = JoinSet::new();
        task.spawn_local(renewal.clone().run());
        let _ = task.join_next().await;
        let restarts_in = RESTART_PAUSE.as_secs();
        tracing::error!(restarts_in, "the task that renews certificates has panicked; it is restarted after a pause");
        renewal.metrics.count_order(false);
        sleep(RESTART_PAUSE).await;
    }
}
