//! What the loader reads from a file, and what it reports about a file with mistakes.

use super::units::{Access, ClaimValue, SizeOrUnlimited};
use super::*;

fn none(_: &str) -> Option<String> {
    None
}

fn loaded(text: &str) -> LoadOutcome {
    load_text("gateway.toml", text, &none)
}

/// The report that an operator reads.
fn report(text: &str) -> String {
    let mut loaded = loaded(text);
    loaded.problems.locate(&loaded.key_lines);
    loaded.problems.to_string()
}

#[test]
fn all_problems_are_reported_in_one_run() {
    insta::assert_snapshot!(report(r#"
[server]
listen = 8080
header_timeout = 10
max_header_size = "32 KB"
workers = "many"

[issuers.main]
isuer = "https://idp.example"
audiences = ["a", 5]

[[routes]]
path = "/a"
acess = "public"
access = "open"

[routs]
"#), @r#"
    gateway.toml: 9 problems
      line 3   server.listen: invalid type: integer `8080`, expected a string or an array of strings
      line 4   server.header_timeout: `10` has no unit; expected a duration with a unit, such as "250ms", "30s", "5m" or "24h"
      line 5   server.max_header_size: `32 KB` is not a size with a unit, such as "512 B", "32 KiB" or "10 MiB"
      line 6   server.workers: invalid value: string "many", expected "auto" or a number from 1 to 1024
      line 9   issuers.main.isuer: unknown key `isuer`
               hint: did you mean `issuer`?
      line 10  issuers.main.audiences[1]: invalid type: integer `5`, expected a string
      line 14  routes[0].acess: unknown key `acess`
               hint: did you mean `access`?
      line 15  routes[0].access: `open` is not one of "optional", "public", "token"
      line 17  routs: unknown key `routs`
               hint: did you mean `routes`?
    "#);
}

#[test]
fn a_key_of_an_earlier_version_is_reported_with_what_took_its_place() {
    insta::assert_snapshot!(report("[[routes]]\npath_parameters = \"allow\"\nunusual_paths = [\"slash\"]"), @r#"
    gateway.toml: 2 problems
      line 2  routes[0].path_parameters: unknown key `path_parameters`
              hint: write `unusual_paths = ["parameters"]` to accept `;`
      line 3  routes[0].unusual_paths[0]: `slash` is not one of "double_escape", "empty_segment", "encoded_slash", "parameters"
    "#);
}

#[test]
fn a_syntax_error_is_reported_with_its_line() {
    let report = report("[server\nlisten = \"x\"\n");
    assert!(report.starts_with("gateway.toml: 1 problem\n  line 1  "), "{report}");
}

#[test]
fn a_missing_file_is_a_problem() {
    let loaded = load(std::path::Path::new("/does/not/exist.toml"), &none);
    assert!(loaded.problems.to_string().contains("cannot be read"), "{}", loaded.problems);
}

#[test]
fn all_notations_of_a_table_are_equivalent() {
    for text in [
        "[issuers.main]\nissuer = \"https://a\"",
        "issuers.main.issuer = \"https://a\"",
        "issuers = { main = { issuer = \"https://a\" } }",
    ] {
        let loaded = loaded(text);
        assert!(loaded.problems.is_empty(), "{text}: {}", loaded.problems);
        assert_eq!(loaded.config.issuers["main"].issuer.as_deref(), Some("https://a"), "{text}");
        assert!(loaded.key_lines.line("issuers.main.issuer").is_some(), "{text}");
    }
}

#[test]
fn a_route_that_is_not_a_table_does_not_shift_the_others() {
    let loaded = loaded("routes = [5, { path = \"/a\", limits = [1] }]");
    let paths: Vec<&str> = loaded.problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["routes[0]", "routes[1].limits[0]"]);
    assert_eq!(loaded.config.routes[1].path.as_deref(), Some("/a"));
}

/// The paths of the problems that the loader and the plan find.
fn problem_paths(text: &str) -> Vec<String> {
    let problems = crate::plan::Plan::compile(loaded(text)).map(|_| ()).unwrap_err();
    problems.iter().map(|problem| problem.path.clone()).collect()
}

/// A wrong type in any place is reported once, with its key. Several of these keys share their span
/// with another one.
#[test]
fn a_wrong_type_is_reported_wherever_it_is() {
    for (text, path, what) in [
        ("[upstreams.a]\nservers = [{ a = 1 }]", "upstreams.a.servers[0].a", "unknown key `a`"),
        ("[upstreams.a]\nservers = [[{}]]", "upstreams.a.servers[0]", "an array, expected a URL"),
        ("[upstreams.a]\nservers = [1]", "upstreams.a.servers[0]", "expected a URL"),
        ("[[upstreams.a.servers]]\na = 1", "upstreams.a.servers[0].a", "unknown key `a`"),
        ("[upstreams.a]\nservers = [{ url = 1 }]", "upstreams.a.servers[0].url", "expected a string"),
        ("[upstreams.a]\nservers = [{ weight = 0 }]", "upstreams.a.servers[0].weight", "expected a number from 1"),
        ("[server.tls]\nmin_version = 1.3", "server.tls.min_version", "expected a string in quotes"),
        ("[upstreams.a]\nbalance = 1", "upstreams.a.balance", "expected a string"),
        ("[[routes]]\nscopes = [{ a = 1 }]", "routes[0].scopes[0]", "a table, expected a string"),
        ("[[routes]]\nscopes = { a = 1 }", "routes[0].scopes", "a table, expected an array"),
        ("[[routes]]\nclaims.a = [[1]]", "routes[0].claims.a[0]", "an array, expected a string, a number"),
        ("[[routes]]\nclaims.a = [{}, 1]", "routes[0].claims.a[0]", "a table, expected a string, a number"),
        ("[[server]]\nlisten = \"x\"", "server", "an array, expected a table"),
        ("[[server]]\n[[server]]", "server", "an array, expected a table"),
        ("[[issuers]]\n[issuers.x]", "issuers", "an array, expected a table"),
        ("issuers.main = [{}]", "issuers.main", "an array, expected a table"),
        ("[routes.x]\npath = \"/a\"", "routes", "a table, expected an array of tables"),
        ("routes = [[{}]]", "routes[0]", "an array, expected a table"),
        ("server.listen.a.b = 1", "server.listen", "a table, expected a string or an array of strings"),
        ("[server]\nlisten = [{}, {}]", "server.listen[0]", "a table, expected a string"),
        ("[server]\nmax_connections = -1", "server.max_connections", "expected a number from 1"),
        ("[server]\nmax_connections = 99999999999999999999", "server.max_connections", "expected a number from 1"),
        ("[server]\nrealm = 1979-05-27", "server.realm", "`1979-05-27` is a date or a time"),
        ("server = 1979-05-27", "server", "`1979-05-27` is a date or a time"),
        ("[server]\nauth_failures = 07:32:00", "server.auth_failures", "`07:32:00` is a date or a time"),
        ("[[routes]]\nclaims.a = [1979-05-27, 1]", "routes[0].claims.a[0]", "`1979-05-27` is a date or a time"),
    ] {
        let loaded = loaded(text);
        let found: Vec<_> = loaded.problems.iter().filter(|problem| problem.path == path).collect();
        assert_eq!(found.len(), 1, "{text}: {}", loaded.problems);
        assert!(found[0].what.contains(what), "{text}: {}", loaded.problems);
    }
}

#[test]
fn an_element_after_a_wrong_one_keeps_its_index() {
    let upstream = "[[routes]]\npath = \"/a\"\naccess = \"public\"\nupstream = \"a\"\n[upstreams.a]\n";
    for (servers, expected) in [
        ("[\"http://a:1\", \"ftp://b\"]", vec!["upstreams.a.servers[1]"]),
        ("[5, \"ftp://b\"]", vec!["upstreams.a.servers[0]", "upstreams.a.servers[1]"]),
        (
            "[5, \"http://a:1\", {}, {}, \"ftp://b\"]",
            vec![
                "upstreams.a.servers[0]",
                "upstreams.a.servers[2].url",
                "upstreams.a.servers[3].url",
                "upstreams.a.servers[4]",
            ],
        ),
    ] {
        assert_eq!(problem_paths(&format!("{upstream}servers = {servers}")), expected, "{servers}");
    }
}

#[test]
fn a_file_that_cannot_be_read_has_no_other_problem() {
    for text in ["[server", "a = 1\na = 2", "\u{feff}\u{0}"] {
        let problems = crate::plan::Plan::compile(loaded(text)).map(|_| ()).unwrap_err();
        assert!(problems.iter().all(|problem| problem.path.is_empty()), "{text:?}: {problems}");
    }
    let missing = load(std::path::Path::new("/does/not/exist.toml"), &none);
    let report = crate::plan::Plan::compile(missing).map(|_| ()).unwrap_err().to_string();
    assert_eq!(report, "/does/not/exist.toml: 1 problem\n  cannot be read: No such file or directory (os error 2)");
}

#[test]
fn a_string_in_place_of_an_array_is_shown_the_array_to_write() {
    insta::assert_snapshot!(report("[[routes]]\nscopes = \"orders:read\""), @r#"
    gateway.toml: 1 problem
      line 2  routes[0].scopes: invalid type: string "orders:read", expected an array
              hint: write an array: ["orders:read"]
    "#);
}

#[test]
fn a_likely_value_of_the_wrong_type_is_shown_what_to_write() {
    let file = "
[server]
unix_mode = 660
tls = true
[upstreams.a]
servers = [\"https://a\"]
health = \"/health\"
eject = false
tls = true
[upstreams.b]
servers = [\"http://b\"]
eject = true
health = 5
";
    insta::assert_snapshot!(report(file), @r#"
    gateway.toml: 7 problems
      line 3   server.unix_mode: invalid type: integer `660`, expected a string
               hint: write it in quotes and with a zero first, such as "0660"
      line 4   server.tls: invalid type: boolean `true`, expected a table
               hint: write a table: `tls = { certificates = [{ cert = "/path/tls.crt", key = "/path/tls.key" }] }`; without TLS, leave the key out
      line 7   upstreams.a.health: invalid type: string "/health", expected a table
               hint: write a table: `health = { path = "/health" }`
      line 8   upstreams.a.eject: invalid type: boolean `false`, expected { failures = 5, for = "10s" } or "off"
               hint: write `eject = "off"`
      line 9   upstreams.a.tls: invalid type: boolean `true`, expected a table
               hint: leave the key out; the URL in `servers` says whether it is used: `https://` or `http://`
      line 12  upstreams.b.eject: invalid type: boolean `true`, expected { failures = 5, for = "10s" } or "off"
               hint: leave the key out; servers are ejected by default
      line 13  upstreams.b.health: invalid type: integer `5`, expected a table
    "#);
}

/// The report goes to a terminal.
#[test]
fn text_of_the_file_is_escaped_in_the_report() {
    for text in [
        "[[routes]]\n\"\\u001b[2Jx\" = 1",
        "[[routes]]\naccess = \"\\u001b[2J\\nx\"",
        "[[routes]]\nscopes = \"\\u009b2J\"",
        "[server]\nlisten = \"${\\u001b[2J\"",
        "[server]\n\u{9b}2J = 1",
        "[server]\nrealm = '\u{9b}2J",
    ] {
        let report = report(text);
        let is_safe = |character: char| character == '\n' || !character.is_control();
        assert!(report.chars().all(is_safe), "{text:?}: {report:?}");
    }
}

/// What an error costs does not depend on how many there are, or on how long the names are.
#[test]
fn a_large_file_with_many_mistakes_is_loaded_in_bounded_space() {
    let name = "n".repeat(200_000);
    let keys: Vec<String> = (0..20_000).map(|key| format!("k{key} = 1")).collect();
    let many = |line: &str| line.repeat(20_000);
    for (text, expected) in [
        (format!("[upstreams.a]\nservers = [{}]", many("5,")), (250, true)),
        (format!("[upstreams.a]\nservers = [{}]", many("[],")), (250, true)),
        (format!("[upstreams.a]\nservers = [{}]", many("\"${NONE}\",")), (250, true)),
        (format!("[upstreams.a]\nservers = [{}]", many("1979-05-27,")), (250, true)),
        (many("= 1\n"), (501, true)),
        (format!("[{name}]\n{}", keys.join("\n")), (1, false)),
    ] {
        let loaded = loaded(&text);
        let what: Vec<_> = loaded.problems.iter().map(|problem| problem.what.as_str()).collect();
        let is_cut = what.last() == Some(&"there may be more problems than these");
        assert_eq!((what.len(), is_cut), expected, "{text:.40}");
    }
}

#[test]
fn references_are_replaced_after_parsing() {
    let environment = |name: &str| (name == "HOST").then(|| "a\"\nadmin.listen = \"0.0.0.0:1".to_owned());
    let loaded = load_text("gateway.toml", "[server]\nrealm = \"${HOST} ${PORT:-x} $${Y}\"", &environment);
    assert!(loaded.problems.is_empty(), "{}", loaded.problems);
    assert_eq!(loaded.config.server.realm, "a\"\nadmin.listen = \"0.0.0.0:1 x ${Y}");
    assert_eq!(loaded.config.admin, Admin::default());
    assert_eq!(loaded.environment, ["HOST"]);
}

#[test]
fn a_reference_to_a_missing_variable_is_reported_with_its_key() {
    insta::assert_snapshot!(report("[server]\nrealm = \"${NOWHERE}\""), @r"
    gateway.toml: 1 problem
      line 2  server.realm: `${NOWHERE}`: the environment has no variable `NOWHERE`
              hint: set it, or give a default: `${NOWHERE:-…}`
    ");
}

#[test]
fn a_value_from_the_environment_is_not_shown() {
    let environment = |_: &str| Some("hunter2hunter2".to_owned());
    let loaded = load_text("gateway.toml", "[server]\nheader_timeout = \"${SECRET}\"", &environment);
    let report = loaded.problems.to_string();
    assert!(!report.contains("hunter2") && report.contains("${SECRET}"), "{report}");
}

#[test]
fn values_keep_their_type() {
    let loaded = loaded(
        r#"
server.auth_failures = { rate = "5/min", burst = 2 }
[[routes]]
access = "optional"
max_body_size = "unlimited"
[routes.claims]
plan = ["gold", "silver"]
level = 3
score = 0.5
staff = true
"#,
    );
    assert!(loaded.problems.is_empty(), "{}", loaded.problems);
    let route = &loaded.config.routes[0];
    assert_eq!((route.access, route.max_body_size), (Access::Optional, Some(SizeOrUnlimited::Unlimited)));
    assert_eq!(route.claims["level"].as_slice(), [ClaimValue::Integer(3)]);
    assert_eq!(route.claims["score"].as_slice(), [ClaimValue::Float(0.5)]);
    assert_eq!(route.claims["staff"].as_slice(), [ClaimValue::Boolean(true)]);
    assert_eq!(route.claims["plan"].as_slice().len(), 2);
    let AuthFailures::Limited(limit) = loaded.config.server.auth_failures else { panic!("a table") };
    assert_eq!((limit.rate.map(|rate| rate.count), limit.burst.get()), (Some(5), 2));
}

#[test]
fn mistakes_in_auth_failures_have_their_line_and_what_is_expected() {
    insta::assert_snapshot!(report("[server]\nauth_failures = { rate = \"5/min\", bursts = 0 }"), @r"
    gateway.toml: 1 problem
      line 2  server.auth_failures.bursts: unknown key `bursts`
              hint: did you mean `burst`?
    ");
    insta::assert_snapshot!(report("[server.auth_failures]\nrate = 5\nburst = 0"), @r#"
    gateway.toml: 2 problems
      line 2  server.auth_failures.rate: `5` has no unit; expected a rate, such as "100/s", "100/min" or "1000/h"
      line 3  server.auth_failures.burst: invalid value: integer `0`, expected a number from 1 to 4294967295
    "#);
    insta::assert_snapshot!(report("[server]\nauth_failures = \"none\""), @r#"
    gateway.toml: 1 problem
      line 2  server.auth_failures: invalid value: string "none", expected { rate = "600/min", burst = 100 } or "off"
    "#);
}

#[test]
fn mistakes_in_body_idle_timeout_have_their_line_and_what_is_expected() {
    let text = "[upstreams.a]\nservers = [\"http://a\"]\nbody_idle_timeout = { reponse = \"1h\", request = 3 }";
    insta::assert_snapshot!(report(text), @r#"
    gateway.toml: 2 problems
      line 3  upstreams.a.body_idle_timeout.reponse: unknown key `reponse`
              hint: did you mean `response`?
      line 3  upstreams.a.body_idle_timeout.request: `3` has no unit; expected a duration with a unit, such as "250ms", "30s", "5m" or "24h"
    "#);
    insta::assert_snapshot!(report("[[routes]]\nbody_idle_timeout = 30"), @r#"
    gateway.toml: 1 problem
      line 2  routes[0].body_idle_timeout: `30` has no unit; expected a duration with a unit, such as "250ms", "30s", "5m" or "24h"
    "#);
    insta::assert_snapshot!(report("[[routes]]\nbody_idle_timeout = true"), @r#"
    gateway.toml: 1 problem
      line 2  routes[0].body_idle_timeout: invalid type: boolean `true`, expected a duration, such as "5m", or { request = "30s", response = "1h" }
    "#);
}
