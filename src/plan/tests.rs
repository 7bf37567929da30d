//! What a configuration compiles to, and for each rule a file that breaks it.

use super::*;
use crate::config::load_text;
use crate::primitives::listen_address::{ListenAddress, ListenerService, ListenerSettings};

const BASE: &str = r#"
[issuers.main]
issuer = "https://idp.example"
audiences = ["api"]
[upstreams.up]
servers = ["http://127.0.0.1:9000"]
"#;

fn compile(text: &str) -> Result<Plan, Problems> {
    Plan::compile(load_text("gateway.toml", text, &|_| None))
}

/// The key paths of all problems.
fn problem_paths(text: &str) -> Vec<String> {
    match compile(text) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(|problem| problem.path.clone()).collect(),
    }
}

#[test]
fn a_minimal_file_compiles_to_a_plan_with_the_defaults() {
    let plan =
        compile(&format!("{BASE}[[routes]]\npath = \"/a/*\"\nscopes = [\"a:read\"]\nupstream = \"up\"")).unwrap();
    let address = ListenAddress::parse("127.0.0.1:8080").unwrap();
    assert_eq!(plan.server.listeners, [ListenerSettings { address, service: ListenerService::Plain }]);
    assert_eq!(plan.admin, Some("127.0.0.1:9090".parse().unwrap()));
    assert_eq!(plan.failure_guard.map(|quota| (quota.count, quota.burst)), Some((600, 100)));
    assert_eq!(&*plan.routes[0].name, "/a/*");
    assert!(plan.log.access);
}

