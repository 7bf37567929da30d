//! Matching: precedence, methods, ambiguous paths, conflicts, and the cost of a search.

use proptest::prelude::*;

use super::*;
use crate::gateway::matching::path::PathParameters;
use crate::gateway::matching::pattern::Segment;

/// Parses `"GET,POST api.example.com/a/{id}"`; methods and host are optional.
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

/// The pattern that matches `"GET host/path"`, or `404`, `405` with the value of `Allow`, or `400`.
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
fn the_most_specific_pattern_wins() {
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
            "a star matches the path itself, the path with a slash, and everything below",
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
            "exact before a star",
            &["/a", "/a/", "/a/*", "/*"],
            &[("GET h/a", "/a"), ("GET h/a/", "/a/"), ("GET h/a/b", "/a/*"), ("GET h/b", "/*"), ("GET h/", "/*")],
        ),
        Case(
            "a bound segment matches one segment that is not empty",
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
            "a literal before a bound segment before a star",
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
            "backtracking from a literal without a match",
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
            "a host without a matching path falls through to the next host",
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
fn methods_are_compared_among_the_routes_of_one_pattern_only() {
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
            "a stricter host does not fall through to a broader one",
            &["GET api.example.com/a", "/a"],
            &[("POST api.example.com/a", "405 GET, HEAD"), ("POST h/a", "/a")],
        ),
        Case(
            "a route that lists the method before one that lists none",
            &["/a", "GET,POST /a"],
            &[("GET h/a", "GET,POST /a"), ("HEAD h/a", "GET,POST /a"), ("PUT h/a", "/a"), ("BREW h/a", "/a")],
        ),
        Case(
            "Allow has the methods of all routes of the pattern",
            &["POST,DELETE /a/{x}", "GET /a/{y}"],
            &[
                ("PUT h/a/1", "405 DELETE, GET, HEAD, POST"),
                ("HEAD h/a/1", "GET /a/{y}"),
                ("POST h/a/1", "POST,DELETE /a/{x}"),
            ],
        ),
        Case(
            "a route that lists HEAD",
            &["GET /a", "HEAD /a"],
            &[("HEAD h/a", "HEAD /a"), ("GET h/a", "GET /a"), ("PUT h/a", "405 GET, HEAD")],
        ),
        Case("HEAD does not include GET", &["HEAD /a"], &[("GET h/a", "405 HEAD")]),
        Case("methods are case-sensitive", &["GET /a"], &[("get h/a", "405 GET, HEAD")]),
    ] {
        for (request, expect) in requests {
            assert_eq!(routed(routes, request), *expect, "{name}: {request}");
        }
    }
}

/// PA-5: the route is the same whether or not the backend removes parameters.
#[test]
fn parameters_never_change_the_route() {
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

/// `%3A` and `:` differ for the gateway but may be the same for the upstream.
#[test]
fn escapes_never_change_the_route() {
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
        ("GET h/%3Bx/users/me:reset;x", "400"),
        ("GET h/e/1%3Bx", "/e/{x}"),
        ("GET h/e/%3Bx", "400"),
        ("GET h/e/%C3%A9", "/e/{x}"),
    ] {
        assert_eq!(routed(&routes, request), expect, "{request}");
    }
}

/// PA-6, PA-11: a backend that decodes a path before it parses it ends it at `?` and `#`; one on
/// Windows drops spaces and dots at the end of a name; one that trims what it matches drops spaces
/// at both ends. None of them may find another route's resource.
#[test]
fn what_a_backend_cuts_off_never_changes_the_route() {
    let routes = ["/*", "/admin", "/api/admin/*", "/users/{id}", "/users/{id}/keys", "/files/a.txt/raw"];
    for (request, expect) in [
        ("GET h/admin%3Fb", "400"),
        ("GET h/admin%3f", "400"),
        ("GET h/admin%23b", "400"),
        ("GET h/admin%3Fb/c", "400"),
        ("GET h/admin%20", "400"),
        ("GET h/%20admin", "400"),
        ("GET h/admin%20%20%3Fx", "400"),
        ("GET h/admin%3Bx%20%3Fx", "400"),
        ("GET h/admin.", "400"),
        ("GET h/admin.%20.", "400"),
        ("GET h/api/admin%20/x", "400"),
        ("GET h/api/admin./x", "400"),
        ("GET h/api/%20admin/x", "400"),
        ("GET h/api/%3Bx/admin/y", "400"),
        ("GET h/api/%20/admin/y", "400"),
        ("GET h/%3Bx/evil.example/admin", "400"),
        ("GET h/files/a.txt%20/raw", "400"),
        ("GET h/.portcullis%20/x", "400"),
        ("GET h/.well-known/oauth-protected-resource%3Fx", "400"),
        // What is cut off changes nothing here: all readings have the same route.
        ("GET h/api/admin/x%3Fy", "/api/admin/*"),
        ("GET h/api/admin/x%20", "/api/admin/*"),
        ("GET h/public/what%3F/x%20y/z.", "/*"),
        ("GET h/users/a%3Fb", "/users/{id}"),
        ("GET h/users/J.%20R.", "/users/{id}"),
        ("GET h/users/a%3Fb/keys", "400"),
        ("GET h/users/a%20b/keys", "/users/{id}/keys"),
        ("GET h/users/%20", "400"),
        ("GET h/administrators%3Fb", "/*"),
    ] {
        assert_eq!(routed(&routes, request), expect, "{request}");
    }
    assert_eq!(routed(&["/users/{id}/keys"], "GET h/users/a%3Fb/keys"), "400", "a path that no route serves");
}

