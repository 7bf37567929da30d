//! Forwarding headers: both families say the same, and they say what the gateway itself goes by.

use serde_json::json;

use super::{forwarded, values};
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::origin::RecordedRequest;

/// `Forwarded`, `X-Forwarded-For`, `-Proto` and `-Host`; several lines of one are joined by ` | `.
fn families(received: &RecordedRequest) -> [String; 4] {
    ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"]
        .map(|name| values(received, name).join(" | "))
}

const FORWARDING: [(&str, &str); 6] = [
    ("Forwarded", "for=198.51.100.9;proto=ftp;host=evil.example"),
    ("X-Forwarded-For", "192.0.2.7"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "shop.example"),
    ("X-Forwarded-Prefix", "/evil"),
    ("X-Request-Id", "from-the-proxy.1"),
];

/// RL-1, RL-2, HH-5, C3; RFC 7239, RFC 9110 §7.6.3.
#[tokio::test]
async fn replaces_forwarding_headers_of_untrusted_peers_and_appends_to_those_of_trusted_proxies() {
    for (name, trusted) in [("an untrusted peer", false), ("a trusted proxy", true)] {
        let proxies = if trusted { "[\"127.0.0.0/8\"]" } else { "[]" };
        let config = Config::minimal().add("server", &format!("trusted_proxies = {proxies}"));
        let fixture = Fixture::start(config).await;
        let fields = [&FORWARDING[..], &[("Host", "g"), ("Via", "1.0 fred"), ("Via", "1.1 barney")]].concat();
        let response = fixture.get("/public/a", &fields).await;
        let received = fixture.origin.requests().remove(0);
        let id = response.header("x-request-id").expect("on every response");
        assert_eq!(values(&received, "x-request-id"), [id], "{name}");
        assert_eq!(id == "from-the-proxy.1", trusted, "{name}: {id}");
        assert_eq!(values(&received, "via").join(", "), "1.0 fred, 1.1 barney, 1.1 portcullis", "{name}");
        let expected = if trusted {
            [
                "for=192.0.2.7;proto=https;host=\"shop.example\", for=127.0.0.1",
                "192.0.2.7, 127.0.0.1",
                "https",
                "shop.example",
            ]
        } else {
            ["for=127.0.0.1;proto=http;host=\"g\"", "127.0.0.1", "http", "g"]
        };
        assert_eq!(families(&received), expected, "{name}");
        assert_eq!(received.header("x-forwarded-prefix"), trusted.then_some("/evil"), "{name}");
        let line = fixture.gateway.wait_for_access_lines(1).await.remove(0);
        assert_eq!(line["client"], json!(if trusted { "192.0.2.7" } else { "127.0.0.1" }), "{name}");
        assert_eq!(line["request_id"], json!(id), "{name}");
        for bad in ["", "a b", "a\"b", "a/b", &"a".repeat(65)] {
            let response = fixture.get("/public/a", &[("X-Request-Id", bad)]).await;
            assert_ne!(response.header("x-request-id"), Some(bad), "{name}: invalid ids are replaced");
        }
    }
}