/// Each row adds text to a valid file; the last column is the key that is reported, or `None` if
/// the file stays valid.
#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn a_broken_rule_is_reported_with_its_key() {
    let route = "[[routes]]\npath = \"/a\"\nupstream = \"up\"\n";
    let limit = |key| format!("[limits.l]\nkey = \"{key}\"\nrate = \"1/s\"");
    let pass = |names| format!("[server]\ntrusted_proxies = [\"10.0.0.1\"]\n[identity]\npass = {names}");
    for (name, addition, expected) in [
        ("no addition", "", None),
        (
            "a form of path that is listed twice",
            "[[routes]]\npath = \"/forms\"\nupstream = \"up\"\nunusual_paths = [\"parameters\", \"encoded_slash\", \"parameters\"]",
            Some("routes[1].unusual_paths[2]"),
        ),
        ("several addresses", "[server]\nlisten = [\"127.0.0.1:1\", \"[::1]:1\"]", None),
        ("a host name to listen on", "[server]\nlisten = \"localhost\"", Some("server.listen")),
        ("a Unix socket", "[server]\nlisten = [\"[::1]:1\", \"unix:/run/a.sock\"]", None),
        ("a relative path", "[server]\nlisten = [\"[::1]:1\", \"unix:a.sock\"]", Some("server.listen[1]")),
        ("the same socket twice", "[server]\nlisten = [\"unix:/a\", \"unix:/a\"]", Some("server.listen[1]")),
        ("PROXY headers of no proxy", "[server]\nproxy_protocol = true", Some("server.proxy_protocol")),
        ("PROXY headers", "[server]\nproxy_protocol = true\ntrusted_proxies = [\"10.0.0.1\"]", None),
        ("PROXY headers on a socket", "[server]\nproxy_protocol = true\nlisten = \"unix:/run/a.sock\"", None),
        ("a mode that is none", "[server]\nunix_mode = \"rw-\"", Some("server.unix_mode")),
        ("the same address twice", "[server]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:1\"]", Some("server.listen[1]")),
        ("a timeout of zero", "[server]\nheader_timeout = \"0s\"", Some("server.header_timeout")),
        ("a drain delay of zero", "[server]\ndrain_delay = \"0s\"", None),
        ("a header limit that is too small", "[server]\nmax_header_size = \"10 B\"", Some("server.max_header_size")),
        (
            "a token limit above the header limit",
            "[server]\nmax_token_size = \"64 KiB\"",
            Some("server.max_token_size"),
        ),
        ("a server header", "[server]\nserver_header = 'Shop/1.0 (x)'", None),
        ("a server header without text", "[server]\nserver_header = ''", Some("server.server_header")),
        ("a server header with a line break", "[server]\nserver_header = \"a\\nb\"", Some("server.server_header")),
        ("a server header outside ASCII", "[server]\nserver_header = 'caf\u{e9}'", Some("server.server_header")),
        ("a realm with a quote", "[server]\nrealm = 'a\"b'", Some("server.realm")),
        (
            "a proxy that is not a network",
            "[server]\ntrusted_proxies = [\"10.0.0.0/99\"]",
            Some("server.trusted_proxies[0]"),
        ),
        ("a single proxy", "[server]\ntrusted_proxies = [\"10.0.0.1\"]", None),
        (
            "a client's share above the whole",
            "[server]\nmax_connections = 4\nmax_connections_per_client = 5",
            Some("server.max_connections_per_client"),
        ),
        (
            "a health check without a path",
            "[upstreams.b]\nservers = [\"http://b\"]\nhealth = {}",
            Some("upstreams.b.health.path"),
        ),
        (
            "a health check",
            "[upstreams.b]\nservers = [\"http://b\"]\nhealth = { path = \"/a?b\", host = \"a:80\" }",
            None,
        ),
        (
            "statuses",
            "[upstreams.b]\nservers = [\"http://b\"]\nhealth = { path = \"/\", expect = [200, \"300-399\"] }",
            None,
        ),
        (
            "an ejection of no duration",
            "[upstreams.b]\nservers = [\"http://b\"]\neject = { for = \"0s\" }",
            Some("upstreams.b.eject.for"),
        ),
        ("no ejection", "[upstreams.b]\nservers = [\"http://b\"]\neject = \"off\"\nslow_start = \"0s\"", None),
        (
            "a client's share above all tunnels",
            "[upstreams.b]\nservers = [\"http://b\"]\nmax_tunnels = 4\nmax_tunnels_per_client = 5",
            Some("upstreams.b.max_tunnels_per_client"),
        ),
        (
            "a tunnel without a lifetime",
            "[upstreams.b]\nservers = [\"http://b\"]\nmax_tunnel_lifetime = \"0s\"",
            Some("upstreams.b.max_tunnel_lifetime"),
        ),
        ("all connections for one client", "[server]\nmax_connections = 4\nmax_connections_per_client = 4", None),
        ("auth_failures off", "[server]\nauth_failures = \"off\"", None),
        ("auth_failures without a rate", "[server]\nauth_failures = { burst = 1 }", Some("server.auth_failures.rate")),
        ("admin off", "[admin]\nlisten = \"off\"", None),
        ("an invalid admin address", "[admin]\nlisten = \"no\"", Some("admin.listen")),
        (
            "an issuer over plain http",
            "[issuers.b]\nissuer = \"http://idp.b\"\naudiences = [\"a\"]",
            Some("issuers.b.issuer"),
        ),
        (
            "an issuer over plain http on loopback",
            "[issuers.b]\nissuer = \"http://127.0.0.1:1\"\naudiences = [\"a\"]",
            None,
        ),
        ("no audience", "[issuers.b]\nissuer = \"https://idp.b\"", Some("issuers.b.audiences")),
        ("no issuer", "[issuers.b]\naudiences = [\"a\"]", Some("issuers.b.issuer")),
        (
            "the same issuer twice",
            "[issuers.z]\nissuer = \"https://idp.example\"\naudiences = [\"a\"]",
            Some("issuers.z.issuer"),
        ),
        (
            "an issuer with a query",
            "[issuers.b]\nissuer = \"https://idp.b/?x\"\naudiences = [\"a\"]",
            Some("issuers.b.issuer"),
        ),
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
            "a leeway above the limit",
            "[issuers.b]\nissuer = \"https://idp.b\"\naudiences = [\"a\"]\nleeway = \"6m\"",
            Some("issuers.b.leeway"),
        ),
        (
            "two key sources",
            "[issuers.b]\nissuer = \"https://idp.b\"\naudiences = [\"a\"]\njwks_url = \"https://b/k\"\njwks_file = \"k\"",
            Some("issuers.b.jwks_file"),
        ),
        (
            "an issuer that is not a URL, with a key file",
            "[issuers.b]\nissuer = \"acme\"\naudiences = [\"a\"]\njwks_file = \"k\"",
            None,
        ),
        (
            "an issuer that is not a URL",
            "[issuers.b]\nissuer = \"acme\"\naudiences = [\"a\"]",
            Some("issuers.b.issuer"),
        ),
        (
            "an empty claim path",
            "[issuers.b]\nissuer = \"https://idp.b\"\naudiences = [\"a\"]\nsubject_claim = \"\"",
            Some("issuers.b.subject_claim"),
        ),
        ("no server", "[upstreams.b]\nservers = []", Some("upstreams.b.servers")),
        ("an https server", "[upstreams.b]\nservers = [\"https://b\"]", None),
        ("https and http", "[upstreams.b]\nservers = [\"https://b\", \"http://c\"]", Some("upstreams.b.servers")),
        ("https and a socket", "[upstreams.b]\nservers = [\"https://b\", \"unix:/c\"]", Some("upstreams.b.servers")),
        (
            "settings of TLS without TLS",
            "[upstreams.b]\nservers = [\"http://b\"]\ntls = { server_name = \"b\" }",
            Some("upstreams.b.tls"),
        ),
        (
            "a certificate without a key",
            "[upstreams.b]\nservers = [\"https://b\"]\ntls = { cert = \"/c.pem\" }",
            Some("upstreams.b.tls.key"),
        ),
        (
            "a key without a certificate",
            "[upstreams.b]\nservers = [\"https://b\"]\ntls = { key = \"/c.pem\" }",
            Some("upstreams.b.tls.cert"),
        ),
        (
            "revocation lists of unknown authorities",
            "[upstreams.b]\nservers = [\"https://b\"]\ntls = { crl_file = \"/c.pem\" }",
            Some("upstreams.b.tls.ca_file"),
        ),
        (
            "an empty path",
            "[upstreams.b]\nservers = [\"https://b\"]\ntls = { ca_file = \"\" }",
            Some("upstreams.b.tls.ca_file"),
        ),
        (
            "a server name that is none",
            "[upstreams.b]\nservers = [\"https://b\"]\ntls = { server_name = \"a b\" }",
            Some("upstreams.b.tls.server_name"),
        ),
        (
            "a server name for a host that cannot be one",
            "[upstreams.b]\nservers = [\"https://-b\"]\ntls = { server_name = \"b\" }",
            None,
        ),
        (
            "a pin that is none",
            "[upstreams.b]\nservers = [\"https://b\"]\ntls = { pins = [\"sha1/AAAA\"] }",
            Some("upstreams.b.tls.pins[0]"),
        ),
        (
            "the same server twice",
            "[upstreams.b]\nservers = [\"http://b\", \"http://b:80\"]",
            Some("upstreams.b.servers[1]"),
        ),
        (
            "a server with a weight",
            "[upstreams.b]\nservers = [\"http://b\", { url = \"http://c\", weight = 100 }]",
            None,
        ),
        (
            "a weight above the limit",
            "[upstreams.b]\nservers = [{ url = \"http://b\", weight = 101 }]",
            Some("upstreams.b.servers[0].weight"),
        ),
        ("a server without a URL", "[upstreams.b]\nservers = [{ weight = 2 }]", Some("upstreams.b.servers[0].url")),
        (
            "the same server twice, once with a weight",
            "[upstreams.b]\nservers = [\"http://b\", { url = \"http://b\", weight = 2 }]",
            Some("upstreams.b.servers[1]"),
        ),
        ("hashing by a header", "[upstreams.b]\nservers = [\"http://b\"]\nbalance = \"hash:header:X-Tenant\"", None),
        ("hashing by the caller", "[upstreams.b]\nservers = [\"http://b\"]\nbalance = \"hash:subject\"", None),
        (
            "an unknown way to balance",
            "[upstreams.b]\nservers = [\"http://b\"]\nbalance = \"random\"",
            Some("upstreams.b.balance"),
        ),
        (
            "hashing by an unknown key",
            "[upstreams.b]\nservers = [\"http://b\"]\nbalance = \"hash:path\"",
            Some("upstreams.b.balance"),
        ),
        (
            "hashing by a header that is always removed",
            "[upstreams.b]\nservers = [\"http://b\"]\nbalance = \"hash:header:X-Request-Id\"",
            Some("upstreams.b.balance"),
        ),
        (
            "hashing by no valid header",
            "[upstreams.b]\nservers = [\"http://b\"]\nbalance = \"hash:header:a b\"",
            Some("upstreams.b.balance"),
        ),
        ("no retries", "[upstreams.b]\nservers = [\"http://b\"]\nretries = 0\nretry_on = []", None),
        (
            "retries after answers, with small bodies",
            "[upstreams.b]\nservers = [\"http://b\"]\nretry_on = [\"connect\", \"503\"]\nretry_body_size = \"64 KiB\"",
            None,
        ),
        ("too many retries", "[upstreams.b]\nservers = [\"http://b\"]\nretries = 6", Some("upstreams.b.retries")),
        (
            "a body too large to be buffered",
            "[upstreams.b]\nservers = [\"http://b\"]\nretry_body_size = \"65 KiB\"",
            Some("upstreams.b.retry_body_size"),
        ),
        (
            "a buffered body without retries",
            "[upstreams.b]\nservers = [\"http://b\"]\nretries = 0\nretry_body_size = \"1 KiB\"",
            Some("upstreams.b.retry_body_size"),
        ),
        (
            "a failure listed twice",
            "[upstreams.b]\nservers = [\"http://b\"]\nretry_on = [\"503\", \"503\"]",
            Some("upstreams.b.retry_on[1]"),
        ),
        (
            "a connect timeout of zero",
            "[upstreams.b]\nservers = [\"http://b\"]\nconnect_timeout = \"0s\"",
            Some("upstreams.b.connect_timeout"),
        ),
        ("any origin with credentials", "[cors.b]\norigins = [\"*\"]\ncredentials = true", Some("cors.b.origins[0]")),
        ("any origin without credentials", "[cors.b]\norigins = [\"*\"]", None),
        ("the null origin", "[cors.b]\norigins = [\"null\"]", Some("cors.b.origins[0]")),
        ("a wildcard for headers", "[cors.b]\norigins = [\"https://b\"]\nheaders = [\"*\"]", Some("cors.b.headers[0]")),
        ("an unknown limit key", "[limits.b]\nkey = \"caller\"\nrate = \"1/s\"", Some("limits.b.key")),
        ("a limit without a rate", "[limits.b]\nkey = \"ip\"", Some("limits.b.rate")),
        (
            "tiers with a key that is known before authentication",
            "[limits.b]\nkey = \"ip\"\nrate = \"1/s\"\ntiers = { claim = \"p\", rates = { x = \"2/s\" } }",
            Some("limits.b.tiers"),
        ),
        (
            "tiers with a key that identifies the caller",
            "[limits.b]\nkey = \"subject\"\nrate = \"1/s\"\ntiers = { claim = \"p\", rates = { x = \"2/s\" } }",
            None,
        ),
        (
            "the reserved limit name",
            "[limits.auth_failures]\nkey = \"ip\"\nrate = \"1/s\"",
            Some("limits.auth_failures"),
        ),
        (
            "identity in a forwarding header",
            "[identity.headers]\nX-Forwarded-For = \"subject\"",
            Some("identity.headers.X-Forwarded-For"),
        ),
        (
            "identity in a header that names another path",
            "[identity.headers]\nX-Original-URL = \"subject\"",
            Some("identity.headers.X-Original-URL"),
        ),
        (
            "identity headers of other systems",
            "[identity.headers]\nX-Forwarded-User = \"subject\"\nRemote-User = \"subject\"\nX-SSL-Client-DN = \"client\"",
            None,
        ),
        (
            "two spellings of an identity header",
            "[identity.headers]\nX-User = \"subject\"\nX_User = \"client\"",
            Some("identity.headers.X_User"),
        ),
        ("passed identity", &pass(r#"["Remote-User", "SM_USER"]"#), None),
        ("passed identity twice", &pass(r#"["Remote-User", "remote-user"]"#), Some("identity.pass[1]")),
        ("passed identity that would pass anyway", &pass(r#"["X-User"]"#), Some("identity.pass[0]")),
        ("passed identity that is the gateway's", &pass(r#"["X-Identity-Subject"]"#), Some("identity.pass[0]")),
        (
            "passed identity that the gateway sets",
            &(pass(r#"["X-Forwarded-User"]"#) + "\n[identity.headers]\nX-Forwarded-User = \"subject\""),
            Some("identity.pass[0]"),
        ),
        ("the largest identity headers", "[identity]\nmax_value_size = \"32 KiB\"", None),
        ("larger ones", "[identity]\nmax_value_size = \"33 KiB\"", Some("identity.max_value_size")),
        ("identity headers without a byte", "[identity]\nmax_value_size = \"0 B\"", Some("identity.max_value_size")),
        ("passed identity without a proxy", "[identity]\npass = [\"Remote-User\"]", Some("identity.pass")),
        ("a limit by a header that proxies send", &limit("header:CF-Connecting-IP"), None),
        ("a limit by a header that can be passed", &limit("header:Remote-User"), None),
        ("a limit by a forwarding header", &limit("header:X-Forwarded-For"), Some("limits.l.key")),
        ("a limit by a header that is always removed", &limit("header:X-Original-URL"), Some("limits.l.key")),
        ("a limit by an alias that is always removed", &limit("header:X_Real_IP"), Some("limits.l.key")),
        (
            "an unknown identity source",
            "[identity.headers]\nX-Identity-Subject = \"sub\"",
            Some("identity.headers.X-Identity-Subject"),
        ),
    ] {
        let found = problem_paths(&format!("{BASE}{route}{addition}"));
        assert_eq!(found, expected.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{name}");
    }
}

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
    ] {
        let found = problem_paths(&format!("{BASE}{more}[[routes]]\n{route}"));
        assert_eq!(found, expected.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn routes_with_the_same_host_path_and_method_are_an_error() {
    let two = |first: &str, second: &str| {
        problem_paths(&format!(
            "{BASE}[[routes]]\nname = \"one\"\nupstream = \"up\"\n{first}\n[[routes]]\nname = \"two\"\nupstream = \"up\"\n{second}"
        ))
    };
    assert_eq!(two("path = \"/a/{x}\"", "path = \"/a/{y}\""), ["routes[1]"]);
    assert_eq!(two("path = \"/a\"\nmethods = [\"GET\", \"PUT\"]", "path = \"/a\"\nmethods = [\"PUT\"]"), ["routes[1]"]);
    assert!(two("path = \"/a\"\nmethods = [\"GET\"]", "path = \"/a\"").is_empty());
    assert!(two("path = \"/a\"", "path = \"/a\"\nhost = \"a.example\"").is_empty());
}

#[test]
fn a_route_that_accepts_tokens_needs_an_issuer() {
    let text = "[upstreams.up]\nservers = [\"http://a\"]\n[[routes]]\npath = \"/a\"\nupstream = \"up\"";
    assert_eq!(problem_paths(text), ["routes[0]"]);
    assert!(problem_paths(&format!("{text}\naccess = \"public\"")).is_empty());
}

#[test]
fn one_report_lists_all_problems_in_the_order_of_the_file() {
    let report = compile(
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
               hint: plain http is allowed only for loopback addresses, or with `allow_http = true`
      line 11  routes[0].upstream: there is no upstream named `order`
               hint: did you mean `orders`?
    ");
}

#[test]
fn a_change_that_requires_a_restart_is_named_by_its_key() {
    let plan = |text: &str| compile(&format!("{BASE}[[routes]]\npath = \"/a\"\nupstream = \"up\"\n{text}")).unwrap();
    let before = plan("");
    for (text, expected) in [
        ("", None),
        ("[server]\nlisten = \"127.0.0.1:1\"", Some("server.listen")),
        ("[server]\nunix_mode = \"0660\"", Some("server.unix_mode")),
        ("[server]\nworkers = 7", Some("server.workers")),
        ("[admin]\nlisten = \"off\"", Some("admin.listen")),
        ("[server]\nmax_connections = 5", None),
        ("[log]\nlevel = \"debug\"", None),
    ] {
        assert_eq!(before.needs_restart(&plan(text)), expected, "{text}");
    }
}

#[test]
fn a_key_that_the_loader_rejects_is_not_reported_as_missing_too() {
    let route = "[[routes]]\npath = \"/a\"\nupstream = \"up\"\n";
    let found = problem_paths(&format!("{BASE}{route}[server]\nauth_failures = {{ rate = 5 }}"));
    assert_eq!(found, ["server.auth_failures.rate"]);
}
