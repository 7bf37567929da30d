//! Client addresses, schemes and hosts, by field: threats RL-1 to RL-3 and HH-7.

use super::ForwardingFamily::{Forwarded, XForwarded};
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

fn proxies(family: ForwardingFamily) -> TrustedProxies {
    let networks = ["10.0.0.0/8", "2001:db8:aa::/48", "::ffff:192.168.0.0/112"];
    TrustedProxies::new(networks.iter().map(|network| network.parse().unwrap()).collect(), family)
}

/// The family that the first line belongs to; `X-Forwarded-*` without a line.
fn family(lines: &[&str]) -> ForwardingFamily {
    match lines.first() {
        Some(line) if line.starts_with("forwarded") => ForwardingFamily::Forwarded,
        Some(_) | None => ForwardingFamily::XForwarded,
    }
}

fn peer_at(text: &str) -> PeerAddress {
    text.parse::<IpAddr>().unwrap().into()
}

fn reported(lines: &[&str], family: ForwardingFamily) -> ReportedHops {
    Client::of_request(peer_at(PROXY), &headers(lines), &proxies(family)).reported
}

/// The client's address if trusted proxies write the family of the first line.
fn address(peer: &str, lines: &[&str]) -> String {
    Client::of_request(peer_at(peer), &headers(lines), &proxies(family(lines))).ip.to_string()
}

const PROXY: &str = "10.0.0.1";

#[test]
fn a_request_says_that_it_was_forwarded_with_either_family() {
    for (lines, expected) in [
        (&["x-forwarded-for: 203.0.113.9"][..], true),
        (&["forwarded: for=203.0.113.9"], true),
        (&["forwarded: for=203.0.113.9", "x-forwarded-for: 203.0.113.9"], true),
        (&["x-forwarded-proto: https", "x-real-ip: 203.0.113.9"], false),
        (&[], false),
    ] {
        assert_eq!(has_forwarding_fields(&headers(lines)), expected, "{lines:?}");
    }
}

/// RL-1.
#[test]
fn fields_of_untrusted_peers_are_ignored() {
    let lines = ["forwarded: for=1.2.3.4", "x-forwarded-for: 1.2.3.4", "x-forwarded-proto: https"];
    for family in [ForwardingFamily::Forwarded, ForwardingFamily::XForwarded] {
        for (peer, trusted) in [("203.0.113.9", proxies(family)), (PROXY, TrustedProxies::default())] {
            let client = Client::of_request(peer_at(peer), &headers(&lines), &trusted);
            let reported = ReportedHops::default();
            assert_eq!(client, Client { ip: peer.parse().unwrap(), peer_trust: PeerTrust::Untrusted, reported });
        }
    }
}

/// RL-1: only what the permissions of the socket let in can connect to it.
#[test]
fn fields_of_the_peer_of_a_unix_socket_are_believed() {
    for (name, lines, expected) in [
        ("none", &[][..], "127.0.0.1"),
        ("an address", &["x-forwarded-for: 203.0.113.9"], "203.0.113.9"),
        ("a forged address on the left", &["x-forwarded-for: 1.2.3.4, 203.0.113.9"], "203.0.113.9"),
    ] {
        let client = Client::of_request(PeerAddress::UnixSocket, &headers(lines), &TrustedProxies::default());
        assert_eq!(
            (client.ip, client.peer_trust),
            (expected.parse().unwrap(), PeerTrust::Trusted(XForwarded)),
            "{name}"
        );
    }
}

/// RL-9.
#[test]
fn fields_of_a_client_that_its_proxy_does_not_know_are_ignored() {
    let peer = PeerAddress::BehindProxy(PROXY.parse().unwrap());
    let client = Client::of_request(peer, &headers(&["x-forwarded-for: 203.0.113.9"]), &proxies(XForwarded));
    assert_eq!((client.ip.to_string(), client.peer_trust), (PROXY.to_owned(), PeerTrust::Untrusted));
}

