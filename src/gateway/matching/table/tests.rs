//! Which route applies: precedence, methods, conflicts, and that matching stays cheap.

use proptest::prelude::*;

use super::*;
use crate::gateway::matching::path::PathParameters;
use crate::gateway::matching::pattern::Segment;

/// `"GET,POST api.example.com/a/{id}"`; methods and host may be left out.
fn pattern(text: &str) -> Pattern {
    let (methods, place) = text.split_once(' ').unwrap_or(("", text));
    let (host, path) = place.split_at(place.find('/').unwrap());
    Pattern {
        host: (!host.is_empty()).then(|| HostPattern::parse(host).unwrap()),
        path: PathPattern::parse(path).unwrap(),
        methods: methods.split(',').filter(|name| !name.is_empty()).map(|name| name.parse().unwrap()).collect(),
    }
}

fn table(routes: &[&str]) -> RouteTable {
    RouteTable::build(routes.iter().map(|route| pattern(route)).collect()).unwrap()
}

/// The pattern that applies to `"GET host/path"`, or `404`, `405 Allow`, `400`.
fn routed(routes: &[&str], request: &str) -> String {
    let (method, place) = request.split_once(' ').unwrap();
    let (host, path) = place.split_at(place.find('/').unwrap());
    let path = NormalPath::parse(path, PathParameters::Allow).unwrap();
    match table(routes).find(&Host::parse(host).unwrap(), &path, &method.parse().unwrap()) {
        RouteMatch::Ambiguous => "400".into(),
        RouteMatch::Found(index) => routes[index].into(),
        RouteMatch::MethodNotAllowed(allow) => format!("405 {}", allow.to_str().unwrap()),
        RouteMatch::NotFound => "404".into(),
    }
}

