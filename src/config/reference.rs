//! The reference tables of `docs/configuration.md`: each key of a table with its default and its
//! meaning.
//!
//! All of it comes from the schema. A default that is a value is the schema's `default`. One that
//! is no value is the last sentence of the key's description: "Default: the route's." The words of
//! a closed set follow the description, each with its own.

use std::fmt::Write as _;

use serde_json::Value;

use super::schema::schema_with_field_order;
use super::{field_order, key_path};

/// What introduces, in a key's description, a default that is no value.
const DEFAULT_IN_WORDS: &str = " Default: ";

/// The reference table of one configuration table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReferenceTable {
    /// The configuration table, such as `server`, `issuers.NAME` or `server.auth_failures`.
    pub table: String,
    /// Its keys, in the order of their definition.
    pub keys: Vec<ReferenceKey>,
}

/// One row of a reference table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReferenceKey {
    /// The name of the key.
    pub name: String,
    /// The default.
    pub default: KeyDefault,
    /// What the key means, as Markdown.
    pub meaning: String,
}

/// What applies without a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeyDefault {
    /// The file is wrong without the key.
    Required,
    /// Nothing is said about it, which is a mistake in the definition of the key.
    Undefined,
    /// The same as with this value.
    Value(Value),
    /// What these words say.
    Words(String),
}

impl ReferenceTable {
    /// The table in Markdown, with a line break at its end.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut text = "| key | default | meaning |\n|---|---|---|\n".to_owned();
        for key in &self.keys {
            let default = match &key.default {
                KeyDefault::Required => "required".to_owned(),
                KeyDefault::Undefined => String::new(),
                KeyDefault::Value(value) => format!("`{}`", toml(value)),
                KeyDefault::Words(words) => words.clone(),
            };
            writeln!(text, "| `{}` | {default} | {} |", key.name, key.meaning).expect("a String takes all text");
        }
        text
    }
}

/// The reference tables of all configuration tables, in the order of their definition.
#[must_use]
pub fn tables() -> Vec<ReferenceTable> {
    let schema = schema_with_field_order();
    let mut tables = Vec::new();
    collect(&schema, &schema, "", &mut tables);
    tables
}

/// Adds the table that `schema` describes, if it is one, and the tables below it.
fn collect(root: &Value, schema: &Value, path: &str, tables: &mut Vec<ReferenceTable>) {
    let schema = resolve(root, schema);
    for choice in schema["anyOf"].as_array().into_iter().flatten() {
        collect(root, choice, path, tables);
    }
    if schema["items"].is_object() {
        collect(root, &schema["items"], path, tables);
    }
    if schema["additionalProperties"].is_object() {
        collect(root, &schema["additionalProperties"], &format!("{path}.NAME"), tables);
    }
    let Some(fields) = schema[field_order::KEYWORD].as_array() else { return };
    let fields: Vec<&str> = fields.iter().filter_map(Value::as_str).collect();
    // The root holds nothing but tables.
    if !path.is_empty() {
        let keys = fields.iter().map(|name| reference_key(root, schema, name)).collect();
        tables.push(ReferenceTable { table: path.to_owned(), keys });
    }
    for name in fields {
        collect(root, &schema["properties"][name], &key_path::child(path, name), tables);
    }
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let reference = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    reference.map_or(schema, |pointer| root.pointer(pointer).expect("the schema refers to itself only"))
}

fn reference_key(root: &Value, table: &Value, name: &str) -> ReferenceKey {
    let key = &table["properties"][name];
    // A paragraph's line breaks are those of the source.
    let description = key["description"].as_str().unwrap_or_default().replace('\n', " ");
    let (meaning, words) = match description.rsplit_once(DEFAULT_IN_WORDS) {
        Some((meaning, words)) => (meaning.to_owned(), Some(words.trim_end_matches('.').to_owned())),
        None => (description, None),
    };
    let is_required = table["required"].as_array().is_some_and(|required| required.iter().any(|other| other == name));
    let default = match (is_required, key.get("default"), words) {
        (true, None, None) => KeyDefault::Required,
        (false, Some(value), None) => KeyDefault::Value(value.clone()),
        (false, None, Some(words)) => KeyDefault::Words(words),
        // None of them, or several that may contradict each other.
        (true | false, Some(_) | None, Some(_) | None) => KeyDefault::Undefined,
    };
    let meaning = meaning + &choices(resolve(root, key));
    // A bar would end the cell.
    ReferenceKey { name: name.to_owned(), default, meaning: meaning.replace('|', "\\|") }
}

/// The words of a closed set with what they mean, as a continuation of the key's meaning.
fn choices(schema: &Value) -> String {
    let texts = schema["oneOf"].as_array().into_iter().flatten().map(|choice| {
        let meaning = choice["description"].as_str().unwrap_or_default();
        format!("`{}`: {}", toml(&choice["const"]), lower_first(meaning.trim_end_matches('.')))
    });
    let text = texts.collect::<Vec<_>>().join("; ");
    if text.is_empty() { text } else { format!(" {text}.") }
}

/// The text as the continuation of a sentence; a word that is more than capitalised, such as a
/// name, stays.
fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next();
    match first {
        Some(first) if characters.clone().next().is_none_or(|second| !second.is_uppercase()) => {
            first.to_lowercase().chain(characters).collect()
        }
        Some(_) | None => text.to_owned(),
    }
}

/// A value as it stands in the file.
fn toml(value: &Value) -> String {
    match value {
        Value::Array(elements) => format!("[{}]", elements.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Object(table) if table.is_empty() => "{}".to_owned(),
        Value::Object(table) => {
            let pairs = table.iter().map(|(name, value)| format!("{} = {}", key_path::child("", name), toml(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
        // JSON's form of these is TOML's too.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}
