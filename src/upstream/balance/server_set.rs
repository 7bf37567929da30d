//! The servers of an upstream, with what it takes to pick one of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::ring::{Ring, RingMember};
use super::weighted_order::{WeightedOrder, reduced};
use super::{Balance, Candidates};
use crate::upstream::health::Availability;
use crate::upstream::server::Server;

/// After this many draws without an eligible server, all servers are searched instead.
const MAX_DRAWS: usize = 8;

/// After this many turns without an eligible server, all servers are searched instead.
const MAX_TURNS: usize = 64;

/// After this many points of the ring without an eligible server, all servers are searched instead.
const MAX_POINTS: usize = 256;

/// How far above its share of the requests in flight a server may be before it passes keys on, as a
/// fraction: a quarter above. Less would move more keys, more would allow more uneven loads
/// (Mirrokni, Thorup and Zadimoghaddam: Consistent Hashing with Bounded Loads, 2016).
const LOAD_FACTOR: (usize, usize) = (5, 4);

/// The servers of an upstream: one or more.
#[derive(Debug)]
pub(in crate::upstream) struct ServerSet {
    servers: Vec<Arc<Server>>,
    order: WeightedOrder,
    method: Method,
}

#[derive(Debug)]
enum Method {
    Hash(Ring),
    LeastRequest,
    RoundRobin {
        /// Counts the picks.
        turns: AtomicU64,
    },
}

/// Which servers a pick accepts. Each level is tried if the one before it has no server.
#[derive(Clone, Copy, Debug)]
enum Level {
    /// Those that are up, and those that have recovered for their share of the picks.
    Share,
    /// All that are up.
    Up,
    /// Those that have failed lately, too.
    Suspect,
}

/// What a pick has found.
#[derive(Clone, Copy, Debug)]
pub(super) enum PickedServer<'a> {
    /// A server that is up.
    Up(&'a Arc<Server>),
    /// No server is up; this one has failed lately.
    Suspect(&'a Arc<Server>),
    /// No server may get a request.
    None,
}

impl Level {
    /// `chance` is spread evenly over the requests.
    fn accepts(self, server: &Server, chance: usize) -> bool {
        match self {
            Self::Share => server.availability().admits(chance),
            Self::Up => server.is_up(),
            Self::Suspect => server.availability() != Availability::Down,
        }
    }
}

impl ServerSet {
    /// The set of these servers: one or more.
    pub(in crate::upstream) fn new(balance: &Balance, servers: Vec<Arc<Server>>) -> Self {
        let weights: Vec<u32> = servers.iter().map(|server| server.weight()).collect();
        let method = match balance {
            Balance::Hash(_) => {
                let weighted = servers.iter().zip(reduced(&weights));
                let members: Vec<RingMember<'_>> =
                    weighted.map(|(server, weight)| RingMember { identity: server.label(), weight }).collect();
                Method::Hash(Ring::new(&members))
            }
            Balance::LeastRequest => Method::LeastRequest,
            Balance::RoundRobin => Method::RoundRobin { turns: AtomicU64::new(0) },
        };
        Self { servers, order: WeightedOrder::new(&weights), method }
    }

    /// All servers.
    pub(in crate::upstream) fn all(&self) -> &[Arc<Server>] {
        &self.servers
    }

    /// Whether one of the `candidates` is up.
    pub(in crate::upstream) fn has_candidate_up(&self, candidates: &Candidates) -> bool {
        self.servers.iter().any(|server| !candidates.has_failed(server) && server.is_up())
    }

    /// Picks one of the `candidates`. `draw` returns random numbers.
    pub(super) fn pick(
        &self,
        candidates: &Candidates,
        affinity: Option<u64>,
        draw: &mut dyn FnMut() -> u64,
    ) -> PickedServer<'_> {
        // A key that a recovering server does not admit yet goes to another one until it does.
        let chance = affinity.unwrap_or_else(&mut *draw) % 100;
        let chance = usize::try_from(chance).expect("less than a hundred");
        let mut pick = |level: Level| {
            let is_eligible = |server: &Server| !candidates.has_failed(server) && level.accepts(server, chance);
            match (&*self.servers, &self.method, affinity) {
                ([only], _, _) => is_eligible(only).then_some(only),
                (servers, Method::Hash(ring), Some(key)) => pick_by_hash(servers, ring, key, is_eligible),
                (servers, Method::RoundRobin { turns }, _) => self.pick_in_turn(servers, turns, is_eligible),
                (servers, Method::LeastRequest | Method::Hash(_), _) => {
                    self.pick_less_loaded(servers, draw, is_eligible)
                }
            }
        };
        match pick(Level::Share).or_else(|| pick(Level::Up)) {
            Some(server) => PickedServer::Up(server),
            None => pick(Level::Suspect).map_or(PickedServer::None, PickedServer::Suspect),
        }
    }

    /// The server whose turn it is. A turn that falls on a server that is not eligible is passed
    /// over, so that the others keep their proportions; were it given to the next one, that server
    /// would get the share of both.
    fn pick_in_turn<'a>(
        &self,
        servers: &'a [Arc<Server>],
        turns: &AtomicU64,
        is_eligible: impl Fn(&Server) -> bool,
    ) -> Option<&'a Arc<Server>> {
        let mut turn = 0;
        for _ in 0..self.order.len().min(MAX_TURNS) {
            turn = turns.fetch_add(1, Ordering::Relaxed);
            let server = &servers[self.order.server_at(turn)];
            if is_eligible(server) {
                return Some(server);
            }
        }
        // Other workers may have had the turns of the eligible ones.
        from(servers, turn).find(|server| is_eligible(server))
    }

    /// Of two servers drawn at random, the one with fewer requests in flight (Mitzenmacher: The
    /// Power of Two Choices in Randomized Load Balancing, 2001). Comparing all would be no better,
    /// and all workers would pick the same server at the same time.
    fn pick_less_loaded<'a>(
        &self,
        servers: &'a [Arc<Server>],
        draw: &mut dyn FnMut() -> u64,
        is_eligible: impl Fn(&Server) -> bool,
    ) -> Option<&'a Arc<Server>> {
        let mut first = None;
        // Two servers are simply compared, below.
        let draws = if servers.len() == 2 { 1 } else { MAX_DRAWS };
        for _ in 0..draws {
            let server = &servers[self.order.server_at(draw())];
            match first {
                _ if !is_eligible(server) => {}
                None => first = Some(server),
                Some(first) if Arc::ptr_eq(first, server) => {}
                Some(first) => return Some(less_loaded(first, server)),
            }
        }
        let eligible = from(servers, draw()).filter(|server| is_eligible(server));
        first.into_iter().chain(eligible).reduce(less_loaded)
    }
}

