//! Consistent hashing: a ring of points, each of which belongs to a server.
//!
//! A key goes to the server of the first point at or after its own place on the ring. Each server
//! has many points, whose places depend on nothing but the server itself. A server that is added
//! therefore takes only its own share of the keys, evenly from all others, and one that is removed
//! gives its keys to all others alike; every other key stays where it was. All gateways with the
//! same servers have the same ring.

use crate::primitives::stable_hash::{mix, stable_hash};

/// Points per unit of weight. The share of a server deviates from its ideal by about one part in
/// the square root of this number.
const POINTS_PER_WEIGHT: usize = 128;

/// The most points of a ring, in round numbers: a quarter of a mebibyte. With larger weights, one
/// unit has fewer points.
const MAX_POINTS: usize = 16 * 1024;

/// A server as the ring sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingMember<'a> {
    /// What distinguishes it from the other servers; the same in every process.
    pub(super) identity: &'a str,
    /// At least 1.
    pub(super) weight: u32,
}

/// The points, ordered by their place.
#[derive(Debug)]
pub(super) struct Ring(Box<[Point]>);

#[derive(Clone, Copy, Debug)]
struct Point {
    place: u64,
    /// An index in the list of servers.
    server: u32,
}

impl Ring {
    /// The ring of these servers: one or more.
    pub(super) fn new(members: &[RingMember<'_>]) -> Self {
        let weight: usize = members.iter().map(|member| member.weight as usize).sum();
        // A power of two, so that it changes seldom as servers come and go: keys move when it does.
        let per_weight = 1 << (MAX_POINTS / weight.max(1)).clamp(1, POINTS_PER_WEIGHT).ilog2();
        let mut points = Vec::with_capacity(per_weight * weight);
        for (server, member) in (0..).zip(members) {
            let identity = stable_hash(&[member.identity.as_bytes()]);
            let count = per_weight as u64 * u64::from(member.weight);
            // The first points of a server are the same however many it has, so that a change of
            // weights moves few keys.
            points.extend((0..count).map(|nth| Point { place: mix(identity.wrapping_add(mix(nth + 1))), server }));
        }
        points.sort_unstable_by_key(|point| (point.place, point.server));
        Self(points.into_boxed_slice())
    }

    /// The servers of the points from the place of `key` on, once around the ring. A server is in
    /// it many times.
    pub(super) fn servers_from(&self, key: u64) -> impl Iterator<Item = usize> {
        let place = mix(key);
        let start = self.0.partition_point(|point| point.place < place);
        let (before, after) = self.0.split_at(start);
        after.iter().chain(before).map(|point| point.server as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: usize = 20_000;

    /// The server of each key, by its name.
    fn owners(servers: &[(&'static str, u32)]) -> Vec<&'static str> {
        let members: Vec<_> = servers.iter().map(|&(identity, weight)| RingMember { identity, weight }).collect();
        let ring = Ring::new(&members);
        (0..KEYS as u64).map(|key| servers[ring.servers_from(key).next().expect("a point")].0).collect()
    }

    /// The share of the keys that a server has, in percent.
    fn share(owners: &[&str], of: &str) -> usize {
        owners.iter().filter(|owner| **owner == of).count() * 100 / KEYS
    }

    #[test]
    fn a_new_server_takes_its_share_and_no_other_key_moves() {
        let before = owners(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
        // In another order: only the servers themselves count.
        let after = owners(&[("e", 1), ("d", 1), ("c", 1), ("b", 1), ("a", 1)]);
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
        assert!(moved.clone().all(|(_, after)| *after == "e"), "keys move to the new server only");
        let moved = moved.count() * 100 / KEYS;
        assert!((15..=25).contains(&moved), "a fifth of the keys moves: {moved} %");
    }

    #[test]
    fn a_server_that_is_removed_gives_its_keys_to_all_others() {
        let before = owners(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
        let after = owners(&[("a", 1), ("c", 1), ("d", 1)]);
        for (before, after) in before.iter().zip(&after) {
            assert!(before == after || *before == "b", "{before} to {after}");
        }
        for server in ["a", "c", "d"] {
            let gained = share(&after, server) - share(&before, server);
            assert!((4..=13).contains(&gained), "{server}: about a twelfth of all keys, not {gained} %");
        }
    }

    #[test]
    fn a_server_has_keys_in_proportion_to_its_weight() {
        let owners = owners(&[("a", 1), ("b", 3)]);
        assert!((70..=80).contains(&share(&owners, "b")), "{} %", share(&owners, "b"));
    }

    #[test]
    fn large_weights_take_no_more_memory() {
        let names: Vec<String> = (0..200).map(|number| format!("10.0.0.{number}:80")).collect();
        let members: Vec<_> = names.iter().map(|name| RingMember { identity: name, weight: 100 }).collect();
        assert_eq!(Ring::new(&members).0.len(), 20_000, "one point for each unit");
        assert_eq!(Ring::new(&members[..8]).0.len(), 800 * 16);
        assert_eq!(Ring::new(&members[..1]).0.len(), 100 * 128);
    }

    #[test]
    fn the_walk_passes_every_server_once_around() {
        let members = [RingMember { identity: "a", weight: 1 }, RingMember { identity: "b", weight: 1 }];
        let ring = Ring::new(&members);
        for key in [0, 1, u64::MAX] {
            let walk: Vec<usize> = ring.servers_from(key).collect();
            assert_eq!(walk.len(), 2 * POINTS_PER_WEIGHT);
            assert_eq!(walk.iter().filter(|server| **server == 0).count(), POINTS_PER_WEIGHT);
        }
    }
}
