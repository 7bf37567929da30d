//! `[server]`, `[admin]` and what else has one table: for each rule a file that breaks it.

use super::report_of_each_addition;

#[test]
fn a_broken_rule_of_the_server_is_reported_with_its_key() {
    report_of_each_addition(&[
        ("no addition", "", None),
        ("several addresses", "[server]\nlisten = [\"127.0.0.1:1\", \"[::1]:1\"]", None),
        ("a host name to listen on", "[server]\nlisten = \"localhost\"", Some("server.listen")),
        ("a Unix socket", "[server]\nlisten = [\"[::1]:1\", \"unix:/run/a.sock\"]", None),
        ("a relative path", "[server]\nlisten = [\"[::1]:1\", \"unix:a.sock\"]", Some("server.listen[1]")),
        ("the same socket twice", "[server]\nlisten = [\"unix:/a\", \"unix:/a\"]", Some("server.listen[1]")),
        ("PROXY headers of no proxy", "[server]\nproxy_protocol = true", Some("server.proxy_protocol")),
        ("PROXY headers", "[server]\nproxy_protocol = true\ntrusted_proxies = [\"10.0.0.1\"]", None),
        ("PROXY headers on a socket", "[server]\nproxy_protocol = true\nlisten = \"unix:/run/a.sock\"", None),
        ("a relative path", "[server]\ntakeover_socket = \"a.sock\"", Some("server.takeover_socket")),
        (
            "a socket for two purposes",
            "[server]\nlisten = \"unix:/run/a.sock\"\ntakeover_socket = \"/run/a.sock\"",
            Some("server.takeover_socket"),
        ),
        ("a socket for takeovers", "[server]\ntakeover_socket = \"/run/a.sock\"", None),
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
        ("all connections for one client", "[server]\nmax_connections = 4\nmax_connections_per_client = 4", None),
        ("auth_failures off", "[server]\nauth_failures = \"off\"", None),
        ("auth_failures without a rate", "[server]\nauth_failures = { burst = 1 }", Some("server.auth_failures.rate")),
        ("admin off", "[admin]\nlisten = \"off\"", None),
        ("an invalid admin address", "[admin]\nlisten = \"no\"", Some("admin.listen")),
    ]);
}
