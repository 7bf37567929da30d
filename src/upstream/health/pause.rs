//! Pause: a server that has answered 503 with `Retry-After` gets no requests for that long, unless
//! no other server is up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The longest pause, whatever the server asks for. The other servers carry its load meanwhile, and
/// a server that is back earlier should not idle.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Until when one server is paused; shared by all workers.
#[derive(Debug)]
pub(super) struct Pause {
    created_at: Instant,
    /// In microseconds since `created_at`; 0: it was never paused.
    ends_at: AtomicU64,
}

impl Pause {
    pub(super) fn new() -> Self {
        Self { created_at: Instant::now(), ends_at: AtomicU64::new(0) }
    }

    /// Pauses the server for `time`, at most [`MAX_PAUSE`]. Never shortens a pause.
    pub(super) fn start(&self, time: Duration) {
        let ends_at = self.created_at.elapsed() + time.min(MAX_PAUSE);
        self.ends_at.fetch_max(u64::try_from(ends_at.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether the server is paused.
    pub(super) fn is_active(&self) -> bool {
        // Mostly without a look at the clock.
        let ends_at = self.ends_at.load(Ordering::Relaxed);
        ends_at > 0 && self.created_at.elapsed() < Duration::from_micros(ends_at)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pause_lasts_as_long_as_the_server_asks_for_up_to_a_maximum() {
        let second = Duration::from_secs(1);
        for (asked, lasts) in [(second, second), (MAX_PAUSE, MAX_PAUSE), (Duration::MAX, MAX_PAUSE)] {
            let pause = Pause::new();
            advance(second).await;
            assert!(!pause.is_active(), "{asked:?}");
            pause.start(asked);
            pause.start(Duration::ZERO);
            advance(lasts.mul_f64(0.99)).await;
            assert!(pause.is_active(), "{asked:?}");
            advance(lasts.mul_f64(0.01)).await;
            assert!(!pause.is_active(), "{asked:?}");
        }
    }
}
