//! What a configuration compiles to, and for each rule a file that breaks it: one file of tests for
//! each kind of table.

mod issuers;
mod policies;
mod routes;
mod server;
mod upstreams;

use super::*;
use crate::config::load_text;
use crate::primitives::listen_address::{ListenAddress, ListenerService, ListenerSettings};

const BASE: &str = r#"
[issuers.main]
issuer = "https://idp.example"
audiences = ["api"]
[upstreams.up]
servers = ["http://127.0.0.1:9000"]
"#;

fn compile(text: &str) -> Result<Plan, Problems> {
    Plan::compile(load_text("gateway.toml", text, &|_| None))
}

/// The key paths of all problems.
fn problem_paths(text: &str) -> Vec<String> {
    match compile(text) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(|problem| problem.path.clone()).collect(),
    }
}

#[test]
fn a_minimal_file_compiles_to_a_plan_with_the_defaults() {
    let plan =
        compile(&format!("{BASE}[[routes]]\npath = \"/a/*\"\nscopes = [\"a:read\"]\nupstream = \"up\"")).unwrap();
    let address = ListenAddress::parse("127.0.0.1:8080").unwrap();
    assert_eq!(plan.server.listeners, [ListenerSettings { address, service: ListenerService::Plain }]);
    assert_eq!(plan.admin, Some("127.0.0.1:9090".parse().unwrap()));
    assert_eq!(plan.failure_guard.map(|quota| (quota.count, quota.burst)), Some((600, 100)));
    assert_eq!(&*plan.routes[0].name, "/a/*");
    assert!(plan.log.access);
}

/// Adds the text of each row to a valid file; the last column is the key that is reported, or
/// `None` if the file stays valid.
fn report_of_each_addition(rows: &[(&str, &str, Option<&str>)]) {
    let route = "[[routes]]\npath = \"/a\"\nupstream = \"up\"\n";
    for (name, addition, expected) in rows {
        let found = problem_paths(&format!("{BASE}{route}{addition}"));
        assert_eq!(found, expected.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn routes_with_the_same_host_path_and_method_are_an_error() {
    let two = |first: &str, second: &str| {
        problem_paths(&format!(
            "{BASE}[[routes]]\nname = \"one\"\nupstream = \"up\"\n{first}\n[[routes]]\nname = \"two\"\nupstream = \"up\"\n{second}"
        ))
    };
    assert_eq!(two("path = \"/a/{x}\"", "path = \"/a/{y}\""), ["routes[1]"]);
    assert_eq!(two("path = \"/a\"\nmethods = [\"GET\", \"PUT\"]", "path = \"/a\"\nmethods = [\"PUT\"]"), ["routes[1]"]);
    assert!(two("path = \"/a\"\nmethods = [\"GET\"]", "path = \"/a\"").is_empty());
    assert!(two("path = \"/a\"", "path = \"/a\"\nhost = \"a.example\"").is_empty());
}

#[test]
fn a_route_that_accepts_tokens_needs_an_issuer() {
    let text = "[upstreams.up]\nservers = [\"http://a\"]\n[[routes]]\npath = \"/a\"\nupstream = \"up\"";
    assert_eq!(problem_paths(text), ["routes[0]"]);
    assert!(problem_paths(&format!("{text}\naccess = \"public\"")).is_empty());
}

#[test]
fn one_report_lists_all_problems_in_the_order_of_the_file() {
    let report = compile(
        r#"
[issuers.main]
issuer = "http://idp.example"
audiences = ["api"]

[upstreams.orders]
servers = ["http://127.0.0.1:9000"]

[[routes]]
path = "/orders/*"
upstream = "order"
"#,
    )
    .map(|_| ())
    .unwrap_err();
    insta::assert_snapshot!(report, @r"
    gateway.toml: 2 problems
      line 3   issuers.main.issuer: `http://idp.example` is not an https URL
               hint: plain http is allowed only for loopback addresses, or with `allow_http = true`
      line 11  routes[0].upstream: there is no upstream named `order`
               hint: did you mean `orders`?
    ");
}

#[test]
fn a_change_that_requires_a_restart_is_named_by_its_key() {
    let plan = |text: &str| compile(&format!("{BASE}[[routes]]\npath = \"/a\"\nupstream = \"up\"\n{text}")).unwrap();
    let before = plan("");
    for (text, expected) in [
        ("", None),
        ("[server]\nlisten = \"127.0.0.1:1\"", Some("server.listen")),
        ("[server]\ntakeover_socket = \"/run/a.sock\"", Some("server.takeover_socket")),
        ("[server]\nunix_mode = \"0660\"", Some("server.unix_mode")),
        ("[server]\nworkers = 7", Some("server.workers")),
        ("[admin]\nlisten = \"off\"", Some("admin.listen")),
        ("[server]\nmax_connections = 5", None),
        ("[log]\nlevel = \"debug\"", None),
    ] {
        assert_eq!(before.needs_restart(&plan(text)), expected, "{text}");
    }
}

#[test]
fn a_key_that_the_loader_rejects_is_not_reported_as_missing_too() {
    let route = "[[routes]]\npath = \"/a\"\nupstream = \"up\"\n";
    let found = problem_paths(&format!("{BASE}{route}[server]\nauth_failures = {{ rate = 5 }}"));
    assert_eq!(found, ["server.auth_failures.rate"]);
}
