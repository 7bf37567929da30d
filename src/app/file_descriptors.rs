//! File descriptors: raises the process's limit, and divides it between clients and everything
//! else.
//!
//! Each connection takes a descriptor. If client connections took all of them, a request that is
//! already accepted could not be forwarded, keys could not be fetched, and the admin listener would
//! not answer. So `max_connections` is lowered if the limit has no room for all.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::StartError;
use crate::plan::Plan;
use crate::upstream::UpstreamSettings;

/// Descriptors of a thread: its event queue, and what wakes it.
const PER_THREAD: usize = 8;
/// Connections that fetching keys may take for each issuer: to discovery and to the key set, each
/// with one that is still closing.
const PER_ISSUER: usize = 4;
/// Standard streams, signals, files that are read at a reload or a scrape.
const OTHERS: usize = 32;
/// The fewest client connections that are worth starting for.
const MIN_CLIENTS: usize = 16;

/// What a configuration may need at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Demand {
    /// Client connections.
    clients: usize,
    /// Connections to upstreams.
    upstreams: usize,
    /// What the process needs besides.
    own: usize,
}

/// The limit on file descriptors is too low to serve at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the process may open {limit} files, and this configuration needs {min} to start and up to {max}; \
     raise the limit (LimitNOFILE in systemd, ulimit -n)"
)]
pub struct TooFewDescriptors {
    limit: usize,
    min: usize,
    max: usize,
}

/// Raises the soft limit to the hard limit. Returns the limit; `None`: there is none.
pub(super) fn raise_limit() -> Option<usize> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current.map(to_usize);
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => {
            tracing::info!(from = ?current, to = ?maximum, "raised the limit on open files");
            maximum.map(to_usize)
        }
        Err(error) => {
            tracing::warn!(%error, limit = ?current, "cannot raise the limit on open files");
            current.map(to_usize)
        }
    }
}

/// How many client connections may be open under `limit`: `max_connections`, or fewer, with an
/// event that says so.
///
/// # Errors
///
/// [`TooFewDescriptors`], if too few would be left.
pub(super) fn max_connections(plan: &Plan, limit: Option<usize>) -> Result<usize, StartError> {
    let demand = Demand::of(plan);
    let Some(limit) = limit else { return Ok(demand.clients) };
    let clients = demand.clients_under(limit)?;
    if clients < demand.clients {
        tracing::warn!(
            limit,
            needed = demand.max(),
            max_connections = clients,
            "the limit on open files is too low for this configuration: max_connections is lowered"
        );
    }
    Ok(clients)
}

impl Demand {
    fn of(plan: &Plan) -> Self {
        let workers = plan.server.workers.count();
        // Besides the workers: the control thread and that of the admin listener. A listener holds
        // the connection that it has accepted and that waits for a permit.
        let threads = workers + 2;
        // Twice, because of the copy of each socket that is kept for a process that takes over.
        let per_listener = if plan.server.takeover_socket.is_some() { 3 } else { 2 };
        let listeners = per_listener * workers * plan.server.listeners.len();
        let admin = plan.admin.map_or(0, |_| 1 + crate::admin::MAX_CONNECTIONS);
        Self {
            clients: plan.server.max_connections,
            upstreams: plan.upstreams.values().map(UpstreamSettings::max_connections_in_all).sum(),
            own: OTHERS + threads * PER_THREAD + listeners + admin + plan.issuers.len() * PER_ISSUER,
        }
    }

    fn max(self) -> usize {
        self.clients + self.upstreams + self.own
    }

    /// The upstreams keep what they may need, but at most half: a request takes one connection on
    /// either side.
    fn clients_under(self, limit: usize) -> Result<usize, TooFewDescriptors> {
        let min = self.own + 2 * MIN_CLIENTS;
        if limit < min {
            return Err(TooFewDescriptors { limit, min, max: self.max() });
        }
        let shared = limit - self.own;
        Ok(self.clients.min(shared.saturating_sub(self.upstreams).max(shared / 2)))
    }
}

fn to_usize(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_text;

    #[test]
    fn clients_get_what_is_left_and_at_least_half() {
        let demand = Demand { clients: 10_000, upstreams: 1_024, own: 200 };
        assert_eq!(demand.max(), 11_224);
        for (name, limit, expected) in [
            ("enough", 65_536, Some(10_000)),
            ("exactly enough", 11_224, Some(10_000)),
            ("one too few", 11_223, Some(9_999)),
            ("the upstreams keep theirs", 4_096, Some(2_872)),
            ("too few for both: half each", 1_024, Some(412)),
            ("the least", 232, Some(16)),
            ("too few", 231, None),
        ] {
            assert_eq!(demand.clients_under(limit).ok(), expected, "{name}");
        }
        let few = Demand { clients: 100, ..demand };
        assert_eq!(few.clients_under(1_024), Ok(100), "more than half is not needed");
    }

    /// A host name can have 64 addresses, each of which is a server.
    #[test]
    fn upstreams_need_connections_to_each_address_of_a_server() {
        for (servers, expected) in [
            ("[\"http://127.0.0.1:1\", \"http://[::1]:1\"]", 20),
            ("[\"unix:/run/a.sock\"]", 10),
            ("[\"http://127.0.0.1:1\", \"http://orders.internal\"]", 650),
        ] {
            let route = "[[routes]]\npath = \"/*\"\naccess = \"public\"\nupstream = \"a\"";
            let text = format!("[upstreams.a]\nservers = {servers}\nmax_connections = 10\n{route}");
            let plan = Plan::compile(load_text("gateway.toml", &text, &|_| None)).unwrap();
            assert_eq!(Demand::of(&plan).upstreams, expected, "{servers}");
        }
    }

    #[test]
    fn the_error_names_both_figures() {
        let demand = Demand { clients: 10_000, upstreams: 1_024, own: 200 };
        let text = demand.clients_under(100).unwrap_err().to_string();
        assert!(text.contains("may open 100 files") && text.contains("232 to start and up to 11224"), "{text}");
    }
}
