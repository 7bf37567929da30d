//! An element of `servers`: a URL, or a table with a URL and what applies to this server only.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::field_order;

/// One server of an upstream. A URL alone means the table with nothing but this URL.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerEntry(ServerTable);

/// The table form.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
#[schemars(extend("required" = ["url"]), transform = field_order::record::<Self>)]
struct ServerTable {
    /// The address of the server: `https://host:port`, `http://host:port` or `unix:/path`.
    url: Option<String>,
    /// Its share of the requests, compared with the other servers': 1 to 100.
    weight: NonZeroU32,
}

impl Default for ServerTable {
    fn default() -> Self {
        Self { url: None, weight: NonZeroU32::MIN }
    }
}

impl ServerEntry {
    /// The URL; `None` if the table has none.
    #[must_use]
    pub fn url(&self) -> Option<&str> {
        self.0.url.as_deref()
    }

    /// The weight, as written.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.0.weight.get()
    }
}

impl From<&str> for ServerEntry {
    fn from(url: &str) -> Self {
        Self(ServerTable { url: Some(url.to_owned()), ..ServerTable::default() })
    }
}

struct ServerEntryVisitor;

impl<'de> Visitor<'de> for ServerEntryVisitor {
    type Value = ServerEntry;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .write_str("a URL, such as \"http://10.0.0.1:9000\", or { url = \"http://10.0.0.1:9000\", weight = 2 }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ServerEntry, E> {
        Ok(text.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ServerEntry, A::Error> {
        ServerTable::deserialize(MapAccessDeserializer::new(map)).map(ServerEntry)
    }
}

impl<'de> Deserialize<'de> for ServerEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ServerEntryVisitor)
    }
}

impl JsonSchema for ServerEntry {
    fn schema_name() -> Cow<'static, str> {
        "ServerEntry".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, generator.subschema_for::<ServerTable>()] })
    }
}
