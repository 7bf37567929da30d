//! Threads of the gateway, and the single-threaded runtime that each of them runs.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use tokio::runtime::LocalOptions;
use tokio::sync::mpsc;

use super::StartError;
use crate::primitives::shutdown::{Phase, Trigger};

/// The worker threads that run.
#[derive(Debug, Default)]
pub(super) struct RunningWorkers(Option<mpsc::Receiver<Infallible>>);

/// Held by a worker thread while it runs.
#[derive(Clone, Debug)]
pub(super) struct RunningWorker {
    /// Never sent to. Dropped with the last worker, which completes [`RunningWorkers::ended`].
    _sender: mpsc::Sender<Infallible>,
}

impl RunningWorkers {
    /// What each worker holds while it runs, and what waits for the end of all workers.
    pub(super) fn new() -> (RunningWorker, Self) {
        let (sender, receiver) = mpsc::channel(1);
        (RunningWorker { _sender: sender }, Self(Some(receiver)))
    }

    /// Waits until no worker runs any more.
    pub(super) async fn ended(self) {
        if let Some(mut receiver) = self.0 {
            let _ = receiver.recv().await;
        }
    }
}

/// The threads started so far. Stops them when dropped before [`ThreadGroup::into_handles`], so
/// that a failed start leaves nothing running.
pub(super) struct ThreadGroup {
    trigger: Arc<Trigger>,
    handles: Vec<JoinHandle<()>>,
}

impl ThreadGroup {
    pub(super) fn new(trigger: Arc<Trigger>) -> Self {
        Self { trigger, handles: Vec::new() }
    }

    pub(super) fn start(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
        self.handles.push(spawn_thread(name, work).map_err(StartError::Thread)?);
        Ok(())
    }

    /// The handles of all threads, which keep running.
    pub(super) fn into_handles(mut self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.handles)
    }
}

impl Drop for ThreadGroup {
    fn drop(&mut self) {
        if !self.handles.is_empty() {
            self.trigger.advance(Phase::Stopped);
        }
    }
}

/// Starts a named thread.
pub(crate) fn spawn_thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.to_owned()).spawn(work)
}

/// Runs `work` on a single-threaded runtime on the current thread. Its tasks never leave the
/// thread, so they need not be `Send`.
pub(crate) fn block_on_local<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .expect("the operating system provides an event queue");
    let result = runtime.block_on(work);
    // Drops tunnels and connections that are still open, and does not wait for DNS lookups in
    // blocking threads.
    runtime.shutdown_background();
    result
}
