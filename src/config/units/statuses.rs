//! Statuses of responses: one, such as `200`, or a range, such as `"200-299"`.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::lists::{Scalar, ScalarVisitor};

/// The statuses that exist (RFC 9110 §15).
const STATUSES: RangeInclusive<u16> = 100..=599;

/// One status, or a range of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StatusRange(RangeInclusive<u16>);

impl StatusRange {
    /// A range, as a default value.
    #[must_use]
    pub(in crate::config) const fn new(first: u16, last: u16) -> Self {
        Self(first..=last)
    }

    /// The first and the last status, and those in between.
    #[must_use]
    pub fn range(&self) -> RangeInclusive<u16> {
        self.0.clone()
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.0.start(), self.0.end());
        if first == last { write!(formatter, "{first}") } else { write!(formatter, "{first}-{last}") }
    }
}

impl Scalar for StatusRange {
    const EXPECTED: &'static str =
        "a status from 100 to 599, such as 200, a range, such as \"200-299\", or an array of these";

    fn from_text(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let parse = |text: &str| {
            let is_status = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|status| is_status && STATUSES.contains(status))
        };
        let (first, last) = (parse(first)?, parse(last)?);
        (first <= last).then_some(Self(first..=last))
    }

    fn from_boolean(_: bool) -> Option<Self> {
        None
    }

    fn from_integer(value: i64) -> Option<Self> {
        let status = u16::try_from(value).ok().filter(|status| STATUSES.contains(status))?;
        Some(Self(status..=status))
    }

    fn from_float(_: f64) -> Option<Self> {
        None
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor(PhantomData))
    }
}

impl Serialize for StatusRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.start() == self.0.end() {
            serializer.serialize_u16(*self.0.start())
        } else {
            serializer.collect_str(self)
        }
    }
}

impl JsonSchema for StatusRange {
    fn schema_name() -> Cow<'static, str> {
        "StatusRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": Self::EXPECTED,
            "anyOf": [
                { "type": "integer", "minimum": STATUSES.start(), "maximum": STATUSES.end() },
                { "type": "string", "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$" },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_statuses_has_its_first_and_its_last() {
        for (text, range) in [
            ("200-299", Some(200..=299)),
            ("204", Some(204..=204)),
            ("100-599", Some(100..=599)),
            ("299-200", None),
            ("099-200", None),
            ("200-600", None),
            ("2xx", None),
            ("200-", None),
            ("+20-299", None),
            ("", None),
        ] {
            assert_eq!(StatusRange::from_text(text).map(|range| range.range()), range, "{text}");
        }
        for (number, range) in [(200, Some(200..=200)), (99, None), (600, None), (-200, None), (65_736, None)] {
            assert_eq!(StatusRange::from_integer(number).map(|range| range.range()), range, "{number}");
        }
    }
}