/// RL-2.
#[test]
fn the_right_most_untrusted_address_is_the_client() {
    let longest = format!("x-forwarded-for: 203.0.113.9{}", ", 10.0.0.3".repeat(MAX_ELEMENTS - 1));
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
        (
            "empty elements in between",
            vec!["x-forwarded-for: 203.0.113.9, ,", "x-forwarded-for: , 10.0.0.3"],
            "203.0.113.9",
        ),
        ("a port", vec!["x-forwarded-for: 203.0.113.9:4711"], "203.0.113.9"),
        ("a port of one digit", vec!["x-forwarded-for: 203.0.113.9:8"], "203.0.113.9"),
        ("a port of five digits", vec!["x-forwarded-for: 203.0.113.9:65535"], "203.0.113.9"),
        ("an obfuscated port", vec!["x-forwarded-for: 203.0.113.9:_Ab.c-d_9"], "203.0.113.9"),
        ("IPv6", vec!["x-forwarded-for: 2001:db8::9"], "2001:db8::9"),
        ("IPv6 in brackets", vec!["x-forwarded-for: [2001:db8::9]:4711"], "2001:db8::9"),
        ("IPv6 in brackets without a port", vec!["x-forwarded-for: [2001:db8::9]"], "2001:db8::9"),
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
        ("Forwarded, empty elements", vec!["forwarded: for=203.0.113.9, ,for=10.0.0.3,,"], "203.0.113.9"),
        ("Forwarded, IPv6", vec!["forwarded: for=\"[2001:db8::9]:_port\""], "2001:db8::9"),
        ("Forwarded, escapes", vec!["forwarded: for=\"203\\.0.113.9\""], "203.0.113.9"),
        ("the most elements that are read", vec![longest.as_str()], "203.0.113.9"),
    ] {
        assert_eq!(address(PROXY, &lines), expect, "{name}");
    }
}

/// RL-2, HH-7: what a proxy passes on as the client sent it neither changes the client's address
/// nor moves the client to the address that all clients of the proxy share.
#[test]
fn a_field_that_trusted_proxies_do_not_write_changes_nothing() {
    for foreign in ["for=198.51.100.1", "for=\"", "x", "for=10.0.0.3", "for=203.0.113.9;host=evil;proto=http", ""] {
        let lines = ["x-forwarded-for: 203.0.113.9", "x-forwarded-proto: https", &format!("forwarded: {foreign}")];
        assert_eq!(reported(&lines, XForwarded), reported(&lines[..2], XForwarded), "{foreign}");
        assert_eq!(address(PROXY, &lines), "203.0.113.9", "{foreign}");
    }
    for foreign in ["198.51.100.1", "x", "", "10.0.0.3, 10.0.0.3"] {
        let lines = [
            "forwarded: for=203.0.113.9;proto=https",
            &format!("x-forwarded-for: {foreign}"),
            "x-forwarded-proto: http",
            "x-forwarded-host: evil.example",
            "x-forwarded-port: 1",
        ];
        assert_eq!(reported(&lines, Forwarded), reported(&lines[..1], Forwarded), "{foreign}");
        assert_eq!(address(PROXY, &lines), "203.0.113.9", "{foreign}");
    }
}

