//! `stream_after_expiry` of a route: one duration for responses and tunnels, or a table.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, IntoDeserializer, MapAccess, Visitor};

use super::units::TimeSpan;

/// How long a stream may go on after its token's `exp`. `None` is the default of each.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StreamAfterExpiry {
    /// The body of a response.
    pub response: Option<TimeSpan>,
    /// A tunnel.
    pub tunnel: Option<TimeSpan>,
}

/// The table form.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct PerStream {
    /// The body of a response.
    response: Option<TimeSpan>,
    /// A tunnel.
    tunnel: Option<TimeSpan>,
}

struct StreamAfterExpiryVisitor;

impl<'de> Visitor<'de> for StreamAfterExpiryVisitor {
    type Value = StreamAfterExpiry;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a duration, such as \"5m\", or { response = \"5m\", tunnel = \"60s\" }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<StreamAfterExpiry, E> {
        let both = TimeSpan::deserialize(text.into_deserializer())?;
        Ok(StreamAfterExpiry { response: Some(both), tunnel: Some(both) })
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<StreamAfterExpiry, E> {
        // Always fails: a number has no unit.
        TimeSpan::deserialize(number.into_deserializer()).map(|_| StreamAfterExpiry::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<StreamAfterExpiry, A::Error> {
        let PerStream { response, tunnel } = PerStream::deserialize(MapAccessDeserializer::new(map))?;
        Ok(StreamAfterExpiry { response, tunnel })
    }
}

impl<'de> Deserialize<'de> for StreamAfterExpiry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StreamAfterExpiryVisitor)
    }
}

impl JsonSchema for StreamAfterExpiry {
    fn schema_name() -> Cow<'static, str> {
        "StreamAfterExpiry".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [generator.subschema_for::<TimeSpan>(), generator.subschema_for::<PerStream>()] })
    }
}
