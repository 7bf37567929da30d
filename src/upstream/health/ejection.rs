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
pub(super) struct Ejections(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Which list of servers is in use; see [`Ejections::use_servers`].
    list: u64,
    /// The servers in that list. Others still have requests, and get no new ones.
    servers: Vec<u64>,
    records: Vec<Record>,
}

/// The last ejection of one server.
#[derive(Clone, Copy, Debug)]
struct Record {
    server_id: u64,
    /// How many ejections in a row it is.
    times: u32,
    until: u64,
}

impl Ejections {
    /// From now on these are the upstream's servers. `list` identifies the list that they are from.
    pub(super) fn use_servers(&self, list: u64, servers: Vec<u64>) {
        let mut state = self.lock();
        state.list = list;
        state.change_servers(servers);
    }

    /// Notes that the servers in `list` have changed. No effect unless that list is in use: after a
    /// reload, requests that began before it still use the previous one.
    pub(super) fn update_servers(&self, list: u64, servers: Vec<u64>) {
        let mut state = self.lock();
        if state.list == list {
            state.change_servers(servers);
        }
    }

    /// Ejects a server. Returns when it comes back; `None` if it is ejected already, if with it
    /// more than half of the servers would be, or if it is no longer one of them.
    ///
    /// An ejection that begins soon after the last one, within the longest time that one can last,
    /// lasts longer than that one.
    pub(super) fn eject(&self, server_id: u64, settings: &EjectSettings, now: u64) -> Option<u64> {
        let State { servers, records, .. } = &mut *self.lock();
        let memory = micros(settings.duration.saturating_mul(MAX_TIMES));
        records.retain(|record| now < record.until.saturating_add(memory));
        let ejected = records.iter().filter(|record| now < record.until).count();
        let last = records.iter().position(|record| record.server_id == server_id);
        let is_ejected = last.is_some_and(|last| now < records[last].until);
        if is_ejected || ejected >= servers.len() / 2 || !servers.contains(&server_id) {
            return None;
        }
        let times = last.map_or(0, |last| records.swap_remove(last).times).saturating_add(1).min(MAX_TIMES);
        let until = now.saturating_add(micros(settings.duration.saturating_mul(times)));
        records.push(Record { server_id, times, until });
        Some(until)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Replaces the servers. Servers that are gone no longer count as ejected.
    fn change_servers(&mut self, servers: Vec<u64>) {
        self.records.retain(|record| servers.contains(&record.server_id));
        self.servers = servers;
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

    /// The ejections of an upstream with these servers, which are its list number 1.
    fn ejections(servers: &[u64]) -> Ejections {
        let ejections = Ejections::default();
        ejections.use_servers(1, servers.to_vec());
        ejections
    }

    #[test]
    fn never_more_than_half_of_the_servers_are_ejected() {
        for (servers, most) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)] {
            let ids: Vec<u64> = (0..servers).collect();
            let ejections = ejections(&ids);
            let ejected = ids.iter().filter(|id| ejections.eject(**id, &settings(), 0).is_some());
            assert_eq!(ejected.count(), most, "of {servers}");
        }
    }

    /// A server that has been replaced may have requests for hours.
    #[test]
    fn servers_that_only_finish_their_requests_do_not_count() {
        let ejections = ejections(&[1, 2, 3, 4]);
        ejections.update_servers(1, vec![3, 4]);
        assert_eq!(ejections.eject(1, &settings(), 0), None, "it gets no requests anyway");
        assert!(ejections.eject(3, &settings(), 0).is_some());
        assert_eq!(ejections.eject(4, &settings(), 0), None, "one of two is ejected");
    }

    #[test]
    fn the_list_of_a_previous_configuration_has_no_say() {
        let ejections = ejections(&[1]);
        ejections.use_servers(2, vec![1, 2]);
        ejections.update_servers(1, vec![1, 3, 4, 5]);
        assert!(ejections.eject(1, &settings(), 0).is_some());
        assert_eq!(ejections.eject(2, &settings(), 0), None);
    }

    #[test]
    fn a_server_whose_time_is_over_makes_room_for_another() {
        let ejections = ejections(&[1, 2]);
        assert_eq!(ejections.eject(1, &settings(), 0), Some(10 * SECOND));
        assert_eq!(ejections.eject(2, &settings(), 10 * SECOND - 1), None);
        assert_eq!(ejections.eject(2, &settings(), 10 * SECOND), Some(20 * SECOND));
        assert_eq!(ejections.eject(2, &settings(), 20 * SECOND), Some(40 * SECOND), "or for itself");
    }

    #[test]
    fn a_server_that_has_gone_makes_room_for_another() {
        let ejections = ejections(&[1, 2]);
        assert!(ejections.eject(1, &settings(), 0).is_some());
        ejections.update_servers(1, vec![2, 3]);
        assert!(ejections.eject(2, &settings(), 0).is_some());
    }

    #[test]
    fn ejections_in_a_row_grow_up_to_a_maximum_and_are_forgotten_after_it() {
        let ejections = ejections(&[1, 2]);
        let mut now = 0;
        for seconds in [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 100] {
            let until = ejections.eject(1, &settings(), now).expect("it may be ejected");
            assert_eq!(until - now, seconds * SECOND);
            assert_eq!(ejections.eject(1, &settings(), until - 1), None, "it is ejected");
            now = until + 100 * SECOND - 1;
        }
        now += 1;
        assert_eq!(ejections.eject(1, &settings(), now), Some(now + 10 * SECOND));
    }
}
