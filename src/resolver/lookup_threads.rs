//! The threads that look names up: at most [`MAX_THREADS`], started when they are needed and ended
//! when they are idle.
//!
//! A lookup cannot be cancelled, so a name server that does not answer holds a thread for as long
//! as the system waits. One name holds at most one thread, because it is never queued twice.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::{Lookup, Name};

/// More than this many names that do not resolve at the same time delay each other.
const MAX_THREADS: usize = 8;
/// How long a thread waits for the next lookup before it ends.
const MAX_IDLE: Duration = Duration::from_secs(30);

/// The threads and their queue.
pub(super) struct LookupThreads {
    lookup: Box<Lookup>,
    queue: Mutex<Queue>,
    added: Condvar,
}

#[derive(Default)]
struct Queue {
    /// Bounded by the number of configured names, each of which is in it at most once.
    names: VecDeque<Arc<Name>>,
    threads: usize,
    idle: usize,
}

impl fmt::Debug for LookupThreads {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LookupThreads").finish_non_exhaustive()
    }
}

impl LookupThreads {
    pub(super) fn new(lookup: Box<Lookup>) -> Arc<Self> {
        Arc::new(Self { lookup, queue: Mutex::default(), added: Condvar::new() })
    }

    /// Queues a lookup of `name`, whose result goes to [`Name::complete`].
    pub(super) fn submit(self: &Arc<Self>, name: Arc<Name>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.names.push_back(name);
        if queue.idle >= queue.names.len() {
            self.added.notify_one();
        } else if queue.threads < MAX_THREADS {
            queue.threads += 1;
            let threads = Arc::clone(self);
            let spawned = std::thread::Builder::new().name("resolver".into()).spawn(move || threads.run());
            if let Err(error) = spawned {
                queue.threads -= 1;
                // Another thread may still do it. Without any, it fails, and the next use tries
                // again.
                if queue.threads == 0 {
                    while let Some(name) = queue.names.pop_front() {
                        name.complete(Err(io::Error::new(error.kind(), error.to_string())));
                    }
                }
            }
        }
    }

    fn run(&self) {
        while let Some(name) = self.next() {
            let lookup = std::panic::AssertUnwindSafe(|| (self.lookup)(name.text()));
            let result: io::Result<Vec<IpAddr>> =
                std::panic::catch_unwind(lookup).unwrap_or_else(|_panic| Err(io::Error::other("the lookup panicked")));
            name.complete(result);
        }
    }

    /// Waits for a name. `None` if the thread should end.
    fn next(&self) -> Option<Arc<Name>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(name) = queue.names.pop_front() {
                return Some(name);
            }
            queue.idle += 1;
            let (woken, waited) = self.added.wait_timeout(queue, MAX_IDLE).unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            queue.idle -= 1;
            if waited.timed_out() && queue.names.is_empty() {
                queue.threads -= 1;
                return None;
            }
        }
    }
}
