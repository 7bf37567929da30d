//! Hosts, methods and the choice of a route.

use super::{get, problem_code, public, request_line, start};
use crate::support::client::raw;
use crate::support::config::Config;

/// PA-4, TG-1: which route applies. The order in the file is deliberately the reverse of the
/// precedence.
#[tokio::test]
async fn the_most_specific_host_and_path_win() {
    let mut config = Config::minimal();
    for (name, path, line) in [
        ("any", "/h/*", ""),
        ("wild", "/h/*", "host = \"*.example.com\""),
        ("exact", "/h/*", "host = \"api.example.com\""),
        ("rest", "/p/*", ""),
        ("bound", "/p/{id}", ""),
        ("literal", "/p/list", ""),
        ("method", "/p/list", "methods = [\"POST\"]"),
    ] {
        let lines = format!("access = \"public\"\npath = \"{path}\"\nadd_prefix = \"/{name}\"\n{line}");
        config = config.route(name, &lines);
    }
    let (fixture, _upstream) = start(config).await;
    for (name, method, host, target, route) in [
        ("exact", "GET", "api.example.com", "/h/x", "exact"),
        ("exact, with a port", "GET", "api.example.com:8443", "/h/x", "exact"),
        ("exact, in capitals", "GET", "API.Example.Com", "/h/x", "exact"),
        ("exact, with the root's dot", "GET", "api.example.com.", "/h/x", "exact"),
        ("one label under the wildcard", "GET", "www.example.com", "/h/x", "wild"),
        ("two labels under it", "GET", "a.b.example.com", "/h/x", "wild"),
        ("under the exact host", "GET", "x.api.example.com", "/h/x", "wild"),
        ("the wildcard's own name", "GET", "example.com", "/h/x", "any"),
        ("a name with the same ending", "GET", "evilexample.com", "/h/x", "any"),
        ("a name with the same beginning", "GET", "api.example.com.evil.example", "/h/x", "any"),
        ("another", "GET", "g", "/h/x", "any"),
        ("a path of any host, on a host with its own routes", "GET", "api.example.com", "/p/list", "literal"),
        ("literal", "GET", "g", "/p/list", "literal"),
        ("literal, escaped", "GET", "g", "/p/li%73t", "literal"),
        ("literal with its method", "POST", "g", "/p/list", "method"),
        ("bound", "GET", "g", "/p/7", "bound"),
        ("rest", "GET", "g", "/p/7/8", "rest"),
        ("rest, nothing below", "GET", "g", "/p", "rest"),
    ] {
        let response = fixture.request(method, target, &[("Host", host)], b"").await;
        let normal = target.replace("%73", "s");
        assert_eq!(
            request_line(&response),
            format!("{method} /{route}{normal} HTTP/1.1"),
            "{name}: {}",
            response.text()
        );
        assert!(response.text().contains(&format!("host: {host}\r\n")), "{name}: the host is forwarded unchanged");
    }
}

/// TG-1, TG-2; RFC 9112 §3.2: one valid host, or the connection is closed.
#[tokio::test]
async fn requires_exactly_one_valid_host() {
    let (fixture, upstream) = start(Config::minimal()).await;
    let ask = |target: &str, hosts: &str| {
        let bytes = format!(
            "GET {target} HTTP/1.1\r\n{hosts}\r\nGET /public/marker HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n"
        );
        raw(fixture.gateway.addr(), bytes)
    };
    for (name, target, hosts) in [
        ("none", "/public/x", ""),
        ("two", "/public/x", "Host: g\r\nHost: g\r\n"),
        ("two that differ", "/public/x", "Host: g\r\nHost: evil\r\n"),
        ("empty", "/public/x", "Host:\r\n"),
        ("a list", "/public/x", "Host: g,evil\r\n"),
        ("a list with a space", "/public/x", "Host: g, evil\r\n"),
        ("user information", "/public/x", "Host: user@g\r\n"),
        ("a space", "/public/x", "Host: g evil\r\n"),
        ("an escape", "/public/x", "Host: g%00\r\n"),
        ("a path", "/public/x", "Host: g/evil\r\n"),
        ("a quote", "/public/x", "Host: g\"\r\n"),
        ("an empty port", "/public/x", "Host: g:\r\n"),
        ("an invalid port", "/public/x", "Host: g:99999\r\n"),
        ("beyond ASCII", "/public/x", "Host: g\u{e9}\r\n"),
        ("an unclosed address", "/public/x", "Host: [::1\r\n"),
        ("an absolute target without the field", "http://g/public/x", ""),
        ("an absolute target for another host", "http://evil/public/x", "Host: g\r\n"),
        ("an absolute target for another port", "http://g:81/public/x", "Host: g\r\n"),
        ("an absolute target with user information", "http://g@evil/public/x", "Host: g\r\n"),
    ] {
        let received = ask(target, hosts).await;
        assert!(received.starts_with("HTTP/1.1 400 ") && received.contains("\"host_refused\""), "{name}: {received}");
        assert_eq!(received.matches("HTTP/1.1 ").count(), 1, "{name}: the connection ends: {received}");
    }
    assert_eq!(upstream.received(), Vec::<String>::new());
    for (name, target, host) in [
        ("a name and a port", "/public/x", "g:80"),
        ("an address", "/public/x", "127.0.0.1"),
        ("an IPv6 address", "/public/x", "[::1]:8080"),
        ("an absolute target", "http://g/public/x", "g"),
        ("an absolute target, its host in another case", "HTTP://G/public/x", "g"),
    ] {
        let received = ask(target, &format!("Host: {host}\r\n")).await;
        assert!(received.contains("GET /public/x HTTP/1.1\r\n"), "{name}: in origin form: {received}");
        assert!(received.contains(&format!("\r\nhost: {host}\r\n")), "{name}: {received}");
    }
}

