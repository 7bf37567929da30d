//! Properties of the table: it agrees with a reference implementation, and a backend that reads a
//! path in its own way finds what the route of its reading allows.

use proptest::prelude::*;

use super::*;
use crate::gateway::matching::path::UnusualForm;
use crate::gateway::matching::path::backend_model::{Step, read};
use crate::gateway::matching::pattern::Segment;

/// A reference implementation: ranks every pattern and takes the best one.
fn best_of_all(patterns: &[Pattern], path: &NormalPath<'_>) -> Option<usize> {
    let rank = |pattern: &Pattern| -> Option<Vec<u8>> {
        let segments: Vec<&str> = path.segments().collect();
        let own = &pattern.path.segments;
        let is_long_enough =
            if pattern.path.ends_with_star { segments.len() >= own.len() } else { segments.len() == own.len() };
        let mut ranks = Vec::new();
        for (segment, text) in own.iter().zip(&segments) {
            match segment {
                Segment::Literal(literal) if **literal == **text => ranks.push(0),
                Segment::Bound(_) if !text.is_empty() => ranks.push(1),
                Segment::Literal(_) | Segment::Bound(_) => return None,
            }
        }
        ranks.push(if pattern.path.ends_with_star { 2 } else { 0 });
        is_long_enough.then_some(ranks)
    };
    (0..patterns.len()).filter_map(|index| Some((rank(&patterns[index])?, index))).min().map(|(_, index)| index)
}

/// The index of the pattern that a backend's reading matches, if the backend had the same routes.
/// The patterns have no escapes.
fn served_by(routes: &[&str], seen: &str) -> Option<usize> {
    let segments: Vec<&str> = seen.strip_prefix('/')?.split('/').collect();
    let rank = |route: &str| {
        let own: Vec<&str> = route[1..].split('/').collect();
        let (own, is_subtree) = match own.split_last() {
            Some((&"*", above)) => (above, true),
            Some(_) | None => (&own[..], false),
        };
        let fits = if is_subtree { segments.len() >= own.len() } else { segments.len() == own.len() };
        let mut ranks = Vec::new();
        for (wanted, segment) in own.iter().zip(&segments) {
            match wanted.starts_with('{') {
                true if !segment.is_empty() => ranks.push(1),
                false if wanted == segment => ranks.push(0),
                true | false => return None,
            }
        }
        ranks.push(if is_subtree { 2 } else { 0 });
        fits.then_some(ranks)
    };
    (0..routes.len()).filter_map(|index| Some((rank(routes[index])?, index))).min().map(|(_, index)| index)
}

/// Routes, one of which is stricter than the others in most tests of this kind.
const MIXED: [&str; 8] =
    ["/api/*", "/api/admin/*", "/a", "/api/admin", "/{x}/{y}/admin", "/files/{name}", "/files/{name}/raw", "/*"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// I2: whatever a backend does to a path, in whatever order, it finds the resource of the route
    /// whose rules were applied, and never another route's. Only with an encoded slash as part of a
    /// name may it find one that no route has.
    #[test]
    fn a_backend_gets_only_what_the_route_of_its_own_reading_allows(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "/", "/", "/api", "/admin", "/files", "/raw", "admin", "a", "a b", "a%20b", "%20", "%2520", ".", ";x", "%3Bx",
            "%253Bx", "%3Fx", "%23", "%253F", "%2F", "%252F", "%2Fadmin", "%252Fadmin", "x", "50%25ab", "%2561dmin", "//",
        ]), 1..8),
        steps in Step::sequences(),
        routes in prop::sample::subsequence(MIXED.to_vec(), 1..=8),
    ) {
        let raw = format!("/{}", pieces.concat().trim_start_matches('/'));
        let Ok(path) = NormalPath::parse(&raw, UnusualForms::ALL) else { return Ok(()) };
        let found = table(&routes).find(&Host::parse("h").unwrap(), &path, &Method::GET);
        let RouteMatch::Found(index) = found else { return Ok(()) };
        let seen = read(path.as_str(), &[&steps[..], &[Step::Decode]].concat());
        let served = served_by(&routes, &seen);
        let is_split = served.is_none() && path.forms().contains(UnusualForm::EncodedSlash);
        prop_assert!(served == Some(index) || is_split, "{} read as {}: {:?}, {:?} of {:?}", path.as_str(), seen, index, served, routes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_agrees_with_the_reference_implementation(
        routes in prop::collection::btree_set("(/(a|b|\\{x\\})){1,4}(/\\*|/|)", 1..12),
        path in "(/(a|b|c)){1,5}(/|)",
    ) {
        // Names must be unique within a pattern, so each `{x}` gets a number.
        let named = |route: &String| {
            let mut parts = route.split("{x}");
            let mut text = parts.next().unwrap().to_owned();
            for (n, part) in parts.enumerate() {
                text = text + &format!("{{x{n}}}") + part;
            }
            pattern(&text)
        };
        let patterns: Vec<Pattern> = routes.iter().map(named).collect();
        let path = NormalPath::parse(&path, UnusualForms::NONE).unwrap();
        let expect = best_of_all(&patterns, &path).map_or(RouteMatch::NotFound, RouteMatch::Found);
        let table = RouteTable::build(patterns).unwrap();
        prop_assert_eq!(table.find(&Host::parse("h").unwrap(), &path, &Method::GET), expect);
    }
}
