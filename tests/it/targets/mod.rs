//! Targets, hosts and methods: the gateway forwards exactly what it matched, byte for byte, and
//! refuses ambiguous targets with 400.

use serde_json::json;

use crate::support::client::Response;
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::raw_origin::{RawOrigin, Step};

mod routing;
mod unusual;

/// The gateway before an upstream that echoes each request as it received it.
async fn start(config: Config) -> (Fixture, RawOrigin) {
    let upstream = RawOrigin::start(vec![Step::Echo; 200]).await;
    (Fixture::start(config.main_server(upstream.addr())).await, upstream)
}

/// A public route for `path`.
fn public(config: Config, path: &str, keys: &str) -> Config {
    config.route(path, &format!("path = \"{path}\"\naccess = \"public\"\n{keys}"))
}

/// `GET` with a target of any bytes; the host is `g`.
async fn get(fixture: &Fixture, target: &[u8]) -> Response {
    let mut conn = fixture.connect().await;
    conn.send([b"GET ", target, b" HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n"].concat()).await;
    conn.read_response().await
}

/// The request line that the upstream received.
fn request_line(response: &Response) -> String {
    response.text().lines().next().unwrap_or_default().to_owned()
}

fn problem_code(response: &Response) -> String {
    response.json()["code"].as_str().unwrap_or_default().to_owned()
}

/// PA-1, PA-2, PA-3, PA-5, PA-10: no spelling leads from the public route into the protected one.
#[tokio::test]
async fn ambiguous_paths_are_400_and_never_reach_the_upstream() {
    let (fixture, upstream) = start(Config::minimal()).await;
    let deep = "/public".to_owned() + &"/a".repeat(300);
    for target in [
        "/public/../admin/x",
        "/public/..",
        "/public/.",
        "/public/./x",
        "/./admin",
        "/../admin",
        "/public/..;/admin",
        "/public/..;a=b/admin",
        "/public/.;/x",
        "/public/;/x",
        "/public/%2e%2e/admin",
        "/public/%2E%2e/admin",
        "/public/.%2e/admin",
        "/public/%2e/x",
        "/public/..%3b/admin",
        "/public/..%2fadmin",
        "/public/..%2Fadmin",
        "/public%2f..%2fadmin",
        "/public/%2f/x",
        "/public/..%5cadmin",
        "/public/..%5Cadmin",
        "/public/..\\admin",
        "/public\\x",
        "/public/%252e%252e/admin",
        "/public/..%252fadmin",
        "/public/..%255cadmin",
        "/public/%2525",
        "//public/x",
        "/public//x",
        "/public/x//",
        "//admin/x",
        "//evil.example/public",
        "/public/%00",
        "/public/x%00.html",
        "/public/%0d%0aX-A:%201",
        "/public/%0a",
        "/public/%1f",
        "/public/%7f",
        "/public/%",
        "/public/%2",
        "/public/%zz",
        "/public/%u002e",
        "/public/%c0%ae%c0%ae/admin",
        "/public/%ff",
        "/public/%e2%82",
        "/public/\"x\"",
        "/public/{x}",
        "/public/x;jsessionid=1",
        "/public;x/y",
        "/admin;x/y",
        "/public/caf\u{e9}",
        "/public/\u{2025}/admin",
        deep.as_str(),
    ] {
        let response = get(&fixture, target.as_bytes()).await;
        assert_eq!(response.status, 400, "{target}: {}", response.text());
        // hyper itself refuses some bytes in a target, as malformed HTTP.
        assert!(
            matches!(problem_code(&response).as_str(), "path_refused" | "framing_refused"),
            "{target}: {}",
            response.text()
        );
        assert_eq!(response.header("www-authenticate"), None, "{target}");
    }
    for bytes in [
        &b"/public/\xff"[..],
        b"/public/\xc0\xae",
        b"/public/\x80",
        b"/public/\x7f",
        b"/public/\x01",
        b"public/x",
        b"?x",
        b"g:80",
    ] {
        assert_eq!(get(&fixture, bytes).await.status, 400, "{:?}", bytes.escape_ascii().to_string());
    }
    assert_eq!(upstream.received(), Vec::<String>::new(), "no byte reaches the upstream");
}

