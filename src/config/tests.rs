//! What a file says, and what is said about a file that is wrong.

use std::collections::BTreeSet;

use super::units::{Access, AuthFailures, ClaimValue, SizeOrUnlimited};
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

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/gateway.toml");

#[test]
fn all_problems_are_told_in_one_run() {
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
      line 4   server.header_timeout: `10` has no unit; wanted a duration with a unit, such as "250ms", "30s", "5m" or "24h"
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
fn a_file_that_is_no_toml_is_told_by_line() {
    let report = report("[server\nlisten = \"x\"\n");
    assert!(report.starts_with("gateway.toml: 1 problem\n  line 1  "), "{report}");
}

#[test]
fn a_missing_file_is_a_problem() {
    let loaded = load(std::path::Path::new("/does/not/exist.toml"), &none);
    assert!(loaded.problems.to_string().contains("cannot be read"), "{}", loaded.problems);
}

#[test]
fn every_form_of_a_table_is_the_same_table() {
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
fn a_route_that_is_no_table_does_not_shift_the_others() {
    let loaded = loaded("routes = [5, { path = \"/a\", limits = [1] }]");
    let paths: Vec<&str> = loaded.problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["routes[0]", "routes[1].limits[0]"]);
    assert_eq!(loaded.config.routes[1].path.as_deref(), Some("/a"));
}

#[test]
fn references_are_replaced_after_parsing() {
    let environment = |name: &str| (name == "HOST").then(|| "a\"\nadmin.listen = \"0.0.0.0:1".to_owned());
    let loaded = load_text("gateway.toml", "[server]\nrealm = \"${HOST} ${PORT:-x} $${Y}\"", &environment);
    assert!(loaded.problems.is_empty(), "{}", loaded.problems);
    assert_eq!(loaded.config.server.realm.as_deref(), Some("a\"\nadmin.listen = \"0.0.0.0:1 x ${Y}"));
    assert_eq!(loaded.config.admin.listen, None);
    assert_eq!(loaded.environment, ["HOST"]);
}

#[test]
fn a_missing_reference_is_named_with_its_key() {
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
fn values_are_read_as_what_they_are() {
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
    assert_eq!((route.access, route.max_body_size), (Some(Access::Optional), Some(SizeOrUnlimited::Unlimited)));
    assert_eq!(route.claims["level"].as_slice(), [ClaimValue::Integer(3)]);
    assert_eq!(route.claims["score"].as_slice(), [ClaimValue::Float(0.5)]);
    assert_eq!(route.claims["staff"].as_slice(), [ClaimValue::Boolean(true)]);
    assert_eq!(route.claims["plan"].as_slice().len(), 2);
    assert!(matches!(loaded.config.server.auth_failures, Some(AuthFailures::Guard { rate: Some(_), burst: Some(_) })));
}

#[test]
fn the_reference_example_loads() {
    let loaded = load(std::path::Path::new(EXAMPLE), &none);
    assert!(loaded.problems.is_empty(), "{}", loaded.problems);
}

/// The keys of a table in the schema, with the tables below it.
fn keys_of(schema: &serde_json::Value, path: &str, root: &serde_json::Value, keys: &mut BTreeSet<String>) {
    let schema = schema["$ref"].as_str().map_or(schema, |reference| {
        root.pointer(reference.trim_start_matches('#')).expect("a reference into the schema itself")
    });
    if let Some(properties) = schema["properties"].as_object() {
        for (key, below) in properties {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            keys.insert(path.clone());
            keys_of(below, &path, root, keys);
        }
    }
    for below in [&schema["additionalProperties"], &schema["items"]] {
        if below.is_object() {
            let path = if below == &schema["items"] { path.to_owned() } else { format!("{path}.*") };
            keys_of(below, &path, root, keys);
        }
    }
    for choice in schema["anyOf"].as_array().into_iter().flatten() {
        keys_of(choice, path, root, keys);
    }
}

/// The keys that the example shows, those behind `#` too: `# key = …` under its table's header.
fn keys_shown(text: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut table = String::new();
    for line in text.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line).trim_start();
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_start_matches('[').split(']').next().unwrap_or_default();
            let named =
                ["issuers.", "upstreams.", "cors.", "limits."].iter().find(|prefix| header.starts_with(**prefix));
            table = named.map_or_else(|| header.to_owned(), |prefix| format!("{prefix}*"));
            keys.insert(table.clone());
        } else if let Some((key, _)) = line.split_once(" = ")
            && !key.is_empty()
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.\"".contains(&byte))
        {
            keys.insert(if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") });
        }
    }
    keys
}

#[test]
fn the_reference_example_shows_every_key_and_no_other() {
    let schema = schema();
    let mut known = BTreeSet::new();
    keys_of(&schema, "", &schema, &mut known);
    let shown = keys_shown(&std::fs::read_to_string(EXAMPLE).unwrap());
    let is_table = |key: &String| {
        ["issuers", "upstreams", "cors", "limits", "identity", "server", "admin", "log", "routes"]
            .contains(&key.as_str())
    };
    // Written inline: `{ rate = …, burst = … }`, `{ claim = …, rates = … }`.
    let inline = |key: &String| key.starts_with("server.auth_failures.") || key.starts_with("limits.*.tiers.");
    // Names of the operator's own.
    let own = |key: &String| {
        ["identity.headers", "routes.claims", "routes.set_headers", "routes.set_response_headers"]
            .iter()
            .any(|table| key.starts_with(&format!("{table}.")))
    };
    let missing: Vec<_> = known.iter().filter(|key| !is_table(key) && !inline(key) && !shown.contains(*key)).collect();
    assert!(missing.is_empty(), "gateway.toml does not show {missing:?}");
    let unknown: Vec<_> =
        shown.iter().filter(|key| !own(key) && !key.ends_with(".*") && !known.contains(*key)).collect();
    assert!(unknown.is_empty(), "gateway.toml shows {unknown:?}, which are no keys");
}
