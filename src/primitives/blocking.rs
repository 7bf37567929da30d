//! Blocking work with a deadline: calls into the operating system that may never return.
//!
//! A read from a network file system that has lost its server, or from a pipe that nothing is
//! written to, cannot be interrupted. It therefore runs on a thread of its own, and the caller
//! waits only so long. A thread whose work has not ended keeps its place, so that the number of
//! stuck threads is bounded.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Runs blocking work with a deadline, and a bounded number of pieces at a time.
#[derive(Clone, Debug)]
pub(crate) struct BlockingWork {
    places: Arc<Semaphore>,
    timeout: Duration,
}

/// The work has not been done in time: it does not return, or earlier work has not returned yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the file system does not answer")]
pub struct NotAnswering;

impl BlockingWork {
    /// At most `places` pieces of work at a time, of which each may take `timeout`.
    pub(crate) fn new(places: usize, timeout: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), timeout }
    }

    /// The result of `work`, which runs on another thread.
    ///
    /// # Errors
    ///
    /// [`NotAnswering`]. The work may still be running then, and its result is dropped.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time; work that has begun continues.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotAnswering> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| NotAnswering)?;
        let task = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(place);
            result
        });
        match timeout(self.timeout, task).await {
            Ok(Ok(result)) => Ok(result),
            // The work panicked, or the process stops.
            Ok(Err(_)) | Err(_) => Err(NotAnswering),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_that_does_not_return_ends_with_the_deadline_and_keeps_its_place() {
        let work = BlockingWork::new(2, Duration::from_millis(20));
        assert_eq!(work.run(|| 7).await, Ok(7));
        let stuck: Vec<mpsc::Sender<()>> = {
            let mut senders = Vec::new();
            for _ in 0..2 {
                let (sender, receiver) = mpsc::channel();
                assert_eq!(work.run(move || receiver.recv().is_ok()).await, Err(NotAnswering));
                senders.push(sender);
            }
            senders
        };
        let patient = BlockingWork { timeout: Duration::from_secs(60), ..work };
        assert_eq!(patient.run(|| 7).await, Err(NotAnswering), "both places are taken");
        drop(stuck);
        while patient.places.available_permits() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(patient.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn work_that_panics_gives_its_place_back() {
        let work = BlockingWork::new(1, Duration::from_secs(60));
        assert_eq!(work.run(|| -> u8 { panic!("on purpose") }).await, Err(NotAnswering));
        assert_eq!(work.run(|| 7).await, Ok(7));
    }
}