struct Case(&'static str, &'static [&'static str], &'static [(&'static str, &'static str)]);

#[test]
fn the_most_special_pattern_applies() {
    for Case(name, routes, requests) in [
        Case("nothing configured", &[], &[("GET h/", "404")]),
        Case(
            "exact, PA-7 and PA-4",
            &["/api", "/api/admin/*"],
            &[
                ("GET h/api", "/api"),
                ("GET h/api/", "404"),
                ("GET h/api/x", "404"),
                ("GET h/api/adminx", "404"),
                ("GET h/API", "404"),
                ("GET h/api/ADMIN/x", "404"),
            ],
        ),
        Case(
            "the star is the path itself, with a slash, and all below",
            &["/a/*"],
            &[
                ("GET h/a", "/a/*"),
                ("GET h/a/", "/a/*"),
                ("GET h/a/b/c/", "/a/*"),
                ("GET h/ab", "404"),
                ("GET h/", "404"),
            ],
        ),
        Case(
            "exact beside the star",
            &["/a", "/a/", "/a/*", "/*"],
            &[("GET h/a", "/a"), ("GET h/a/", "/a/"), ("GET h/a/b", "/a/*"), ("GET h/b", "/*"), ("GET h/", "/*")],
        ),
        Case(
            "a bound segment is one segment that is not empty",
            &["/a/{id}"],
            &[
                ("GET h/a/1", "/a/{id}"),
                ("GET h/a/", "404"),
                ("GET h/a", "404"),
                ("GET h/a/1/", "404"),
                ("GET h/a/1/2", "404"),
            ],
        ),
        Case(
            "literal, bound, star",
            &["/a/*", "/a/{x}", "/a/b", "/{x}/b", "/{x}/*"],
            &[
                ("GET h/a/b", "/a/b"),
                ("GET h/a/c", "/a/{x}"),
                ("GET h/a/c/d", "/a/*"),
                ("GET h/z/b", "/{x}/b"),
                ("GET h/z/c", "/{x}/*"),
            ],
        ),
        Case(
            "turning back from a literal that leads nowhere",
            &["/a/{x}/c", "/a/b/d", "/{x}/b/{y}/z"],
            &[
                ("GET h/a/b/c", "/a/{x}/c"),
                ("GET h/a/b/d", "/a/b/d"),
                ("GET h/a/b/d/z", "/{x}/b/{y}/z"),
                ("GET h/a/b/e", "404"),
            ],
        ),
        Case(
            "hosts before paths",
            &["api.example.com/*", "*.example.com/a/b", "*.com/a/b", "/a/b", "*.sub.example.com/a/*"],
            &[
                ("GET api.example.com/a/b", "api.example.com/*"),
                ("GET API.Example.COM./a/b", "api.example.com/*"),
                ("GET web.example.com/a/b", "*.example.com/a/b"),
                ("GET x.sub.example.com/a/b", "*.sub.example.com/a/*"),
                ("GET sub.example.com/a/b", "*.example.com/a/b"),
                ("GET example.com/a/b", "*.com/a/b"),
                ("GET example.org/a/b", "/a/b"),
                ("GET web.example.com/c", "404"),
                ("GET evilexample.com/a/b", "*.com/a/b"),
                ("GET notapi.example.comx/a/b", "/a/b"),
            ],
        ),
        Case(
            "a host whose paths do not match leaves it to the next",
            &["api.example.com/a", "*.example.com/b", "/c"],
            &[
                ("GET api.example.com/a", "api.example.com/a"),
                ("GET api.example.com/b", "*.example.com/b"),
                ("GET api.example.com/c", "/c"),
                ("GET api.example.com/d", "404"),
            ],
        ),
    ] {
        for (request, expect) in requests {
            assert_eq!(routed(routes, request), *expect, "{name}: {request}");
        }
    }
}

#[test]
fn the_method_decides_within_the_pattern_only() {
    for Case(name, routes, requests) in [
        Case(
            "a stricter path does not fall through to a broader one",
            &["GET /api/admin", "/*", "POST /api/{x}"],
            &[
                ("GET h/api/admin", "GET /api/admin"),
                ("POST h/api/admin", "405 GET, HEAD"),
                ("POST h/api/x", "POST /api/{x}"),
            ],
        ),
        Case(
            "nor to another host",
            &["GET api.example.com/a", "/a"],
            &[("POST api.example.com/a", "405 GET, HEAD"), ("POST h/a", "/a")],
        ),
        Case(
            "listed before not listed",
            &["/a", "GET,POST /a"],
            &[("GET h/a", "GET,POST /a"), ("HEAD h/a", "GET,POST /a"), ("PUT h/a", "/a"), ("BREW h/a", "/a")],
        ),
        Case(
            "routes of one pattern unite for Allow",
            &["POST,DELETE /a/{x}", "GET /a/{y}"],
            &[
                ("PUT h/a/1", "405 DELETE, GET, HEAD, POST"),
                ("HEAD h/a/1", "GET /a/{y}"),
                ("POST h/a/1", "POST,DELETE /a/{x}"),
            ],
        ),
        Case(
            "HEAD by name",
            &["GET /a", "HEAD /a"],
            &[("HEAD h/a", "HEAD /a"), ("GET h/a", "GET /a"), ("PUT h/a", "405 GET, HEAD")],
        ),
        Case("HEAD is not GET", &["HEAD /a"], &[("GET h/a", "405 HEAD")]),
        Case("methods are case-sensitive", &["GET /a"], &[("get h/a", "405 GET, HEAD")]),
    ] {
        for (request, expect) in requests {
            assert_eq!(routed(routes, request), *expect, "{name}: {request}");
        }
    }
}

/// PA-5: whether a backend cuts parameters off or not, the rule must be the same.
#[test]
fn parameters_never_choose_another_rule() {
    let routes = ["/api/*", "/api/admin/*", "/api/items/{id}", "/b/x"];
    for (request, expect) in [
        ("GET h/api/x;v=1", "/api/*"),
        ("GET h/api;v=1/x", "400"),
        ("GET h/api/admin;x=1/x", "400"),
        ("GET h/api/admin/x;y", "/api/admin/*"),
        ("GET h/api/items/7;v=1", "/api/items/{id}"),
        ("GET h/b/x;y", "400"),
        ("GET h/c/x;y", "404"),
    ] {
        assert_eq!(routed(&routes, request), expect, "{request}");
    }
}

/// `%3A` and `:` are two texts to us and one to the upstream.
#[test]
fn escapes_never_choose_another_rule() {
    let routes = [
        "/users/*",
        "/users/me:reset",
        "/users/all%3areset/x",
        "/d/*",
        "/d/a:b",
        "/d/a%3Ab",
        "/d/a:b/c",
        "/e/{x}",
        "/e/",
    ];
    for (request, expect) in [
        ("GET h/users/me:reset", "/users/me:reset"),
        ("GET h/users/me%3areset", "400"),
        ("GET h/users/me%3Aset", "/users/*"),
        ("GET h/users/all%3Areset/x", "/users/all%3areset/x"),
        ("GET h/users/all:reset/x", "400"),
        ("GET h/users/me%3Areset/x", "/users/*"),
        ("GET h/d/a:b", "/d/a:b"),
        ("GET h/d/a%3Ab", "/d/a%3Ab"),
        ("GET h/d/a%3Ab/c", "400"),
        ("GET h/users/me:reset%3Bx", "400"),
        ("GET h/users/me%3Bx", "/users/*"),
        ("GET h/%3Bx/users/me:reset;x", "404"),
        ("GET h/e/1%3Bx", "/e/{x}"),
        ("GET h/e/%3Bx", "400"),
        ("GET h/e/%C3%A9", "/e/{x}"),
    ] {
        assert_eq!(routed(&routes, request), expect, "{request}");
    }
}

#[test]
fn routes_that_nothing_tells_apart_are_conflicts() {
    for (name, routes, expect) in [
        ("the same", vec!["/a", "/a"], vec![(0, 1)]),
        ("bound names do not tell apart", vec!["/a/{x}", "/a/{y}"], vec![(0, 1)]),
        ("nor spelling", vec!["/%61", "/a"], vec![(0, 1)]),
        ("nor the host's case", vec!["H.example/a", "h.EXAMPLE./a"], vec![(0, 1)]),
        ("a method in common", vec!["GET,POST /a", "POST,PUT,GET /a"], vec![(0, 1)]),
        ("each pair", vec!["GET,POST /a", "GET /a", "POST /a"], vec![(0, 1), (0, 2)]),
        ("listed and not listed", vec!["GET /a", "/a"], vec![]),
        ("other methods", vec!["GET /a", "HEAD /a", "POST /a"], vec![]),
        ("a method twice in one route", vec!["GET,GET /a"], vec![]),
        ("slash", vec!["/a", "/a/", "/a/*"], vec![]),
        ("host and none", vec!["h.example/a", "/a", "*.example/a", "example/a"], vec![]),
    ] {
        let expect: Vec<_> = expect.into_iter().map(|(first, second)| Conflict { first, second }).collect();
        let built = RouteTable::build(routes.into_iter().map(pattern).collect());
        assert_eq!(built.err().unwrap_or_default(), expect, "{name}");
    }
}

/// Patterns that share beginnings at every level: a walk that tried each way to each node would take 2^20 steps.
#[test]
fn turning_back_does_not_multiply() {
    let routes: Vec<Pattern> = (0..20)
        .map(|depth| {
            pattern(&format!(
                "{}/{{x}}{}/end",
                "/a".repeat(depth),
                (0..20 - depth).fold(String::new(), |text, n| text + &format!("/{{y{n}}}"))
            ))
        })
        .collect();
    let table = RouteTable::build(routes).unwrap();
    let path = "/a".repeat(22);
    let path = NormalPath::parse(&path, PathParameters::Refuse).unwrap();
    assert_eq!(table.find(&Host::parse("h").unwrap(), &path, &Method::GET), RouteMatch::NotFound);
}

#[test]
fn a_thousand_routes_are_told_apart() {
    let routes: Vec<Pattern> =
        (0..1_000).map(|n| pattern(&format!("/service-{}/v{}/{{id}}", n % 100, n / 100))).collect();
    let table = RouteTable::build(routes).unwrap();
    for n in 0..1_000 {
        let path = format!("/service-{}/v{}/7", n % 100, n / 100);
        let path = NormalPath::parse(&path, PathParameters::Refuse).unwrap();
        assert_eq!(table.find(&Host::parse("h").unwrap(), &path, &Method::GET), RouteMatch::Found(n));
    }
}

/// The plainest way to find the best pattern: try all, compare.
fn best_by_trying_all(patterns: &[Pattern], path: &NormalPath<'_>) -> Option<usize> {
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

/// What a backend makes of a path: parameters cut off, escapes decoded where that leaves a path.
fn as_a_backend_reads_it(path: &str) -> String {
    let cut: Vec<&str> = path.split('/').map(|segment| segment.split(';').next().unwrap()).collect();
    cut.join("/").replace("%3A", ":").replace("%40", "@")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_backend_that_cuts_and_decodes_gets_what_its_rule_allows(
        pieces in prop::collection::vec(prop::sample::select(vec!["/", "/api", "/admin", "/a:b", "/a%3Ab", "/c@d", "c%40d", ";x", "%3Bx", "x"]), 1..7),
    ) {
        let routes = ["/api/*", "/api/admin/*", "/api/a:b", "/api/c%40d", "/{x}/{y}/admin", "/*"];
        let ours = table(&routes);
        let raw = format!("/{}", pieces.concat().trim_start_matches('/'));
        let Ok(path) = NormalPath::parse(&raw, PathParameters::Allow) else { return Ok(()) };
        let choice = ours.find(&Host::parse("h").unwrap(), &path, &Method::GET);
        let seen = as_a_backend_reads_it(path.as_str());
        let seen = NormalPath::parse(&seen, PathParameters::Refuse).expect("a path in every reading");
        if choice != RouteMatch::Ambiguous {
            // A pattern that is written with an escape is read in the same way.
            let read = routes.map(as_a_backend_reads_it);
            let read: Vec<&str> = read.iter().map(String::as_str).collect();
            let leaf = table(&read).find(&Host::parse("h").unwrap(), &seen, &Method::GET);
            prop_assert!(leaf == choice || leaf == RouteMatch::Ambiguous, "{}: {:?}, {:?}", raw, choice, leaf);
        }
    }

    #[test]
    fn the_tree_finds_what_trying_all_finds(
        routes in prop::collection::btree_set("(/(a|b|\\{x\\})){1,4}(/\\*|/|)", 1..12),
        path in "(/(a|b|c)){1,5}(/|)",
    ) {
        // Names must be unique within a pattern; their spelling does not matter here.
        let named = |route: &String| {
            let mut parts = route.split("{x}");
            let mut text = parts.next().unwrap().to_owned();
            for (n, part) in parts.enumerate() {
                text = text + &format!("{{x{n}}}") + part;
            }
            pattern(&text)
        };
        let patterns: Vec<Pattern> = routes.iter().map(named).collect();
        let path = NormalPath::parse(&path, PathParameters::Refuse).unwrap();
        let expect = best_by_trying_all(&patterns, &path).map_or(RouteMatch::NotFound, RouteMatch::Found);
        let table = RouteTable::build(patterns).unwrap();
        prop_assert_eq!(table.find(&Host::parse("h").unwrap(), &path, &Method::GET), expect);
    }
}
