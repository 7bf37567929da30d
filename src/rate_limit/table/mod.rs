//! Rate limiting in process: a table of fixed size with one time for each key, counted by `gcra.rs`.
//!
//! Keys come from clients, so the table never grows. A cell whose time is past says the same as no cell and is taken again; one whose
//! time is not past is never given up for another key, or an attacker could wash his own cell out. When no cell is left, new keys
//! share one *overflow cell*: together they are limited like one key, which neither opens the limit nor locks everyone out who
//! has a cell.
//!
//! **Concurrency.** Counting in a cell that exists takes no lock. A cell is a pair of atomics, so taking it for another key must not
//! let a count for the old key land on the new one. This holds because of three rules:
//! 1. a cell is given up only if its time is past, by exchanging that very time for `FREE` or `RESERVED`; only after that a
//!    new key is written, and its time last;
//! 2. a reader loads the time *before* the key and counts by exchanging the time it loaded;
//! 3. times in a cell only ever become later, so one that was loaded does not come back. (Threads that disagree on the time
//!    by more than an interval could break this for a cell that was freed; the price is one count on the wrong key.)
//!
//! New keys are put in under a mutex chosen by the key, so that two threads cannot give one key two cells, which would be two bursts.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::gcra;
use super::{Decision, Quota};

/// Cells for so many keys unless told otherwise: 3.2 MB. An attacker needs as many addresses, or users, to fill it.
pub const DEFAULT_CAPACITY: usize = 100_000;

/// Times by key, of fixed size. Shared by all threads.
#[derive(Debug)]
pub struct Table {
    cells: Box<[Cell]>,
    capacity: usize,
    /// Cells that hold a key, also those whose time is past and which nobody has come by yet.
    occupied: AtomicUsize,
    /// Where the next stripe of the sweep begins.
    cursor: AtomicUsize,
    overflow: AtomicU64,
    overflowed: AtomicU64,
    insert_locks: [Mutex<()>; INSERT_LOCKS],
}

#[derive(Debug, Default)]
struct Cell {
    /// TAT in nanoseconds, `FREE` or `RESERVED`.
    tat: AtomicU64,
    key: AtomicU64,
}

/// No key: a TAT is never 0, since it lies after a time.
const FREE: u64 = 0;

/// Being taken or freed; above [`gcra::MAX_TAT`].
const RESERVED: u64 = u64::MAX;

/// How many cells a key may be in, from its place on. With half of the cells empty, a key that finds none free among so many
/// is rarer than one in a million.
const WINDOW: usize = 32;

/// Cells per key of capacity: the half that stays empty keeps windows from filling. 16 bytes each.
const SLACK: usize = 2;

/// How many cells each new key sweeps. More than it takes, so that the sweep gets round even if all keys are new.
const STRIPE: usize = 64;

/// How many keys may be put in at the same time.
const INSERT_LOCKS: usize = 64;

/// Where a key is, or could be put.
enum Lookup {
    /// In this cell, with this TAT.
    At(usize, u64),
    /// Missing.
    Missing,
}

impl Default for Table {
    /// A table for [`DEFAULT_CAPACITY`] keys.
    fn default() -> Self {
        Self::new(DEFAULT_CAPACITY)
    }
}

