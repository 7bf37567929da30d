//! An order in which every server has as many places as its weight, spread evenly.
//!
//! Taken place by place, it is smooth weighted round robin: a server of weight 2 between two of
//! weight 1 is every second one, and never twice in a row. A place drawn at random is a server
//! drawn with a probability in proportion to its weight. Both take constant time.

/// Indexes of servers, in order.
#[derive(Debug)]
pub(super) struct WeightedOrder(Box<[u32]>);

impl WeightedOrder {
    /// The order of servers with these weights: one or more, each at least 1.
    pub(super) fn new(weights: &[u32]) -> Self {
        let mut places: Vec<Place> = Vec::new();
        for (server, weight) in (0..).zip(reduced(weights)) {
            places.extend((0..weight).map(|nth| Place { nth, weight, server }));
        }
        places.sort_by(|one, other| one.position_cmp(other).then(one.server.cmp(&other.server)));
        Self(places.into_iter().map(|place| place.server).collect())
    }

    /// How many places there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The server at `place`; beyond the last place, the order starts again.
    pub(super) fn server_at(&self, place: u64) -> usize {
        let index = place % self.0.len() as u64;
        self.0[usize::try_from(index).expect("less than the length of a slice")] as usize
    }
}

/// The `nth` place of a server: at the middle of the `nth` of `weight` equal parts of the order.
struct Place {
    nth: u32,
    weight: u32,
    server: u32,
}

impl Place {
    /// Compares `(2 · nth + 1) / (2 · weight)` without rounding.
    fn position_cmp(&self, other: &Self) -> std::cmp::Ordering {
        let scaled = |one: &Self, other: &Self| (2 * u64::from(one.nth) + 1) * u64::from(other.weight);
        scaled(self, other).cmp(&scaled(other, self))
    }
}

/// The smallest whole numbers in the same proportions as `weights`.
pub(super) fn reduced(weights: &[u32]) -> impl Iterator<Item = u32> {
    fn gcd(one: u32, other: u32) -> u32 {
        if other == 0 { one } else { gcd(other, one % other) }
    }
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    weights.iter().map(move |weight| weight / divisor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_proportion_to_weights_and_spread_evenly() {
        for (weights, order) in [
            (&[1][..], &[0][..]),
            (&[7], &[0]),
            (&[1, 1, 1], &[0, 1, 2]),
            (&[2, 1, 1], &[0, 1, 2, 0]),
            (&[3, 1], &[0, 0, 1, 0]),
            (&[20, 100], &[1, 1, 0, 1, 1, 1]),
            (&[5, 5, 10], &[2, 0, 1, 2]),
            (&[5, 2], &[0, 1, 0, 0, 0, 1, 0]),
        ] {
            assert_eq!(WeightedOrder::new(weights).0.as_ref(), order, "{weights:?}");
        }
    }

    #[test]
    fn the_order_starts_again_after_its_end() {
        let order = WeightedOrder::new(&[2, 1]);
        let places: Vec<usize> = (0..7).map(|place| order.server_at(place)).collect();
        assert_eq!((order.len(), places), (3, vec![0, 1, 0, 0, 1, 0, 0]));
        assert_eq!(order.server_at(u64::MAX), order.server_at(u64::MAX % 3));
    }
}
