//! What `deploy/` ships: its configurations load, its supervisors leave time to drain, and its
//! image is built with the pinned compiler.
//!
//! `make test-deploy` checks the files with the tools of their fields.

use std::path::{Path, PathBuf};

use portcullis::internals::reference::{KeyDefault, tables};
use portcullis::internals::{Plan, load_text};

fn project_file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The word after the first `before`, up to a line's end, a space, a quotation mark or `-`.
fn value_after<'a>(text: &'a str, before: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before:?} in:\n{text}"));
    rest.split(['\n', ' ', '"', '-']).next().expect("split returns at least one part")
}

/// The default of a duration in `[server]`, in seconds.
fn default_seconds(key: &str) -> u64 {
    let server = tables().into_iter().find(|table| table.table == "server").expect("the table");
    let key = server.keys.into_iter().find(|one| one.name == key).expect("the key");
    let KeyDefault::Value(default) = key.default else { panic!("{}: {:?}", key.name, key.default) };
    seconds(default.as_str().expect("a duration is a string"))
}

fn seconds(text: &str) -> u64 {
    text.strip_suffix('s').unwrap_or(text).parse().unwrap_or_else(|_| panic!("not in seconds: {text}"))
}

/// All files below `folder` whose name ends with `.toml`.
fn configurations(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() {
            configurations(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            found.push(path);
        }
    }
}

/// The block of a YAML file below the line `key: |`, without its indentation.
fn yaml_block(text: &str, key: &str) -> String {
    let (before, rest) = text.split_once(&format!("{key}: |\n")).unwrap_or_else(|| panic!("no {key} in:\n{text}"));
    let indentation = before.rsplit('\n').next().expect("split returns at least one part").len() + 2;
    let line = |line: &str| line.get(indentation..).unwrap_or_default().to_owned() + "\n";
    let is_inside = |line: &&str| line.is_empty() || line.starts_with(&" ".repeat(indentation));
    rest.lines().take_while(is_inside).map(line).collect()
}

#[test]
fn each_shipped_configuration_is_valid() {
    let mut found = Vec::new();
    configurations(&Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy"), &mut found);
    let mut texts: Vec<(String, String)> = found
        .into_iter()
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).expect("a text file")))
        .collect();
    for (file, key) in
        [("deploy/helm/portcullis/values.yaml", "config"), ("deploy/kubernetes/configmap.yaml", "gateway.toml")]
    {
        texts.push((file.to_owned(), yaml_block(&project_file(file), key)));
    }
    assert!(texts.len() > 2);
    for (name, text) in texts {
        let plan = Plan::compile(load_text(&name, &text, &|_| None));
        let plan = plan.unwrap_or_else(|problems| panic!("{problems}"));
        assert!(!plan.routes.is_empty(), "{name} has no routes");
    }
}

/// A supervisor that kills the process before it has drained would break off requests.
#[test]
fn each_supervisor_waits_until_the_gateway_has_drained() {
    let drain = default_seconds("drain_delay") + default_seconds("drain_timeout");
    for (file, key) in [
        ("deploy/systemd/portcullis.service", "TimeoutStopSec="),
        ("deploy/compose/compose.yaml", "stop_grace_period: "),
        ("deploy/helm/portcullis/values.yaml", "terminationGracePeriodSeconds: "),
        ("deploy/kubernetes/deployment.yaml", "terminationGracePeriodSeconds: "),
    ] {
        let allowed = seconds(value_after(&project_file(file), key));
        assert!(allowed > drain, "{file}: {key}{allowed} is not more than {drain} seconds");
    }
}

#[test]
fn the_image_is_built_with_the_pinned_compiler() {
    let pinned = project_file("rust-toolchain.toml");
    let pinned = value_after(&pinned, "channel = \"");
    let dockerfile = project_file("deploy/container/Dockerfile");
    for place in ["FROM rust:", "RUSTUP_TOOLCHAIN="] {
        assert_eq!(value_after(&dockerfile, place), pinned, "{place} in deploy/container/Dockerfile");
    }
}
