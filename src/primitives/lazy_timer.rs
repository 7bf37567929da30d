//! Lazy timer: a timer for deadlines that usually move before they expire.
//!
//! Registering and cancelling a runtime timer for every request is expensive, and the timeout
//! almost never fires. A lazy timer keeps its registration as long as that fires no later than the
//! current deadline. If it fires early, it is registered again for the current deadline. A busy
//! connection thus touches the runtime's timer once per timeout, not per request.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer whose deadline is given at each poll. Registers nothing with the runtime before its
/// first poll.
#[derive(Debug, Default)]
pub(crate) struct LazyTimer(Option<Pin<Box<Sleep>>>);

impl LazyTimer {
    /// Ready once `deadline` is reached. Each call may pass a different deadline.
    pub(crate) fn poll_reached(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            if deadline < sleep.deadline() {
                sleep.as_mut().reset(deadline);
            }
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    async fn reached(timer: &mut LazyTimer, deadline: Instant) {
        poll_fn(|cx| timer.poll_reached(deadline, cx)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_fires_at_the_current_deadline() {
        let start = Instant::now();
        let mut timer = LazyTimer::default();
        let far = start + Duration::from_secs(30);
        for (name, deadline) in [("later", 10), ("earlier", 5), ("unchanged", 5)] {
            let deadline = start + Duration::from_secs(deadline);
            let pending = poll_fn(|cx| Poll::Ready(timer.poll_reached(deadline, cx).is_pending())).await;
            assert!(pending, "{name}");
        }
        reached(&mut timer, far).await;
        assert_eq!(Instant::now(), far, "registered for five seconds, it waits for thirty");
        reached(&mut timer, far).await;
        assert_eq!(Instant::now(), far, "a deadline in the past is reached");
        let next = far + Duration::from_secs(1);
        reached(&mut timer, next).await;
        assert_eq!(Instant::now(), next, "it can be used again");
    }
}
