//! The table's guarantees: it is bounded, evicts no active key, and counts no request twice or
//! never.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::time::Duration;

use super::*;

const SECOND: u64 = 1_000_000;
const NOW: u64 = 1_000 * SECOND;

const VERIFIED: KeyOrigin = KeyOrigin::Verified;

/// One request per 100 ms, `burst` at once.
fn quota(burst: u64) -> Quota {
    Quota { count: 10, period: Duration::from_secs(1), burst }
}

/// Number of requests allowed out of `tries`.
fn count_allowed(table: &Table, key: u64, tries: u64, quota: &Quota, now: u64) -> usize {
    (0..tries).filter(|_| is_allowed(table.take(key, VERIFIED, quota, now))).count()
}

/// The same for a key that a client made up, each in a network of its own.
fn count_allowed_of_client(table: &Table, key: u64, tries: u64, now: u64) -> usize {
    let origin = client(u32::try_from(key >> 32).unwrap());
    (0..tries).filter(|_| is_allowed(table.take(key, origin, &quota(1), now))).count()
}

fn is_allowed(decision: QuotaDecision) -> bool {
    matches!(decision, QuotaDecision::Allowed { .. })
}

/// Keys distributed like hashes.
fn keys(count: u64) -> impl Iterator<Item = u64> {
    (1..=count).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23).wrapping_mul(0xBF58_476D_1CE4_E5B9))
}

#[test]
fn each_key_has_its_own_burst() {
    let table = Table::new(100);
    assert_eq!((count_allowed(&table, 1, 10, &quota(5), NOW), count_allowed(&table, 2, 10, &quota(3), NOW)), (5, 3));
    assert_eq!(
        table.take(1, VERIFIED, &quota(5), NOW),
        QuotaDecision::Exceeded { retry_after: Duration::from_millis(100) }
    );
    assert_eq!(
        table.take(1, VERIFIED, &quota(5), NOW + 100_000),
        QuotaDecision::Allowed { remaining: 0, full_after: Duration::from_millis(500) }
    );
    assert_eq!((table.occupied(), table.overflow_count()), (2, 0));
}

#[test]
fn peeking_counts_nothing_and_occupies_no_cell() {
    let table = Table::new(100);
    for _ in 0..10 {
        assert_eq!(
            table.peek(1, VERIFIED, &quota(1), NOW),
            QuotaDecision::Allowed { remaining: 1, full_after: Duration::ZERO }
        );
    }
    assert_eq!(table.occupied(), 0);
    table.take(1, VERIFIED, &quota(1), NOW);
    assert_eq!(
        table.peek(1, VERIFIED, &quota(1), NOW),
        QuotaDecision::Exceeded { retry_after: Duration::from_millis(100) }
    );
}

#[test]
fn one_table_serves_different_quotas() {
    let table = Table::new(100);
    assert_eq!(count_allowed(&table, 1, 10, &quota(8), NOW), 8);
    assert_eq!(count_allowed(&table, 1, 10, &quota(2), NOW), 0, "another quota gives no new burst");
    assert_eq!(count_allowed(&table, 1, 10, &quota(9), NOW), 1, "a larger burst adds the difference");
}

#[test]
fn time_that_runs_backwards_lifts_no_limit() {
    let table = Table::new(100);
    assert_eq!(count_allowed(&table, 1, 10, &quota(5), NOW), 5);
    assert_eq!(count_allowed(&table, 1, 10, &quota(5), NOW - 500 * SECOND), 0);
    assert_eq!(count_allowed(&table, 1, 10, &quota(5), NOW + SECOND), 5);
}

#[test]
fn the_table_stays_within_its_capacity() {
    for capacity in [0, 1, 3, 100, 1_000] {
        let table = Table::new(capacity);
        for key in keys(5_000) {
            table.take(key, VERIFIED, &quota(5), NOW);
        }
        assert_eq!(table.occupied(), capacity.max(1));
    }
}

#[test]
fn when_it_is_full_new_keys_share_cells_and_old_keys_keep_theirs() {
    let table = Table::new(100);
    let keys: Vec<u64> = keys(20_000).collect();
    let (old, new) = keys.split_at(100);
    for key in old {
        assert_eq!(count_allowed(&table, *key, 4, &quota(5), NOW), 4);
    }
    let shared: usize = new.iter().map(|key| count_allowed(&table, *key, 1, &quota(5), NOW)).sum();
    assert_eq!((shared, table.overflow_count(), table.occupied()), (5 * OVERFLOW_CELLS, 19_900, 100));
    assert!(!is_allowed(table.peek(new[7], VERIFIED, &quota(5), NOW)), "peeking sees the shared cell");
    for key in old {
        assert_eq!(count_allowed(&table, *key, 4, &quota(5), NOW), 1, "no active key was evicted");
    }
}

#[test]
fn peeking_sees_a_cell_that_can_be_reused() {
    let table = Table::new(1);
    let (first, second) = (7, 7 + OVERFLOW_CELLS as u64);
    assert_eq!(count_allowed(&table, 1, 1, &quota(1), NOW), 1);
    assert_eq!(count_allowed(&table, first, 100, &quota(50), NOW), 50, "in a shared cell");
    assert!(!is_allowed(table.peek(second, VERIFIED, &quota(50), NOW)), "no other cell is free");
    let later = NOW + SECOND;
    assert_eq!(
        table.peek(second, VERIFIED, &quota(50), later),
        QuotaDecision::Allowed { remaining: 50, full_after: Duration::ZERO }
    );
}

/// The address of a client, in a network of its own.
fn client(number: u32) -> KeyOrigin {
    KeyOrigin::Client(std::net::Ipv4Addr::from_bits(number).into())
}

