//! Strict JSON: a parser that refuses documents which two parsers could interpret differently.
//!
//! If an object has two members with the same name, `serde_json` keeps the last one, while another
//! parser may keep the first. The gateway and the upstream would then see different tokens. RFC
//! 7515 §4 and RFC 7519 §4 allow a parser to refuse such a document, and RFC 8725 §2.7 says why it
//! should. The depth limit of `serde_json` (128) applies, text must be UTF-8, and only white space
//! may follow the document.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The text is not exactly one JSON document, is nested too deeply, or has an object with a
/// duplicate member. Contains nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON document with unique members")]
pub(crate) struct NotStrictJson;

/// Parses `text` as one document, in time linear in its length.
///
/// # Errors
///
/// [`NotStrictJson`], without details: the text is under an attacker's control and must not reach a
/// log.
pub(crate) fn read(text: &[u8]) -> Result<Value, NotStrictJson> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Strict.deserialize(&mut reader).map_err(|_| NotStrictJson)?;
    reader.end().map_err(|_| NotStrictJson)?;
    Ok(value)
}

/// Parses `text` as one object, like [`read`].
///
/// # Errors
///
/// [`NotStrictJson`].
pub(crate) fn read_object(text: &[u8]) -> Result<Map<String, Value>, NotStrictJson> {
    if let Value::Object(members) = read(text)? { Ok(members) } else { Err(NotStrictJson) }
}

/// Removes every member whose value is null from the object and from all objects in it. Elements of
/// arrays stay: their places have a meaning.
pub(crate) fn remove_nulls(members: &mut Map<String, Value>) {
    members.retain(|_, value| !value.is_null());
    members.values_mut().for_each(remove_nulls_below);
}

/// The recursion is bounded, because [`read`] limits the depth.
fn remove_nulls_below(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(remove_nulls_below),
        Value::Object(members) => remove_nulls(members),
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => {}
    }
}

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON with unique members")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut read = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            read.push(item);
        }
        Ok(Value::Array(read))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut read = Map::new();
        // Names are compared after unescaping: `sc\u006fpe` is `scope`.
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(Self)?;
            if read.insert(name, value).is_some() {
                return Err(A::Error::custom("duplicate member"));
            }
        }
        Ok(Value::Object(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Threats J-13, J-14, J-17, J-18, J-48; RFC 7515 §4, RFC 7519 §4.
    #[test]
    fn only_one_document_with_unique_members_is_accepted() {
        let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
        for (name, text, accepted) in [
            ("an object", br#"{"a":1,"b":[true,null,"x"],"c":{"a":1.5}}"#.to_vec(), true),
            ("the same name in two objects", br#"{"a":{"x":1},"b":{"x":1}}"#.to_vec(), true),
            ("surrounded by white space", b" \n{\"a\" : 1}\r\n".to_vec(), true),
            ("a member twice", br#"{"a":1,"a":1}"#.to_vec(), false),
            ("a member twice, nested", br#"{"a":[{"b":1,"b":2}]}"#.to_vec(), false),
            ("a member twice, once escaped", br#"{"scope":"a","sc\u006fpe":"b"}"#.to_vec(), false),
            ("two documents", b"{}{}".to_vec(), false),
            ("text after it", b"{} x".to_vec(), false),
            ("a NUL after it", b"{}\0".to_vec(), false),
            ("nothing", b"".to_vec(), false),
            ("a trailing comma", b"{\"a\":1,}".to_vec(), false),
            ("single quotes", b"{'a':1}".to_vec(), false),
            ("not a number", b"{\"a\":NaN}".to_vec(), false),
            ("a number that is too large", b"{\"a\":1e400}".to_vec(), false),
            ("a lone surrogate", br#"{"a":"\ud800"}"#.to_vec(), false),
            ("not UTF-8", b"{\"a\":\"\xff\"}".to_vec(), false),
            ("a byte-order mark", b"\xef\xbb\xbf{}".to_vec(), false),
            ("nested 100 deep", nested(100), true),
            ("nested 10 000 deep", nested(10_000), false),
            ("open 10 000 deep", vec![b'['; 10_000], false),
        ] {
            assert_eq!(read(&text).is_ok(), accepted, "{name}");
        }
    }

    #[test]
    fn values_are_the_same_as_those_of_serde_json() {
        let text = br#"{"a":-1,"b":18446744073709551615,"c":1.5e3,"d":"\u00e9\n","e":[[]],"f":{},"g":null,"h":false}"#;
        assert_eq!(read(text), Ok(serde_json::from_slice(text).unwrap()));
    }

    #[test]
    fn null_members_are_removed_at_any_depth_and_null_elements_are_not() {
        let text = br#"{"a":null,"b":[null,{"c":null,"d":1}],"e":{"f":{"g":null}}}"#;
        let mut members = read_object(text).unwrap();
        remove_nulls(&mut members);
        assert_eq!(Value::Object(members), serde_json::json!({ "b": [null, { "d": 1 }], "e": { "f": {} } }));
    }

    #[test]
    fn read_object_refuses_other_values() {
        for text in [&b"[]"[..], b"\"x\"", b"1", b"null", b"true"] {
            assert_eq!(read_object(text), Err(NotStrictJson));
        }
    }
}
