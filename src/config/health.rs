//! `health` and `eject` of an upstream: how the gateway finds out which servers work.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::field_order;
use super::units::{OneOrMany, StatusRange, TimeSpan};

/// Health checks: requests that the gateway itself sends to each server.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(extend("required" = ["path"]), transform = field_order::record::<Self>)]
pub struct HealthCheck {
    /// Path and query of the request, which is a `GET`.
    pub path: String,
    /// The `Host` of the request.
    /// Default: the server's own address.
    pub host: Option<String>,
    /// The pause between two checks of a server, at least `"100ms"`; a random tenth shorter or
    /// longer.
    pub interval: TimeSpan,
    /// From the start of a check, connecting included, to the head of the response.
    pub timeout: TimeSpan,
    /// Failures in a row after which the server gets no requests.
    pub unhealthy_after: NonZeroU32,
    /// Successes in a row after which it gets requests again.
    pub healthy_after: NonZeroU32,
    /// The statuses that count as success: `200`, `"200-299"`, or an array of these.
    pub expect: OneOrMany<StatusRange>,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            path: String::new(),
            host: None,
            interval: TimeSpan::seconds(5),
            timeout: TimeSpan::seconds(1),
            unhealthy_after: const { NonZeroU32::new(3).unwrap() },
            healthy_after: const { NonZeroU32::new(2).unwrap() },
            expect: OneOrMany::from_values(vec![StatusRange::new(200, 299)]),
        }
    }
}

/// A table, or `"off"`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ejection {
    /// Servers are ejected.
    On(EjectionRule),
    /// No server is ejected.
    Off,
}

/// When a server is ejected, and for how long.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(transform = field_order::record::<Self>)]
pub struct EjectionRule {
    /// Failures in a row, in all workers together, after which a server is ejected.
    pub failures: NonZeroU32,
    /// How long the first ejection lasts. The second in a row lasts twice as long, the third three
    /// times, and so on up to ten times.
    #[serde(rename = "for")]
    pub duration: TimeSpan,
    /// Statuses from 500 to 599 of the server's responses that count as failures too: `503`,
    /// `"502-504"`, or an array of these.
    pub statuses: OneOrMany<StatusRange>,
}

impl Default for EjectionRule {
    fn default() -> Self {
        Self {
            failures: const { NonZeroU32::new(5).unwrap() },
            duration: TimeSpan::seconds(10),
            statuses: OneOrMany::from_values(Vec::new()),
        }
    }
}

impl Default for Ejection {
    fn default() -> Self {
        Self::On(EjectionRule::default())
    }
}

struct EjectionVisitor;

impl<'de> Visitor<'de> for EjectionVisitor {
    type Value = Ejection;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("{ failures = 5, for = \"10s\" } or \"off\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Ejection, E> {
        if text == "off" { Ok(Ejection::Off) } else { Err(E::invalid_value(Unexpected::Str(text), &self)) }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Ejection, A::Error> {
        EjectionRule::deserialize(MapAccessDeserializer::new(map)).map(Ejection::On)
    }
}

impl<'de> Deserialize<'de> for Ejection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EjectionVisitor)
    }
}

impl Serialize for Ejection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::On(rule) => rule.serialize(serializer),
            Self::Off => serializer.serialize_str("off"),
        }
    }
}

impl JsonSchema for Ejection {
    fn schema_name() -> Cow<'static, str> {
        "Ejection".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "off" }, generator.subschema_for::<EjectionRule>()] })
    }
}