/// HH-7, RL-2: a TLS proxy that writes one family passes the other one on as the client sent it.
/// The backend learns nothing from that, and the client keeps its own address.
#[tokio::test]
async fn a_family_that_trusted_proxies_do_not_write_is_dropped_and_written_anew() {
    let lies = [
        ("Forwarded", "for=198.51.100.9;proto=ftp;host=evil.example"),
        ("Forwarded", "for=\", for=10.0.0.1"),
        ("X-Forwarded-For", "198.51.100.9"),
        ("X-Forwarded-For", "x"),
        ("X-Forwarded-Proto", "ftp"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Port", "1"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X_Forwarded_For", "198.51.100.9"),
    ];
    let x_forwarded = [
        ("X-Forwarded-For", "192.0.2.7, 127.0.0.2"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "shop.example"),
        ("X-Forwarded-Port", "8443"),
    ];
    let one_field = [("Forwarded", "for=192.0.2.7;proto=https;host=\"shop.example:8443\", for=127.0.0.2")];
    for (setting, written, is_lie) in [
        ("", &x_forwarded[..], (|name| name == "Forwarded" || name == "X_Forwarded_For") as fn(&str) -> bool),
        ("trusted_header = \"x-forwarded\"", &x_forwarded, |name| name == "Forwarded"),
        ("trusted_header = \"forwarded\"", &one_field, |name| name != "Forwarded"),
    ] {
        let config = Config::minimal().add("server", &format!("trusted_proxies = [\"127.0.0.0/8\"]\n{setting}"));
        let fixture = Fixture::start(config).await;
        let lies: Vec<_> = lies.iter().copied().filter(|(name, _)| is_lie(name)).collect();
        for (name, fields) in
            [("none", written.to_vec()), ("before", [&lies, written].concat()), ("after", [written, &lies].concat())]
        {
            let received = forwarded(&fixture, "/public/a", &[&fields[..], &[("Host", "inner")]].concat()).await;
            let expected = [
                "for=192.0.2.7;proto=https;host=\"shop.example:8443\", for=127.0.0.2, for=127.0.0.1",
                "192.0.2.7, 127.0.0.2, 127.0.0.1",
                "https",
                "shop.example:8443",
            ];
            assert_eq!(families(&received), expected, "{setting}: {name}");
            assert_eq!(received.header("x-forwarded-prefix"), None, "{setting}: {name}");
            assert!(!received.headers.iter().any(|(_, value)| value.contains("evil")), "{:?}", received.headers);
        }
        for line in fixture.gateway.wait_for_access_lines(3).await {
            assert_eq!(line["client"], json!("192.0.2.7"), "{setting}");
        }
    }
}

/// HH-7, RL-2: some backends take the first address for the client's. What the client wrote itself,
/// to the left of the address that its proxy reports, does not go on.
#[tokio::test]
async fn what_the_client_wrote_before_its_own_address_does_not_go_on() {
    let fixture = Fixture::start(Config::minimal().add("server", "trusted_proxies = [\"127.0.0.1\"]")).await;
    let fields =
        [("X-Forwarded-For", "198.51.100.9, <script>, 192.0.2.7"), ("X-Forwarded-Proto", "ftp, https"), ("Host", "g")];
    let received = forwarded(&fixture, "/public/a", &fields).await;
    let expected = ["for=192.0.2.7;proto=https;host=\"g\", for=127.0.0.1", "192.0.2.7, 127.0.0.1", "https", "g"];
    assert_eq!(families(&received), expected);
}

/// W3C Trace Context, level 1. The gateway records no spans: a trace context that it made up would
/// tell upstreams not to record any either.
#[tokio::test]
async fn a_valid_trace_context_passes_unchanged_and_none_is_invented() {
    let fixture = Fixture::start(Config::minimal()).await;
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let not_sampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let state = ("tracestate", "a=1");
    for (name, fields, passes) in [
        ("none", vec![], None),
        ("valid", vec![("traceparent", good), state], Some(good)),
        ("not sampled", vec![("traceparent", not_sampled), state], Some(not_sampled)),
        ("malformed", vec![("traceparent", "00-xyz"), state], None),
        ("all zero", vec![("traceparent", "00-00000000000000000000000000000000-b7ad6b7169203331-01")], None),
        ("two", vec![("traceparent", good), ("traceparent", good), state], None),
        ("a state alone", vec![state], None),
    ] {
        let received = forwarded(&fixture, "/public/a", &fields).await;
        assert_eq!(values(&received, "traceparent"), passes.into_iter().collect::<Vec<_>>(), "{name}");
        assert_eq!(received.header("tracestate"), passes.map(|_| "a=1"), "{name}");
    }
}
