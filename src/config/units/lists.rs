//! Keys that take one value or an array of values, and the values that a claim is compared with.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// One value, or an array of values. One value means the same as an array that holds only it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OneOrMany<T>(Vec<T>);

impl OneOrMany<String> {
    /// The strings, as a default value.
    pub(in crate::config) fn of(values: &[&str]) -> Self {
        Self(values.iter().map(|&value| value.to_owned()).collect())
    }
}

impl<T> OneOrMany<T> {
    /// The values, as a default value.
    pub(in crate::config) fn from_values(values: Vec<T>) -> Self {
        Self(values)
    }

    /// The values, in the order of the file.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }
}

impl<'de, T: Deserialize<'de> + Scalar> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor(PhantomData))
    }
}

impl<T: Serialize> Serialize for OneOrMany<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [value] => value.serialize(serializer),
            values => values.serialize(serializer),
        }
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

/// A value that is neither an array nor a table.
pub trait Scalar: Sized {
    /// What one value or an array of them is called in errors.
    const EXPECTED: &'static str;
    /// From a string.
    fn from_text(text: &str) -> Option<Self>;
    /// From a boolean.
    fn from_boolean(value: bool) -> Option<Self>;
    /// From an integer.
    fn from_integer(value: i64) -> Option<Self>;
    /// From another number.
    fn from_float(value: f64) -> Option<Self>;
}

impl Scalar for String {
    const EXPECTED: &'static str = "a string or an array of strings";

    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn from_boolean(_: bool) -> Option<Self> {
        None
    }

    fn from_integer(_: i64) -> Option<Self> {
        None
    }

    fn from_float(_: f64) -> Option<Self> {
        None
    }
}

/// A value that a claim is compared with. Numbers and booleans are compared as such, never as text.
#[derive(Clone, Debug, JsonSchema, PartialEq, serde::Serialize)]
#[serde(untagged)]
pub enum ClaimValue {
    /// `true` or `false`.
    Boolean(bool),
    /// A number with a fraction.
    Float(f64),
    /// A whole number.
    Integer(i64),
    /// Text.
    String(String),
}

impl Scalar for ClaimValue {
    const EXPECTED: &'static str = "a string, a number, a boolean or an array of these";

    fn from_text(text: &str) -> Option<Self> {
        Some(Self::String(text.to_owned()))
    }

    fn from_boolean(value: bool) -> Option<Self> {
        Some(Self::Boolean(value))
    }

    fn from_integer(value: i64) -> Option<Self> {
        Some(Self::Integer(value))
    }

    fn from_float(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self::Float(value))
    }
}

impl<'de> Deserialize<'de> for ClaimValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor(PhantomData))
    }
}

struct OneOrManyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Scalar> Visitor<'de> for OneOrManyVisitor<T> {
    type Value = OneOrMany<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        ScalarVisitor::<T>(PhantomData).visit_str(text).map(|value| OneOrMany(vec![value]))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        ScalarVisitor::<T>(PhantomData).visit_bool(value).map(|value| OneOrMany(vec![value]))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        ScalarVisitor::<T>(PhantomData).visit_i64(value).map(|value| OneOrMany(vec![value]))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        ScalarVisitor::<T>(PhantomData).visit_f64(value).map(|value| OneOrMany(vec![value]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(elements)).map(OneOrMany)
    }
}

/// Reads one value.
pub(super) struct ScalarVisitor<T>(pub(super) PhantomData<T>);

impl<T: Scalar> Visitor<'_> for ScalarVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text).ok_or_else(|| E::invalid_type(serde::de::Unexpected::Str(text), &self))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<T, E> {
        T::from_boolean(value).ok_or_else(|| E::invalid_type(serde::de::Unexpected::Bool(value), &self))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        T::from_integer(value).ok_or_else(|| E::invalid_type(serde::de::Unexpected::Signed(value), &self))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<T, E> {
        T::from_float(value).ok_or_else(|| E::invalid_type(serde::de::Unexpected::Float(value), &self))
    }
}
