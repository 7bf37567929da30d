//! Shutdown: the signal by which the process tells all long-lived tasks to drain and to stop.

use tokio::sync::watch;

/// The sending end. Dropping it has the effect of [`Phase::Stopped`].
#[derive(Debug)]
pub struct Trigger(watch::Sender<Phase>);

/// The receiving end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<Phase>);

/// The phases of the process, in order. The phase only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The process serves.
    Running,
    /// Requests in flight finish; connections accept no new ones.
    Draining,
    /// Everything stops at once.
    Stopped,
}

/// A trigger and a receiver of its signal, in [`Phase::Running`].
#[must_use]
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(Phase::Running);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Moves on to `phase`. Does nothing if that phase is reached or passed already.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|current| {
            let later = phase > *current;
            if later {
                *current = phase;
            }
            later
        });
    }

    /// Another receiver.
    #[must_use]
    pub fn listen(&self) -> Shutdown {
        Shutdown(self.0.subscribe())
    }
}

impl Shutdown {
    /// The current phase.
    #[cfg(test)]
    fn phase(&self) -> Phase {
        if self.0.has_changed().is_err() { Phase::Stopped } else { *self.0.borrow() }
    }

    /// Waits until `phase` or a later one is reached.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped and the function called again; no phase is missed.
    pub async fn reached(&mut self, phase: Phase) {
        // An error means that the trigger was dropped, which counts as the last phase.
        let _ = self.0.wait_for(|current| *current >= phase).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_for_a_phase_ends_with_a_later_one() {
        let (trigger, mut shutdown) = channel();
        assert_eq!(shutdown.phase(), Phase::Running);
        trigger.advance(Phase::Stopped);
        shutdown.reached(Phase::Draining).await;
        trigger.advance(Phase::Draining);
        assert_eq!(shutdown.phase(), Phase::Stopped);
    }

    #[tokio::test]
    async fn a_dropped_trigger_stops() {
        let (trigger, mut shutdown) = channel();
        drop(trigger);
        shutdown.reached(Phase::Stopped).await;
        assert_eq!(shutdown.phase(), Phase::Stopped);
    }
}
