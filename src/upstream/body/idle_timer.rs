//! Idle timer: runs only while nothing arrives, so that a body without pauses never touches it.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::primitives::lazy_timer::LazyTimer;

/// Measures the time since the last byte of a body.
#[derive(Debug)]
pub(super) struct IdleTimer {
    timeout: Duration,
    /// Since when nothing has arrived; `None` while bytes arrive.
    since: Option<Instant>,
    timer: LazyTimer,
}

impl IdleTimer {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, since: None, timer: LazyTimer::default() }
    }

    /// Starts the timer if it is not running. Ready once it has run for the timeout.
    pub(super) fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        self.timer.poll_reached(since + self.timeout, cx)
    }

    /// Stops the timer: something has arrived.
    pub(super) fn reset(&mut self) {
        self.since = None;
    }
}
