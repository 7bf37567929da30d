//! Health check results: whether the checks of one server make it up or down.
//!
//! A server counts as working until `unhealthy_after` checks in a row have failed, also before its
//! first check: a gateway that starts together with its servers does not refuse what they could
//! answer. It is down until `healthy_after` checks in a row have succeeded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::check::CheckFault;
use super::settings::CheckSettings;

/// The state of one server's checks. One task writes it, and all workers read it.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// What the workers read.
    is_down: AtomicBool,
    streak: Mutex<Streak>,
}

/// The last results in a row that contradict the state.
#[derive(Debug, Default)]
struct Streak {
    length: u32,
    last_fault: Option<CheckFault>,
}

/// What the result of a check has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckChange {
    None,
    /// The server was up, and is down now.
    Down,
    /// The server was down, and is up again.
    Up,
}

impl Checks {
    /// Whether the server fails its checks.
    pub(super) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    /// Why the last check failed that did.
    pub(super) fn last_fault(&self) -> Option<CheckFault> {
        self.streak().last_fault
    }

    /// Notes the result of a check.
    pub(super) fn note(&self, result: Result<(), CheckFault>, settings: &CheckSettings) -> CheckChange {
        let mut streak = self.streak();
        if let Err(fault) = result {
            streak.last_fault = Some(fault);
        }
        let is_down = self.is_down();
        if result.is_ok() != is_down {
            streak.length = 0;
            return CheckChange::None;
        }
        streak.length += 1;
        if streak.length < if is_down { settings.healthy_after } else { settings.unhealthy_after } {
            return CheckChange::None;
        }
        streak.length = 0;
        self.is_down.store(!is_down, Ordering::Relaxed);
        if is_down { CheckChange::Up } else { CheckChange::Down }
    }

    /// Forgets all results: there are no checks any more.
    pub(super) fn reset(&self) {
        *self.streak() = Streak::default();
        self.is_down.store(false, Ordering::Relaxed);
    }

    fn streak(&self) -> MutexGuard<'_, Streak> {
        self.streak.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_results_in_a_row_change_the_state() {
        let settings = CheckSettings {
            path: "/".parse().expect("a path"),
            host: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            unhealthy_after: 3,
            healthy_after: 2,
            expect: [200..=299].into_iter().collect(),
        };
        let checks = Checks::default();
        let mut changes = String::new();
        for result in "fffsffsfff_sfss_ffsfff".chars() {
            let change = match result {
                's' => checks.note(Ok(()), &settings),
                'f' => checks.note(Err(CheckFault::TimedOut), &settings),
                _ => continue,
            };
            changes.push(match change {
                CheckChange::None => '.',
                CheckChange::Down => 'D',
                CheckChange::Up => 'U',
            });
        }
        //                    fffsffsfffsfssffsfff
        assert_eq!(changes, "..D.......".to_owned() + "...U" + ".....D");
        assert!(checks.is_down());
        checks.reset();
        assert!(!checks.is_down() && checks.last_fault().is_none());
    }
}
