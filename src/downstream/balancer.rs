//! Balancer: spreads connections evenly over the workers.
//!
//! The kernel picks a listener by a hash of the addresses, regardless of load: of 64 connections,
//! one of two workers typically gets 24 and the other 40, and a client with a few long-lived
//! connections may have all of them on one worker. A worker that is clearly ahead therefore hands a
//! connection that it has just accepted to the worker with the fewest. Where the kernel does not
//! spread connections at all, one worker accepts them and the balancer does all of the spreading.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::connection_limits::ConnectionPermit;
use super::socket::{ClientSocket, DetachedSocket};
use crate::gateway::PeerAddress;
use crate::primitives::listen_address::ListenerService;

/// A worker hands a connection over if it is ahead of another by at least this many, and by at
/// least an eighth of the other's connections. With a smaller lead, waking the other worker costs
/// more than an even spread saves.
const MIN_LEAD: usize = 2;

/// The connection counts and inboxes of all workers.
#[derive(Clone, Debug)]
pub struct Balancer(Arc<[WorkerSlot]>);

#[derive(Debug)]
struct WorkerSlot {
    open: AtomicUsize,
    sender: UnboundedSender<HandedOverConnection>,
}

/// What one worker needs to share connections with the others.
#[derive(Debug)]
pub struct WorkerHandle {
    pub(super) balancer: WorkerBalancer,
    /// Receives connections that other workers hand over. Bounded by `max_connections`, because
    /// each of them has its permit already.
    pub(super) inbox: UnboundedReceiver<HandedOverConnection>,
}

impl WorkerHandle {
    /// The balancer of all workers.
    #[must_use]
    pub fn balancer(&self) -> &Balancer {
        &self.balancer.all
    }
}

/// The balancer from the point of view of one worker.
#[derive(Clone, Debug)]
pub(super) struct WorkerBalancer {
    all: Balancer,
    worker: usize,
}

/// A connection that a worker has accepted, before a worker is chosen to serve it.
#[derive(Debug)]
pub(super) struct AcceptedConnection {
    pub(super) socket: ClientSocket,
    pub(super) peer: PeerAddress,
    pub(super) service: ListenerService,
    pub(super) permit: ConnectionPermit,
}

/// A connection that this worker serves.
#[derive(Debug)]
pub(super) struct AssignedConnection {
    pub(super) accepted: AcceptedConnection,
    pub(super) load: LoadGuard,
}

/// A connection on its way to another worker, registered with no runtime.
#[derive(Debug)]
pub(super) struct HandedOverConnection {
    socket: DetachedSocket,
    peer: PeerAddress,
    service: ListenerService,
    permit: ConnectionPermit,
    load: LoadGuard,
}

/// Counts a connection in its worker's load until it is dropped.
#[derive(Debug)]
pub(super) struct LoadGuard {
    balancer: Balancer,
    worker: usize,
}

/// Which worker serves a connection.
#[derive(Debug)]
pub(super) enum Assignment {
    /// Another one, to which the connection has been sent.
    OtherWorker,
    /// The one that has accepted it.
    ThisWorker(AssignedConnection),
}

/// Creates the handles of `workers` workers that share connections.
#[must_use]
pub fn handles(workers: usize) -> Vec<WorkerHandle> {
    let (senders, inboxes): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
    let slots = senders.into_iter().map(|sender| WorkerSlot { open: AtomicUsize::new(0), sender });
    let all = Balancer(slots.collect());
    let handle = |(worker, inbox)| WorkerHandle { balancer: WorkerBalancer { all: all.clone(), worker }, inbox };
    inboxes.into_iter().enumerate().map(handle).collect()
}

impl Balancer {
    /// The number of open connections of each worker.
    #[must_use]
    pub fn open(&self) -> Vec<usize> {
        self.0.iter().map(|slot| slot.open.load(Relaxed)).collect()
    }

    /// The worker to serve a connection that `accepted_by` has accepted.
    fn choose_worker(&self, accepted_by: usize) -> usize {
        let open = |worker: usize| self.0[worker].open.load(Relaxed);
        let least_loaded = (0..self.0.len()).min_by_key(|&worker| open(worker)).unwrap_or(accepted_by);
        let lead = open(accepted_by).saturating_sub(open(least_loaded));
        if lead >= MIN_LEAD.max(open(least_loaded) / 8) { least_loaded } else { accepted_by }
    }

    fn add_load(&self, worker: usize) -> LoadGuard {
        self.0[worker].open.fetch_add(1, Relaxed);
        LoadGuard { balancer: self.clone(), worker }
    }
}

