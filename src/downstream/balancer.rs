//! Balancer: connections shared out evenly among the workers.
//!
//! The kernel gives a connection to the listener that a hash of its addresses picks, and never looks at who is busy: of 64 connections one of
//! two workers has 24 and the other 40 in a usual throw, and a client that keeps few connections for long may have all of them on one. A
//! worker that is noticeably ahead hands the connection it has just accepted to the one with the fewest. Where the kernel does not share
//! out at all, one worker accepts and this does it alone.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

/// A worker this many connections ahead of another is ahead; also an eighth of what the other has. Below it, handing over would cost
/// a wake-up of the other worker and even nothing out.
const MIN_LEAD: usize = 2;

/// All workers, as each of them sees the others.
#[derive(Clone, Debug)]
pub struct Balancer(Arc<[WorkerSlot]>);

#[derive(Debug)]
struct WorkerSlot {
    open: AtomicUsize,
    inbox: UnboundedSender<HandedOver>,
}

/// One worker's place among them.
#[derive(Debug)]
pub struct WorkerHandle {
    pub(super) all: Balancer,
    pub(super) worker: usize,
    /// What the others hand over. Bounded by the number of connections that may be open: each has its slot already.
    pub(super) inbox: UnboundedReceiver<HandedOver>,
}

impl WorkerHandle {
    /// All workers.
    #[must_use]
    pub fn balancer(&self) -> &Balancer {
        &self.all
    }
}

/// A connection on its way to another worker.
#[derive(Debug)]
pub(super) struct HandedOver {
    pub(super) stream: std::net::TcpStream,
    pub(super) address: IpAddr,
    pub(super) slot: OwnedSemaphorePermit,
    pub(super) place: LoadGuard,
}

/// One connection in its worker's count, until it is dropped.
#[derive(Debug)]
pub(super) struct LoadGuard(Arc<[WorkerSlot]>, usize);

/// Who serves a connection.
#[derive(Debug)]
pub(super) enum Assignment {
    /// The one who has accepted it.
    Own(TcpStream, OwnedSemaphorePermit, LoadGuard),
    /// Another worker, who has it by now.
    Others,
}

/// A handle for each of so many workers.
#[must_use]
pub fn handles(workers: usize) -> Vec<WorkerHandle> {
    let (inboxes, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
    let slots = inboxes.into_iter().map(|inbox| WorkerSlot { open: AtomicUsize::new(0), inbox });
    let all = Balancer(slots.collect());
    let handle = |(worker, inbox)| WorkerHandle { all: all.clone(), worker, inbox };
    receivers.into_iter().enumerate().map(handle).collect()
}

impl Balancer {
    /// How many connections each worker has.
    #[must_use]
    pub fn open(&self) -> Vec<usize> {
        self.0.iter().map(|slot| slot.open.load(Relaxed)).collect()
    }

    /// Counts a connection that `worker` has accepted, and gives it to whoever is to serve it.
    pub(super) fn assign(
        &self,
        worker: usize,
        stream: TcpStream,
        address: IpAddr,
        slot: OwnedSemaphorePermit,
    ) -> std::io::Result<Assignment> {
        let to = self.next(worker);
        if to == worker {
            return Ok(Assignment::Own(stream, slot, self.place(worker)));
        }
        let stream = stream.into_std()?;
        let handed = HandedOver { stream, address, slot, place: self.place(to) };
        match self.0[to].inbox.send(handed) {
            Ok(()) => Ok(Assignment::Others),
            // That worker has ended: the process is about to.
            Err(returned) => {
                let HandedOver { stream, slot, .. } = returned.0;
                Ok(Assignment::Own(TcpStream::from_std(stream)?, slot, self.place(worker)))
            }
        }
    }

    /// Who is to serve a connection that `worker` has accepted.
    fn next(&self, worker: usize) -> usize {
        let open = |worker: usize| self.0[worker].open.load(Relaxed);
        let fewest = (0..self.0.len()).min_by_key(|&other| open(other)).unwrap_or(worker);
        let ahead = open(worker).saturating_sub(open(fewest));
        if ahead >= MIN_LEAD.max(open(fewest) / 8) { fewest } else { worker }
    }

    fn place(&self, worker: usize) -> LoadGuard {
        self.0[worker].open.fetch_add(1, Relaxed);
        LoadGuard(Arc::clone(&self.0), worker)
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.0[self.1].open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connections come to the workers as `accepted` says; returned is how many each serves.
    fn served(workers: usize, accepted: impl Iterator<Item = usize>) -> Vec<usize> {
        let seats = handles(workers);
        let spread = &seats[0].all;
        let places: Vec<LoadGuard> = accepted.map(|worker| spread.place(spread.next(worker))).collect();
        let open = spread.open();
        drop(places);
        assert_eq!(spread.open(), vec![0; workers], "places are given back");
        open
    }

    #[test]
    fn nobody_is_far_ahead_however_the_kernel_throws() {
        for (name, workers, connections, most) in [
            ("64 on two", 2, 64, 36),
            ("1,000 on two", 2, 1_000, 535),
            ("64 on eight", 8, 64, 10),
            ("1,000 on eight", 8, 1_000, 142),
        ] {
            for (throw, accepted) in [
                ("all on one", (0..connections).map(|_| 0).collect::<Vec<_>>()),
                ("in turn", (0..connections).map(|number| number % workers).collect()),
                ("three of four on one", (0..connections).map(|n| if n % 4 == 3 { n % workers } else { 0 }).collect()),
            ] {
                let served = served(workers, accepted.into_iter());
                assert_eq!(served.iter().sum::<usize>(), connections);
                assert!(served.iter().all(|count| *count <= most), "{name}, {throw}: {served:?}");
            }
        }
    }

    #[test]
    fn an_even_throw_is_left_as_it_is() {
        let seats = handles(4);
        let spread = &seats[0].all;
        let mut places = Vec::new();
        for number in 0..100 {
            let next = spread.next(number % 4);
            assert_eq!(next, number % 4);
            places.push(spread.place(next));
        }
    }
}
