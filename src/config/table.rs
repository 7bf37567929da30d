//! Deserializes a table only from a table.
//!
//! A derived struct accepts an array as well and fills its fields by position: `routes =
//! [["orders"]]` would be a route with a name. In a file that people write, that is a mistake.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Deserializes one table.
pub(super) fn one<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    TableOnly::deserialize(deserializer).map(|TableOnly(table)| table)
}

/// Deserializes a table of which the absence has a meaning.
pub(super) fn optional<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    one(d).map(Some)
}

/// Deserializes a table of tables.
pub(super) fn named<'de, D, T>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let tables = one::<D, BTreeMap<String, TableOnly<T>>>(deserializer)?;
    Ok(tables.into_iter().map(|(name, TableOnly(table))| (name, table)).collect())
}

/// Deserializes an array of tables.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(TableListVisitor(PhantomData))
}

/// A value that is deserialized from a table only.
struct TableOnly<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for TableOnly<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TableVisitor(PhantomData))
    }
}

struct TableVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for TableVisitor<T> {
    type Value = TableOnly<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TableOnly<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(TableOnly)
    }
}

struct TableListVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for TableListVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of tables")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
        let mut tables = Vec::new();
        while let Some(TableOnly(table)) = elements.next_element()? {
            tables.push(table);
        }
        Ok(tables)
    }
}
