//! The JSON Schema of `gateway.toml`, from the structs.

use serde_json::{Map, Value};

use super::{Config, field_order};

/// The JSON Schema (draft 2020-12) of `gateway.toml`, for completion and checks in editors.
///
/// Durations, sizes and rates are strings with a pattern, closed sets of words are enumerations.
/// The schema checks less than [`load()`](super::load()) and the plan do: it does not look names
/// up, and it rejects a `${NAME}` where a value has a pattern.
#[must_use]
pub(crate) fn schema() -> Value {
    let mut schema = schema_with_field_order();
    visit_objects(&mut schema, &mut |object| {
        object.remove(field_order::KEYWORD);
    });
    schema
}

/// The schema, in which each table also says in which order its keys are defined.
pub(super) fn schema_with_field_order() -> Value {
    let generator = schemars::generate::SchemaSettings::draft2020_12().for_deserialize().into_generator();
    let mut schema = generator.into_root_schema_for::<Config>().to_value();
    visit_objects(&mut schema, &mut |object| {
        remove_null(object);
        remove_defaults_of_required_keys(object);
    });
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".into(), "Portcullis gateway.toml".into());
    }
    schema
}

fn visit_objects(value: &mut Value, visit: &mut dyn FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            visit(object);
            object.values_mut().for_each(|value| visit_objects(value, visit));
        }
        Value::Array(elements) => elements.iter_mut().for_each(|element| visit_objects(element, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Removes the `null` that an `Option` allows: TOML has none, an absent key is simply not written.
fn remove_null(object: &mut Map<String, Value>) {
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
        // The keywords of the only choice can stand beside the description; a `$ref` can since
        // draft 2019-09.
        if choices.len() == 1
            && let Some(Value::Object(only)) = choices.pop()
        {
            object.remove("anyOf");
            object.extend(only.into_iter().filter(|(keyword, _)| keyword != "description"));
        }
    }
}

/// A required key has no default, even where the struct holds an empty list until the plan reports
/// the missing key.
fn remove_defaults_of_required_keys(table: &mut Map<String, Value>) {
    let Some(Value::Array(required)) = table.get("required").cloned() else { return };
    let Some(Value::Object(properties)) = table.get_mut("properties") else { return };
    for name in required.iter().filter_map(Value::as_str) {
        if let Some(Value::Object(property)) = properties.get_mut(name) {
            property.remove("default");
        }
    }
}
