//! Response headers: what passes as the upstream sent it, and `Server`.

use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::origin::Behaviour;
use crate::support::raw_origin::{RawOrigin, Step};

/// `Location`, `Set-Cookie` and fields that the gateway does not know pass unchanged, even where
/// they name the upstream's own host or look odd.
#[tokio::test]
async fn fields_that_the_gateway_does_not_own_pass_byte_for_byte() {
    const FIELDS: &str = "Location: http://orders.internal:9000/orders/7?a=%2F#part\r\n\
        Content-Location: ../8\r\n\
        Set-Cookie: a=1; Domain=orders.internal; Path=/orders; Secure\r\n\
        Set-Cookie: b=\"2, 3\"; expires=Wed, 21 Oct 2026 07:28:00 GMT\r\n\
        Set-Cookie: a=4\r\n\
        Refresh: 5; url=http://orders.internal:9000/\r\n\
        Server: Orders/1.2 (internal)\r\n\
        X-Unknown: \tone,  two\r\n\
        X-Unknown: \u{e9}\r\n\
        X-Empty: \r\n";
    for status in ["200 OK", "201 Created", "302 Found", "404 Not Found"] {
        let response = format!("HTTP/1.1 {status}\r\n{FIELDS}Content-Length: 2\r\n\r\nok");
        let origin = RawOrigin::start([Step::response(response)]).await;
        let fixture = Fixture::start(Config::minimal().main_server(origin.addr())).await;
        let mut conn = fixture.connect().await;
        conn.send("GET /public/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        let received = conn.read_to_close().await;
        let received = String::from_utf8(received).expect("the upstream sends UTF-8");
        let lines: Vec<&str> = received.lines().map(str::trim_end).collect();
        for field in FIELDS.lines() {
            let (name, value) = field.split_once(':').expect("a field");
            let expected = format!("{}: {}", name.to_ascii_lowercase(), value.trim());
            let expected = expected.trim_end();
            assert!(lines.contains(&expected), "{status}: {expected:?} is missing in\n{received}");
        }
        let cookies: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("set-cookie: ")).collect();
        assert!(cookies[0].starts_with("a=1") && cookies[1].starts_with('b') && cookies[2] == "a=4", "{cookies:?}");
    }
}

#[tokio::test]
async fn the_server_field_is_the_upstreams_or_none_or_the_configured_one() {
    for (name, key, from_upstream, from_gateway) in [
        ("default", None, Some("origin/1"), None),
        ("upstream", Some("upstream"), Some("origin/1"), None),
        ("off", Some("off"), None, None),
        ("a name", Some("shop"), Some("shop"), Some("shop")),
    ] {
        let mut config =
            Config::minimal().route("own", "access = \"public\"\nset_response_headers = { Server = \"own\" }");
        if let Some(key) = key {
            config = config.add("server", &format!("server_header = \"{key}\""));
        }
        let fixture = Fixture::start(config).await;
        for path in ["/public/1", "/own/1"] {
            fixture.origin.behave(path, Behaviour::response(200, &[("Server", "origin/1")], "ok"));
        }
        let seen = |response: crate::support::client::Response| {
            let servers: Vec<String> = response.headers_named("server").into_iter().map(str::to_owned).collect();
            servers
        };
        let expected = |value: Option<&str>| value.into_iter().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(seen(fixture.get("/public/1", &[]).await), expected(from_upstream), "{name}: a response");
        assert_eq!(seen(fixture.get("/token/1", &[]).await), expected(from_gateway), "{name}: 401");
        assert_eq!(seen(fixture.get("/nowhere", &[]).await), expected(from_gateway), "{name}: 404");
        assert_eq!(seen(fixture.get("/own/1", &[]).await), ["own"], "{name}: the route's own");
    }
}
