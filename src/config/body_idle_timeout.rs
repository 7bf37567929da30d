//! `body_idle_timeout` of an upstream or a route: one duration for both bodies, or a table.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, IntoDeserializer, MapAccess, Visitor};

use super::units::TimeSpan;

/// How long each body may bring no byte. `None` leaves it to the upstream or the server.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BodyIdleTimeout {
    /// The request's body.
    pub request: Option<TimeSpan>,
    /// The response's body.
    pub response: Option<TimeSpan>,
}

/// The table form.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct PerBody {
    /// The request's body.
    request: Option<TimeSpan>,
    /// The response's body.
    response: Option<TimeSpan>,
}

struct BodyIdleTimeoutVisitor;

impl<'de> Visitor<'de> for BodyIdleTimeoutVisitor {
    type Value = BodyIdleTimeout;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a duration, such as \"5m\", or { request = \"30s\", response = \"1h\" }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<BodyIdleTimeout, E> {
        let both = TimeSpan::deserialize(text.into_deserializer())?;
        Ok(BodyIdleTimeout { request: Some(both), response: Some(both) })
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<BodyIdleTimeout, E> {
        // Always fails: a number has no unit.
        TimeSpan::deserialize(number.into_deserializer()).map(|_| BodyIdleTimeout::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BodyIdleTimeout, A::Error> {
        let PerBody { request, response } = PerBody::deserialize(MapAccessDeserializer::new(map))?;
        Ok(BodyIdleTimeout { request, response })
    }
}

impl<'de> Deserialize<'de> for BodyIdleTimeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BodyIdleTimeoutVisitor)
    }
}

impl JsonSchema for BodyIdleTimeout {
    fn schema_name() -> Cow<'static, str> {
        "BodyIdleTimeout".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [generator.subschema_for::<TimeSpan>(), generator.subschema_for::<PerBody>()] })
    }
}
