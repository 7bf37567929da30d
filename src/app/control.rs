//! The control thread: refreshes keys, reloads the configuration and drains.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::readiness::ReadinessState;
use super::source::{self, Environment, Look};
use super::watch::{Finding, Watch};
use super::{StartError, apply_log_settings, block_on_local, file_descriptors};
use crate::downstream::connection_limits::{ConnectionLimits, Maximum};
use crate::gateway::CurrentRuntime;
use crate::plan::Plan;
use crate::plan::adopt::Adopter;
use crate::primitives::clock::Clock;
use crate::primitives::shutdown::{Phase, Shutdown, Trigger};
use crate::telemetry::metrics::Metrics;

/// A request to the control thread.
#[derive(Debug)]
pub(super) enum Command {
    /// Drain, then stop.
    Drain,
    /// Reload the configuration, and send the outcome.
    Reload(ReloadReply),
}

/// Where the outcome of a reload goes.
pub(super) type ReloadReply = blocking::SyncSender<Result<(), Arc<StartError>>>;

/// The state of the control thread.
pub(super) struct Control {
    pub(super) watch: Watch,
    pub(super) environment: Environment,
    pub(super) plan: Plan,
    pub(super) adopter: Adopter,
    pub(super) runtime: Arc<CurrentRuntime>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    pub(super) connection_limits: Arc<ConnectionLimits>,
    /// The limit on open files; `None`: there is none.
    pub(super) descriptor_limit: Option<usize>,
    pub(super) trigger: Arc<Trigger>,
    pub(super) readiness: Arc<ReadinessState>,
}

/// The running refresh tasks, by the address of their key store.
type RefreshTasks = BTreeMap<usize, JoinHandle<()>>;

impl Control {
    pub(super) fn run(mut self, inbox: mpsc::UnboundedReceiver<Command>, shutdown: Shutdown) {
        block_on_local(async move { self.serve(inbox, shutdown).await });
    }

    async fn serve(&mut self, mut inbox: mpsc::UnboundedReceiver<Command>, shutdown: Shutdown) {
        let mut tasks = RefreshTasks::new();
        self.refresh_keys(&mut tasks, &shutdown);
        let mut shutdown_signal = shutdown.clone();
        let mut draining = false;
        let mut waiting: Vec<ReloadReply> = Vec::new();
        loop {
            tokio::select! {
                () = shutdown_signal.reached(Phase::Stopped) => return,
                Some(command) = inbox.recv() => match command {
                    Command::Reload(reply) => {
                        waiting.push(reply);
                        self.watch.request();
                    }
                    Command::Drain if draining => {}
                    Command::Drain => {
                        draining = true;
                        self.drain();
                    }
                },
                finding = self.watch.next() => {
                    let outcome = self.reload(finding, &mut tasks, &shutdown).map_err(Arc::new);
                    for reply in waiting.drain(..) {
                        // An error means that the caller has stopped waiting.
                        let _ = reply.send(outcome.clone());
                    }
                }
            }
        }
    }

    /// Compiles and adopts the configuration, and swaps it in. Changes nothing if a step fails.
    fn reload(&mut self, finding: Finding, tasks: &mut RefreshTasks, shutdown: &Shutdown) -> Result<(), StartError> {
        let outcome = match finding {
            Finding::Load(look) => self.try_reload(&look),
            Finding::Unsettled => Err(StartError::Unsettled),
        };
        self.metrics.count_reload(outcome.is_ok());
        match &outcome {
            Ok(()) => {
                self.metrics.set_config_loaded(self.clock.now());
                self.refresh_keys(tasks, shutdown);
                tracing::info!("configuration reloaded");
            }
            Err(error) => tracing::warn!(%error, "configuration rejected; the previous one stays in use"),
        }
        outcome
    }

    fn try_reload(&mut self, look: &Look) -> Result<(), StartError> {
        let plan = source::compile(self.watch.source(), look, &self.environment)?;
        if let Some(changed) = self.plan.needs_restart(&plan) {
            return Err(StartError::NeedsRestart(changed));
        }
        let possible = file_descriptors::max_connections(&plan, self.descriptor_limit)?;
        let next = self.adopter.adopt(&plan, Some(&self.runtime.load_full()))?;
        apply_log_settings(plan.log)?;
        next.issuers().take_over(self.runtime.load().issuers());
        self.runtime.replace(next);
        self.connection_limits.resize(Maximum { configured: plan.server.max_connections, possible });
        self.plan = plan;
        Ok(())
    }

    /// Starts a refresh task for each key store without one, and aborts the tasks of removed
    /// stores.
    fn refresh_keys(&self, tasks: &mut RefreshTasks, shutdown: &Shutdown) {
        let runtime = self.runtime.load();
        let mut running = RefreshTasks::new();
        for verifier in runtime.issuers().iter() {
            let store = Arc::clone(verifier.keys());
            let address = Arc::as_ptr(&store).addr();
            let handle =
                tasks.remove(&address).unwrap_or_else(|| tokio::task::spawn_local(store.run(shutdown.clone())));
            running.insert(address, handle);
        }
        for removed in std::mem::replace(tasks, running).into_values() {
            removed.abort();
        }
    }

    /// Reports that the gateway is not ready, waits until load balancers have noticed, lets
    /// connections finish, and stops.
    fn drain(&self) {
        let (delay, timeout) = (self.plan.server.drain_delay, self.plan.server.drain_timeout);
        let trigger = Arc::clone(&self.trigger);
        let open = self.metrics.connections().open().clone();
        self.readiness.drain();
        tracing::info!(?delay, ?timeout, "draining");
        tokio::task::spawn_local(async move {
            /// Coarse, because only the end of the process depends on it.
            const POLL_INTERVAL: Duration = Duration::from_millis(20);
            tokio::time::sleep(delay).await;
            trigger.advance(Phase::Draining);
            let all_closed = async {
                while open.value() > 0 {
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
            };
            let _ = tokio::time::timeout(timeout, all_closed).await;
            trigger.advance(Phase::Stopped);
        });
    }
}
