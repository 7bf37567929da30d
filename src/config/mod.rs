//! Configuration as the operator wrote it: the tables and keys of `gateway.toml`, nothing else.
//!
//! The first of three representations. These structs only say what stands in the file: every key is optional, no default
//! is filled in, no name is looked up. What it means is decided when the plan is compiled from it; nothing behind the
//! plan sees these types. The units and the closed sets of words are already parsed, so that `"30"` for a duration is
//! reported with its line.
//!
//! [`load::load`] reads a file and finds all that is wrong with it in one run.

pub mod environment;
pub mod key_path;
pub mod load;
pub mod nearest;
pub mod problem;
pub mod units;

mod cors;
mod issuer;
mod limit;
mod route;
mod server;
mod table;
mod tree;
mod upstream;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

pub use self::cors::Cors;
pub use self::issuer::Issuer;
pub use self::key_path::KeyLines;
pub use self::limit::{Limit, Tiers};
pub use self::load::{LoadOutcome, TextHash, file_hash, load, load_text};
pub use self::problem::{Problem, Problems};
pub use self::route::Route;
pub use self::server::{Admin, Identity, Log, Server};
pub use self::upstream::Upstream;

/// The whole of `gateway.toml`.
///
/// `Default` is the empty file.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct Config {
    /// The data listener: addresses, limits on connections, heads and bodies, shutdown.
    #[serde(deserialize_with = "table::one")]
    pub server: Server,
    /// The admin listener: metrics and health.
    #[serde(deserialize_with = "table::one")]
    pub admin: Admin,
    /// Who issues the tokens that are accepted, by a name of your own.
    #[serde(deserialize_with = "table::named")]
    pub issuers: BTreeMap<String, Issuer>,
    /// Where requests go, by a name of your own.
    #[serde(deserialize_with = "table::named")]
    pub upstreams: BTreeMap<String, Upstream>,
    /// What browsers on other origins may do, by a name of your own.
    #[serde(deserialize_with = "table::named")]
    pub cors: BTreeMap<String, Cors>,
    /// Rate limits, by a name of your own.
    #[serde(deserialize_with = "table::named")]
    pub limits: BTreeMap<String, Limit>,
    /// What upstreams are told about who is calling.
    #[serde(deserialize_with = "table::one")]
    pub identity: Identity,
    /// Which requests are served, and what each demands. The order means nothing: the most specific route applies.
    #[serde(deserialize_with = "table::list")]
    pub routes: Vec<Route>,
    /// Events and the access log.
    #[serde(deserialize_with = "table::one")]
    pub log: Log,
}

/// The JSON Schema (draft 2020-12) of `gateway.toml`, for completion and checks in editors.
///
/// Durations, sizes and rates are strings with a pattern, closed sets of words are enumerations. It says less than
/// [`load`] and the plan do: names are not looked up, and a `${NAME}` in place of a value fails its patterns.
///
/// # Panics
///
/// Never in practice: the schema of these types does not depend on any input.
#[must_use]
pub fn schema() -> serde_json::Value {
    let generator = schemars::generate::SchemaSettings::draft2020_12().for_deserialize().into_generator();
    let mut schema = generator.into_root_schema_for::<Config>().to_value();
    without_null(&mut schema);
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".into(), "Portcullis gateway.toml".into());
    }
    schema
}

/// Takes `null` out of a schema: TOML has none, an absent key is simply not written.
fn without_null(schema: &mut serde_json::Value) {
    use serde_json::Value;
    match schema {
        Value::Object(object) => {
            if object.get("default").is_some_and(Value::is_null) {
                object.remove("default");
            }
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(words)) = object.get_mut("enum") {
                words.retain(|word| !word.is_null());
            }
            if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
                choices.retain(|choice| choice != &serde_json::json!({ "type": "null" }));
                // One choice left: its keywords may stand beside the description, also a `$ref` since draft 2019-09.
                if choices.len() == 1
                    && let Some(Value::Object(only)) = choices.pop()
                {
                    object.remove("anyOf");
                    object.extend(only.into_iter().filter(|(keyword, _)| keyword != "description"));
                }
            }
            object.values_mut().for_each(without_null);
        }
        Value::Array(elements) => elements.iter_mut().for_each(without_null),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