impl Table {
    /// A table for `capacity` keys (at least 1) at about 32 bytes each, allocated at once.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            cells: (0..capacity.saturating_mul(SLACK)).map(|_| Cell::default()).collect(),
            capacity,
            occupied: AtomicUsize::new(0),
            cursor: AtomicUsize::new(0),
            overflow: AtomicU64::new(FREE),
            overflowed: AtomicU64::new(0),
            insert_locks: [const { Mutex::new(()) }; INSERT_LOCKS],
        }
    }

    /// Counts one for `key` if `quota` allows it. `now_micros` is monotonic time.
    ///
    /// One table serves different quotas; a key that changes between quotas keeps what it has used.
    pub fn take(&self, key: u64, quota: &Quota, now_micros: u64) -> Decision {
        let now = nanos(now_micros);
        if let Some(decision) = self.count_existing(key, quota, now) {
            return decision;
        }
        // Poisoned: a panic while nothing is protected but an order of steps, each of which leaves the table whole.
        let lock = self.insert_locks[self.place(key) % INSERT_LOCKS].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(decision) = self.count_existing(key, quota, now) {
            return decision;
        }
        let first = gcra::step(FREE, now, quota);
        let Some(next) = first.next else { return first.decision };
        self.sweep_stripe(now);
        let placed = self.put(key, next, now);
        drop(lock);
        if placed { first.decision } else { self.count_overflow(quota, now) }
    }

    /// Decides without counting: `remaining` and `full_again` are those of now.
    #[must_use]
    pub fn peek(&self, key: u64, quota: &Quota, now_micros: u64) -> Decision {
        let now = nanos(now_micros);
        match self.find(key) {
            Lookup::At(_, tat) => gcra::look(tat, now, quota),
            Lookup::Missing if self.has_room(key, now) => gcra::look(FREE, now, quota),
            Lookup::Missing => gcra::look(self.overflow.load(Ordering::Acquire), now, quota),
        }
    }

    /// Cells in use, those included whose time is past but which the sweep has not reached yet. At most the capacity.
    #[must_use]
    pub fn len(&self) -> usize {
        self.occupied.load(Ordering::Relaxed)
    }

    /// Is no cell in use?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many decisions had to be made with the overflow cell, since the table was made. If it grows, there are more keys than cells.
    #[must_use]
    pub fn overflow_count(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// Frees all cells whose time is past. New keys do this bit by bit on their own; calling it now and then keeps [`Table::len`] true.
    pub fn sweep(&self, now_micros: u64) {
        let now = nanos(now_micros);
        self.cells.iter().for_each(|cell| self.free_if_past(cell, now));
    }

    fn count_existing(&self, key: u64, quota: &Quota, now: u64) -> Option<Decision> {
        // Fails only when another thread counted for the same key in between, or took the cell.
        loop {
            let Lookup::At(index, tat) = self.find(key) else { return None };
            let step = gcra::step(tat, now, quota);
            let Some(next) = step.next else { return Some(step.decision) };
            if compare_exchange(&self.cells[index].tat, tat, next) {
                return Some(step.decision);
            }
        }
    }

    fn count_overflow(&self, quota: &Quota, now: u64) -> Decision {
        self.overflowed.fetch_add(1, Ordering::Relaxed);
        loop {
            let tat = self.overflow.load(Ordering::Acquire);
            let step = gcra::step(tat, now, quota);
            let Some(next) = step.next else { return step.decision };
            if compare_exchange(&self.overflow, tat, next) {
                return step.decision;
            }
        }
    }

    fn find(&self, key: u64) -> Lookup {
        for index in self.window(key) {
            let cell = &self.cells[index];
            // The time first: see the rules above.
            let tat = cell.tat.load(Ordering::Acquire);
            if tat != FREE && tat != RESERVED && cell.key.load(Ordering::Acquire) == key {
                return Lookup::At(index, tat);
            }
        }
        Lookup::Missing
    }

    /// Puts a key that is nowhere into a cell of its window. Its lock must be held.
    fn put(&self, key: u64, next: u64, now: u64) -> bool {
        let occupied = &self.occupied;
        for index in self.window(key) {
            let cell = &self.cells[index];
            let tat = cell.tat.load(Ordering::Acquire);
            if tat == RESERVED || tat > now {
                continue;
            }
            let is_counted = tat != FREE;
            let below = |count: usize| (count < self.capacity).then_some(count + 1);
            if !is_counted && occupied.fetch_update(Ordering::AcqRel, Ordering::Acquire, below).is_err() {
                // No new cell; one whose time is past may still come in this window.
                continue;
            }
            if compare_exchange(&cell.tat, tat, RESERVED) {
                cell.key.store(key, Ordering::Release);
                cell.tat.store(next, Ordering::Release);
                return true;
            }
            if !is_counted {
                occupied.fetch_sub(1, Ordering::AcqRel);
            }
        }
        false
    }

    fn has_room(&self, key: u64, now: u64) -> bool {
        let is_full = self.occupied.load(Ordering::Acquire) >= self.capacity;
        self.window(key).any(|index| match self.cells[index].tat.load(Ordering::Acquire) {
            FREE => !is_full,
            tat => tat <= now,
        })
    }

    fn sweep_stripe(&self, now: u64) {
        let start = self.cursor.fetch_add(STRIPE, Ordering::Relaxed);
        for offset in 0..STRIPE.min(self.cells.len()) {
            self.free_if_past(&self.cells[start.wrapping_add(offset) % self.cells.len()], now);
        }
    }

    fn free_if_past(&self, cell: &Cell, now: u64) {
        let tat = cell.tat.load(Ordering::Acquire);
        // Straight to free: the key may stay, since a free cell's key is not looked at.
        if tat != FREE && tat <= now && compare_exchange(&cell.tat, tat, FREE) {
            self.occupied.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Keys are hashes already, so the remainder spreads them evenly enough.
    fn place(&self, key: u64) -> usize {
        usize::try_from(key % self.cells.len() as u64).expect("less than a length")
    }

    fn window(&self, key: u64) -> impl Iterator<Item = usize> {
        let (place, cells) = (self.place(key), self.cells.len());
        (0..WINDOW.min(cells)).map(move |offset| (place + offset) % cells)
    }
}

fn compare_exchange(time: &AtomicU64, from: u64, to: u64) -> bool {
    time.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

fn nanos(micros: u64) -> u64 {
    micros.saturating_mul(1_000)
}

#[cfg(test)]
mod tests;