/// The server of `key`, or the next one on the ring that has room.
fn pick_by_hash<'a>(
    servers: &'a [Arc<Server>],
    ring: &Ring,
    key: u64,
    is_eligible: impl Fn(&Server) -> bool,
) -> Option<&'a Arc<Server>> {
    let mut bound = None;
    let mut has_room = |server: &Server| {
        let in_flight = server.in_flight();
        // Usually true, so that nothing has to be computed.
        in_flight == 0 || {
            let (requests, weight) = *bound.get_or_insert_with(|| totals(servers, &is_eligible));
            let (above, below) = LOAD_FACTOR;
            // In integers: in_flight < factor · (requests + 1) · weight of the server / all weights
            in_flight * below * weight < above * (requests + 1) * server.weight() as usize
        }
    };
    let mut on_ring = ring.servers_from(key).map(|index| &servers[index]).take(MAX_POINTS);
    let found = on_ring.find(|server| is_eligible(server) && has_room(server));
    // Reached if counts change meanwhile, or if few of many servers are eligible.
    found.or_else(|| from(servers, key).find(|server| is_eligible(server)))
}

/// The requests in flight at all eligible servers, and their weights.
fn totals(servers: &[Arc<Server>], is_eligible: impl Fn(&Server) -> bool) -> (usize, usize) {
    let eligible = servers.iter().filter(|server| is_eligible(server));
    eligible
        .fold((0, 0), |(requests, weight), server| (requests + server.in_flight(), weight + server.weight() as usize))
}

/// The server with fewer requests in flight for its weight; `first` if they are equal.
fn less_loaded<'a>(first: &'a Arc<Server>, second: &'a Arc<Server>) -> &'a Arc<Server> {
    let load = |server: &Server, other: &Server| server.in_flight() * other.weight() as usize;
    if load(second, first) < load(first, second) { second } else { first }
}

/// All servers, the one at `start` first.
fn from(servers: &[Arc<Server>], start: u64) -> impl Iterator<Item = &Arc<Server>> {
    let start = usize::try_from(start % servers.len() as u64).expect("less than the length of a slice");
    let (before, after) = servers.split_at(start);
    after.iter().chain(before)
}
