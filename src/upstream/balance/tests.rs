//! Picks: shares by weight, by requests in flight and by key, also while servers are avoided.

use std::collections::BTreeMap;

use super::*;
use crate::upstream::tests::{upstream, weighted_upstream};

const BY_KEY: Balance = Balance::Hash(HashKey::Ip);

/// Numbers that look random and are the same in every run.
fn draws() -> impl FnMut() -> u64 {
    let mut state = 1;
    move || {
        state += 1;
        crate::primitives::stable_hash::mix(state)
    }
}

fn port(server: &Server) -> u16 {
    server.address().port()
}

/// How often each server is picked, by its port, if each request has ended before the next begins.
fn idle_picks(balance: Balance, servers: &[(u16, u32)], requests: u64) -> BTreeMap<u16, u64> {
    let upstream = weighted_upstream(balance, servers);
    let mut draws = draws();
    let mut counts = BTreeMap::new();
    for key in 0..requests {
        let servers = upstream.server_set();
        let picked = up(servers.pick(&Candidates::default(), Some(key), &mut draws));
        *counts.entry(port(picked)).or_default() += 1;
    }
    counts
}

/// The request that is sent to the server picked for this key.
fn pick(upstream: &Upstream, affinity: Option<u64>) -> InFlight {
    upstream.pick(&Candidates::default(), affinity).expect("no server is down").in_flight
}

fn up(picked: PickedServer<'_>) -> &Arc<Server> {
    match picked {
        PickedServer::Up(server) => server,
        PickedServer::Suspect(_) | PickedServer::None => panic!("all servers are up"),
    }
}

/// A server, after a failure to connect that makes others go elsewhere.
fn fail(server: &Server) {
    server.note_connect::<()>(&Err(crate::upstream::ConnectFault::Refused));
}

#[test]
fn round_robin_picks_every_server_in_turn() {
    assert_eq!(idle_picks(Balance::RoundRobin, &[(1, 1), (2, 1), (3, 1)], 9), [(1, 3), (2, 3), (3, 3)].into());
    assert_eq!(idle_picks(Balance::RoundRobin, &[(1, 1), (2, 3)], 8), [(1, 2), (2, 6)].into());
}

#[test]
fn round_robin_keeps_the_proportions_of_the_servers_that_remain() {
    let upstream = weighted_upstream(Balance::RoundRobin, &[(1, 1), (2, 1), (3, 2), (4, 1)]);
    fail(&upstream.servers()[1]);
    let mut counts = BTreeMap::new();
    for _ in 0..40 {
        *counts.entry(port(pick(&upstream, None).server())).or_default() += 1;
    }
    assert_eq!(counts, BTreeMap::from([(1, 10), (3, 20), (4, 10)]));
}

#[test]
fn idle_servers_are_picked_in_proportion_to_their_weights() {
    for (servers, shares) in [
        (&[(1, 1), (2, 1)][..], &[50, 50][..]),
        (&[(1, 1), (2, 3)], &[25, 75]),
        (&[(1, 1), (2, 1), (3, 2)], &[25, 25, 50]),
        (&[(1, 100), (2, 1), (3, 1)], &[98, 1, 1]),
    ] {
        for balance in [Balance::LeastRequest, BY_KEY] {
            let counts = idle_picks(balance.clone(), servers, 10_000);
            for ((server, _), share) in servers.iter().zip(shares) {
                let found: u64 = counts[server] / 100;
                assert!(found.abs_diff(*share) < 5, "{balance:?}, server {server} of {servers:?}: {found} %");
            }
        }
    }
}

#[test]
fn least_request_avoids_a_busy_server() {
    let upstream = upstream(Balance::LeastRequest, &[1, 2]);
    let busy = pick(&upstream, None);
    for _ in 0..100 {
        let other = pick(&upstream, None);
        assert_ne!(port(other.server()), port(busy.server()));
    }
}

