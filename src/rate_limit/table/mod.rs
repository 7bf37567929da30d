//! Rate limit table: a hash table of fixed size with one TAT (see `gcra.rs`) per key.
//!
//! Keys come from clients, so the table never grows. A cell whose TAT is in the past is equivalent
//! to no cell, and the table reuses it. A cell whose TAT is in the future is never evicted:
//! otherwise an attacker could evict its own cell by sending many other keys.
//!
//! **No client can fill the table.** A network occupies at most a tenth of it with keys that it can
//! make up (see [`KeyOrigin`]); beyond that, its new keys are counted as one, the network's. If
//! many networks fill the table together, new keys share *overflow cells*: made-up keys with those
//! of the same network, verified ones with a few others. Neither lifts the limit, and neither
//! affects clients that already have a cell.
//!
//! **Concurrency.** Counting a request of a known key takes no lock. A cell is a pair of atomics,
//! so reusing it must not let a request of the old key count against the new one. Three rules
//! ensure this:
//! 1. A cell is released only if its TAT is in the past, by exchanging exactly that TAT for
//!    `RESERVED`. The thread that did so has the cell to itself until it stores another TAT: it
//!    writes the new owner and key, and then the TAT, or `FREE`.
//! 2. A reader loads the TAT *before* the key, and counts by exchanging the TAT that it loaded.
//! 3. The TAT of a cell only ever increases, so a TAT that a reader loaded does not reappear.
//!    Threads whose clocks differ by more than one interval could break this for a released cell;
//!    the effect is one request counted for the wrong key.
//!
//! New keys are inserted under a mutex chosen by the key. Without it two threads could insert the
//! same key into two cells, which would double its burst.

mod share;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

pub use share::KeyOrigin;

use share::{Owner, Shares};

use super::gcra;
use super::{Quota, QuotaDecision};

/// Default number of keys. A table that is full takes 4.8 MB.
pub(crate) const DEFAULT_CAPACITY: usize = 100_000;

/// The part of the capacity that one network may occupy with keys that it can make up: enough for
/// the customers behind the largest shared addresses.
const NETWORK_SHARE: usize = 10;

/// Number of overflow cells.
const OVERFLOW_CELLS: usize = 1024;

/// The TAT of each key, in a fixed number of cells. Shared by all threads.
#[derive(Debug)]
pub struct Table {
    cells: Box<[Cell]>,
    capacity: usize,
    /// Number of cells that hold a key, including those whose TAT is in the past but which were not
    /// swept yet.
    occupied: AtomicUsize,
    /// Where the next insertion starts to sweep.
    cursor: AtomicUsize,
    shares: Shares,
    /// The TAT of each overflow cell.
    overflow: Box<[AtomicU64]>,
    /// Number of requests whose key got no cell of its own.
    overflowed: AtomicU64,
    insert_locks: [Mutex<()>; INSERT_LOCKS],
}

#[derive(Debug)]
struct Cell {
    /// The TAT in nanoseconds, `FREE` or `RESERVED`.
    tat: AtomicU64,
    key: AtomicU64,
    /// Which network the cell is counted for.
    owner: Owner,
}

/// Marks a cell without a key. No TAT is 0, because a TAT is later than the time of a request.
const FREE: u64 = 0;

/// Marks a cell that one thread has to itself; above [`gcra::MAX_TAT`].
const RESERVED: u64 = u64::MAX;
const _: () = assert!(gcra::MAX_TAT < RESERVED, "no TAT is taken for the mark");

/// Number of cells, starting at its home cell, in which a key may be stored. With half of the cells
/// free, fewer than one key in a million finds its whole window taken.
const WINDOW: usize = 32;

/// Cells per key of capacity. Half of the cells stay free, so that windows do not fill up. A cell
/// takes 24 bytes.
const CELLS_PER_KEY: usize = 2;

/// Number of cells that each insertion sweeps. An insertion takes one cell, so the sweep covers the
/// whole table well before insertions can fill it.
const STRIPE: usize = 64;

/// Number of locks for insertions: that many keys can be inserted at the same time.
const INSERT_LOCKS: usize = 64;

/// What an insertion stores.
#[derive(Clone, Copy)]
struct NewCell {
    key: u64,
    /// The TAT.
    next: u64,
    /// The network that the cell counts against, unless the key is verified.
    network: Option<u64>,
}

