//! `server.auth_failures`: the limit on tokens that fail after costly work.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::field_order;
use super::units::Rate;

/// A table, or `"off"`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuthFailures {
    /// Failures are limited.
    Limited(FailureLimit),
    /// Failures are not limited.
    Off,
}

/// How many failures each client address may cause.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(extend("required" = ["rate"]), transform = field_order::record::<Self>)]
pub struct FailureLimit {
    /// Failures per period in the long run.
    pub rate: Option<Rate>,
    /// Failures allowed at once.
    pub burst: NonZeroU32,
}

impl Default for FailureLimit {
    fn default() -> Self {
        Self { rate: None, burst: const { NonZeroU32::new(100).unwrap() } }
    }
}

impl Default for AuthFailures {
    fn default() -> Self {
        Self::Limited(FailureLimit { rate: Some(Rate::per_minute(600)), ..FailureLimit::default() })
    }
}

struct AuthFailuresVisitor;

impl<'de> Visitor<'de> for AuthFailuresVisitor {
    type Value = AuthFailures;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("{ rate = \"600/min\", burst = 100 } or \"off\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<AuthFailures, E> {
        if text == "off" { Ok(AuthFailures::Off) } else { Err(E::invalid_value(Unexpected::Str(text), &self)) }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AuthFailures, A::Error> {
        FailureLimit::deserialize(MapAccessDeserializer::new(map)).map(AuthFailures::Limited)
    }
}

impl<'de> Deserialize<'de> for AuthFailures {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AuthFailuresVisitor)
    }
}

impl Serialize for AuthFailures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Limited(limit) => limit.serialize(serializer),
            Self::Off => serializer.serialize_str("off"),
        }
    }
}

impl JsonSchema for AuthFailures {
    fn schema_name() -> Cow<'static, str> {
        "AuthFailures".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "off" }, generator.subschema_for::<FailureLimit>()] })
    }
}
