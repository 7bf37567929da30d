//! `[[routes]]`: for each rule a file that breaks it.

use super::{BASE, problem_paths};

#[test]
fn a_broken_rule_of_a_route_is_reported_with_its_key() {
    let more = "[limits.by_subject]\nkey = \"subject\"\nrate = \"1/s\"\n[limits.by_address]\nkey = \"ip\"\nrate = \"1/s\"\n[cors.web]\norigins = [\"https://a\"]\n";
    for (name, route, expected) in [
        ("a minimal route", "path = \"/a\"\nupstream = \"up\"", None),
        ("no path", "upstream = \"up\"", Some("routes[0].path")),
        ("no upstream", "path = \"/a\"", Some("routes[0].upstream")),
        ("an unknown upstream", "path = \"/a\"\nupstream = \"upp\"", Some("routes[0].upstream")),
        ("an unknown limit", "path = \"/a\"\nupstream = \"up\"\nlimits = [\"x\"]", Some("routes[0].limits[0]")),
        ("an unknown CORS policy", "path = \"/a\"\nupstream = \"up\"\ncors = \"x\"", Some("routes[0].cors")),
        ("an unknown issuer", "path = \"/a\"\nupstream = \"up\"\nissuers = [\"x\"]", Some("routes[0].issuers[0]")),
        ("a reserved path", "path = \"/.portcullis/x\"\nupstream = \"up\"", Some("routes[0].path")),
        ("a dot segment", "path = \"/a/../b\"\nupstream = \"up\"", Some("routes[0].path")),
        ("a host with a scheme", "host = \"https://a\"\npath = \"/a\"\nupstream = \"up\"", Some("routes[0].host")),
        ("a lower-case method", "path = \"/a\"\nmethods = [\"get\"]\nupstream = \"up\"", Some("routes[0].methods[0]")),
        ("an empty list of methods", "path = \"/a\"\nmethods = []\nupstream = \"up\"", Some("routes[0].methods")),
        ("CONNECT", "path = \"/a\"\nmethods = [\"CONNECT\"]\nupstream = \"up\"", Some("routes[0].methods[0]")),
        (
            "scopes on a public route",
            "path = \"/a\"\naccess = \"public\"\nscopes = [\"a\"]\nupstream = \"up\"",
            Some("routes[0].scopes"),
        ),
        (
            "a stream after the token on a public route",
            "path = \"/a\"\naccess = \"public\"\nstream_after_expiry = \"1m\"\nupstream = \"up\"",
            Some("routes[0].stream_after_expiry"),
        ),
        (
            "roles where a token is optional",
            "path = \"/a\"\naccess = \"optional\"\nroles = [\"a\"]\nupstream = \"up\"",
            Some("routes[0].roles"),
        ),
        (
            "two scopes in one string",
            "path = \"/a\"\nscopes = [\"a b\"]\nupstream = \"up\"",
            Some("routes[0].scopes[0]"),
        ),
        (
            "a limit by caller on a public route",
            "path = \"/a\"\naccess = \"public\"\nlimits = [\"by_subject\"]\nupstream = \"up\"",
            Some("routes[0].limits[0]"),
        ),
        (
            "a limit by address on a public route",
            "path = \"/a\"\naccess = \"public\"\nlimits = [\"by_address\"]\nupstream = \"up\"",
            None,
        ),
        (
            "a strip_prefix that the path lacks",
            "path = \"/a\"\nstrip_prefix = \"/b\"\nupstream = \"up\"",
            Some("routes[0].strip_prefix"),
        ),
        (
            "a strip_prefix that ends inside a segment",
            "path = \"/abc/*\"\nstrip_prefix = \"/a\"\nupstream = \"up\"",
            Some("routes[0].strip_prefix"),
        ),
        (
            "an add_prefix without a leading slash",
            "path = \"/a\"\nadd_prefix = \"b\"\nupstream = \"up\"",
            Some("routes[0].add_prefix"),
        ),
        (
            "an identity header",
            "path = \"/a\"\nset_headers = { X-Identity-Subject = \"x\" }\nupstream = \"up\"",
            Some("routes[0].set_headers.X-Identity-Subject"),
        ),
        (
            "a framing header",
            "path = \"/a\"\nset_headers = { Content-Length = \"1\" }\nupstream = \"up\"",
            Some("routes[0].set_headers.Content-Length"),
        ),
        (
            "a line break in a header value",
            "path = \"/a\"\nset_headers = { X-A = \"a\\nb\" }\nupstream = \"up\"",
            Some("routes[0].set_headers.X-A"),
        ),
        (
            "two spellings of a header",
            "path = \"/a\"\nset_headers = { X-A = \"1\", X_a = \"2\" }\nupstream = \"up\"",
            Some("routes[0].set_headers.X_a"),
        ),
        (
            "removing and setting one header, in two spellings",
            "path = \"/a\"\nset_headers = { X-A = \"1\" }\nremove_headers = [\"X_A\"]\nupstream = \"up\"",
            None,
        ),
        (
            "removing Date",
            "path = \"/a\"\nremove_response_headers = [\"Server\", \"Date\"]\nupstream = \"up\"",
            Some("routes[0].remove_response_headers[1]"),
        ),
        ("setting Date", "path = \"/a\"\nset_response_headers = { Date = \"x\" }\nupstream = \"up\"", None),
        (
            "the challenge header",
            "path = \"/a\"\nset_response_headers = { WWW-Authenticate = \"x\" }\nupstream = \"up\"",
            Some("routes[0].set_response_headers.WWW-Authenticate"),
        ),
        (
            "a CORS header",
            "path = \"/a\"\nremove_response_headers = [\"Access-Control-Allow-Origin\"]\nupstream = \"up\"",
            Some("routes[0].remove_response_headers[0]"),
        ),
        ("a timeout of zero", "path = \"/a\"\ntimeout = \"0s\"\nupstream = \"up\"", Some("routes[0].timeout")),
        (
            "a claim without allowed values",
            "path = \"/a\"\nclaims = { x = [] }\nupstream = \"up\"",
            Some("routes[0].claims.x"),
        ),
        (
            "a claim that is a number which stands for several integers",
            "path = \"/a\"\nclaims = { x = [1, 1e16] }\nupstream = \"up\"",
            Some("routes[0].claims.x"),
        ),
        (
            "a claim that is a whole number beyond 64 bits",
            "path = \"/a\"\nclaims = { x = 9223372036854775808 }\nupstream = \"up\"",
            Some("routes[0].claims.x"),
        ),
        (
            "a form of path that is listed twice",
            "path = \"/a\"\nupstream = \"up\"\nunusual_paths = [\"parameters\", \"encoded_slash\", \"parameters\"]",
            Some("routes[0].unusual_paths[2]"),
        ),
    ] {
        let found = problem_paths(&format!("{BASE}{more}[[routes]]\n{route}"));
        assert_eq!(found, expected.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{name}");
    }
}
