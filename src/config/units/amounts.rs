//! Durations, sizes, rates: strings with a unit. A bare number is an error that says what would be right.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Unexpected, Visitor};

use super::super::problem::quoted;

/// A duration: `"250ms"`, `"30s"`, `"5m"`, `"24h"`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span(Duration);

impl Span {
    /// The duration.
    #[must_use]
    pub fn duration(self) -> Duration {
        self.0
    }
}

/// An amount of bytes: `"512 B"`, `"32 KiB"`, `"10 MiB"`, `"1 GiB"`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Size(u64);

impl Size {
    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

/// A [`Size`], or `"unlimited"`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SizeOrUnlimited {
    /// At most so much.
    Size(Size),
    /// No bound.
    Unlimited,
}

/// So many in a period: `"100/s"`, `"100/min"`, `"1000/h"`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// How many; at least one.
    pub count: u64,
    /// A second, a minute or an hour.
    pub period: Duration,
}

/// `server.workers`: a number, or `"auto"`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Workers {
    /// As many as there are cores.
    Auto,
    /// So many.
    Count(usize),
}

/// `server.auth_failures`: a rate and a burst, or `"off"`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuthFailures {
    /// At most so many failures.
    Guard {
        /// In the long run.
        rate: Option<Rate>,
        /// At once.
        burst: Option<NonZeroU32>,
    },
    /// Not guarded.
    Off,
}

/// Most worker threads that make sense on any machine.
const MAX_WORKERS: i64 = 1024;

/// A value that is written as one string.
trait Written: Sized {
    /// What the value is, with an example: goes into errors and the schema.
    const IS: &'static str;
    /// What the string looks like, as a regular expression.
    const PATTERN: &'static str;
    /// Reads it.
    fn read(text: &str) -> Option<Self>;
}

/// The number in front of `text` and what stands behind it.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|character: char| !character.is_ascii_digit())?;
    Some((text[..end].parse().ok()?, &text[end..]))
}

impl Written for Span {
    const IS: &'static str = "a duration with a unit, such as \"250ms\", \"30s\", \"5m\" or \"24h\"";
    const PATTERN: &'static str = "^[0-9]+(ms|s|m|h|d)$";

    fn read(text: &str) -> Option<Self> {
        let (count, unit) = split(text)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        // A century at most: beyond it is a mistake, and sums of times stay far from overflow.
        let millis = count.checked_mul(millis).filter(|millis| *millis <= 100 * 366 * 86_400_000)?;
        Some(Self(Duration::from_millis(millis)))
    }
}

impl Written for Size {
    const IS: &'static str = "a size with a unit, such as \"512 B\", \"32 KiB\" or \"10 MiB\"";
    const PATTERN: &'static str = "^[0-9]+ ?(B|KiB|MiB|GiB)$";

    fn read(text: &str) -> Option<Self> {
        let (count, unit) = split(text)?;
        let bytes: u64 = match unit.strip_prefix(' ').unwrap_or(unit) {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        count.checked_mul(bytes).map(Self)
    }
}

impl Written for SizeOrUnlimited {
    const IS: &'static str = "a size with a unit, such as \"10 MiB\", or \"unlimited\"";
    const PATTERN: &'static str = "^([0-9]+ ?(B|KiB|MiB|GiB)|unlimited)$";

    fn read(text: &str) -> Option<Self> {
        if text == "unlimited" { Some(Self::Unlimited) } else { Size::read(text).map(Self::Size) }
    }
}

impl Written for Rate {
    const IS: &'static str = "a rate, such as \"100/s\", \"100/min\" or \"1000/h\"";
    const PATTERN: &'static str = "^[1-9][0-9]*/(s|min|h)$";

