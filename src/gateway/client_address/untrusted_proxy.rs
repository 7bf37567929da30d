//! Notices a proxy that is missing from `trusted_proxies`.
//!
//! Behind such a proxy all clients have the proxy's address: limits by address count them together,
//! and the log does not tell them apart.

use std::cell::Cell;
use std::net::IpAddr;

/// Number of requests after which a worker judges.
const WINDOW: u32 = 10_000;

/// How many requests of a window must come from one address, in percent.
const MIN_PERCENT: u32 = 90;

/// Counts the requests of one worker's clients.
#[derive(Debug, Default)]
pub(crate) struct ProxyDetector {
    /// The address of the first request of the current window.
    candidate: Cell<Option<IpAddr>>,
    requests: Cell<u32>,
    from_candidate: Cell<u32>,
}

impl ProxyDetector {
    /// Counts a request from `peer`, which is not a trusted proxy. Returns whether this request
    /// shows that the peer is a proxy: nearly all requests of a window came from it, and
    /// `has_forwarding_fields` says that the last one was forwarded.
    pub(crate) fn observe(&self, peer: IpAddr, has_forwarding_fields: impl FnOnce() -> bool) -> bool {
        let candidate = self.candidate.get().unwrap_or_else(|| {
            self.candidate.set(Some(peer));
            peer
        });
        let (requests, from_candidate) =
            (self.requests.get() + 1, self.from_candidate.get() + u32::from(peer == candidate));
        self.requests.set(requests);
        self.from_candidate.set(from_candidate);
        if requests < WINDOW {
            return false;
        }
        self.candidate.set(None);
        self.requests.set(0);
        self.from_candidate.set(0);
        from_candidate * 100 >= WINDOW * MIN_PERCENT && peer == candidate && has_forwarding_fields()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(last).into()
    }

    /// How many of `windows` windows show a proxy.
    fn detections(windows: u32, address: impl Fn(u32) -> u32, is_forwarded: bool) -> usize {
        let detector = ProxyDetector::default();
        (0..windows * WINDOW).filter(|number| detector.observe(peer(address(*number)), || is_forwarded)).count()
    }

    #[test]
    fn an_address_that_sends_nearly_all_requests_of_others_is_a_proxy() {
        for (name, address, is_forwarded, expected) in [
            ("all", (|_| 1) as fn(u32) -> u32, true, 3),
            ("nine of ten", |number| if number % 10 == 5 { number } else { 1 }, true, 3),
            ("eight of ten", |number| if number % 5 == 2 { number } else { 1 }, true, 0),
            ("all different", |number| number, true, 0),
            ("all, but for itself", |_| 1, false, 0),
        ] {
            assert_eq!(detections(3, address, is_forwarded), expected, "{name}");
        }
    }

    #[test]
    fn a_judgement_needs_a_full_window() {
        let detector = ProxyDetector::default();
        let first = (1..=2 * WINDOW).find(|_| detector.observe(peer(1), || true));
        assert_eq!(first, Some(WINDOW));
    }
}
