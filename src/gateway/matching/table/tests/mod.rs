//! Matching: precedence, methods, ambiguous paths, conflicts, and the cost of a search.

use super::*;
use crate::gateway::matching::path::UnusualForms;

mod properties;
mod readings;

/// Parses `"GET,POST api.example.com/a/{id}"`; methods and host are optional.
fn pattern(text: &str) -> Pattern {
    let (methods, place) = text.split_once(' ').unwrap_or(("", text));
    let (host, path) = place.split_at(place.find('/').unwrap());
    Pattern {
        host: (!host.is_empty()).then(|| HostPattern::parse(host).unwrap()),
        path: PathPattern::parse(path).unwrap(),
        methods: methods.split(',').filter(|name| !name.is_empty()).map(|name| name.parse().unwrap()).collect(),
        unusual_paths: UnusualForms::ALL,
    }
}

fn table(routes: &[&str]) -> RouteTable {
    RouteTable::build(routes.iter().map(|route| pattern(route)).collect()).unwrap()
}

/// The pattern that matches `"GET host/path"`, or `404`, `405` with the value of `Allow`, or `400`.
fn routed(routes: &[&str], request: &str) -> String {
    let (method, place) = request.split_once(' ').unwrap();
    let (host, path) = place.split_at(place.find('/').unwrap());
    let path = NormalPath::parse(path, UnusualForms::ALL).unwrap();
    match table(routes).find(&Host::parse(host).unwrap(), &path, &method.parse().unwrap()) {
        RouteMatch::Ambiguous => "400".into(),
        RouteMatch::Found(index) => routes[index].into(),
        RouteMatch::MethodNotAllowed(allow) => format!("405 {}", allow.to_str().unwrap()),
        RouteMatch::NotFound => "404".into(),
        RouteMatch::UnusualForm { form, .. } => format!("400 {}", form.name()),
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
    let path = NormalPath::parse(&path, UnusualForms::NONE).unwrap();
    assert_eq!(table.find(&Host::parse("h").unwrap(), &path, &Method::GET), RouteMatch::NotFound);
}

#[test]
fn each_of_a_thousand_routes_is_found() {
    let routes: Vec<Pattern> =
        (0..1_000).map(|n| pattern(&format!("/service-{}/v{}/{{id}}", n % 100, n / 100))).collect();
    let table = RouteTable::build(routes).unwrap();
    for n in 0..1_000 {
        let path = format!("/service-{}/v{}/7", n % 100, n / 100);
        let path = NormalPath::parse(&path, UnusualForms::NONE).unwrap();
        assert_eq!(table.find(&Host::parse("h").unwrap(), &path, &Method::GET), RouteMatch::Found(n));
    }
}