/// RL-2: without an address that can be read, the peer is the client.
#[test]
fn without_a_readable_address_the_peer_is_the_client() {
    for (name, lines) in [
        ("empty", vec!["x-forwarded-for: "]),
        ("only commas", vec!["x-forwarded-for: ,,", "x-forwarded-for: ,"]),
        ("a name", vec!["x-forwarded-for: client.example"]),
        ("unknown", vec!["x-forwarded-for: 203.0.113.9, unknown"]),
        ("leading zeros", vec!["x-forwarded-for: 203.0.113.09"]),
        ("empty port", vec!["x-forwarded-for: 203.0.113.9:"]),
        ("a port that is no number", vec!["x-forwarded-for: 203.0.113.9:x"]),
        ("a port of six digits", vec!["x-forwarded-for: 203.0.113.9:000080"]),
        ("a port with a sign", vec!["x-forwarded-for: 203.0.113.9:+80"]),
        ("an obfuscated port without a name", vec!["x-forwarded-for: 203.0.113.9:_"]),
        ("an obfuscated port with another byte", vec!["x-forwarded-for: 203.0.113.9:_a!"]),
        ("an invalid port after a bracket", vec!["x-forwarded-for: [2001:db8::9]:x"]),
        ("open bracket", vec!["x-forwarded-for: [2001:db8::9"]),
        ("zone", vec!["x-forwarded-for: fe80::1%eth0"]),
        ("text after the bracket", vec!["x-forwarded-for: [2001:db8::9]x"]),
        ("not ASCII", vec!["x-forwarded-for: 203.0.113.9é"]),
        ("Forwarded, no for", vec!["forwarded: proto=https"]),
        ("Forwarded, the last has no for", vec!["forwarded: for=203.0.113.9, proto=https"]),
        ("Forwarded, obfuscated", vec!["forwarded: for=_hidden"]),
        ("Forwarded, unknown", vec!["forwarded: for=unknown"]),
        ("Forwarded, twice", vec!["forwarded: for=203.0.113.9;for=203.0.113.9"]),
        ("Forwarded, two schemes", vec!["forwarded: for=203.0.113.9;proto=https;Proto=http"]),
        ("Forwarded, two hosts", vec!["forwarded: for=203.0.113.9;host=a;HOST=b"]),
        ("Forwarded, IPv6 without quotes", vec!["forwarded: for=[2001:db8::9]"]),
        ("Forwarded, IPv6 without brackets", vec!["forwarded: for=\"2001:db8::9\""]),
        ("Forwarded, unclosed quote", vec!["forwarded: for=\"203.0.113.9"]),
        ("Forwarded, text after the quote", vec!["forwarded: for=\"203.0.113.9\"x"]),
        ("Forwarded, malformed elsewhere", vec!["forwarded: for=203.0.113.9;x"]),
    ] {
        assert_eq!(address(PROXY, &lines), PROXY, "{name}");
    }
}

/// RL-2: an element that cannot be read ends the list. The hops that trusted proxies have reported
/// up to there still count, so that a client at a trusted address cannot become its proxy.
#[test]
fn the_hops_before_an_unreadable_element_count() {
    let too_long = format!("x-forwarded-for: 203.0.113.9{}", ", 10.0.0.3".repeat(MAX_ELEMENTS));
    let empty = format!("x-forwarded-for: 203.0.113.9{}", ",".repeat(MAX_ELEMENTS));
    for (name, line, expect) in [
        ("garbage on the left of a trusted address", "x-forwarded-for: 203.0.113.9, x, 10.0.0.3", "10.0.0.3"),
        ("and another one", "x-forwarded-for: x, 10.0.0.4, 10.0.0.3", "10.0.0.4"),
        ("Forwarded", "forwarded: for=203.0.113.9, for=_x, for=10.0.0.3", "10.0.0.3"),
        ("Forwarded, malformed", "forwarded: for=203.0.113.9, ;=, for=10.0.0.3", "10.0.0.3"),
        ("more elements than are read", &too_long, "10.0.0.3"),
        ("empty elements count as well", &empty, PROXY),
        (
            "a comma and a quote in a quoted string",
            "forwarded: for=x, for=\"203.0.113.9\";by=\"a,\\\"b\"",
            "203.0.113.9",
        ),
        ("a backslash before the quote", "forwarded: for=x, for=\"203.0.113.9\";by=\"a,\\\\\"", "203.0.113.9"),
        ("a parameter of another name", "forwarded: for=203.0.113.9;by=a;secret=b;by=c", "203.0.113.9"),
    ] {
        assert_eq!(address(PROXY, &[line]), expect, "{name}");
    }
}

