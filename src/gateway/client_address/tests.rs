//! Client addresses and schemes, by field: threats RL-1 to RL-3.

use http::HeaderValue;

use super::*;

fn headers(lines: &[&str]) -> HeaderMap {
    lines
        .iter()
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        })
        .fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        })
}

fn proxies() -> TrustedProxies {
    let networks = ["10.0.0.0/8", "2001:db8:aa::/48", "::ffff:192.168.0.0/112"];
    TrustedProxies::new(networks.iter().map(|network| network.parse().unwrap()).collect())
}

fn address(peer: &str, lines: &[&str]) -> String {
    from_request(peer.parse().unwrap(), &headers(lines), &proxies()).ip.to_string()
}

const PROXY: &str = "10.0.0.1";

/// RL-1.
#[test]
fn fields_of_untrusted_peers_are_ignored() {
    let lines = ["forwarded: for=1.2.3.4", "x-forwarded-for: 1.2.3.4", "x-forwarded-proto: https"];
    let client = from_request("203.0.113.9".parse().unwrap(), &headers(&lines), &proxies());
    assert_eq!(client, ClientAddress { ip: "203.0.113.9".parse().unwrap(), via_trusted_proxy: false });
    let without_trust = from_request(PROXY.parse().unwrap(), &headers(&lines), &TrustedProxies::default());
    assert_eq!(without_trust.ip.to_string(), PROXY);
}

/// RL-2.
#[test]
fn the_right_most_untrusted_address_is_the_client() {
    for (name, lines, expect) in [
        ("no field", vec![], PROXY),
        ("one", vec!["x-forwarded-for: 203.0.113.9"], "203.0.113.9"),
        ("forged address on the left", vec!["x-forwarded-for: 1.2.3.4, 203.0.113.9"], "203.0.113.9"),
        ("garbage on the left", vec!["x-forwarded-for: <script>, 203.0.113.9"], "203.0.113.9"),
        ("invalid UTF-8 on the left", vec!["x-forwarded-for: é, 203.0.113.9"], "203.0.113.9"),
        ("proxies on the right", vec!["x-forwarded-for: 1.2.3.4, 203.0.113.9, 10.0.0.3,10.9.9.9"], "203.0.113.9"),
        (
            "lines are one list",
            vec!["x-forwarded-for: 1.2.3.4", "x-forwarded-for: 203.0.113.9, 10.0.0.3"],
            "203.0.113.9",
        ),
        ("a line of proxies", vec!["x-forwarded-for: 203.0.113.9", "x-forwarded-for: 10.0.0.3"], "203.0.113.9"),
        ("only proxies", vec!["x-forwarded-for: 10.0.0.7, 10.0.0.3"], "10.0.0.7"),
        ("empty elements", vec!["x-forwarded-for: 203.0.113.9,, ,"], "203.0.113.9"),
        ("a port", vec!["x-forwarded-for: 203.0.113.9:4711"], "203.0.113.9"),
        ("IPv6", vec!["x-forwarded-for: 2001:db8::9"], "2001:db8::9"),
        ("IPv6 in brackets", vec!["x-forwarded-for: [2001:db8::9]:4711"], "2001:db8::9"),
        ("an IPv6 proxy on the right", vec!["x-forwarded-for: 203.0.113.9, 2001:db8:aa::1"], "203.0.113.9"),
        ("Forwarded", vec!["forwarded: for=203.0.113.9"], "203.0.113.9"),
        (
            "Forwarded with more parameters",
            vec!["forwarded: by=_x;For=\"203.0.113.9:80\" ; proto=https"],
            "203.0.113.9",
        ),
        (
            "Forwarded, forged address on the left",
            vec!["forwarded: for=1.2.3.4, for=203.0.113.9, for=10.0.0.3"],
            "203.0.113.9",
        ),
        ("Forwarded, an unclosed quote on the left", vec!["forwarded: for=\", for=203.0.113.9"], "203.0.113.9"),
        ("Forwarded, a comma in quotes", vec!["forwarded: for=203.0.113.9;x=\"a, for=1.2.3.4\""], "203.0.113.9"),
        ("Forwarded, an escaped quote", vec!["forwarded: for=203.0.113.9;x=\"\\\", for=1.2.3.4\""], "203.0.113.9"),
        ("Forwarded, IPv6", vec!["forwarded: for=\"[2001:db8::9]:_port\""], "2001:db8::9"),
        ("Forwarded, escapes", vec!["forwarded: for=\"203\\.0.113.9\""], "203.0.113.9"),
        ("both agree", vec!["forwarded: for=203.0.113.9", "x-forwarded-for: 203.0.113.9"], "203.0.113.9"),
    ] {
        assert_eq!(address(PROXY, &lines), expect, "{name}");
    }
}