    fn read(text: &str) -> Option<Self> {
        let (count, unit) = split(text)?;
        let seconds = match unit {
            "/s" => 1,
            "/min" => 60,
            "/h" => 3600,
            _ => return None,
        };
        // Above a thousand million in a second a limit limits nothing.
        (1..=1_000_000_000).contains(&count).then(|| Self { count, period: Duration::from_secs(seconds) })
    }
}

struct WrittenVisitor<T>(PhantomData<T>);

impl<T: Written> Visitor<'_> for WrittenVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(T::IS)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::read(text).ok_or_else(|| E::custom(format_args!("{} is not {}", quoted(text), T::IS)))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        Err(E::custom(format_args!("{} has no unit; wanted {}", quoted(&number.to_string()), T::IS)))
    }
}

macro_rules! written {
    ($($name:ident),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(WrittenVisitor(PhantomData))
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $name::PATTERN, "description": $name::IS })
            }
        }
    )*};
}

written!(Span, Size, SizeOrUnlimited, Rate);

impl<'de> Deserialize<'de> for Workers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
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
        deserializer.deserialize_any(WorkersVisitor)
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

impl<'de> Deserialize<'de> for AuthFailures {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct GuardVisitor;
        impl<'de> Visitor<'de> for GuardVisitor {
            type Value = AuthFailures;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("{ rate = \"600/min\", burst = 100 } or \"off\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<AuthFailures, E> {
                if text == "off" { Ok(AuthFailures::Off) } else { Err(E::invalid_value(Unexpected::Str(text), &self)) }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AuthFailures, A::Error> {
                let (mut rate, mut burst) = (None, None);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "rate" => rate = Some(map.next_value()?),
                        "burst" => burst = Some(map.next_value()?),
                        other => {
                            let error = A::Error::unknown_field(other, &["rate", "burst"]);
                            map.next_value::<IgnoredAny>()?;
                            return Err(error);
                        }
                    }
                }
                Ok(AuthFailures::Guard { rate, burst })
            }
        }
        deserializer.deserialize_any(GuardVisitor)
    }
}

impl JsonSchema for AuthFailures {
    fn schema_name() -> Cow<'static, str> {
        "AuthFailures".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "const": "off" },
            {
                "type": "object",
                "properties": {
                    "rate": generator.subschema_for::<Rate>(),
                    "burst": { "type": "integer", "minimum": 1 }
                },
                "required": ["rate"],
                "additionalProperties": false
            }
        ] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, millis) in [
            ("250ms", Some(250)),
            ("30s", Some(30_000)),
            ("5m", Some(300_000)),
            ("24h", Some(86_400_000)),
            ("0s", Some(0)),
            ("30", None),
            ("30 s", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("99999999999999999999s", None),
            ("9999999h", None),
            ("", None),
        ] {
            assert_eq!(Span::read(text).map(|span| span.0.as_millis()), millis, "{text}");
        }
    }

    #[test]
    fn sizes_have_a_unit() {
        for (text, bytes) in [
            ("512 B", Some(512)),
            ("32 KiB", Some(32 << 10)),
            ("32KiB", Some(32 << 10)),
            ("10 MiB", Some(10 << 20)),
            ("1 GiB", Some(1 << 30)),
            ("32", None),
            ("32 KB", None),
            ("99999999999 GiB", None),
            ("KiB", None),
        ] {
            assert_eq!(Size::read(text).map(Size::bytes), bytes, "{text}");
        }
        assert_eq!(SizeOrUnlimited::read("unlimited"), Some(SizeOrUnlimited::Unlimited));
        assert_eq!(SizeOrUnlimited::read("Unlimited"), None);
    }

    #[test]
    fn rates_have_a_period() {
        for (text, rate) in [
            ("100/s", Some((100, 1))),
            ("100/min", Some((100, 60))),
            ("1000/h", Some((1000, 3600))),
            ("100", None),
            ("0/s", None),
            ("100/m", None),
            ("100/day", None),
            ("/s", None),
        ] {
            assert_eq!(Rate::read(text).map(|rate| (rate.count, rate.period.as_secs())), rate, "{text}");
        }
    }
}