/// I2, PA-4, PA-6, PA-7; RFC 3986 §6.2.2.
#[tokio::test]
async fn forwards_exactly_the_path_that_it_matched() {
    let config = public(public(Config::minimal(), "/caf%c3%A9/{id}", ""), "/exact", "");
    let (fixture, _upstream) = start(config).await;
    for (name, target, forwarded) in [
        ("unchanged", "/public/a/b.c", "/public/a/b.c"),
        ("the pattern's root", "/public", "/public"),
        ("with its slash", "/public/", "/public/"),
        ("escapes of unreserved characters", "/%70ublic/%7Euser%2d1", "/public/~user-1"),
        ("hex digits of others", "/public/%e2%82%ac%3a", "/public/%E2%82%AC%3A"),
        ("an escaped percent sign", "/public/100%25", "/public/100%25"),
        ("sub-delimiters are unchanged", "/public/a:b@c!$&'()*+,=d", "/public/a:b@c!$&'()*+,=d"),
        ("dots inside a name", "/public/...", "/public/..."),
        ("PA-13: what browsers leave unescaped", "/public/a[1]|b^c?d[1]|e", "/public/a%5B1%5D%7Cb%5Ec?d[1]|e"),
        ("a query", "/public/x?a=1&b=%2e%2E/../;x//?%zz", "/public/x?a=1&b=%2e%2E/../;x//?%zz"),
        ("an empty query", "/public/x?", "/public/x?"),
        ("a query with a path in it", "/public/x?/admin/../admin", "/public/x?/admin/../admin"),
        ("a query after an escape", "/public/%41?%41", "/public/A?%41"),
        ("a literal beyond ASCII", "/caf%c3%a9/7", "/caf%C3%A9/7"),
    ] {
        let response = get(&fixture, target.as_bytes()).await;
        assert_eq!((response.status, request_line(&response)), (200, format!("GET {forwarded} HTTP/1.1")), "{name}");
    }
    // A fragment is not part of a request target, and is never forwarded (RFC 9112 §3.2).
    let fragment = get(&fixture, b"/public/x#/../admin").await;
    assert!(fragment.status == 400 || request_line(&fragment) == "GET /public/x HTTP/1.1", "{}", fragment.text());
    for (name, target) in [
        ("another case", "/Public/x"),
        ("a longer segment", "/publicx"),
        ("a shorter segment", "/publi"),
        ("a trailing slash", "/exact/"),
        ("one segment too many", "/caf%c3%a9/7/8"),
        ("one segment too few", "/caf%c3%a9"),
        ("the root", "/"),
    ] {
        let response = get(&fixture, target.as_bytes()).await;
        assert_eq!((response.status, &*problem_code(&response)), (404, "route_not_found"), "{name}");
    }
}

/// PA-6, PA-11: a public catch-all beside a protected path does not serve what some backends take
/// for that path.
#[tokio::test]
async fn a_catch_all_serves_no_reading_of_a_protected_path() {
    let config = public(Config::minimal(), "/*", "").route("exact", "path = \"/secret\"");
    let (fixture, upstream) = start(config).await;
    for target in [
        "/secret%3Fb",
        "/secret%23b",
        "/secret%20",
        "/%20secret",
        "/secret.",
        "/admin%3Fb",
        "/admin%23b/x",
        "/admin%20/x",
        "/admin./x",
    ] {
        let response = get(&fixture, target.as_bytes()).await;
        assert_eq!((response.status, &*problem_code(&response)), (400, "path_refused"), "{target}");
    }
    assert_eq!(upstream.received(), Vec::<String>::new());
    for target in ["/what%3F", "/C%23/x", "/a%20b", "/a%20", "/x."] {
        let response = get(&fixture, target.as_bytes()).await;
        assert_eq!((response.status, request_line(&response)), (200, format!("GET {target} HTTP/1.1")), "{target}");
    }
}