/// The result of a search for a key.
enum Lookup {
    /// The index of the key's cell, and the TAT that it held.
    Found(usize, u64),
    /// The key has no cell.
    Missing,
}

impl Default for Table {
    /// A table for [`DEFAULT_CAPACITY`] keys.
    fn default() -> Self {
        Self::new(DEFAULT_CAPACITY)
    }
}

impl Table {
    /// A table for `capacity` keys, at least 1. Allocates about 48 bytes per key, which become
    /// resident as they are used.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            cells: free_cells(capacity.saturating_mul(CELLS_PER_KEY)),
            capacity,
            occupied: AtomicUsize::new(0),
            cursor: AtomicUsize::new(0),
            shares: Shares::new((capacity / NETWORK_SHARE).max(1)),
            overflow: (0..OVERFLOW_CELLS).map(|_| AtomicU64::new(FREE)).collect(),
            overflowed: AtomicU64::new(0),
            insert_locks: [const { Mutex::new(()) }; INSERT_LOCKS],
        }
    }

    /// Counts a request of `key` if `quota` allows it. `now_micros` is monotonic time.
    ///
    /// The quota may differ between calls, also for the same key, which keeps what it has used.
    pub fn take(&self, key: u64, origin: KeyOrigin, quota: &Quota, now_micros: u64) -> QuotaDecision {
        let now = nanos(now_micros);
        if let Some(decision) = self.count_existing(key, quota, now) {
            return decision;
        }
        let network = origin.network();
        let own_key = key;
        let key = self.within_share(own_key, network);
        if key != own_key {
            self.overflowed.fetch_add(1, Ordering::Relaxed);
            if let Some(decision) = self.count_existing(key, quota, now) {
                return decision;
            }
        }
        // The lock guards no data of its own, and every step of an insertion leaves the table
        // consistent, so a poisoned lock is safe to use.
        let lock = self.insert_locks[self.home(key) % INSERT_LOCKS].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(decision) = self.count_existing(key, quota, now) {
            return decision;
        }
        let first = gcra::evaluate(FREE, now, quota);
        let Some(next) = first.next else { return first.decision };
        self.sweep_stripe(now);
        let is_inserted = self.insert(NewCell { key, next, network }, now);
        drop(lock);
        if is_inserted {
            return first.decision;
        }
        if key == own_key {
            self.overflowed.fetch_add(1, Ordering::Relaxed);
        }
        self.count_overflow(network.unwrap_or(key), quota, now)
    }

    /// Decides without counting the request: `remaining` and `full_after` describe the state before
    /// it.
    #[must_use]
    pub fn peek(&self, key: u64, origin: KeyOrigin, quota: &Quota, now_micros: u64) -> QuotaDecision {
        let now = nanos(now_micros);
        if let Lookup::Found(_, tat) = self.find(key) {
            return gcra::peek(tat, now, quota);
        }
        let network = origin.network();
        let key = self.within_share(key, network);
        match self.find(key) {
            Lookup::Found(_, tat) => gcra::peek(tat, now, quota),
            Lookup::Missing if self.has_room(key, now) => gcra::peek(FREE, now, quota),
            Lookup::Missing => {
                gcra::peek(self.overflow_cell(network.unwrap_or(key)).load(Ordering::Acquire), now, quota)
            }
        }
    }

    /// Number of cells in use, including those whose TAT is in the past but which were not swept
    /// yet. At most the capacity.
    #[must_use]
    pub fn occupied(&self) -> usize {
        self.occupied.load(Ordering::Relaxed)
    }

    /// Number of requests since the table was created whose key got no cell of its own. It grows
    /// when there are more active keys than cells, or than cells for the client's network.
    #[must_use]
    pub fn overflow_count(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// Frees all cells whose TAT is in the past, which insertions otherwise do in small steps.
    #[cfg(test)]
    fn sweep(&self, now_micros: u64) {
        let now = nanos(now_micros);
        self.cells.iter().for_each(|cell| self.free_if_past(cell, now));
    }

    fn count_existing(&self, key: u64, quota: &Quota, now: u64) -> Option<QuotaDecision> {
        // The exchange fails only if another thread has counted a request of the same key or reused
        // the cell meanwhile.
        loop {
            let Lookup::Found(index, tat) = self.find(key) else { return None };
            let evaluation = gcra::evaluate(tat, now, quota);
            let Some(next) = evaluation.next else { return Some(evaluation.decision) };
            if compare_exchange(&self.cells[index].tat, tat, next) {
                return Some(evaluation.decision);
            }
        }
    }

    /// The key to count a new key by: its network's, if that occupies as many cells as it may.
    fn within_share(&self, key: u64, network: Option<u64>) -> u64 {
        network.filter(|network| self.shares.is_used_up(*network)).unwrap_or(key)
    }

    fn overflow_cell(&self, key: u64) -> &AtomicU64 {
        let index = usize::try_from(key % OVERFLOW_CELLS as u64).expect("a remainder is less than the divisor");
        &self.overflow[index]
    }

    fn count_overflow(&self, key: u64, quota: &Quota, now: u64) -> QuotaDecision {
        let cell = self.overflow_cell(key);
        loop {
            let tat = cell.load(Ordering::Acquire);
            let evaluation = gcra::evaluate(tat, now, quota);
            let Some(next) = evaluation.next else { return evaluation.decision };
            if compare_exchange(cell, tat, next) {
                return evaluation.decision;
            }
        }
    }

    fn find(&self, key: u64) -> Lookup {
        for index in self.window(key) {
            let cell = &self.cells[index];
            // Loaded before the key, by rule 2 of the module.
            let tat = cell.tat.load(Ordering::Acquire);
            if tat != FREE && tat != RESERVED && cell.key.load(Ordering::Acquire) == key {
                return Lookup::Found(index, tat);
            }
        }
        Lookup::Missing
    }

    /// Inserts a key that has no cell into its window; returns whether there was room. The key's
    /// lock must be held.
    fn insert(&self, new: NewCell, now: u64) -> bool {
        let occupied = &self.occupied;
        for index in self.window(new.key) {
            let cell = &self.cells[index];
            let tat = cell.tat.load(Ordering::Acquire);
            if tat == RESERVED || tat > now {
                continue;
            }
            let is_counted = tat != FREE;
            let below = |count: usize| (count < self.capacity).then_some(count + 1);
            if !is_counted && occupied.fetch_update(Ordering::AcqRel, Ordering::Acquire, below).is_err() {
                // The table is at capacity, but a later cell of this window may hold a TAT in the
                // past and be reused.
                continue;
            }
            if compare_exchange(&cell.tat, tat, RESERVED) {
                self.shares.assign(&cell.owner, new.network);
                cell.key.store(new.key, Ordering::Release);
                cell.tat.store(new.next, Ordering::Release);
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
        // The key may stay: no reader looks at the key of a free cell.
        if tat != FREE && tat <= now && compare_exchange(&cell.tat, tat, RESERVED) {
            self.shares.assign(&cell.owner, None);
            cell.tat.store(FREE, Ordering::Release);
            self.occupied.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// The first cell of a key's window. Keys are hashes already, so the remainder distributes them
    /// evenly enough.
    fn home(&self, key: u64) -> usize {
        usize::try_from(key % self.cells.len() as u64).expect("a remainder is less than the number of cells")
    }

    fn window(&self, key: u64) -> impl Iterator<Item = usize> {
        let (home, cells) = (self.home(key), self.cells.len());
        (0..WINDOW.min(cells)).map(move |offset| (home + offset) % cells)
    }
}

fn compare_exchange(tat: &AtomicU64, from: u64, to: u64) -> bool {
    tat.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

/// Cells without a key, in memory that becomes resident when a cell is first used.
///
/// Zeroed memory costs nothing until something is written to it. The cells take over the allocation
/// of the zeros, whose bytes they have, so the compiler leaves nothing to write.
fn free_cells(count: usize) -> Box<[Cell]> {
    let zeros = vec![[FREE, 0, share::NO_NETWORK]; count];
    let cells = zeros.into_iter().map(|[tat, key, owner]| Cell {
        tat: AtomicU64::new(tat),
        key: AtomicU64::new(key),
        owner: Owner::from(owner),
    });
    cells.collect::<Vec<_>>().into_boxed_slice()
}

fn nanos(micros: u64) -> u64 {
    micros.saturating_mul(1_000)
}

#[cfg(test)]
mod tests;
