//! The control thread: refreshes keys, follows and obtains certificates, checks servers, reloads
//! the configuration and drains.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::acme::AcmeTask;
use super::certificates::CertificateWatch;
use super::health_checks::HealthChecks;
use super::loading::{Loaded, Loader, Loading};
use super::readiness::ReadinessState;
use super::service_manager::{ServiceManager, ServiceState};
use super::sockets::SocketFiles;
use super::source::{self, Environment, Look};
use super::takeover::{Offer, RunningOffer};
use super::threads::RunningWorkers;
use super::watch::{Finding, Watch};
use super::{StartError, apply_log_settings, block_on_local, file_descriptors};
use crate::downstream::connection_limits::{ConnectionLimits, Maximum};
use crate::gateway::CurrentRuntime;
use crate::plan::Plan;
use crate::plan::adopt::Adopter;
use crate::primitives::clock::Clock;
use crate::primitives::shutdown::{Phase, Shutdown, Trigger};
use crate::resolver::Resolver;
use crate::telemetry::metrics::Metrics;
use crate::tls;

/// A request to the control thread.
#[derive(Debug)]
pub(super) enum Command {
    /// Drain, then stop.
    Drain,
    /// Reload the configuration, and send the outcome.
    Reload(ReloadReply),
    /// Let a new process take over the listening sockets.
    Offer(Offer),
}

/// Where the outcome of a reload goes.
pub(super) type ReloadReply = blocking::SyncSender<Result<(), Arc<StartError>>>;

