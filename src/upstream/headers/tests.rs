//! Tables for the header rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::forwarding::{Hop, ReportedHops};
use super::trace::remove_invalid_trace;
use super::*;

fn map(lines: &[(&str, &str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap()))
        .collect()
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

/// RFC 9110 §7.6.1: fields named by `Connection`, and the hop-by-hop ones, are not forwarded.
#[test]
fn hop_by_hop_fields_and_what_connection_names_are_removed() {
    let mut headers = map(&[
        ("connection", "close, X-Private"),
        ("connection", "x-other , not a name, authorization, host, cookie"),
        ("x-private", "1"),
        ("x-other", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "trailers"),
        ("trailer", "x-sum"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("expect", "100-continue"),
        ("proxy", "http://evil"),
        ("http2-settings", "AAMAAABkAAQ"),
        ("authorization", "Bearer x"),
        ("host", "api.example"),
        ("cookie", "a=1"),
        ("accept", "*/*"),
    ]);
    retain_end_to_end(&mut headers, |name| !Class::of(name).is_hop_by_hop());
    assert_eq!(names(&headers), ["accept", "authorization", "cookie", "host"]);
}

const TRUSTED: PeerTrust = PeerTrust::Trusted(ForwardingFamily::XForwarded);

/// CVE-2026-40575, CVE-2024-21494: a backend must not act on a different request than the one that
/// the gateway decided on.
#[test]
fn what_names_another_request_passes_from_no_peer_and_another_address_from_trusted_proxies() {
    let all = [
        ("x-http-method-override", "DELETE"),
        ("x-original-url", "/admin"),
        ("x-rewrite-url", "/admin"),
        ("x-real-ip", "10.0.0.1"),
        ("x-forwarded-uri", "/admin"),
        ("x-forwarded-prefix", "/admin"),
        ("x-accel-redirect", "/admin"),
        ("client-cert", ":AA==:"),
        ("remote-user", "admin"),
        ("accept", "*/*"),
    ];
    for (trust, expect) in [
        (PeerTrust::Untrusted, &["accept"][..]),
        (TRUSTED, &["accept", "client-cert", "x-accel-redirect", "x-forwarded-prefix", "x-real-ip"]),
    ] {
        let mut headers = map(&all);
        retain_end_to_end(&mut headers, |name| names::passes_upstream(name, trust));
        assert_eq!(names(&headers), expect, "{trust:?}");
    }
}

/// A CGI backend treats `X_Forwarded_For` and `X-Forwarded-For` as one variable.
#[test]
fn no_alias_of_an_override_or_forwarding_field_passes() {
    for name in [
        "x_forwarded_for",
        "x.forwarded.host",
        "X_Original_URL",
        "x_http_method_override",
        "x-real_ip",
        "client_cert",
        "x_request_id",
        "x_accel_redirect",
    ] {
        for trust in [TRUSTED, PeerTrust::Untrusted] {
            let mut headers = map(&[(name, "1"), ("x_api_key", "1")]);
            retain_end_to_end(&mut headers, |name| names::passes_upstream(name, trust));
            assert_eq!(names(&headers), ["x_api_key"], "{name} from {trust:?}");
        }
    }
}

/// The four forwarding fields and the port, as the gateway writes them over what is in the map.
fn forwarded(peer: IpAddr, reported: &ReportedHops) -> [Option<String>; 5] {
    let stale = ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"].map(|name| (name, "stale"));
    let mut headers = map(&stale);
    let host = HeaderValue::from_static("api.example:8443");
    Hop::new(peer, "http").write(&mut headers, &host, reported);
    ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"].map(|name| {
        let lines: Vec<_> = headers.get_all(name).iter().map(|line| line.to_str().unwrap()).collect();
        (!lines.is_empty()).then(|| lines.join(" | "))
    })
}