/// RL-2, HH-7: the hops, the scheme and the host are those of the client's connection as trusted
/// proxies report it, and nothing that stands to the left of it.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn scheme_host_and_port_are_those_of_the_clients_hop() {
    type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str], Option<&'static str>, Option<&'static str>, Option<u16>);
    let rows: [Row<'_>; 17] = [
        ("none", &[], &[], None, None, None),
        (
            "one proxy",
            &[
                "x-forwarded-for: 203.0.113.9",
                "x-forwarded-proto: HTTPS",
                "x-forwarded-host: Shop.example:8443",
                "x-forwarded-port: 8443",
            ],
            &["203.0.113.9"],
            Some("https"),
            Some("Shop.example:8443"),
            Some(8443),
        ),
        (
            "fields without addresses",
            &["x-forwarded-proto: https", "x-forwarded-host: shop.example"],
            &[],
            Some("https"),
            Some("shop.example"),
            None,
        ),
        (
            "appended by one proxy to what the client sent",
            &[
                "x-forwarded-for: 1.2.3.4, 203.0.113.9",
                "x-forwarded-proto: ftp, https",
                "x-forwarded-host: evil.example, shop.example",
            ],
            &["203.0.113.9"],
            Some("https"),
            Some("shop.example"),
            None,
        ),
        (
            "appended by two proxies",
            &[
                "x-forwarded-for: 1.2.3.4, 203.0.113.9, 10.0.0.3",
                "x-forwarded-proto: ftp, https, http",
                "x-forwarded-port: 1",
                "x-forwarded-port: 443, 80",
            ],
            &["203.0.113.9", "10.0.0.3"],
            Some("https"),
            None,
            Some(443),
        ),
        (
            "replaced, behind two proxies",
            &["x-forwarded-for: 203.0.113.9, 10.0.0.3", "x-forwarded-proto: https"],
            &["203.0.113.9", "10.0.0.3"],
            Some("https"),
            None,
            None,
        ),
        ("another scheme", &["x-forwarded-proto: javascript"], &[], None, None, None),
        ("a list in a value", &["x-forwarded-host: a b"], &[], None, None, None),
        ("a host with a path", &["x-forwarded-host: shop.example/evil"], &[], None, None, None),
        ("a host with a quote", &["x-forwarded-host: a\""], &[], None, None, None),
        ("port zero", &["x-forwarded-port: 0"], &[], None, None, None),
        ("a signed port", &["x-forwarded-port: +80"], &[], None, None, None),
        ("a port that is too large", &["x-forwarded-port: 65536"], &[], None, None, None),
        (
            "Forwarded",
            &[
                "forwarded: for=1.2.3.4;host=evil, for=203.0.113.9;proto=Https;host=\"shop.example:8443\", for=10.0.0.3;proto=http;host=inner",
            ],
            &["203.0.113.9", "10.0.0.3"],
            Some("https"),
            Some("shop.example:8443"),
            None,
        ),
        (
            "Forwarded, the client's element has an address only",
            &["forwarded: for=203.0.113.9, for=10.0.0.3;proto=https;host=inner"],
            &["203.0.113.9", "10.0.0.3"],
            None,
            None,
            None,
        ),
        (
            "Forwarded, an address that the proxy hides",
            &["forwarded: for=_hidden;proto=https;host=shop.example, for=10.0.0.3;proto=http"],
            &["10.0.0.3"],
            Some("https"),
            Some("shop.example"),
            None,
        ),
        (
            "Forwarded, a malformed element on the left",
            &["forwarded: for=203.0.113.9;proto=https;, x=;, for=10.0.0.3;proto=https"],
            &["10.0.0.3"],
            Some("https"),
            None,
            None,
        ),
    ];
    for (name, lines, addresses, scheme, host, port) in rows {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let expect = ReportedHops { addresses, scheme, host: host.map(HeaderValue::from_static), port };
        assert_eq!(reported(lines, family(lines)), expect, "{name}");
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
