//! Durations, sizes and rates: strings with a unit. The error for a bare number shows what to
//! write.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU64;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

use super::super::problem::quoted;

/// A duration: `"250ms"`, `"30s"`, `"5m"`, `"24h"`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TimeSpan(Duration);

impl TimeSpan {
    /// A duration in seconds.
    #[must_use]
    pub(in crate::config) const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The duration.
    #[must_use]
    pub fn duration(self) -> Duration {
        self.0
    }
}

/// A number of bytes: `"512 B"`, `"32 KiB"`, `"10 MiB"`, `"1 GiB"`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Size(u64);

impl Size {
    /// A size in KiB.
    #[must_use]
    pub(in crate::config) const fn kib(kib: u64) -> Self {
        Self(kib << 10)
    }

    /// The size in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

/// A [`Size`], or `"unlimited"`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SizeOrUnlimited {
    /// At most this size.
    Size(Size),
    /// Any size.
    Unlimited,
}

/// A number of bytes per second, such as `"240 B/s"`, or `"off"`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ByteRate {
    /// In bytes per second.
    PerSecond(NonZeroU64),
    /// No rate.
    Off,
}

/// A number of events per period: `"100/s"`, `"100/min"`, `"1000/h"`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// Events per period; at least one.
    pub count: u64,
    /// A second, a minute or an hour.
    pub period: Duration,
}

impl Rate {
    /// A rate per minute.
    #[must_use]
    pub(in crate::config) const fn per_minute(count: u64) -> Self {
        Self { count, period: Duration::from_secs(60) }
    }
}

/// A value that the file holds as one string. `Display` writes the string that
/// [`parse`](Self::parse) reads.
trait Quantity: fmt::Display + Sized {
    /// What the value is, with examples, for errors and the schema.
    const EXPECTED: &'static str;
    /// The form of the string, as a regular expression.
    const PATTERN: &'static str;
    /// Reads the string.
    fn parse(text: &str) -> Option<Self>;
}

/// Splits `text` into its leading number and the rest.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|character: char| !character.is_ascii_digit())?;
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// Writes `amount` in the largest of `units` that divides it. The units are sorted from the largest
/// to one.
fn write_with_unit(formatter: &mut fmt::Formatter<'_>, amount: u128, units: &[(u128, &str)]) -> fmt::Result {
    let fits = |(size, _): &&(u128, &str)| amount >= *size && amount.is_multiple_of(*size);
    let (size, unit) = units.iter().find(fits).or(units.last()).expect("a quantity has a unit");
    write!(formatter, "{}{unit}", amount / size)
}

impl Quantity for TimeSpan {
    const EXPECTED: &'static str = "a duration with a unit, such as \"250ms\", \"30s\", \"5m\" or \"24h\"";
    const PATTERN: &'static str = "^[0-9]+(ms|s|m|h|d)$";

    fn parse(text: &str) -> Option<Self> {
        let (count, unit) = split_number(text)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        // A longer duration than a century is a mistake, and with this limit sums of durations
        // cannot overflow.
        let millis = count.checked_mul(millis).filter(|millis| *millis <= 100 * 366 * 86_400_000)?;
        Some(Self(Duration::from_millis(millis)))
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not in days: "24h" says more precisely than "1d" what it is.
        let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
        write_with_unit(formatter, self.0.as_millis(), &units)
    }
}

impl Quantity for Size {
    const EXPECTED: &'static str = "a size with a unit, such as \"512 B\", \"32 KiB\" or \"10 MiB\"";
    const PATTERN: &'static str = "^[0-9]+ ?(B|KiB|MiB|GiB)$";

    fn parse(text: &str) -> Option<Self> {
        let (count, unit) = split_number(text)?;
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

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 30, " GiB"), (1 << 20, " MiB"), (1 << 10, " KiB"), (1, " B")];
        write_with_unit(formatter, u128::from(self.0), &units)
    }
}

impl Quantity for SizeOrUnlimited {
    const EXPECTED: &'static str = "a size with a unit, such as \"10 MiB\", or \"unlimited\"";
    const PATTERN: &'static str = "^([0-9]+ ?(B|KiB|MiB|GiB)|unlimited)$";

    fn parse(text: &str) -> Option<Self> {
        if text == "unlimited" { Some(Self::Unlimited) } else { Size::parse(text).map(Self::Size) }
    }
}

impl fmt::Display for SizeOrUnlimited {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(size) => size.fmt(formatter),
            Self::Unlimited => formatter.write_str("unlimited"),
        }
    }
}

