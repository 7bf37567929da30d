//! Log interval: an event that clients can bring about is logged at most once per interval, with
//! the number of times that it was left out.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often such an event is logged. A minute tells an operator that it lasts, and does not fill
/// the log.
const INTERVAL: Duration = Duration::from_secs(60);

/// When an event was last logged. Shared by all threads that have the event.
#[derive(Debug, Default)]
pub(crate) struct LogInterval(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    logged_at: Option<Instant>,
    left_out: u64,
}

impl LogInterval {
    /// Nothing was logged yet.
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(State { logged_at: None, left_out: 0 }))
    }

    /// Counts the event. Returns how often it was left out since it was last logged if it is to be
    /// logged now, and `None` if it is left out.
    pub(crate) fn is_due(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if state.logged_at.is_some_and(|at| now.duration_since(at) < INTERVAL) {
            state.left_out += 1;
            return None;
        }
        state.logged_at = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_event_is_logged_once_per_interval_and_says_how_often_it_was_left_out() {
        let interval = LogInterval::default();
        assert_eq!(interval.is_due(), Some(0), "the first time");
        for _ in 0..5 {
            assert_eq!(interval.is_due(), None);
        }
        advance(INTERVAL).await;
        assert_eq!(interval.is_due(), Some(5));
        assert_eq!(interval.is_due(), None);
    }
}
