//! Head deadline: how long to wait for a response head, and what it means when that time is over.
//!
//! `response_timeout` runs from the end of the request, so that a long upload does not count as a
//! slow upstream. A slow client is limited by `body_idle_timeout`. An upstream that stops reading
//! the request is slow, however much of the request is missing.

use std::time::Duration;

use tokio::time::Instant;

use super::body::{BodyOutcome, Progress};
use super::{Fault, UpstreamError};

/// When to stop waiting for a response head.
pub(super) struct HeadDeadline<'a> {
    progress: &'a Progress,
    response_timeout: Duration,
    /// The end of the whole exchange, if the route sets one.
    exchange_end: Option<Instant>,
    /// `response_timeout` from now on, or from the last time that it was extended.
    response: Instant,
    /// How many bytes of the request body had been sent then.
    sent_bytes: u64,
}

impl<'a> HeadDeadline<'a> {
    /// Starts now, for a request whose body reports its `progress`.
    pub(super) fn new(progress: &'a Progress, response_timeout: Duration, exchange_end: Option<Instant>) -> Self {
        let response = Instant::now() + response_timeout;
        Self { progress, response_timeout, exchange_end, response, sent_bytes: progress.bytes() }
    }

    /// When to call [`extend`](Self::extend).
    pub(super) fn next(&self) -> Instant {
        self.exchange_end.map_or(self.response, |end| end.min(self.response))
    }

    /// How far the request's body has come.
    pub(super) fn body_outcome(&self) -> BodyOutcome {
        self.progress.outcome()
    }

    /// Sets a later deadline, if the wait may go on after [`next`](Self::next) has passed.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Timeout`] if the upstream took too long,
    /// [`UpstreamError::DeadlineExceeded`] if the whole exchange did, [`Fault::Client`] if the
    /// client did not complete its request.
    pub(super) fn extend(&mut self) -> Result<(), Fault> {
        let now = Instant::now();
        if self.exchange_end.is_some_and(|end| end <= now) {
            return Err(UpstreamError::DeadlineExceeded.into());
        }
        match self.progress.outcome() {
            BodyOutcome::InProgress => {
                // No byte was sent, although the client had one: the upstream has stopped reading.
                if self.progress.bytes() == self.sent_bytes && !self.progress.waits_for_client() {
                    return Err(UpstreamError::Timeout.into());
                }
                self.sent_bytes = self.progress.bytes();
                self.response = now + self.response_timeout;
                Ok(())
            }
            BodyOutcome::Ended(at) if at + self.response_timeout > self.response => {
                self.response = at + self.response_timeout;
                Ok(())
            }
            BodyOutcome::Ended(_) | BodyOutcome::Unread => Err(UpstreamError::Timeout.into()),
            BodyOutcome::Incomplete(fault) => Err(Fault::Client(fault)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::time::advance;

    use super::*;
    use crate::upstream::body::RequestBodyFault;

    const TIMEOUT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn the_deadline_runs_from_the_end_of_the_request() {
        let progress = Progress::new(BodyOutcome::InProgress);
        let start = Instant::now();
        let mut deadline = HeadDeadline::new(&progress, TIMEOUT, None);
        assert_eq!(deadline.next(), start + TIMEOUT);
        advance(Duration::from_secs(10)).await;
        progress.end(BodyOutcome::Ended(Instant::now()));
        advance(Duration::from_secs(20)).await;
        assert_eq!(deadline.extend(), Ok(()));
        assert_eq!(deadline.next(), start + Duration::from_secs(40));
        advance(Duration::from_secs(10)).await;
        assert_eq!(deadline.extend(), Err(UpstreamError::Timeout.into()));
    }

    #[tokio::test(start_paused = true)]
    async fn only_an_upload_that_the_upstream_does_not_read_times_out() {
        let progress = Progress::new(BodyOutcome::InProgress);
        let mut deadline = HeadDeadline::new(&progress, TIMEOUT, None);
        progress.add_bytes(1);
        advance(TIMEOUT).await;
        assert_eq!(deadline.extend(), Ok(()), "bytes were sent");
        progress.wait_for_client(Waker::noop());
        advance(TIMEOUT).await;
        assert_eq!(deadline.extend(), Ok(()), "the client sent nothing");
        progress.client_is_ready();
        advance(TIMEOUT).await;
        assert_eq!(deadline.extend(), Err(UpstreamError::Timeout.into()), "the upstream read nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_the_client_does_not_complete_is_no_fault_of_the_upstream() {
        for fault in
            [RequestBodyFault::Abandoned, RequestBodyFault::Broken, RequestBodyFault::Idle, RequestBodyFault::TooLarge]
        {
            let progress = Progress::new(BodyOutcome::Incomplete(fault));
            let mut deadline = HeadDeadline::new(&progress, TIMEOUT, None);
            advance(TIMEOUT).await;
            assert_eq!(deadline.extend(), Err(Fault::Client(fault)), "{fault:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_extends_the_whole_exchange() {
        let progress = Progress::new(BodyOutcome::InProgress);
        let end = Instant::now() + Duration::from_secs(45);
        let mut deadline = HeadDeadline::new(&progress, TIMEOUT, Some(end));
        progress.add_bytes(1);
        advance(TIMEOUT).await;
        assert_eq!(deadline.extend(), Ok(()));
        assert_eq!(deadline.next(), end);
        progress.add_bytes(1);
        advance(Duration::from_secs(15)).await;
        assert_eq!(deadline.extend(), Err(UpstreamError::DeadlineExceeded.into()));
    }
}