impl WorkerBalancer {
    /// Counts a connection that this worker has accepted, and sends it to another worker if that is
    /// to serve it.
    ///
    /// # Errors
    ///
    /// An error of moving the socket from one runtime to another.
    pub(super) fn assign(&self, accepted: AcceptedConnection) -> io::Result<Assignment> {
        let worker = self.all.choose_worker(self.worker);
        let load = self.all.add_load(worker);
        if worker == self.worker {
            return Ok(Assignment::ThisWorker(AssignedConnection { accepted, load }));
        }
        let AcceptedConnection { socket, peer, service, permit } = accepted;
        let connection = HandedOverConnection { socket: socket.detach()?, peer, service, permit, load };
        match self.all.0[worker].sender.send(connection) {
            Ok(()) => Ok(Assignment::OtherWorker),
            // The other worker is about to end, and so is this process.
            Err(returned) => {
                let AssignedConnection { accepted, .. } = returned.0.take_over()?;
                Ok(Assignment::ThisWorker(AssignedConnection { accepted, load: self.all.add_load(self.worker) }))
            }
        }
    }
}

impl HandedOverConnection {
    /// Registers the connection with the runtime of the worker that serves it.
    ///
    /// # Errors
    ///
    /// An error of registering the socket.
    pub(super) fn take_over(self) -> io::Result<AssignedConnection> {
        let Self { socket, peer, service, permit, load } = self;
        let accepted = AcceptedConnection { socket: socket.attach()?, peer, service, permit };
        Ok(AssignedConnection { accepted, load })
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.balancer.0[self.worker].open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;
    use crate::downstream::connection_limits::{ConnectionLimits, Maximum};
    use crate::primitives::clock::Clock;
    use crate::telemetry::metrics::Metrics;

    /// Opens connections that the workers in `accepted_by` accept; returns how many each worker
    /// serves.
    fn spread(workers: usize, accepted_by: impl Iterator<Item = usize>) -> Vec<usize> {
        let handles = handles(workers);
        let balancer = handles[0].balancer();
        let loads: Vec<LoadGuard> =
            accepted_by.map(|worker| balancer.add_load(balancer.choose_worker(worker))).collect();
        let open = balancer.open();
        drop(loads);
        assert_eq!(balancer.open(), vec![0; workers], "closed connections are not counted");
        open
    }

    #[test]
    fn no_worker_is_far_ahead_however_uneven_the_kernel_spreads_connections() {
        for (name, workers, connections, max) in [
            ("64 on two", 2, 64, 36),
            ("1,000 on two", 2, 1_000, 535),
            ("64 on eight", 8, 64, 10),
            ("1,000 on eight", 8, 1_000, 142),
        ] {
            for (pattern, accepted_by) in [
                ("all on one", (0..connections).map(|_| 0).collect::<Vec<_>>()),
                ("round robin", (0..connections).map(|number| number % workers).collect()),
                ("three of four on one", (0..connections).map(|n| if n % 4 == 3 { n % workers } else { 0 }).collect()),
            ] {
                let open = spread(workers, accepted_by.into_iter());
                assert_eq!(open.iter().sum::<usize>(), connections);
                assert!(open.iter().all(|count| *count <= max), "{name}, {pattern}: {open:?}");
            }
        }
    }

    /// While the process drains, each worker ends when it has no connections left.
    #[tokio::test]
    async fn a_worker_keeps_a_connection_that_the_other_one_no_longer_takes() {
        let [first, mut second] = <[WorkerHandle; 2]>::try_from(handles(2)).unwrap();
        let all = first.balancer().clone();
        let _ahead: Vec<_> = (0..MIN_LEAD).map(|_| all.add_load(0)).collect();
        let metrics = Metrics::new(Clock::system());
        let limits = ConnectionLimits::new(Maximum { configured: 9, possible: 9 }, metrics.connections());
        let assign = async || {
            let socket = ClientSocket::Unix(UnixStream::pair().unwrap().0);
            let permit = limits.admit(None).await.unwrap();
            let (peer, service) = (PeerAddress::UnixSocket, ListenerService::Plain);
            first.balancer.assign(AcceptedConnection { socket, peer, service, permit }).unwrap()
        };
        assert!(matches!(assign().await, Assignment::OtherWorker));
        second.inbox.close();
        assert!(second.inbox.recv().await.is_some(), "what was sent before is still there");
        let Assignment::ThisWorker(connection) = assign().await else { panic!("the other worker has ended") };
        assert_eq!(all.open(), [MIN_LEAD + 1, 0]);
        drop(connection);
    }

    #[test]
    fn evenly_accepted_connections_stay_where_they_are() {
        let handles = handles(4);
        let balancer = handles[0].balancer();
        let mut loads = Vec::new();
        for number in 0..100 {
            let worker = balancer.choose_worker(number % 4);
            assert_eq!(worker, number % 4);
            loads.push(balancer.add_load(worker));
        }
    }
}
