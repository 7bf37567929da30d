//! Loading: everything of a start or a reload that reads files, on a thread of its own.
//!
//! A file may be on a file system that does not answer. The control thread must not wait for it: it
//! refreshes keys, and a signal to stop must work whatever the state of the disks is.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use super::StartError;
use super::threads::spawn_thread;
use crate::gateway::Runtime;
use crate::plan::Plan;
use crate::primitives::blocking::{BlockingWork, NotAnswering};

/// How long reading all files of a configuration may take.
const LOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Most loads at a time. Only loads whose file system does not answer are ever concurrent. Several
/// are allowed, so that a configuration without the file in question can still be loaded.
const MAX_LOADS: usize = 4;

/// A configuration that is ready to be used.
pub(super) struct Loaded {
    pub(super) plan: Plan,
    pub(super) runtime: Arc<Runtime>,
}

/// Starts loads, and bounds their number.
#[derive(Debug)]
pub(super) struct Loader(BlockingWork);

/// A load that has begun, and where its outcome goes.
pub(super) struct Loading<R> {
    pub(super) replies: Vec<R>,
    outcome: Pin<Box<dyn Future<Output = Result<Loaded, StartError>>>>,
}

impl Loader {
    pub(super) fn new() -> Self {
        Self(BlockingWork::new(MAX_LOADS, LOAD_TIMEOUT))
    }

    /// Begins a load, of which `replies` await the outcome.
    pub(super) fn begin<R>(
        &self,
        replies: Vec<R>,
        load: impl FnOnce() -> Result<Loaded, StartError> + Send + 'static,
    ) -> Loading<R> {
        let work = self.0.clone();
        let outcome = async move { work.run(load).await.map_err(StartError::from).and_then(|loaded| loaded) };
        Loading { replies, outcome: Box::pin(outcome) }
    }
}

impl<R> Loading<R> {
    /// The outcome of the load in `loading`, which it empties; never, if there is none.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time; the load stays where it is.
    pub(super) async fn finished(loading: &mut Option<Self>) -> (Vec<R>, Result<Loaded, StartError>) {
        let Some(current) = loading else { return std::future::pending().await };
        let outcome = current.outcome.as_mut().await;
        let replies = std::mem::take(&mut current.replies);
        *loading = None;
        (replies, outcome)
    }
}

/// The result of `load`, at the start of the process, when nothing else runs yet.
pub(super) fn load_at_start<T: Send + 'static>(load: impl FnOnce() -> T + Send + 'static) -> Result<T, StartError> {
    let (sender, result) = mpsc::sync_channel(1);
    // An error means that the deadline has passed.
    spawn_thread("load", move || drop(sender.send(load()))).map_err(StartError::Thread)?;
    result.recv_timeout(LOAD_TIMEOUT).map_err(|_| NotAnswering.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A load that waits for a message, and then fails.
    fn stuck() -> (mpsc::Sender<()>, impl FnOnce() -> Result<Loaded, StartError> + Send + 'static) {
        let (sender, receiver) = mpsc::channel();
        (sender, move || {
            let _ = receiver.recv();
            Err(StartError::Stopping)
        })
    }

    #[tokio::test]
    async fn a_load_that_does_not_return_ends_with_the_deadline_and_others_go_on() {
        let loader = Loader(BlockingWork::new(MAX_LOADS, Duration::from_millis(20)));
        let mut senders = Vec::new();
        for number in 0..MAX_LOADS {
            let (sender, load) = stuck();
            senders.push(sender);
            let mut loading = Some(loader.begin(vec![number], load));
            let (replies, outcome) = Loading::finished(&mut loading).await;
            assert!(replies == [number] && loading.is_none());
            assert!(matches!(outcome, Err(StartError::NotAnswering(_))));
        }
        let (_sender, load) = stuck();
        let (_, outcome) = Loading::finished(&mut Some(loader.begin(vec![0], load))).await;
        assert!(matches!(outcome, Err(StartError::NotAnswering(_))), "too many are stuck");
    }

    #[tokio::test]
    async fn whoever_waits_for_a_load_may_stop_and_wait_again() {
        let (sender, load) = stuck();
        let mut loading = Some(Loader::new().begin(vec!['a'], load));
        tokio::select! {
            biased;
            _ = Loading::finished(&mut loading) => panic!("it is stuck"),
            () = std::future::ready(()) => {}
        }
        sender.send(()).unwrap();
        let (replies, outcome) = Loading::finished(&mut loading).await;
        assert!(replies == ['a'] && matches!(outcome, Err(StartError::Stopping)));
    }
}
