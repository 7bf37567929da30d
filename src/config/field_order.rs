//! The order in which a table's struct defines its keys.
//!
//! A JSON Schema holds the keys of a table in a JSON object, and `serde_json` sorts those by name.
//! The reference tables list related keys together, in the order of the struct. Serde passes the
//! names in that order to every deserializer, so a deserializer that only looks at them is enough
//! to learn it.

use schemars::Schema;
use serde::de::value::Error;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

/// The keyword of a schema that holds the names. [`schema()`](super::schema()) removes it from what
/// it prints.
pub(super) const KEYWORD: &str = "x-field-order";

/// Adds the order of the fields of `T` to its schema.
pub(super) fn record<T: DeserializeOwned>(schema: &mut Schema) {
    schema.insert(KEYWORD.to_owned(), fields::<T>().into());
}

fn fields<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut fields: &[&str] = &[];
    let outcome = T::deserialize(FieldNames(&mut fields));
    debug_assert!(outcome.is_err(), "there is nothing to deserialize");
    fields
}

struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        Err(Error::custom("only the names of the fields are of interest"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("a table is a struct"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
