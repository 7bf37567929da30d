//! The control thread: key refresh, reload, drain.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::readiness::Ready;
use super::source::{self, ConfigSource, Environment};
use super::{StartError, apply_log_level, block_on_local};
use crate::gateway::Runtime;
use crate::plan::Plan;
use crate::plan::adopt::Adopter;
use crate::primitives::clock::Clock;
use crate::primitives::shutdown::{Phase, Shutdown, Trigger};
use crate::telemetry::metrics::Metrics;

/// What the control thread is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Leave, in good order.
    Drain,
    /// Read the configuration again; the outcome goes to the sender.
    Reload(blocking::SyncSender<Result<(), StartError>>),
}

/// What the control thread looks after.
pub(super) struct Control {
    pub(super) source: ConfigSource,
    pub(super) environment: Environment,
    pub(super) look_every: Duration,
    pub(super) text_hash: Option<u64>,
    pub(super) plan: Plan,
    pub(super) adopter: Adopter,
    pub(super) runtime: Arc<ArcSwap<Runtime>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    pub(super) slots: Arc<Semaphore>,
    pub(super) trigger: Arc<Trigger>,
    pub(super) ready: Arc<Ready>,
}

/// The refresh loops that run, by the address of their key store.
type Loops = BTreeMap<usize, JoinHandle<()>>;

impl Control {
    pub(super) fn run(mut self, inbox: mpsc::UnboundedReceiver<Command>, shutdown: Shutdown) {
        block_on_local(async move { self.serve(inbox, shutdown).await });
    }

    async fn serve(&mut self, mut inbox: mpsc::UnboundedReceiver<Command>, shutdown: Shutdown) {
        let mut loops = Loops::new();
        self.refresh_keys(&mut loops, &shutdown);
        let mut look = tokio::time::interval_at(Instant::now() + self.look_every, self.look_every);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopped = shutdown.clone();
        let mut draining = false;
        loop {
            tokio::select! {
                () = stopped.reached(Phase::Stopped) => return,
                Some(command) = inbox.recv() => match command {
                    Command::Reload(reply) => {
                        let outcome = self.reload(&mut loops, &shutdown);
                        // Whoever asked may have left.
                        let _ = reply.send(outcome);
                    }
                    Command::Drain if draining => {}
                    Command::Drain => {
                        draining = true;
                        self.drain();
                    }
                },
                _ = look.tick() => self.reload_if_changed(&mut loops, &shutdown),
            }
        }
    }

    fn reload_if_changed(&mut self, loops: &mut Loops, shutdown: &Shutdown) {
        let hash = source::content_hash(&self.source);
        // A file that cannot be read at the moment is being replaced, or will be noticed at the next start.
        if hash.is_some() && hash != self.text_hash {
            // Reported and counted inside.
            let _ = self.reload(loops, shutdown);
        }
    }

    /// All or nothing: read, compile, adopt, swap.
    fn reload(&mut self, loops: &mut Loops, shutdown: &Shutdown) -> Result<(), StartError> {
        // A file that is kept out is told of once, not at every look.
        self.text_hash = source::content_hash(&self.source);
        let outcome = self.try_reload();
        self.metrics.count_reload(outcome.is_ok());
        match &outcome {
            Ok(()) => {
                self.metrics.set_config_loaded(self.clock.now());
                self.refresh_keys(loops, shutdown);
                tracing::info!("configuration reloaded");
            }
            Err(error) => tracing::warn!(%error, "configuration kept out; the previous one keeps serving"),
        }
        outcome
    }

    fn try_reload(&mut self) -> Result<(), StartError> {
        let loaded = source::load(&self.source, &self.environment)?;
        if let Some(changed) = self.plan.needs_restart(&loaded.plan) {
            return Err(StartError::NeedsRestart(changed));
        }
        let next = self.adopter.adopt(&loaded.plan, Some(&self.runtime.load_full()))?;
        self.runtime.store(next);
        self.resize(loaded.plan.server.max_connections);
        apply_log_level(loaded.plan.log);
        self.plan = loaded.plan;
        Ok(())
    }

    /// Connections that are open beyond a smaller maximum stay; their permits are kept back as they close.
    fn resize(&self, max_connections: usize) {
        let before = self.plan.server.max_connections;
        if max_connections > before {
            self.slots.add_permits(max_connections - before);
        } else if let Ok(fewer) = u32::try_from(before - max_connections)
            && fewer > 0
        {
            let slots = Arc::clone(&self.slots);
            tokio::task::spawn_local(async move {
                if let Ok(permits) = slots.acquire_many(fewer).await {
                    permits.forget();
                }
            });
        }
    }

    /// Starts a loop for each key store that has none; ends those of stores that are gone.
    fn refresh_keys(&self, loops: &mut Loops, shutdown: &Shutdown) {
        let runtime = self.runtime.load();
        let mut running = Loops::new();
        for verifier in runtime.issuers().iter() {
            let store = Arc::clone(verifier.keys());
            let address = Arc::as_ptr(&store).addr();
            let handle =
                loops.remove(&address).unwrap_or_else(|| tokio::task::spawn_local(store.run(shutdown.clone())));
            running.insert(address, handle);
        }
        for gone in std::mem::replace(loops, running).into_values() {
            gone.abort();
        }
    }

    /// Not ready; wait until balancers have noticed; let connections finish; stop.
    fn drain(&self) {
        let (delay, timeout) = (self.plan.server.drain_delay, self.plan.server.drain_timeout);
        let trigger = Arc::clone(&self.trigger);
        let open = self.metrics.connections_open().clone();
        self.ready.drain();
        tracing::info!(?delay, ?timeout, "draining");
        tokio::task::spawn_local(async move {
            /// A coarse look suffices: nothing but the end of the process waits for it.
            const LOOK_EVERY: Duration = Duration::from_millis(20);
            tokio::time::sleep(delay).await;
            trigger.advance(Phase::Draining);
            let all_closed = async {
                while open.value() > 0 {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            };
            let _ = tokio::time::timeout(timeout, all_closed).await;
            trigger.advance(Phase::Stopped);
        });
    }
}
