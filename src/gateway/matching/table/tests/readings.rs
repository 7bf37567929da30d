//! Ambiguous paths: no reading of a path has another route than the path itself.

use super::*;
use crate::gateway::matching::path::UnusualForm;

/// PA-5: the route is the same whether or not the backend removes parameters.
#[test]
fn parameters_never_change_the_route() {
    let routes = ["/api/*", "/api/admin/*", "/api/items/{id}", "/b/x"];
    for (request, expect) in [
        ("GET h/api/x;v=1", "/api/*"),
        ("GET h/api;v=1/x", "400 parameters"),
        ("GET h/api/admin;x=1/x", "400"),
        ("GET h/api/admin/x;y", "/api/admin/*"),
        ("GET h/api/items/7;v=1", "/api/items/{id}"),
        ("GET h/b/x;y", "400 parameters"),
        ("GET h/c/x;y", "400 parameters"),
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
        ("GET h/users/all:reset%20/x", "400"),
        ("GET h/users/me%3Areset/x", "/users/*"),
        ("GET h/d/a:b", "/d/a:b"),
        ("GET h/d/a%3Ab", "/d/a%3Ab"),
        ("GET h/d/a%3Ab/c", "400"),
        ("GET h/users/me:reset%3Bx", "400"),
        ("GET h/users/me%3Bx", "/users/*"),
        ("GET h/%3Bx/users/me:reset;x", "400 parameters"),
        ("GET h/e/1%3Bx", "/e/{x}"),
        ("GET h/e/%3Bx", "400"),
        ("GET h/e/%C3%A9", "/e/{x}"),
    ] {
        assert_eq!(routed(&routes, request), expect, "{request}");
    }
    let without_escapes = ["/users/*", "/users/me:reset"];
    assert_eq!(routed(&without_escapes, "GET h/users/me%3areset"), "400", "also if no route has an escape");
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

/// A table whose routes accept these forms, and nothing else.
fn routed_with(forms: &[UnusualForm], routes: &[&str], path: &str) -> RouteMatch {
    let unusual_paths = forms.iter().copied().collect();
    let patterns = routes.iter().map(|route| Pattern { unusual_paths, ..pattern(route) }).collect();
    let path = NormalPath::parse(path, UnusualForms::ALL).unwrap();
    RouteTable::build(patterns).unwrap().find(&Host::parse("h").unwrap(), &path, &Method::GET)
}

/// PA-2, PA-3, PA-5, PA-14: a form is accepted by the route that is found, or not at all.
#[test]
fn a_form_is_accepted_only_by_the_route_that_lists_it() {
    use UnusualForm::{DoubleEscape, EmptySegment, EncodedSlash, Parameters};
    for (form, path) in [
        (DoubleEscape, "/files/50%25ab"),
        (EmptySegment, "/files/a//b"),
        (EncodedSlash, "/files/a%2Fb"),
        (Parameters, "/files/a;v=1"),
    ] {
        let routes = ["/other/*", "/files/*"];
        assert_eq!(routed_with(&[form], &routes, path), RouteMatch::Found(1), "{path}");
        let others: Vec<_> =
            [DoubleEscape, EmptySegment, EncodedSlash, Parameters].into_iter().filter(|one| *one != form).collect();
        let refused = |route| RouteMatch::UnusualForm { form, route };
        assert_eq!(routed_with(&others, &routes, path), refused(Some(1)), "{path}");
        assert_eq!(routed_with(&[form], &["/other/*"], path), refused(None), "{path}: not 404");
        assert_eq!(routed_with(&[form], &["POST /files/*"], path), refused(None), "{path}: not 405");
    }
}

/// PA-2, PA-3, PA-14: an accepted form is data to the route that accepts it, and opens no other.
#[test]
fn an_accepted_form_never_opens_another_route() {
    let routes = ["/*", "/pkg/{name}", "/pkg/{name}/dist", "/admin/*", "/api/v1/{id}"];
    for (request, expect) in [
        ("GET h/pkg/@scope%2Fname", "400"),
        ("GET h/pkg/@scope%2Fdist", "400"),
        ("GET h/pkg/@scope%2Fname/dist", "400"),
        ("GET h/x%2Fy", "/*"),
        ("GET h/admin%2Fx", "400"),
        ("GET h/admin%252Fx", "400"),
        ("GET h/x%2F..%252Fadmin/y", "path"),
        ("GET h/admin//x", "/admin/*"),
        ("GET h/x//y", "/*"),
        ("GET h/pkg//a", "400"),
        ("GET h/api//v1/a", "400"),
        ("GET h/%61dmin%2Fx", "400"),
        ("GET h/%2561dmin/x", "400"),
        ("GET h/50%25ab", "/*"),
        ("GET h/admin%253Fx", "400"),
        ("GET h/api/v1/50%25ab", "/api/v1/{id}"),
        ("GET h/api%2Fv1%2Fa", "400"),
        ("GET h/.portcullis%2Fx", "400"),
        ("GET h/.well-known//oauth-protected-resource", "400"),
    ] {
        if expect == "path" {
            let path = request.strip_prefix("GET h").unwrap();
            assert!(NormalPath::parse(path, UnusualForms::ALL).is_err(), "{request}");
        } else {
            assert_eq!(routed(&routes, request), expect, "{request}");
        }
    }
    let narrow = ["/pkg/{name}", "/pkg/{name}/dist"];
    assert_eq!(routed(&narrow, "GET h/pkg/@scope%2Fname"), "/pkg/{name}", "no route serves /pkg/@scope/name");
    assert_eq!(routed(&narrow, "GET h/pkg/@scope%2Fname/dist"), "/pkg/{name}/dist");
    assert_eq!(routed(&narrow, "GET h/pkg/@scope%2Fdist"), "400");
}

/// PA-9: the number of readings is limited, and a path that has more is refused, although all of
/// them would have the same route here.
#[test]
fn a_path_with_too_many_readings_is_refused() {
    for (blank_segments, expect) in [(5, "/*"), (70, "400")] {
        let path = "/%20".repeat(blank_segments);
        assert_eq!(routed(&["/*"], &format!("GET h/a{path}")), expect, "{blank_segments}");
    }
}
