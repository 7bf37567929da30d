//! Health checks: one task for each server that is checked, on the control thread.
//!
//! The tasks follow the configuration and the addresses of names. A task keeps running across a
//! change that affects neither its server nor the settings of its checks.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::gateway::Runtime;
use crate::upstream::CheckSettings;
use crate::upstream::server::Server;

/// The running checks, by the id of their server.
#[derive(Debug, Default)]
pub(super) struct HealthChecks(BTreeMap<u64, RunningCheck>);

#[derive(Debug)]
struct RunningCheck {
    server: Arc<Server>,
    settings: CheckSettings,
    task: JoinHandle<()>,
}

impl HealthChecks {
    /// Starts and ends checks, so that exactly those of `runtime` run.
    pub(super) fn follow(&mut self, runtime: &Runtime) {
        let mut previous = std::mem::take(&mut self.0);
        for upstream in runtime.upstreams() {
            let Some(settings) = &upstream.settings().health.check else { continue };
            for server in upstream.servers() {
                let running = match previous.remove(&server.id()) {
                    Some(running) if running.settings == *settings => running,
                    Some(changed) => {
                        changed.task.abort();
                        RunningCheck::start(&server, settings)
                    }
                    None => RunningCheck::start(&server, settings),
                };
                self.0.insert(server.id(), running);
            }
        }
        for removed in previous.into_values() {
            removed.task.abort();
            removed.server.forget_checks();
        }
    }
}

impl RunningCheck {
    fn start(server: &Arc<Server>, settings: &CheckSettings) -> Self {
        let task = tokio::task::spawn_local(Arc::clone(server).run_checks(settings.clone()));
        Self { server: Arc::clone(server), settings: settings.clone(), task }
    }
}
