//! Shutdown: one signal that everything long-lived listens to.

use tokio::sync::watch;

/// The end that gives the signal. Dropping it gives the strongest one.
#[derive(Debug)]
pub struct Trigger(watch::Sender<Phase>);

/// The end that waits. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<Phase>);

/// How far the process is on its way out; only ever moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Running,
    /// Finish what is under way, take nothing new on a connection.
    Draining,
    /// Stop now.
    Stopped,
}

/// A signal and its listener, in [`Phase::Running`].
#[must_use]
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(Phase::Running);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Moves on to `phase`; an earlier one than the present is ignored.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|current| {
            let later = phase > *current;
            if later {
                *current = phase;
            }
            later
        });
    }

    /// Another listener.
    #[must_use]
    pub fn listen(&self) -> Shutdown {
        Shutdown(self.0.subscribe())
    }
}

impl Shutdown {
    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        if self.0.has_changed().is_err() { Phase::Stopped } else { *self.0.borrow() }
    }

    /// Waits until `phase` or a later one is reached.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again; nothing is lost.
    pub async fn reached(&mut self, phase: Phase) {
        // An error means the trigger is gone, which counts as the last phase.
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
