//! Ejection: which servers of an upstream are avoided because requests to them have failed.
//!
//! All workers count failures together. The lock is taken only when a server has failed so often
//! that it may be ejected.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::settings::EjectSettings;

/// The longest ejection, in multiples of `eject.for`.
pub(super) const MAX_TIMES: u32 = 10;

/// The ejections of one upstream. Times are
/// [`Clock::monotonic_micros`](crate::primitives::clock::Clock::monotonic_micros).
#[derive(Debug, Default)]
pub(super) struct Ejections(Mutex<Vec<Record>>);

/// The last ejection of one server.
#[derive(Clone, Copy, Debug)]
struct Record {
    server_id: u64,
    /// How many ejections in a row it is.
    times: u32,
    until: u64,
}

impl Ejections {
    /// Ejects a server, one of `server_count`. Returns when it comes back; `None` if it is ejected
    /// already, or if with it more than half of the servers would be.
    ///
    /// An ejection that begins soon after the last one, within the longest time that one can last,
    /// lasts longer than that one.
    pub(super) fn eject(&self, server_id: u64, server_count: usize, settings: &EjectSettings, now: u64) -> Option<u64> {
        let mut records = self.lock();
        let memory = micros(settings.duration.saturating_mul(MAX_TIMES));
        records.retain(|record| now < record.until.saturating_add(memory));
        let ejected = records.iter().filter(|record| now < record.until).count();
        let last = records.iter().position(|record| record.server_id == server_id);
        let is_ejected = last.is_some_and(|last| now < records[last].until);
        if is_ejected || ejected >= server_count / 2 {
            return None;
        }
        let times = last.map_or(0, |last| records.swap_remove(last).times).saturating_add(1).min(MAX_TIMES);
        let until = now.saturating_add(micros(settings.duration.saturating_mul(times)));
        records.push(Record { server_id, times, until });
        Some(until)
    }

    /// Forgets a server that no longer exists.
    pub(super) fn forget(&self, server_id: u64) {
        self.lock().retain(|record| record.server_id != server_id);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn settings() -> EjectSettings {
        EjectSettings { failures: 5, duration: Duration::from_secs(10), statuses: [].into_iter().collect() }
    }

    #[test]
    fn never_more_than_half_of_the_servers_are_ejected() {
        for (servers, most) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)] {
            let ejections = Ejections::default();
            let ids = (0..).take(servers);
            let ejected = ids.filter(|&id| ejections.eject(id, servers, &settings(), 0).is_some());
            assert_eq!(ejected.count(), most, "of {servers}");
        }
    }

    #[test]
    fn a_server_whose_time_is_over_makes_room_for_another() {
        let ejections = Ejections::default();
        assert_eq!(ejections.eject(1, 2, &settings(), 0), Some(10 * SECOND));
        assert_eq!(ejections.eject(2, 2, &settings(), 10 * SECOND - 1), None);
        assert_eq!(ejections.eject(2, 2, &settings(), 10 * SECOND), Some(20 * SECOND));
    }

    #[test]
    fn a_server_that_has_gone_makes_room_for_another() {
        let ejections = Ejections::default();
        assert!(ejections.eject(1, 2, &settings(), 0).is_some());
        ejections.forget(1);
        assert!(ejections.eject(2, 2, &settings(), 0).is_some());
    }

    #[test]
    fn ejections_in_a_row_grow_up_to_a_maximum_and_are_forgotten_after_it() {
        let ejections = Ejections::default();
        let mut now = 0;
        for seconds in [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 100] {
            let until = ejections.eject(1, 2, &settings(), now).expect("it may be ejected");
            assert_eq!(until - now, seconds * SECOND);
            assert_eq!(ejections.eject(1, 2, &settings(), until - 1), None, "it is ejected");
            now = until + 100 * SECOND - 1;
        }
        now += 1;
        assert_eq!(ejections.eject(1, 2, &settings(), now), Some(now + 10 * SECOND));
    }
}
