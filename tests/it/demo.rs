//! `portcullis demo` as a new user sees it: the commands in its guide get the responses that the
//! guide shows.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use crate::support::client::{self, Response};
use crate::support::process::ChildGuard;

/// The demo in a process of its own, killed when dropped.
struct Demo {
    _child: ChildGuard,
    guide: String,
    values: BTreeMap<String, String>,
}

impl Demo {
    fn start() -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["demo", "--port", "0", "--issuer-port", "0", "--upstream-port", "0", "--admin-port", "0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let mut child = ChildGuard(child);
        let out = BufReader::new(child.0.stdout.take().expect("its output is a pipe"));
        let mut guide = String::new();
        for line in out.lines() {
            let line = line.expect("the guide is text");
            guide.push_str(&line);
            guide.push('\n');
            if line == "Ready." {
                break;
            }
        }
        let values = guide
            .lines()
            .filter_map(|line| line.split_once('='))
            .filter(|(name, _)| name.bytes().all(|byte| byte.is_ascii_uppercase()))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Self { _child: child, guide, values }
    }

    fn gateway(&self) -> SocketAddr {
        self.values["GW"].trim_start_matches("http://").parse().expect("the guide gives an address")
    }

    async fn request(&self, method: &str, path: &str, token: Option<&str>, headers: &[(&str, &str)]) -> Response {
        let bearer = token.map(|name| format!("Bearer {}", self.values[name]));
        let mut all: Vec<(&str, &str)> = headers.to_vec();
        if let Some(bearer) = &bearer {
            all.push(("authorization", bearer));
        }
        client::request(self.gateway(), method, path, &all, b"").await
    }
}

#[tokio::test]
async fn the_commands_of_the_guide_get_the_responses_it_shows() {
    let demo = Demo::start();
    assert!(demo.guide.contains("Ready."), "{}", demo.guide);
    for (name, method, path, token, status, code) in [
        ("public", "GET", "/public/hello", None, 200, None),
        ("no token", "GET", "/orders/7", None, 401, Some("credentials_missing")),
        ("a token", "GET", "/orders/7", Some("READER"), 200, None),
        ("an expired token", "GET", "/orders/7", Some("EXPIRED"), 401, Some("token_invalid")),
        ("without the scope", "POST", "/orders", Some("READER"), 403, Some("scope_insufficient")),
        ("with the scope", "POST", "/orders", Some("WRITER"), 200, None),
        ("without the role", "GET", "/admin/users", Some("WRITER"), 403, Some("access_denied")),
        ("with the role", "GET", "/admin/users", Some("ADMIN"), 200, None),
        ("a path trick", "GET", "/public/../admin/users", None, 400, Some("path_refused")),
    ] {
        let response = demo.request(method, path, token, &[]).await;
        let reported = (response.status >= 400).then(|| response.json()["code"].as_str().map(str::to_owned)).flatten();
        assert_eq!((response.status, reported.as_deref()), (status, code), "{name}: {}", response.text());
    }
}

#[tokio::test]
async fn forged_identity_headers_do_not_reach_the_sample_upstream() {
    let demo = Demo::start();
    let forged = [("x-identity-subject", "root"), ("x_identity_roles", "admin")];
    let response = demo.request("GET", "/orders/7", Some("READER"), &forged).await;
    let received = &response.json()["the_upstream_received"];
    assert_eq!(received["identity"]["x-identity-subject"], "reader");
    assert_eq!(received["identity"]["x-identity-plan"], "free");
    assert!(!response.text().contains("root") && !response.text().contains("x_identity_roles"), "{}", response.text());
    assert!(received["other_headers"].get("authorization").is_none(), "{}", response.text());
}

#[tokio::test]
async fn the_sixth_request_in_a_minute_gets_429_with_retry_after() {
    let demo = Demo::start();
    for _ in 0..5 {
        assert_eq!(demo.request("GET", "/limited", Some("READER"), &[]).await.status, 200);
    }
    let refused = demo.request("GET", "/limited", Some("READER"), &[]).await;
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(
        demo.request("GET", "/limited", Some("WRITER"), &[]).await.status,
        200,
        "another caller has its own quota"
    );
}

#[tokio::test]
async fn a_preflight_from_the_allowed_origin_is_answered_without_a_token() {
    let demo = Demo::start();
    let headers = [("origin", "http://localhost:3000"), ("access-control-request-method", "GET")];
    let response = demo.request("OPTIONS", "/browser/x", None, &headers).await;
    assert_eq!(response.status, 204);
    assert_eq!(response.header("access-control-allow-origin"), Some("http://localhost:3000"));
}

#[test]
fn names_the_flag_that_changes_a_port_in_use() {
    let in_use = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = in_use.local_addr().expect("it is bound").port().to_string();
    for flag in ["--port", "--issuer-port", "--upstream-port", "--admin-port"] {
        let mut arguments = vec!["demo"];
        for other in ["--port", "--issuer-port", "--upstream-port", "--admin-port"] {
            arguments.extend([other, if other == flag { &port } else { "0" }]);
        }
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis")).args(&arguments).output().expect("it runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{flag}: {error}");
        assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains(flag), "{flag}: {error}");
    }
}