/// Both families say the same of the client, and the first element of `Forwarded`, which is what
/// some backends read, says the same as the only `proto` and `host` in it.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn both_families_are_written_from_one_list_of_hops() {
    let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
    let host = |text| Some(HeaderValue::from_static(text));
    let (v4, v6) = (IpAddr::from(Ipv4Addr::new(192, 0, 2, 7)), IpAddr::from(Ipv6Addr::LOCALHOST));
    let hops = ReportedHops::default;
    for (name, peer, reported, forwarded_field, x_for, x_proto, x_host, x_port) in [
        (
            "a client",
            v4,
            hops(),
            "for=192.0.2.7;proto=http;host=\"api.example:8443\"",
            "192.0.2.7",
            "http",
            "api.example:8443",
            None,
        ),
        (
            "a client with an IPv6 address",
            v6,
            hops(),
            "for=\"[::1]\";proto=http;host=\"api.example:8443\"",
            "::1",
            "http",
            "api.example:8443",
            None,
        ),
        (
            "proxies",
            v6,
            ReportedHops {
                addresses: addresses(&["198.51.100.1", "2001:db8::1"]),
                scheme: Some("https"),
                host: host("shop.example"),
                port: None,
            },
            "for=198.51.100.1;proto=https;host=\"shop.example\", for=\"[2001:db8::1]\", for=\"[::1]\"",
            "198.51.100.1, 2001:db8::1, ::1",
            "https",
            "shop.example",
            None,
        ),
        (
            "a proxy that reports the scheme only",
            v4,
            ReportedHops { scheme: Some("https"), ..hops() },
            "for=192.0.2.7;proto=https;host=\"api.example:8443\"",
            "192.0.2.7",
            "https",
            "api.example:8443",
            None,
        ),
        (
            "a proxy that reports an address only",
            v4,
            ReportedHops { addresses: addresses(&["198.51.100.1"]), ..hops() },
            "for=198.51.100.1;proto=http;host=\"api.example:8443\", for=192.0.2.7",
            "198.51.100.1, 192.0.2.7",
            "http",
            "api.example:8443",
            None,
        ),
        (
            "a port that belongs to the host",
            v4,
            ReportedHops { scheme: Some("https"), host: host("shop.example"), port: Some(9443), ..hops() },
            "for=192.0.2.7;proto=https;host=\"shop.example:9443\"",
            "192.0.2.7",
            "https",
            "shop.example:9443",
            Some("9443"),
        ),
        (
            "the default port of https",
            v4,
            ReportedHops { scheme: Some("https"), host: host("shop.example"), port: Some(443), ..hops() },
            "for=192.0.2.7;proto=https;host=\"shop.example\"",
            "192.0.2.7",
            "https",
            "shop.example",
            Some("443"),
        ),
        (
            "the default port of wss",
            v4,
            ReportedHops { scheme: Some("wss"), host: host("shop.example"), port: Some(443), ..hops() },
            "for=192.0.2.7;proto=wss;host=\"shop.example\"",
            "192.0.2.7",
            "wss",
            "shop.example",
            Some("443"),
        ),
        (
            "the default port of another scheme",
            v4,
            ReportedHops { host: host("[2001:db8::2]"), port: Some(443), ..hops() },
            "for=192.0.2.7;proto=http;host=\"[2001:db8::2]:443\"",
            "192.0.2.7",
            "http",
            "[2001:db8::2]:443",
            Some("443"),
        ),
        (
            "the default port of http",
            v4,
            ReportedHops { host: host("shop.example"), port: Some(80), ..hops() },
            "for=192.0.2.7;proto=http;host=\"shop.example\"",
            "192.0.2.7",
            "http",
            "shop.example",
            Some("80"),
        ),
        (
            "the port that the client wrote counts, not that of the proxy",
            v4,
            ReportedHops { port: Some(443), scheme: Some("https"), ..hops() },
            "for=192.0.2.7;proto=https;host=\"api.example:8443\"",
            "192.0.2.7",
            "https",
            "api.example:8443",
            Some("8443"),
        ),
    ] {
        let expect = [Some(forwarded_field), Some(x_for), Some(x_proto), Some(x_host), x_port]
            .map(|text| text.map(str::to_owned));
        assert_eq!(forwarded(peer, &reported), expect, "{name}");
    }
}

/// Requests on one connection may name different hosts.
#[test]
fn each_request_is_forwarded_with_its_own_host() {
    let hop = Hop::new(Ipv4Addr::LOCALHOST.into(), "https");
    for host in ["a.example", "b.example", "b.example", "a.example"] {
        let mut headers = map(&[]);
        hop.write(&mut headers, &HeaderValue::from_static(host), &ReportedHops::default());
        assert_eq!(headers["forwarded"], format!("for=127.0.0.1;proto=https;host=\"{host}\""));
        assert_eq!(headers["x-forwarded-host"], host);
    }
}

/// W3C Trace Context §3.2.2.
#[test]
fn a_valid_trace_context_stays_as_it_is_and_any_other_is_removed() {
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let (parent, zeros) = ("b7ad6b7169203331", "0".repeat(32));
    for (name, received, is_valid) in [
        ("valid", format!("00-{trace}-{parent}-01"), true),
        ("not sampled", format!("00-{trace}-{parent}-00"), true),
        ("a later version", format!("01-{trace}-{parent}-01"), true),
        ("a later version with more parts", format!("01-{trace}-{parent}-01-what"), true),
        ("a later version with a longer part", format!("01-{trace}-{parent}-011"), false),
        ("version 00 with more parts", format!("00-{trace}-{parent}-01-what"), false),
        ("version ff", format!("ff-{trace}-{parent}-01"), false),
        ("a version that is no number", format!("0g-{trace}-{parent}-01"), false),
        ("flags that are no number", format!("00-{trace}-{parent}-0g"), false),
        ("upper case", format!("00-{}-{parent}-01", trace.to_uppercase()), false),
        ("another first separator", format!("00_{trace}-{parent}-01"), false),
        ("another second separator", format!("00-{trace}_{parent}-01"), false),
        ("another third separator", format!("00-{trace}-{parent}_01"), false),
        ("trace of zeros", format!("00-{zeros}-{parent}-01"), false),
        ("parent of zeros", format!("00-{trace}-0000000000000000-01"), false),
        ("short", "00-1-2-3".to_owned(), false),
        ("empty", String::new(), false),
        ("not ASCII", format!("00-{trace}-b7ad6b716920333é-01"), false),
    ] {
        let mut headers = map(&[("tracestate", "a=1"), ("accept", "*/*")]);
        headers.insert("traceparent", HeaderValue::from_bytes(received.as_bytes()).unwrap());
        remove_invalid_trace(&mut headers);
        let stays =
            [("traceparent", &*received), ("tracestate", "a=1")].map(|(name, value)| is_valid.then_some((name, value)));
        let expect: Vec<_> = [("accept", "*/*")].into_iter().chain(stays.into_iter().flatten()).collect();
        let mut found: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        found.sort_unstable();
        assert_eq!(found, expect.iter().map(|(name, value)| (*name, value.as_bytes())).collect::<Vec<_>>(), "{name}");
    }
}

/// RFC 9113 §8.2.3.
#[test]
fn cookie_crumbs_become_one_field() {
    let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2")]);
    join_cookies(&mut headers);
    assert_eq!(headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2"]);
}
