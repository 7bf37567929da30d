//! The structure: who may use whom. Rust does not check directions inside a crate; this does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each module and those that it may name.
const MAY_USE: [(&str, &[&str]); 13] = [
    ("primitives", &[]),
    ("telemetry", &["primitives"]),
    ("config", &["primitives"]),
    ("rate_limit", &["primitives", "telemetry"]),
    ("token", &["primitives", "telemetry"]),
    ("upstream", &["primitives", "telemetry", "token"]),
    ("local_issuer", &["primitives"]),
    ("gateway", &["primitives", "telemetry", "rate_limit", "token", "upstream"]),
    ("downstream", &["primitives", "telemetry", "gateway"]),
    ("admin", &["primitives", "telemetry"]),
    ("plan", &["primitives", "telemetry", "config", "rate_limit", "token", "upstream", "gateway"]),
    ("app", &["primitives", "telemetry", "config", "plan", "gateway", "downstream", "admin"]),
    ("cli", &["primitives", "telemetry", "config", "plan", "gateway", "token", "app", "local_issuer"]),
];

/// Where a status may be named: the refusals, and the few places that speak HTTP for themselves, to an identity provider among them.
const MAY_CHOOSE_A_STATUS: [&str; 8] = [
    "token/fetch/",
    "gateway/response/error_response/",
    "gateway/stages/cors.rs",
    "upstream/exchange.rs",
    "admin/",
    "local_issuer/endpoints.rs",
    "cli/demo/serve.rs",
    "telemetry/",
];

fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the project") {
            let path: PathBuf = entry.expect("an entry of it").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
                files.push((name, std::fs::read_to_string(&path).expect("a source file")));
            }
        }
    }
    files.sort();
    assert!(files.len() > 50, "only {} files found", files.len());
    files
}

fn is_test(name: &str) -> bool {
    name.ends_with("tests.rs") || name.ends_with("test_support.rs") || name.contains("/tests/")
}

/// Without comments and without the tests at the file's end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let text = text.split("#[cfg(test)]\npub(crate) mod tests").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The top modules that `code` names by `crate::…`.
fn used(code: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    code.split("crate::").skip(1).map(word).filter(|name| !name.is_empty()).collect()
}

#[test]
fn modules_use_only_those_that_they_may() {
    let mut wrong = Vec::new();
    for (name, text) in sources().iter().filter(|(name, _)| name.contains('/') && !is_test(name)) {
        let module = name.split('/').next().unwrap_or_default();
        let allowed = MAY_USE.iter().find(|(known, _)| *known == module).map(|(_, allowed)| *allowed);
        let allowed = allowed.unwrap_or_else(|| panic!("{module} is not in the table"));
        for other in used(&code(text)).into_iter().filter(|other| other != module) {
            if !allowed.contains(&other.as_str()) {
                wrong.push(format!("{name} uses {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_status_is_chosen_only_where_answers_are_made() {
    let wrong: Vec<_> = sources()
        .into_iter()
        .filter(|(name, text)| !is_test(name) && code(text).contains("StatusCode"))
        .map(|(name, _)| name)
        .filter(|name| !MAY_CHOOSE_A_STATUS.iter().any(|allowed| name.starts_with(allowed)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_file_says_what_it_is_and_stays_one_concept() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        if !text.starts_with("//!") {
            wrong.push(format!("{name} does not open with what it is"));
        }
        let lines = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().lines().count();
        if !is_test(&name) && lines > 500 {
            wrong.push(format!("{name} has {lines} lines before its tests"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_code_is_forbidden_and_tasks_stay_on_their_thread() {
    for (name, text) in sources() {
        if name == "lib.rs" || name == "main.rs" {
            assert!(text.contains("#![forbid(unsafe_code)]"), "{name}");
        }
        assert!(is_test(&name) || !code(&text).contains("tokio::spawn("), "{name}");
    }
}