/// The point of two choices: with one, the fullest of a hundred servers would have about twice as
/// many requests as the average.
#[test]
fn least_request_spreads_requests_in_flight_evenly() {
    let ports: Vec<u16> = (1..=100).collect();
    let upstream = upstream(Balance::LeastRequest, &ports);
    let mut draws = draws();
    let in_flight: Vec<_> = (0..1_000)
        .map(|_| InFlight::at(up(upstream.server_set().pick(&Candidates::default(), None, &mut draws))))
        .collect();
    let most = upstream.servers().iter().map(|server| server.in_flight()).max().unwrap();
    assert!((10..=13).contains(&most), "{most} of {}", in_flight.len());
}

/// A server that is drawn twice is drawn once more, and one that is not drawn has no part in it.
#[test]
fn of_two_different_servers_that_are_drawn_the_less_busy_is_picked() {
    let upstream = upstream(Balance::LeastRequest, &[1, 2, 3]);
    let servers = upstream.servers();
    let _busy = [&servers[0], &servers[0], &servers[1]].map(InFlight::at);
    // The first number decides on recovering servers, of which there are none.
    let mut numbers = [0, 0, 0, 1].into_iter();
    let mut draw = || numbers.next().expect("two servers are drawn by then");
    let servers = upstream.server_set();
    assert_eq!(port(up(servers.pick(&Candidates::default(), None, &mut draw))), 2);
}

#[test]
fn requests_in_flight_count_in_proportion_to_weights() {
    let upstream = weighted_upstream(Balance::LeastRequest, &[(1, 1), (2, 3)]);
    let in_flight: Vec<_> = (0..40).map(|_| pick(&upstream, None)).collect();
    let counts: Vec<usize> = upstream.servers().iter().map(|server| server.in_flight()).collect();
    assert!((9..=11).contains(&counts[0]), "{counts:?} of {}", in_flight.len());
}

#[test]
fn a_key_keeps_its_server_while_others_come_and_go() {
    let owner = |ports: &[u16], key| {
        let upstream = upstream(BY_KEY, ports);
        port(pick(&upstream, Some(key)).server())
    };
    let moved = (0..500).filter(|key| owner(&[1, 2, 3, 4], *key) != owner(&[4, 5, 3, 2, 1], *key));
    let moved: Vec<u64> = moved.collect();
    assert!((70..130).contains(&moved.len()), "about a fifth of the keys moves: {}", moved.len());
    assert!(moved.iter().all(|key| owner(&[4, 5, 3, 2, 1], *key) == 5), "to the new server only");
}

#[test]
fn a_key_whose_server_fails_moves_and_comes_back() {
    let upstream = upstream(BY_KEY, &[1, 2, 3]);
    let owner = |key| port(pick(&upstream, Some(key)).server());
    let before: Vec<u16> = (0..200).map(owner).collect();
    let failed = &upstream.servers()[1];
    fail(failed);
    for (key, before) in (0..).zip(&before) {
        assert_eq!(owner(key) == *before, *before != port(failed), "key {key} of server {before}");
    }
    failed.note_connect(&Ok(()));
    assert_eq!((0..200).map(owner).collect::<Vec<_>>(), before);
}

/// One popular key cannot overload a server: it gets a quarter more than its share, and the rest
/// goes on along the ring.
#[test]
fn a_popular_key_goes_to_other_servers_when_its_own_has_more_than_its_share() {
    let upstream = weighted_upstream(BY_KEY, &[(1, 1), (2, 1), (3, 2)]);
    let in_flight: Vec<_> = (0..100).map(|_| pick(&upstream, Some(7))).collect();
    for server in upstream.servers() {
        let share = in_flight.len() * server.weight() as usize / 4;
        let most = (share * 5).div_ceil(4) + 1;
        assert!(server.in_flight() <= most, "server {}: {} of {most}", port(&server), server.in_flight());
    }
    drop(in_flight);
    let owner = |upstream: &Upstream| port(pick(upstream, Some(7)).server());
    assert_eq!(owner(&upstream), owner(&upstream), "with the load gone, the key is back");
}