/// PA-9: the number of readings is limited, and a path that has more is refused.
#[test]
fn a_path_with_too_many_readings_is_refused() {
    let segment = "/%20a%3Bb%20.;c%20";
    assert_eq!(routed(&["/*"], &format!("GET h{}", segment.repeat(3))), "/*");
    let crowded = (0..60).fold(String::new(), |path, n| path + &format!("/{n}%3Bx%20;y%3Fz%20"));
    let found = routed(&["/*"], &format!("GET h{crowded}"));
    assert!(["/*", "400"].contains(&found.as_str()), "{found}");
}

#[test]
fn duplicate_routes_are_conflicts() {
    for (name, routes, expect) in [
        ("identical", vec!["/a", "/a"], vec![(0, 1)]),
        ("different names of a bound segment", vec!["/a/{x}", "/a/{y}"], vec![(0, 1)]),
        ("different spelling of the path", vec!["/%61", "/a"], vec![(0, 1)]),
        ("different case of the host", vec!["H.example/a", "h.EXAMPLE./a"], vec![(0, 1)]),
        ("a method in common", vec!["GET,POST /a", "POST,PUT,GET /a"], vec![(0, 1)]),
        ("every pair is reported", vec!["GET,POST /a", "GET /a", "POST /a"], vec![(0, 1), (0, 2)]),
        ("one lists methods, the other does not", vec!["GET /a", "/a"], vec![]),
        ("different methods", vec!["GET /a", "HEAD /a", "POST /a"], vec![]),
        ("the same method twice in one route", vec!["GET,GET /a"], vec![]),
        ("trailing slash and star", vec!["/a", "/a/", "/a/*"], vec![]),
        ("different hosts, and none", vec!["h.example/a", "/a", "*.example/a", "example/a"], vec![]),
    ] {
        let expect: Vec<_> = expect.into_iter().map(|(first, second)| Conflict { first, second }).collect();
        let built = RouteTable::build(routes.into_iter().map(pattern).collect());
        assert_eq!(built.err().unwrap_or_default(), expect, "{name}");
    }
}

/// The patterns share prefixes at every level: a search that reached nodes in several ways would
/// take 2^20 steps.
#[test]
fn backtracking_does_not_multiply_the_work() {
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
fn each_of_a_thousand_routes_is_found() {
    let routes: Vec<Pattern> =
        (0..1_000).map(|n| pattern(&format!("/service-{}/v{}/{{id}}", n % 100, n / 100))).collect();
    let table = RouteTable::build(routes).unwrap();
    for n in 0..1_000 {
        let path = format!("/service-{}/v{}/7", n % 100, n / 100);
        let path = NormalPath::parse(&path, PathParameters::Refuse).unwrap();
        assert_eq!(table.find(&Host::parse("h").unwrap(), &path, &Method::GET), RouteMatch::Found(n));
    }
}

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

/// The path as a backend interprets it that removes parameters and then decodes escapes.
fn backend_path(path: &str) -> String {
    let cut: Vec<&str> = path.split('/').map(|segment| segment.split(';').next().unwrap()).collect();
    cut.join("/").replace("%3A", ":").replace("%40", "@")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_backend_that_strips_and_decodes_gets_only_what_the_route_of_its_path_allows(
        pieces in prop::collection::vec(prop::sample::select(vec!["/", "/api", "/admin", "/a:b", "/a%3Ab", "/c@d", "c%40d", ";x", "%3Bx", "x"]), 1..7),
    ) {
        let routes = ["/api/*", "/api/admin/*", "/api/a:b", "/api/c%40d", "/{x}/{y}/admin", "/*"];
        let table_as_written = table(&routes);
        let raw = format!("/{}", pieces.concat().trim_start_matches('/'));
        let Ok(path) = NormalPath::parse(&raw, PathParameters::Allow) else { return Ok(()) };
        let found = table_as_written.find(&Host::parse("h").unwrap(), &path, &Method::GET);
        let seen = backend_path(path.as_str());
        let seen = NormalPath::parse(&seen, PathParameters::Refuse).expect("a path in every interpretation");
        if found != RouteMatch::Ambiguous {
            // The backend interprets the patterns in the same way.
            let interpreted = routes.map(backend_path);
            let interpreted: Vec<&str> = interpreted.iter().map(String::as_str).collect();
            let expected = table(&interpreted).find(&Host::parse("h").unwrap(), &seen, &Method::GET);
            prop_assert!(expected == found || expected == RouteMatch::Ambiguous, "{}: {:?}, {:?}", raw, found, expected);
        }
    }

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
        let path = NormalPath::parse(&path, PathParameters::Refuse).unwrap();
        let expect = best_of_all(&patterns, &path).map_or(RouteMatch::NotFound, RouteMatch::Found);
        let table = RouteTable::build(patterns).unwrap();
        prop_assert_eq!(table.find(&Host::parse("h").unwrap(), &path, &Method::GET), expect);
    }
}
