//! The documents of the configuration: the tables of docs/configuration.md and the reference
//! example gateway.toml agree with the definition of the keys.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use portcullis::internals::Plan;
use portcullis::internals::load_text;
use portcullis::internals::reference::{KeyDefault, ReferenceKey, ReferenceTable, tables};

/// `make reference` sets it: the tables in the document are then rewritten instead of compared.
const UPDATE: &str = "UPDATE_REFERENCE";

const BEGIN: &str = "<!-- generated: ";
const END: &str = "<!-- end -->";

fn project_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(project_file(name)).expect("a file of the project")
}

/// `document` with the text between each pair of markers replaced by the table that the first
/// marker names.
fn with_current_tables(document: &str) -> String {
    let mut missing: Vec<ReferenceTable> = tables();
    let mut output = String::new();
    let mut rest = document;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (name, after) = after.split_once(" -->").expect("a marker is one comment");
        let (replaced, after) = after.split_once(END).unwrap_or_else(|| panic!("`{END}` is missing after `{name}`"));
        assert!(!replaced.contains(BEGIN), "`{END}` is missing after `{name}`");
        let position = missing.iter().position(|table| table.table == name);
        let position = position.unwrap_or_else(|| panic!("`{name}` is not a table, or has two markers"));
        let table = missing.remove(position).to_markdown();
        output.extend([before, BEGIN, name, " -->\n\n", &table, "\n", END]);
        rest = after;
    }
    output.push_str(rest);
    let missing: Vec<String> = missing.into_iter().map(|table| table.table).collect();
    assert!(missing.is_empty(), "docs/configuration.md has no `{BEGIN}…` marker for {missing:?}");
    output
}

#[test]
fn the_tables_of_the_document_are_those_of_the_schema() {
    let written = read("docs/configuration.md");
    let current = with_current_tables(&written);
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(project_file("docs/configuration.md"), current).expect("the document can be written");
        return;
    }
    let only_in = |sign: char, text: &str, other: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !other.lines().any(|other| other == *line));
        lines.map(|line| format!("{sign} {line}")).collect()
    };
    let mut differences = only_in('-', &written, &current);
    differences.extend(only_in('+', &current, &written));
    assert!(
        written == current,
        "docs/configuration.md is out of date: run `make reference`\n{}",
        differences.join("\n")
    );
}

#[test]
fn every_key_has_a_meaning_and_one_default() {
    for table in tables() {
        for ReferenceKey { name, default, meaning } in table.keys {
            assert_ne!(default, KeyDefault::Undefined, "{}.{name}: no default, or more than one", table.table);
            assert!(!meaning.is_empty(), "{}.{name}: no meaning", table.table);
            assert!(!meaning.contains("Default: "), "{}.{name}: {meaning}", table.table);
        }
    }
}

/// The reference example with the keys that are commented out: `# key = …`.
fn uncommented(example: &str) -> String {
    let is_key = |text: &str| {
        let (key, _) = text.split_once(" = ").unwrap_or_default();
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    let line = |line: &str| match line.strip_prefix("# ") {
        Some(text) if is_key(text) => text.to_owned(),
        Some(_) | None => line.to_owned(),
    };
    example.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A table of the example: at which path of the schema, with the keys that are commented out, and
/// without them.
struct ExampleTable<'a> {
    path: &'a str,
    all: &'a toml::Table,
    active: Option<&'a toml::Table>,
}

/// The keys that the example shows, as `table.key`. Checks the values of those that are commented
/// out.
fn shown_keys(tables: &[ReferenceTable], example: &ExampleTable<'_>, shown: &mut BTreeSet<String>) {
    let definition = tables.iter().find(|table| table.table == example.path);
    for (name, value) in example.all {
        let key = definition.and_then(|definition| definition.keys.iter().find(|key| key.name == *name));
        let is_commented_out = example.active.is_some_and(|active| !active.contains_key(name));
        let mut path = if example.path.is_empty() { name.clone() } else { format!("{}.{name}", example.path) };
        if let Some(key) = key {
            shown.insert(path.clone());
            if let (true, KeyDefault::Value(default)) = (is_commented_out, &key.default) {
                let value = serde_json::to_value(value).expect("the example holds no dates");
                assert_eq!(value, *default, "gateway.toml: {path} is commented out, so it must be the default");
            }
        } else if !example.path.is_empty() {
            path = format!("{}.NAME", example.path);
        }
        // A default is compared as a whole; what is in it is not commented out on its own.
        let active = example.active.filter(|_| !is_commented_out).map(|active| &active[name]);
        match value {
            toml::Value::Table(table) => {
                let active = active.and_then(toml::Value::as_table);
                shown_keys(tables, &ExampleTable { path: &path, all: table, active }, shown);
            }
            toml::Value::Array(elements) => {
                for (index, table) in elements.iter().enumerate() {
                    let Some(table) = table.as_table() else { continue };
                    let active = active.map(|active| active[index].as_table().expect("the same array"));
                    shown_keys(tables, &ExampleTable { path: &path, all: table, active }, shown);
                }
            }
            toml::Value::String(_)
            | toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_) => {}
        }
    }
}

#[test]
fn the_example_shows_every_key_in_its_table_and_defaults_where_it_is_commented_out() {
    let (active, all) = (read("gateway.toml"), uncommented(&read("gateway.toml")));
    let parse = |text: &str| text.parse::<toml::Table>().unwrap_or_else(|error| panic!("gateway.toml: {error}"));
    let (active, all) = (parse(&active), parse(&all));
    let tables = tables();
    let mut shown = BTreeSet::new();
    shown_keys(&tables, &ExampleTable { path: "", all: &all, active: Some(&active) }, &mut shown);
    let defined = tables
        .iter()
        .flat_map(|table| table.keys.iter().map(|key| format!("{}.{}", table.table, key.name)).collect::<Vec<_>>());
    let missing: Vec<String> = defined.filter(|key| !shown.contains(key)).collect();
    assert!(missing.is_empty(), "gateway.toml does not show {missing:?}");
}

#[test]
fn the_example_is_a_valid_configuration_and_has_no_unknown_key() {
    let example = read("gateway.toml");
    let loaded = load_text("gateway.toml with all keys", &uncommented(&example), &|_| None);
    assert!(loaded.problems.is_empty(), "{}", loaded.problems);
    let plan = Plan::compile(load_text("gateway.toml", &example, &|_| None));
    assert_eq!(plan.map(|plan| plan.routes.len()).map_err(|problems| problems.to_string()), Ok(3));
}