/// UP-4, TG-3; RFC 9110 §9.3.6–§9.3.8, §10.2.1, §15.5.6.
#[tokio::test]
async fn a_method_without_a_route_gets_405_with_allow() {
    let config = public(Config::minimal(), "/read", "methods = [\"GET\"]");
    let (fixture, upstream) = start(public(config, "/write", "methods = [\"PUT\", \"POST\"]")).await;
    for (name, method, target, status, allow) in [
        ("a method that is listed", "GET", "/read", 200, None),
        ("HEAD where GET is", "HEAD", "/read", 200, None),
        ("HEAD where GET is not", "HEAD", "/write", 405, Some("POST, PUT")),
        ("a method that is not listed", "POST", "/read", 405, Some("GET, HEAD")),
        ("lower case, where the method is listed", "get", "/read", 405, Some("")),
        ("lower case, where all are allowed", "delete", "/public/x", 405, Some("")),
        ("one small letter", "DELETe", "/public/x", 405, Some("")),
        ("TRACE in lower case", "trace", "/public/x", 405, Some("")),
        ("CONNECT in lower case", "connect", "/public/x", 405, Some("")),
        ("an unknown one, where all are allowed", "BREW", "/public/x", 200, None),
        ("an unknown one, where some are", "BREW", "/read", 405, Some("GET, HEAD")),
        ("a long one, where all are allowed", "PROPFINDPROPFINDPROPFIND", "/public/x", 200, None),
        ("OPTIONS without Origin", "OPTIONS", "/public/x", 200, None),
        ("OPTIONS for the server", "OPTIONS", "*", 405, Some("")),
        ("GET for the server", "GET", "*", 405, Some("")),
        ("CONNECT", "CONNECT", "g:443", 405, Some("")),
        ("CONNECT with a path", "CONNECT", "/public/x", 405, Some("")),
        ("TRACE", "TRACE", "/public/x", 405, Some("")),
        ("a method without a route", "GET", "/nowhere", 404, None),
    ] {
        let host = if method == "CONNECT" && target == "g:443" { "g:443" } else { "g" };
        let response = fixture.request(method, target, &[("Host", host)], b"").await;
        let sorted = response.header("allow").map(|allow| {
            let mut methods: Vec<_> = allow.split(", ").collect();
            methods.sort_unstable();
            methods.join(", ")
        });
        // A CONNECT target that is not an authority may be refused as malformed HTTP.
        let malformed = method == "CONNECT" && target.starts_with('/') && response.status == 400;
        assert!(
            malformed || (response.status, sorted.as_deref()) == (status, allow),
            "{name}: {} {sorted:?}",
            response.status
        );
        assert!(method != "HEAD" || response.body.is_empty(), "{name}");
        assert!(
            status != 405 || method == "HEAD" || malformed || problem_code(&response) == "method_not_allowed",
            "{name}"
        );
    }
    let forwarded = upstream.requests();
    assert!(
        forwarded.iter().all(|request| {
            let (method, _) = request.split_once(' ').unwrap();
            !["CONNECT", "TRACE"].contains(&method) && !method.bytes().any(|byte| byte.is_ascii_lowercase())
        }),
        "{forwarded:?}"
    );
    assert!(
        forwarded.iter().any(|request| request.starts_with("HEAD /read HTTP/1.1\r\n")),
        "HEAD is forwarded as HEAD"
    );
    for (route, status, least) in [("public", 200, 2.0), ("", 405, 2.0)] {
        let sample = format!(r#"portcullis_requests_total{{route="{route}",method="other",status="{status}"}}"#);
        fixture.gateway.wait_for_metric(&sample, least).await;
    }
    let text = fixture.gateway.metrics().await.text().to_owned();
    assert!(!text.contains("BREW") && !text.contains("PROPFIND"), "LM-2: no label holds client text");
}

/// RFC 9728 §3: no route can claim the paths that the gateway reserves for itself.
#[tokio::test]
async fn reserved_paths_never_reach_an_upstream() {
    let (fixture, upstream) = start(public(Config::minimal(), "/*", "")).await;
    for target in [
        "/.portcullis/jwks.json",
        "/.portcullis",
        "/.portcullis/",
        "/%2Eportcullis/x",
        "/.portcullis/x?y",
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/orders",
        "/%2ewell-known/oauth-protected-resource",
    ] {
        let response = get(&fixture, target.as_bytes()).await;
        assert_eq!((response.status, &*problem_code(&response)), (404, "route_not_found"), "{target}");
    }
    assert_eq!(upstream.received(), Vec::<String>::new());
    for target in ["/", "/metrics", "/livez", "/.well-known/security.txt", "/.portcullisx", "/x/.portcullis/y"] {
        let response = get(&fixture, target.as_bytes()).await;
        assert_eq!((response.status, request_line(&response)), (200, format!("GET {target} HTTP/1.1")), "{target}");
    }
}
