//! Where the tasks of an HTTP/2 connection run: on its worker's thread, like everything else about it.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;

use hyper::rt::Executor;
use tokio::sync::Notify;

/// Runs a task on the thread that asks for it, which must be in a runtime of local tasks.
#[derive(Clone, Debug, Default)]
pub struct LocalExecutor {
    tells: Option<Rc<Notify>>,
}

impl LocalExecutor {
    /// One that tells whenever one of its tasks has moved. What a peer's settings say is known only after a task has read them, and hyper
    /// has no event for it.
    #[must_use]
    pub fn notifying(moved: Rc<Notify>) -> Self {
        Self { tells: Some(moved) }
    }
}

impl<F: Future<Output = ()> + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        let Some(moved) = self.tells.clone() else {
            tokio::task::spawn_local(task);
            return;
        };
        tokio::task::spawn_local(async move {
            let mut task = pin!(task);
            poll_fn(|cx| {
                let polled = task.as_mut().poll(cx);
                moved.notify_waiters();
                polled
            })
            .await;
        });
    }
}
