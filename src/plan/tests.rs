//! What a configuration means, and every way in which it can mean nothing: for each rule a file that breaks it.

use super::*;
use crate::config::load_text;

const BASE: &str = r#"
[issuers.main]
issuer = "https://idp.example"
audiences = ["api"]
[upstreams.up]
servers = ["http://127.0.0.1:9000"]
"#;

fn compiled(text: &str) -> Result<Plan, Problems> {
    Plan::compile(load_text("gateway.toml", text, &|_| None))
}

/// The paths of all problems.
fn problems(text: &str) -> Vec<String> {
    match compiled(text) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(|problem| problem.path.clone()).collect(),
    }
}

#[test]
fn the_smallest_file_is_a_plan() {
    let plan =
        compiled(&format!("{BASE}[[routes]]\npath = \"/a/*\"\nscopes = [\"a:read\"]\nupstream = \"up\"")).unwrap();
    assert_eq!(plan.server.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(plan.admin, Some("127.0.0.1:9090".parse().unwrap()));
    assert_eq!(plan.failure_guard.map(|quota| (quota.count, quota.burst)), Some((600, 100)));
    assert_eq!(&*plan.routes[0].name, "/a/*");
    assert!(plan.log.access);
}

/// The same file with one more piece, and the key that is wrong with it; `None` where nothing is.
#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn each_rule_is_told_with_its_key() {
    let route = "[[routes]]\npath = \"/a\"\nupstream = \"up\"\n";
    for (name, addition, wrong) in [
        ("nothing", "", None),
        ("several addresses", "[server]\nlisten = [\"127.0.0.1:1\", \"[::1]:1\"]", None),
        ("no address", "[server]\nlisten = \"localhost\"", Some("server.listen")),
        ("an address twice", "[server]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:1\"]", Some("server.listen[1]")),
        ("no time", "[server]\nheader_timeout = \"0s\"", Some("server.header_timeout")),
        ("no drain delay is fine", "[server]\ndrain_delay = \"0s\"", None),
        ("a tiny head", "[server]\nmax_header_size = \"10 B\"", Some("server.max_header_size")),
        ("a token above the head", "[server]\nmax_token_size = \"64 KiB\"", Some("server.max_token_size")),
        ("a realm with a quote", "[server]\nrealm = 'a\"b'", Some("server.realm")),
        (
            "a proxy that is no network",
            "[server]\ntrusted_proxies = [\"10.0.0.0/99\"]",
            Some("server.trusted_proxies[0]"),
        ),
        ("a single proxy", "[server]\ntrusted_proxies = [\"10.0.0.1\"]", None),
        ("the guard off", "[server]\nauth_failures = \"off\"", None),
        ("a guard without a rate", "[server]\nauth_failures = { burst = 1 }", Some("server.auth_failures")),
        ("admin off", "[admin]\nlisten = \"off\"", None),
        ("admin nowhere", "[admin]\nlisten = \"no\"", Some("admin.listen")),
        ("plain http", "[issuers.b]\nissuer = \"http://idp.b\"\naudiences = [\"a\"]", Some("issuers.b.issuer")),
        ("plain http on loopback", "[issuers.b]\nissuer = \"http://127.0.0.1:1\"\naudiences = [\"a\"]", None),
        ("no audience", "[issuers.b]\nissuer = \"https://idp.b\"", Some("issuers.b.audiences")),
        ("no issuer", "[issuers.b]\naudiences = [\"a\"]", Some("issuers.b.issuer")),
        (
            "an issuer twice",
            "[issuers.z]\nissuer = \"https://idp.example\"\naudiences = [\"a\"]",
            Some("issuers.z.issuer"),
        ),
        ("a query", "[issuers.b]\nissuer = \"https://idp.b/?x\"\naudiences = [\"a\"]", Some("issuers.b.issuer")),
        (
            "a symmetric algorithm",
            "[issuers.b]\nissuer = \"https://idp.b\"\naudiences = [\"a\"]\nalgorithms = [\"HS256\"]",
            Some("issuers.b.algorithms[0]"),
        ),
        (
            "no algorithm",
            "[issuers.b]\nissuer = \"https://idp.b\"\naudiences = [\"a\"]\nalgorithms = []",
            Some("issuers.b.algorithms"),
        ),
        (
            "much leeway",
            "[issuers.b]\nissuer = \"https://idp.b\"\naudiences = [\"a\"]\nleeway = \"6m\"",
            Some("issuers.b.leeway"),
        ),
        (
            "two sources of keys",
            "[issuers.b]\nissuer = \"https://idp.b\"\naudiences = [\"a\"]\njwks_url = \"https://b/k\"\njwks_file = \"k\"",
            Some("issuers.b.jwks_file"),
        ),
        (
            "an issuer that is no URL, with a key file",
            "[issuers.b]\nissuer = \"acme\"\naudiences = [\"a\"]\njwks_file = \"k\"",
            None,
        ),
        ("an issuer that is no URL", "[issuers.b]\nissuer = \"acme\"\naudiences = [\"a\"]", Some("issuers.b.issuer")),
        (
            "a claim that is no path",
            "[issuers.b]\nissuer = \"https://idp.b\"\naudiences = [\"a\"]\nsubject_claim = \"\"",
            Some("issuers.b.subject_claim"),
        ),
        ("no server", "[upstreams.b]\nservers = []", Some("upstreams.b.servers")),
        ("an https server", "[upstreams.b]\nservers = [\"https://b\"]", Some("upstreams.b.servers[0]")),
        ("a server twice", "[upstreams.b]\nservers = [\"http://b\", \"http://b:80\"]", Some("upstreams.b.servers[1]")),
        (
            "no patience",
            "[upstreams.b]\nservers = [\"http://b\"]\nconnect_timeout = \"0s\"",
            Some("upstreams.b.connect_timeout"),
        ),
        ("everybody with credentials", "[cors.b]\norigins = [\"*\"]\ncredentials = true", Some("cors.b.origins[0]")),
        ("everybody without", "[cors.b]\norigins = [\"*\"]", None),
        ("the null origin", "[cors.b]\norigins = [\"null\"]", Some("cors.b.origins[0]")),
        ("all headers", "[cors.b]\norigins = [\"https://b\"]\nheaders = [\"*\"]", Some("cors.b.headers[0]")),
        ("a limit by nothing", "[limits.b]\nkey = \"caller\"\nrate = \"1/s\"", Some("limits.b.key")),
        ("a limit without rate", "[limits.b]\nkey = \"ip\"", Some("limits.b.rate")),
        (
            "tiers before the token",
            "[limits.b]\nkey = \"ip\"\nrate = \"1/s\"\ntiers = { claim = \"p\", rates = { x = \"2/s\" } }",
            Some("limits.b.tiers"),
        ),
        (
            "tiers of callers",
            "[limits.b]\nkey = \"subject\"\nrate = \"1/s\"\ntiers = { claim = \"p\", rates = { x = \"2/s\" } }",
            None,
        ),
        ("the guard's name", "[limits.auth_failures]\nkey = \"ip\"\nrate = \"1/s\"", Some("limits.auth_failures")),
        (
            "identity in a forwarding field",
            "[identity.headers]\nX-Forwarded-For = \"subject\"",
            Some("identity.headers.X-Forwarded-For"),
        ),
        (
            "identity from nowhere",
            "[identity.headers]\nX-Identity-Subject = \"sub\"",
            Some("identity.headers.X-Identity-Subject"),
        ),
    ] {
        let found = problems(&format!("{BASE}{route}{addition}"));
        assert_eq!(found, wrong.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn each_rule_of_a_route_is_told_with_its_key() {
    let more = "[limits.person]\nkey = \"subject\"\nrate = \"1/s\"\n[limits.address]\nkey = \"ip\"\nrate = \"1/s\"\n[cors.web]\norigins = [\"https://a\"]\n";
    for (name, route, wrong) in [
        ("nothing", "path = \"/a\"\nupstream = \"up\"", None),
        ("no path", "upstream = \"up\"", Some("routes[0].path")),
        ("no upstream", "path = \"/a\"", Some("routes[0].upstream")),
        ("a dangling upstream", "path = \"/a\"\nupstream = \"upp\"", Some("routes[0].upstream")),
        ("a dangling limit", "path = \"/a\"\nupstream = \"up\"\nlimits = [\"x\"]", Some("routes[0].limits[0]")),
        ("a dangling policy", "path = \"/a\"\nupstream = \"up\"\ncors = \"x\"", Some("routes[0].cors")),
        ("a dangling issuer", "path = \"/a\"\nupstream = \"up\"\nissuers = [\"x\"]", Some("routes[0].issuers[0]")),
        ("a reserved path", "path = \"/.portcullis/x\"\nupstream = \"up\"", Some("routes[0].path")),
        ("a dot segment", "path = \"/a/../b\"\nupstream = \"up\"", Some("routes[0].path")),
        ("a host with a scheme", "host = \"https://a\"\npath = \"/a\"\nupstream = \"up\"", Some("routes[0].host")),
        ("a lower-case method", "path = \"/a\"\nmethods = [\"get\"]\nupstream = \"up\"", Some("routes[0].methods[0]")),
        ("no method", "path = \"/a\"\nmethods = []\nupstream = \"up\"", Some("routes[0].methods")),
        ("CONNECT", "path = \"/a\"\nmethods = [\"CONNECT\"]\nupstream = \"up\"", Some("routes[0].methods[0]")),
        (
            "scopes on a public route",
            "path = \"/a\"\naccess = \"public\"\nscopes = [\"a\"]\nupstream = \"up\"",
            Some("routes[0].scopes"),
        ),
        (
            "roles where a token is optional",
            "path = \"/a\"\naccess = \"optional\"\nroles = [\"a\"]\nupstream = \"up\"",
            Some("routes[0].roles"),
        ),
        ("two scopes in one", "path = \"/a\"\nscopes = [\"a b\"]\nupstream = \"up\"", Some("routes[0].scopes[0]")),
        (
            "a caller's limit on a public route",
            "path = \"/a\"\naccess = \"public\"\nlimits = [\"person\"]\nupstream = \"up\"",
            Some("routes[0].limits[0]"),
        ),
        (
            "an address's limit on a public route",
            "path = \"/a\"\naccess = \"public\"\nlimits = [\"address\"]\nupstream = \"up\"",
            None,
        ),
        (
            "a prefix of another path",
            "path = \"/a\"\nstrip_prefix = \"/b\"\nupstream = \"up\"",
            Some("routes[0].strip_prefix"),
        ),
        (
            "half a segment",
            "path = \"/abc/*\"\nstrip_prefix = \"/a\"\nupstream = \"up\"",
            Some("routes[0].strip_prefix"),
        ),
        ("a prefix that is none", "path = \"/a\"\nadd_prefix = \"b\"\nupstream = \"up\"", Some("routes[0].add_prefix")),
        (
            "an identity header",
            "path = \"/a\"\nset_headers = { X-Identity-Subject = \"x\" }\nupstream = \"up\"",
            Some("routes[0].set_headers"),
        ),
        (
            "framing",
            "path = \"/a\"\nset_headers = { Content-Length = \"1\" }\nupstream = \"up\"",
            Some("routes[0].set_headers.Content-Length"),
        ),
        (
            "a line break",
            "path = \"/a\"\nset_headers = { X-A = \"a\\nb\" }\nupstream = \"up\"",
            Some("routes[0].set_headers.X-A"),
        ),
        (
            "a challenge",
            "path = \"/a\"\nset_response_headers = { WWW-Authenticate = \"x\" }\nupstream = \"up\"",
            Some("routes[0].set_response_headers"),
        ),
        (
            "a CORS field",
            "path = \"/a\"\nremove_response_headers = [\"Access-Control-Allow-Origin\"]\nupstream = \"up\"",
            Some("routes[0].remove_response_headers"),
        ),
        ("no time", "path = \"/a\"\ntimeout = \"0s\"\nupstream = \"up\"", Some("routes[0].timeout")),
        (
            "a claim that allows nothing",
            "path = \"/a\"\nclaims = { x = [] }\nupstream = \"up\"",
            Some("routes[0].claims.x"),
        ),
    ] {
        let found = problems(&format!("{BASE}{more}[[routes]]\n{route}"));
        assert_eq!(found, wrong.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn routes_that_nothing_tells_apart_are_an_error() {
    let two = |first: &str, second: &str| {
        problems(&format!(
            "{BASE}[[routes]]\nname = \"one\"\nupstream = \"up\"\n{first}\n[[routes]]\nname = \"two\"\nupstream = \"up\"\n{second}"
        ))
    };
    assert_eq!(two("path = \"/a/{x}\"", "path = \"/a/{y}\""), ["routes[1]"]);
    assert_eq!(two("path = \"/a\"\nmethods = [\"GET\", \"PUT\"]", "path = \"/a\"\nmethods = [\"PUT\"]"), ["routes[1]"]);
    assert!(two("path = \"/a\"\nmethods = [\"GET\"]", "path = \"/a\"").is_empty());
    assert!(two("path = \"/a\"", "path = \"/a\"\nhost = \"a.example\"").is_empty());
}

#[test]
fn a_route_that_needs_tokens_needs_an_issuer() {
    let text = "[upstreams.up]\nservers = [\"http://a\"]\n[[routes]]\npath = \"/a\"\nupstream = \"up\"";
    assert_eq!(problems(text), ["routes[0]"]);
    assert!(problems(&format!("{text}\naccess = \"public\"")).is_empty());
}

#[test]
fn all_problems_of_a_file_are_told_together_in_its_order() {
    let report = compiled(
        r#"
[issuers.main]
issuer = "http://idp.example"
audiences = ["api"]

[upstreams.orders]
servers = ["http://127.0.0.1:9000"]

[[routes]]
path = "/orders/*"
upstream = "order"
"#,
    )
    .map(|_| ())
    .unwrap_err();
    insta::assert_snapshot!(report, @r"
    gateway.toml: 2 problems
      line 3   issuers.main.issuer: `http://idp.example` is not an https URL
               hint: plain http is allowed for loopback addresses only
      line 11  routes[0].upstream: `order` is not the name of an upstream
               hint: did you mean `orders`?
    ");
}

#[test]
fn what_only_a_restart_can_change_is_named() {
    let plan = |text: &str| compiled(&format!("{BASE}[[routes]]\npath = \"/a\"\nupstream = \"up\"\n{text}")).unwrap();
    let before = plan("");
    for (text, named) in [
        ("", None),
        ("[server]\nlisten = \"127.0.0.1:1\"", Some("server.listen")),
        ("[server]\nworkers = 7", Some("server.workers")),
        ("[admin]\nlisten = \"off\"", Some("admin.listen")),
        ("[server]\nmax_connections = 5", None),
        ("[log]\nlevel = \"debug\"", None),
    ] {
        assert_eq!(before.needs_restart(&plan(text)), named, "{text}");
    }
}