/// The state of the control thread.
pub(super) struct Control {
    pub(super) watch: Watch,
    pub(super) environment: Environment,
    pub(super) plan: Plan,
    pub(super) adopter: Arc<Adopter>,
    pub(super) loader: Loader,
    pub(super) runtime: Arc<CurrentRuntime>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    pub(super) connection_limits: Arc<ConnectionLimits>,
    /// The limit on open files; `None`: there is none.
    pub(super) descriptor_limit: Option<usize>,
    pub(super) socket_files: SocketFiles,
    /// Tells the admin listener to stop, also when this is dropped.
    pub(super) admin: Trigger,
    pub(super) workers: RunningWorkers,
    pub(super) service_manager: ServiceManager,
    pub(super) trigger: Arc<Trigger>,
    pub(super) readiness: Arc<ReadinessState>,
    /// When certificate files are read to find changes.
    pub(super) certificate_looks: tls::follow::LookTimes,
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
        let mut certificates =
            CertificateWatch::new(self.certificate_looks, self.clock.clone(), Arc::clone(&self.metrics));
        certificates.follow(&self.runtime.load());
        let tls_metrics = self.metrics.connections().tls().clone();
        let mut acme = AcmeTask::new(self.clock.clone(), tls_metrics, self.certificate_looks.interval);
        acme.follow(self.plan.server.acme.as_ref(), self.runtime.load().tls());
        let mut checks = HealthChecks::default();
        let names = Resolver::system().changes();
        let mut seen_names = names.count();
        checks.follow(&self.runtime.load());
        let mut shutdown_signal = shutdown.clone();
        let mut draining = false;
        let mut offer = RunningOffer::none();
        let mut waiting: Vec<ReloadReply> = Vec::new();
        let mut loading = None;
        loop {
            tokio::select! {
                () = shutdown_signal.reached(Phase::Stopped) => return,
                Some(command) = inbox.recv() => match command {
                    Command::Reload(reply) => {
                        waiting.push(reply);
                        self.watch.request();
                    }
                    Command::Offer(_) | Command::Drain if draining => {}
                    Command::Offer(offered) => offer = offered.start(),
                    Command::Drain => {
                        draining = true;
                        if offer.is_being_taken() {
                            // The new process needs the files. This one can no longer learn whether
                            // it becomes ready.
                            self.socket_files.leave();
                        }
                        offer = RunningOffer::none();
                        acme.stop();
                        self.drain();
                    }
                },
                () = offer.taken(), if !draining => {
                    draining = true;
                    self.hand_over();
                }
                seen = names.changed_since(seen_names) => {
                    seen_names = seen;
                    checks.follow(&self.runtime.load());
                }
                finding = self.watch.next(), if loading.is_none() => {
                    let replies = std::mem::take(&mut waiting);
                    match finding {
                        Finding::Load(look) => loading = Some(self.begin_reload(look, replies)),
                        Finding::Unsettled => answer(replies, &self.conclude(Err(StartError::Unsettled))),
                    }
                }
                (replies, loaded) = Loading::finished(&mut loading) => {
                    let outcome = loaded.and_then(|loaded| self.swap_in(loaded));
                    if outcome.is_ok() {
                        self.refresh_keys(&mut tasks, &shutdown);
                        certificates.follow(&self.runtime.load());
                        if !draining {
                            acme.follow(self.plan.server.acme.as_ref(), self.runtime.load().tls());
                        }
                        checks.follow(&self.runtime.load());
                    }
                    answer(replies, &self.conclude(outcome));
                }
            }
        }
    }

    /// Begins to compile and adopt what a look has found. Changes nothing yet.
    fn begin_reload(&self, look: Look, replies: Vec<ReloadReply>) -> Loading<ReloadReply> {
        self.service_manager.notify(ServiceState::Reloading);
        let (source, environment) = (self.watch.source().clone(), Arc::clone(&self.environment));
        let (adopter, previous) = (Arc::clone(&self.adopter), self.runtime.load_full());
        let current = self.plan.clone();
        self.loader.begin(replies, move || {
            let plan = source::compile(&source, &look, &environment)?;
            if let Some(changed) = current.needs_restart(&plan) {
                return Err(StartError::NeedsRestart(changed));
            }
            let runtime = adopter.adopt(&plan, Some(&previous))?;
            Ok(Loaded { plan, runtime })
        })
    }

    /// Swaps in what has been loaded. Changes nothing if a step fails.
    fn swap_in(&mut self, Loaded { plan, runtime }: Loaded) -> Result<(), StartError> {
        let possible = file_descriptors::max_connections(&plan, self.descriptor_limit)?;
        apply_log_settings(plan.log)?;
        runtime.issuers().take_over(self.runtime.load().issuers());
        for upstream in runtime.upstreams() {
            upstream.begin_use();
        }
        self.runtime.replace(runtime);
        self.connection_limits.resize(Maximum { configured: plan.server.max_connections, possible });
        self.plan = plan;
        Ok(())
    }

    /// Counts and logs the outcome of a reload, and makes it ready for all who wait for it.
    fn conclude(&self, outcome: Result<(), StartError>) -> Result<(), Arc<StartError>> {
        self.metrics.count_reload(outcome.is_ok());
        self.service_manager.notify(ServiceState::Ready);
        match &outcome {
            Ok(()) => {
                self.metrics.set_config_loaded(self.clock.now());
                tracing::info!("configuration reloaded");
            }
            Err(error) => tracing::warn!(%error, "configuration rejected; the previous one stays in use"),
        }
        outcome.map_err(Arc::new)
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
    fn drain(&mut self) {
        self.drain_after(self.plan.server.drain_delay);
    }

    /// Drains and stops, because a new process has taken over the listening sockets.
    fn hand_over(&mut self) {
        self.socket_files.leave();
        // The new process serves the admin listener from now on.
        self.admin.advance(Phase::Draining);
        self.drain_after(Duration::ZERO);
    }

    fn drain_after(&mut self, delay: Duration) {
        let timeout = self.plan.server.drain_timeout;
        let trigger = Arc::clone(&self.trigger);
        let workers = std::mem::take(&mut self.workers);
        let socket_files = self.socket_files.clone();
        self.readiness.drain();
        self.service_manager.notify(ServiceState::Stopping);
        tracing::info!(?delay, ?timeout, "draining");
        tokio::task::spawn_local(async move {
            tokio::time::sleep(delay).await;
            // Before the listeners close: a client then finds no file, rather than one that refuses
            // connections.
            socket_files.remove();
            trigger.advance(Phase::Draining);
            // A worker ends when it accepts no more connections and its last one is closed. The
            // number of open connections would miss one that a worker is just about to serve.
            let _ = tokio::time::timeout(timeout, workers.ended()).await;
            trigger.advance(Phase::Stopped);
        });
    }
}

/// Tells the outcome of a reload to those who wait for it.
fn answer(replies: Vec<ReloadReply>, outcome: &Result<(), Arc<StartError>>) {
    for reply in replies {
        // An error means that the caller has stopped waiting.
        let _ = reply.send(outcome.clone());
    }
}