/// Bytes that no URI may have and that clients send all the same. Over HTTP/2, h2 refuses them:
/// see `malformed_requests_never_reach_the_upstream`.
#[tokio::test]
async fn raw_quotes_and_angle_brackets_are_forwarded_as_their_escapes() {
    let (fixture, _upstream) = start(Config::minimal()).await;
    for (sent, forwarded) in [
        (r#"/public/a?q={"b":"<c>"}"#, "/public/a?q={%22b%22:%22%3Cc%3E%22}"),
        ("/public/a?", "/public/a?"),
        (r#"/public/a?a?"=%22"#, "/public/a?a?%22=%22"),
        ("/public/<x>", "/public/%3Cx%3E"),
        ("/public/`x`?`", "/public/%60x%60?`"),
    ] {
        let mut conn = fixture.connect().await;
        // The second request begins in the same write, and another target arrives in two.
        let head = format!("GET {sent} HTTP/1.1\r\nHost: g\r\n\r\n");
        let (start, end) = head.split_at(sent.len());
        conn.send(format!("{head}{start}")).await;
        let first = conn.read_response().await;
        conn.send(end).await;
        for response in [first, conn.read_response().await] {
            assert_eq!(
                (response.status, request_line(&response)),
                (200, format!("GET {forwarded} HTTP/1.1")),
                "{sent}"
            );
        }
    }
}

/// PA-8.
#[tokio::test]
async fn prefixes_are_replaced_at_segment_boundaries_only() {
    let config = Config::minimal()
        .route("api", "access = \"public\"\nstrip_prefix = \"/api\"\nadd_prefix = \"/v2\"")
        .route("bare", "access = \"public\"\nstrip_prefix = \"/bare\"")
        .route("more", "access = \"public\"\nadd_prefix = \"/inner\"");
    let (fixture, _upstream) = start(config).await;
    for (target, forwarded) in [
        ("/api/orders/7?x=%2f", "/v2/orders/7?x=%2f"),
        ("/api", "/v2"),
        ("/api?x", "/v2?x"),
        ("/api/", "/v2/"),
        ("/%61pi/a%c3%a9", "/v2/a%C3%A9"),
        ("/api/api/x", "/v2/api/x"),
        ("/bare", "/"),
        ("/bare/", "/"),
        ("/bare?x=1", "/?x=1"),
        ("/bare/x", "/x"),
        ("/bare/http:evil.example/x", "/http:evil.example/x"),
        ("/more/x", "/inner/more/x"),
    ] {
        let response = get(&fixture, target.as_bytes()).await;
        assert_eq!((response.status, request_line(&response)), (200, format!("GET {forwarded} HTTP/1.1")), "{target}");
    }
    for target in
        ["/apiadmin", "/bare//evil.example/x", "/bare/../admin", "/bare/%2fevil.example", "/bare\\evil.example"]
    {
        assert!(matches!(get(&fixture, target.as_bytes()).await.status, 400 | 404), "{target}");
    }
}

/// C6: the log has the path without its query, and one line for each request, whatever the target
/// contains.
#[tokio::test]
async fn logs_a_refused_target_on_one_line_without_its_query() {
    let (fixture, _upstream) = start(Config::minimal()).await;
    get(&fixture, b"/public/%0d%0aforged?token=secret").await;
    get(&fixture, "/public/\u{e9}\u{202e}?token=secret".as_bytes()).await;
    get(&fixture, b"/nowhere?token=secret").await;
    let lines = fixture.gateway.wait_for_access_lines(3).await;
    assert_eq!(
        lines.iter().map(|line| line["status"].clone()).collect::<Vec<_>>(),
        [json!(400), json!(400), json!(404)]
    );
    assert_eq!((&lines[0]["path"], &lines[2]["path"]), (&json!("/public/%0d%0aforged"), &json!("/nowhere")));
    assert_eq!((&lines[0]["code"], &lines[0]["reason"]), (&json!("path_refused"), &json!("path_encoded_control")));
    assert!(lines.iter().all(|line| !line.to_string().contains("secret") && line["route"] == json!("")), "{lines:?}");
}