/// RL-2: fields that cannot be parsed are ignored.
#[test]
fn in_doubt_the_peer_is_the_client() {
    let chain = format!("x-forwarded-for: 203.0.113.9{}", ", 10.0.0.3".repeat(MAX_ELEMENTS));
    for (name, lines) in [
        ("empty", vec!["x-forwarded-for: "]),
        ("only commas", vec!["x-forwarded-for: ,,", "x-forwarded-for: ,"]),
        ("a name", vec!["x-forwarded-for: client.example"]),
        ("unknown", vec!["x-forwarded-for: 203.0.113.9, unknown"]),
        ("garbage on the right", vec!["x-forwarded-for: 203.0.113.9, x, 10.0.0.3"]),
        ("leading zeros", vec!["x-forwarded-for: 203.0.113.09"]),
        ("empty port", vec!["x-forwarded-for: 203.0.113.9:"]),
        ("invalid port", vec!["x-forwarded-for: 203.0.113.9:x"]),
        ("open bracket", vec!["x-forwarded-for: [2001:db8::9"]),
        ("zone", vec!["x-forwarded-for: fe80::1%eth0"]),
        ("text after the bracket", vec!["x-forwarded-for: [2001:db8::9]x"]),
        ("not ASCII", vec!["x-forwarded-for: 203.0.113.9é"]),
        ("too many", vec![chain.as_str()]),
        ("Forwarded, no for", vec!["forwarded: proto=https"]),
        ("Forwarded, the last has no for", vec!["forwarded: for=203.0.113.9, proto=https"]),
        ("Forwarded, obfuscated", vec!["forwarded: for=_hidden"]),
        ("Forwarded, unknown", vec!["forwarded: for=unknown"]),
        ("Forwarded, twice", vec!["forwarded: for=203.0.113.9;for=203.0.113.9"]),
        ("Forwarded, IPv6 without quotes", vec!["forwarded: for=[2001:db8::9]"]),
        ("Forwarded, IPv6 without brackets", vec!["forwarded: for=\"2001:db8::9\""]),
        ("Forwarded, unclosed quote", vec!["forwarded: for=\"203.0.113.9"]),
        ("Forwarded, text after the quote", vec!["forwarded: for=\"203.0.113.9\"x"]),
        ("Forwarded, malformed elsewhere", vec!["forwarded: for=203.0.113.9;x"]),
        ("they disagree", vec!["forwarded: for=203.0.113.8", "x-forwarded-for: 203.0.113.9"]),
        ("one is malformed", vec!["forwarded: x", "x-forwarded-for: 203.0.113.9"]),
    ] {
        assert_eq!(address(PROXY, &lines), PROXY, "{name}");
    }
}

/// RL-3.
#[test]
fn addresses_are_canonical() {
    for (name, peer, lines, expect) in [
        ("a mapped peer", "::ffff:203.0.113.9", vec![], "203.0.113.9"),
        ("a mapped proxy", "::ffff:10.0.0.1", vec!["x-forwarded-for: 203.0.113.9"], "203.0.113.9"),
        ("a mapped client", PROXY, vec!["x-forwarded-for: ::ffff:203.0.113.9"], "203.0.113.9"),
        ("mapped, in hexadecimal", PROXY, vec!["x-forwarded-for: ::FFFF:cb00:7109"], "203.0.113.9"),
        ("a mapped proxy in the list", PROXY, vec!["x-forwarded-for: 203.0.113.9, ::ffff:10.0.0.3"], "203.0.113.9"),
        ("a mapped network", "192.168.0.1", vec!["x-forwarded-for: 203.0.113.9"], "203.0.113.9"),
        ("long IPv6", PROXY, vec!["x-forwarded-for: 2001:DB8:0:0::9"], "2001:db8::9"),
    ] {
        assert_eq!(address(peer, &lines), expect, "{name}");
    }
}