/// Threat RL-7.
#[test]
fn no_network_occupies_more_than_its_share() {
    let table = Table::new(1_000);
    let keys: Vec<u64> = keys(5_000).collect();
    let (invented, others) = keys.split_at(4_000);
    let allowed = |key: u64, origin| is_allowed(table.take(key, origin, &quota(1), NOW));
    let granted = invented.iter().filter(|key| allowed(**key, client(1))).count();
    // The last one is the network's own key, of which all others count as well.
    assert_eq!((granted, table.occupied(), table.overflow_count()), (101, 101, 3_900));
    assert!(!is_allowed(table.peek(others[0], client(1), &quota(1), NOW)), "peeking sees the network's cell");
    assert!(is_allowed(table.peek(others[0], client(2), &quota(1), NOW)));
    for (number, key) in (2..).zip(&others[..500]) {
        assert!(allowed(*key, client(number)), "client {number} has a budget of its own");
    }
    assert!(others[500..800].iter().all(|key| allowed(*key, VERIFIED)), "verified keys have no share");
    // The share is free again when the cells are.
    let later = NOW + SECOND;
    assert!(is_allowed(table.take(invented[3_000], client(1), &quota(1), later)));
    table.sweep(later + SECOND);
    assert_eq!((table.occupied(), table.shares.total()), (0, 0));
}

/// Many networks together can fill the table. Then a client shares a cell with its own network, and
/// with few others.
#[test]
fn when_many_networks_fill_the_table_others_are_still_served() {
    let table = Table::new(100);
    let keys: Vec<u64> = keys(2_000).collect();
    let (invented, others) = keys.split_at(1_000);
    for (number, key) in (0..).zip(invented) {
        table.take(*key, client(number % 20), &quota(1), NOW);
    }
    assert_eq!(table.occupied(), 100);
    let served =
        (100..).zip(others).filter(|(number, key)| is_allowed(table.take(**key, client(*number), &quota(1), NOW)));
    assert!(served.count() > 500, "most have an overflow cell that is unused");
}

#[test]
fn cells_whose_tat_is_in_the_past_are_reused() {
    let table = Table::new(100);
    let keys: Vec<u64> = keys(10_000).collect();
    for (round, keys) in (0..).zip(keys.chunks(100)) {
        let now = NOW + round * SECOND;
        for key in keys {
            assert!(is_allowed(table.take(*key, VERIFIED, &quota(1), now)));
        }
    }
    assert_eq!(table.overflow_count(), 0);
    table.sweep(NOW + 1_000 * SECOND);
    assert_eq!(table.occupied(), 0);
}

#[test]
fn a_sweep_keeps_cells_whose_tat_is_in_the_future() {
    let table = Table::new(100);
    table.take(1, VERIFIED, &quota(5), NOW);
    count_allowed(&table, 2, 5, &quota(5), NOW);
    table.sweep(NOW + 200_000);
    assert_eq!(table.occupied(), 1);
    assert_eq!(count_allowed(&table, 2, 5, &quota(5), NOW + 200_000), 2);
}

#[test]
fn windows_do_not_fill_before_the_table_does() {
    let table = Table::new(DEFAULT_CAPACITY);
    for key in keys(DEFAULT_CAPACITY as u64) {
        table.take(key, VERIFIED, &quota(1), NOW);
    }
    assert_eq!((table.occupied(), table.overflow_count()), (DEFAULT_CAPACITY, 0));
}

const THREADS: u64 = 4;

/// Runs `work` on several threads, which can wait for each other at the barrier.
fn run_concurrently(work: impl Fn(u64, &Barrier) + Sync) {
    let barrier = Barrier::new(usize::try_from(THREADS).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (barrier, work) = (&barrier, &work);
            scope.spawn(move || work(thread, barrier));
        }
    });
}

#[test]
fn threads_that_insert_a_key_at_the_same_time_share_its_burst() {
    let table = Table::new(10_000);
    let keys: Vec<u64> = keys(2_000).collect();
    let allowed = AtomicUsize::new(0);
    run_concurrently(|_, barrier| {
        barrier.wait();
        for key in &keys {
            allowed.fetch_add(count_allowed(&table, *key, 3, &quota(7), NOW), Ordering::Relaxed);
        }
    });
    assert_eq!((allowed.into_inner(), table.occupied()), (2_000 * 7, 2_000));
}

/// In each second every thread uses new keys, so that all cells are released and reused, and the
/// keys of the second before, whose cells the other threads are reusing at that moment. Exactly one
/// of three requests must be allowed for each key.
#[test]
fn reused_cells_count_every_request_exactly_once() {
    let table = Table::new(128);
    let keys: Vec<u64> = keys(10 * THREADS * 1_001).collect();
    run_concurrently(|thread, barrier| {
        let own = |round: u64| {
            let start = usize::try_from((round * THREADS + thread) * 10).unwrap();
            &keys[start..start + 10]
        };
        for round in 0..1_000 {
            barrier.wait();
            let now = NOW + round * SECOND;
            for (old, new) in own(round).iter().zip(own(round + 1)) {
                assert_eq!(count_allowed_of_client(&table, *old, 3, now), 1);
                assert_eq!(count_allowed_of_client(&table, *new, 3, now), 1);
            }
        }
    });
    assert_eq!(table.overflow_count(), 0);
    table.sweep(NOW + 10_000 * SECOND);
    assert_eq!((table.occupied(), table.shares.total()), (0, 0), "every cell was counted once");
    let times: BTreeSet<u64> = table.cells.iter().map(|cell| cell.tat.load(Ordering::Relaxed)).collect();
    assert_eq!(times, BTreeSet::from([FREE]), "no cell stayed reserved");
}