/// With one of two servers gone, the other one has all the room.
/// The request itself counts: an upstream without others has room for it.
#[test]
fn a_second_request_of_a_key_goes_to_the_same_server() {
    let upstream = upstream(BY_KEY, &[1, 2]);
    for key in 0..20 {
        let [first, second] = [(); 2].map(|()| pick(&upstream, Some(key)));
        assert_eq!(port(first.server()), port(second.server()), "{key}");
    }
}

/// With the request, the upstream has eight: five are a quarter more than half of them.
#[test]
fn a_server_at_its_bound_has_no_room() {
    let upstream = upstream(BY_KEY, &[1, 2]);
    let servers = upstream.servers();
    let first = pick(&upstream, Some(7));
    let other = servers.iter().find(|server| !Arc::ptr_eq(server, first.server())).unwrap();
    let _of_first = [(); 4].map(|()| InFlight::at(first.server()));
    let _of_other = [(); 2].map(|()| InFlight::at(other));
    assert_eq!(port(pick(&upstream, Some(7)).server()), port(other));
}

#[test]
fn the_bound_on_loads_counts_available_servers_only() {
    let upstream = upstream(BY_KEY, &[1, 2, 3, 4, 5, 6]);
    for server in &upstream.servers()[2..] {
        fail(server);
    }
    let in_flight: Vec<_> = (0..100).map(|_| pick(&upstream, Some(7))).collect();
    let counts: Vec<usize> = upstream.servers().iter().map(|server| server.in_flight()).collect();
    assert!(counts[..2].iter().all(|count| (35..=65).contains(count)), "{counts:?} of {}", in_flight.len());
    assert_eq!(counts[2..].iter().sum::<usize>(), 0, "{counts:?}");
}

#[test]
fn a_server_that_has_failed_the_request_is_not_picked_again() {
    for balance in [Balance::LeastRequest, Balance::RoundRobin, BY_KEY] {
        let upstream = upstream(balance.clone(), &[1, 2, 3]);
        let [first, second, third] = &upstream.servers()[..] else { panic!("three servers") };
        let candidates = Candidates::default().without(first, &upstream.server_set()).unwrap();
        let candidates = candidates.without(second, &upstream.server_set()).unwrap();
        // The others are even worse candidates than one that cannot be reached.
        fail(third);
        for key in 0..50 {
            assert_eq!(
                upstream.pick(&candidates, Some(key)).unwrap().in_flight.server().id(),
                third.id(),
                "{balance:?}"
            );
        }
        assert!(candidates.without(third, &upstream.server_set()).is_none(), "{balance:?}: none is left");
    }
}

#[test]
fn whether_another_server_could_follow_is_known() {
    let upstream = upstream(Balance::RoundRobin, &[1, 2]);
    let [first, second] = &upstream.servers()[..] else { panic!("two servers") };
    let all = Candidates::default();
    assert!(all.has_other_than(first, &upstream.server_set()));
    let one = all.without(first, &upstream.server_set()).unwrap();
    assert!(one.has_other_than(first, &upstream.server_set()), "the first has failed already");
    assert!(!one.has_other_than(second, &upstream.server_set()));
}

#[test]
fn a_retry_on_the_same_server_stays_there_however_busy_it_is() {
    let upstream = upstream(Balance::LeastRequest, &[1, 2]);
    let busy = pick(&upstream, None);
    let same = Candidates::default().only(busy.server());
    assert_eq!(upstream.pick(&same, None).unwrap().in_flight.server().id(), busy.server().id());
}

#[test]
fn a_finished_request_is_no_longer_counted() {
    let upstream = upstream(Balance::LeastRequest, &[1]);
    drop(pick(&upstream, None));
    assert_eq!(upstream.servers()[0].in_flight(), 0);
}