impl Quantity for ByteRate {
    const EXPECTED: &'static str = "a number of bytes per second, such as \"240 B/s\", or \"off\"";
    const PATTERN: &'static str = "^([0-9]+ ?(B|KiB|MiB|GiB)/s|off)$";

    fn parse(text: &str) -> Option<Self> {
        if text == "off" {
            return Some(Self::Off);
        }
        let size = Size::parse(text.strip_suffix("/s")?)?;
        NonZeroU64::new(size.bytes()).map(Self::PerSecond)
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerSecond(bytes) => write!(formatter, "{}/s", Size(bytes.get())),
            Self::Off => formatter.write_str("off"),
        }
    }
}

impl Quantity for Rate {
    const EXPECTED: &'static str = "a rate, such as \"100/s\", \"100/min\" or \"1000/h\"";
    const PATTERN: &'static str = "^[1-9][0-9]*/(s|min|h)$";

    fn parse(text: &str) -> Option<Self> {
        let (count, unit) = split_number(text)?;
        let seconds = match unit {
            "/s" => 1,
            "/min" => 60,
            "/h" => 3600,
            _ => return None,
        };
        // A limit of more than a thousand million per second limits nothing.
        (1..=1_000_000_000).contains(&count).then(|| Self { count, period: Duration::from_secs(seconds) })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let period = match self.period.as_secs() {
            3600 => "h",
            60 => "min",
            _ => "s",
        };
        write!(formatter, "{}/{period}", self.count)
    }
}

struct QuantityVisitor<T>(PhantomData<T>);

impl<T: Quantity> Visitor<'_> for QuantityVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::parse(text).ok_or_else(|| E::custom(format_args!("{} is not {}", quoted(text), T::EXPECTED)))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        Err(E::custom(format_args!("{} has no unit; expected {}", quoted(&number.to_string()), T::EXPECTED)))
    }
}

macro_rules! impl_for_quantities {
    ($($name:ident),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(QuantityVisitor(PhantomData))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $name::PATTERN, "description": $name::EXPECTED })
            }
        }
    )*};
}

impl_for_quantities!(TimeSpan, Size, SizeOrUnlimited, ByteRate, Rate);

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
            assert_eq!(TimeSpan::parse(text).map(|span| span.0.as_millis()), millis, "{text}");
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
            assert_eq!(Size::parse(text).map(Size::bytes), bytes, "{text}");
        }
        assert_eq!(SizeOrUnlimited::parse("unlimited"), Some(SizeOrUnlimited::Unlimited));
        assert_eq!(SizeOrUnlimited::parse("Unlimited"), None);
    }

    #[test]
    fn byte_rates_have_a_size_per_second() {
        for (text, bytes) in [
            ("240 B/s", Some(240)),
            ("1KiB/s", Some(1024)),
            ("0 B/s", None),
            ("240 B", None),
            ("240/s", None),
            ("240 B/min", None),
            ("Off", None),
        ] {
            let expected = bytes.and_then(NonZeroU64::new).map(ByteRate::PerSecond);
            assert_eq!(ByteRate::parse(text), expected, "{text}");
        }
        assert_eq!(ByteRate::parse("off"), Some(ByteRate::Off));
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
            assert_eq!(Rate::parse(text).map(|rate| (rate.count, rate.period.as_secs())), rate, "{text}");
        }
    }

    #[test]
    fn a_quantity_is_written_in_its_largest_unit_and_reads_back() {
        fn rewritten<T: Quantity>(text: &str) -> Option<String> {
            T::parse(text).map(|quantity| quantity.to_string())
        }
        for (text, expected) in
            [("250ms", "250ms"), ("75s", "75s"), ("60s", "1m"), ("120m", "2h"), ("1d", "24h"), ("0h", "0ms")]
        {
            assert_eq!(rewritten::<TimeSpan>(text).as_deref(), Some(expected), "{text}");
        }
        for (text, expected) in [("1024KiB", "1 MiB"), ("1536 B", "1536 B"), ("3 GiB", "3 GiB"), ("0 GiB", "0 B")] {
            assert_eq!(rewritten::<Size>(text).as_deref(), Some(expected), "{text}");
            assert_eq!(rewritten::<SizeOrUnlimited>(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["240 B/s", "2 KiB/s", "off"] {
            assert_eq!(rewritten::<ByteRate>(text).as_deref(), Some(text));
        }
        for text in ["5/s", "600/min", "1000/h"] {
            assert_eq!(rewritten::<Rate>(text).as_deref(), Some(text));
        }
        assert_eq!(rewritten::<SizeOrUnlimited>("unlimited").as_deref(), Some("unlimited"));
    }
}
