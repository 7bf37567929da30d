//! `[upstreams.NAME]`: for each rule a file that breaks it.

use super::report_of_each_addition;

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn a_broken_rule_of_an_upstream_is_reported_with_its_key() {
    report_of_each_addition(&[
        (
            "a health check without a path",
            "[upstreams.b]\nservers = [\"http://b\"]\nhealth = {}",
            Some("upstreams.b.health.path"),
        ),
        (
            "a health check",
            "[upstreams.b]\nservers = [\"http://b\"]\nhealth = { path = \"/a?b\", host = \"a:80\", interval = \"100ms\" }",
            None,
        ),
        (
            "health checks all the time",
            "[upstreams.b]\nservers = [\"http://b\"]\nhealth = { path = \"/\", interval = \"99ms\" }",
            Some("upstreams.b.health.interval"),
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
    ]);
}
