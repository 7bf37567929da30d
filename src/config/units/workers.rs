//! A number of threads, or `"auto"`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};

/// Largest number of worker threads; no machine gains from more.
const MAX_WORKERS: i64 = 1024;

/// `server.workers`: a number, or `"auto"`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Workers {
    /// One for each available core.
    Auto,
    /// This many.
    Count(usize),
}

struct WorkersVisitor;

impl Visitor<'_> for WorkersVisitor {
    type Value = Workers;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"auto\" or a number from 1 to {MAX_WORKERS}")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Workers, E> {
        if text == "auto" { Ok(Workers::Auto) } else { Err(E::invalid_value(Unexpected::Str(text), &self)) }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Workers, E> {
        if !(1..=MAX_WORKERS).contains(&number) {
            return Err(E::invalid_value(Unexpected::Signed(number), &self));
        }
        Ok(Workers::Count(usize::try_from(number).unwrap_or(1)))
    }
}

impl<'de> Deserialize<'de> for Workers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WorkersVisitor)
    }
}

impl Serialize for Workers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Count(count) => count.serialize(serializer),
        }
    }
}

impl JsonSchema for Workers {
    fn schema_name() -> Cow<'static, str> {
        "Workers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1, "maximum": MAX_WORKERS }] })
    }
}
