//! LazyTimer: a timer for deadlines that mostly move away before they come.
//!
//! Setting and clearing a timer of the runtime for each of thousands of requests costs more than what the timer guards. An timer is set once
//! and left where it is as long as it rings no later than the deadline of the moment; if it rings too early, it is set again. A connection
//! that is busy touches it once per timeout, not once per request.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// See the module's text. Costs nothing before its first use.
#[derive(Debug, Default)]
pub struct LazyTimer(Option<Pin<Box<Sleep>>>);

impl LazyTimer {
    /// Ready once `deadline` is reached. The deadline may be another one at each call.
    pub fn poll_reached(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
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
    async fn it_rings_at_the_deadline_of_the_moment() {
        let start = Instant::now();
        let mut timer = LazyTimer::default();
        let far = start + Duration::from_secs(30);
        for (name, deadline) in [("further away", 10), ("nearer", 5), ("as before", 5)] {
            let deadline = start + Duration::from_secs(deadline);
            let pending = poll_fn(|cx| Poll::Ready(timer.poll_reached(deadline, cx).is_pending())).await;
            assert!(pending, "{name}");
        }
        reached(&mut timer, far).await;
        assert_eq!(Instant::now(), far, "set at five seconds, it goes on to thirty");
        reached(&mut timer, far).await;
        assert_eq!(Instant::now(), far, "what is past is reached");
        let next = far + Duration::from_secs(1);
        reached(&mut timer, next).await;
        assert_eq!(Instant::now(), next, "and it can be used again");
    }
}
