//! Local executor: runs hyper's background tasks for HTTP/2 on the thread of the worker that owns
//! the connection.
//!
//! A worker's connections are not `Send`, so the tasks that hyper starts for them must not leave
//! the thread.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;

use hyper::rt::Executor;
use tokio::sync::Notify;

/// Runs each task on the thread that submits it, which must be inside a local runtime.
#[derive(Clone, Debug)]
pub(crate) struct LocalExecutor {
    progress: Rc<Notify>,
}

impl LocalExecutor {
    /// An executor that notifies `progress` after each poll of one of its tasks.
    ///
    /// hyper has no event for the arrival of the peer's SETTINGS: they are known once a task has
    /// read them, so a caller that waits for them checks after each poll.
    #[must_use]
    pub(crate) fn notifying(progress: Rc<Notify>) -> Self {
        Self { progress }
    }
}

impl<F: Future<Output = ()> + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        let progress = Rc::clone(&self.progress);
        tokio::task::spawn_local(async move {
            let mut task = pin!(task);
            poll_fn(|cx| {
                let polled = task.as_mut().poll(cx);
                progress.notify_waiters();
                polled
            })
            .await;
        });
    }
}
