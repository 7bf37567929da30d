//! Numbers in claims: compared and written by their value, and only where that is known.
//!
//! The JSON parser holds a number as an integer of 64 bits where that is possible, and otherwise as
//! a floating-point number (RFC 8259 §6). From 2^53 on, several integers have the same
//! floating-point number, so that it is not known which one the token's text had:
//! `9007199254740993.0` is read as 2^53, and 20 digits are read as the nearest multiple of 2048.
//! Such a number is *inexact*. It equals no integer, and is never written where it could be taken
//! for another.

use serde_json::{Number, Value};

/// From here on, a floating-point number stands for more than one integer.
const FIRST_INEXACT: f64 = 9_007_199_254_740_992.0;

/// Whether the parser holds the value of a number with this absolute value as a float without
/// taking one integer for another.
#[must_use]
pub(crate) fn is_exact_float(float: f64) -> bool {
    float.abs() < FIRST_INEXACT
}

/// Whether two numbers are equal: `1` and `1.0` are one number in JSON, and so are `0` and `-0`.
/// Integers are compared exactly. An inexact number equals no other, not even another inexact one.
#[must_use]
pub(crate) fn is_equal(a: &Number, b: &Number) -> bool {
    match (Exact::of(a), Exact::of(b)) {
        (Some(a), Some(b)) => a == b,
        (None, _) | (_, None) => false,
    }
}

/// The text of a number: the same for equal numbers, another for different ones. `None` if it is
/// inexact.
#[must_use]
pub(crate) fn text(number: &Number) -> Option<String> {
    Some(match Exact::of(number)? {
        Exact::Integer(integer) => integer.to_string(),
        Exact::Fraction(float) => float.to_string(),
    })
}

/// Whether a value is an inexact number or contains one. The depth of the recursion is bounded,
/// because the reader of claims limits it.
#[must_use]
pub(crate) fn contains_inexact(value: &Value) -> bool {
    match value {
        Value::Number(number) => Exact::of(number).is_none(),
        Value::Array(items) => items.iter().any(contains_inexact),
        Value::Object(members) => members.values().any(contains_inexact),
        Value::Bool(_) | Value::Null | Value::String(_) => false,
    }
}

/// The value of a number that is exact.
#[derive(PartialEq)]
enum Exact {
    Integer(i128),
    Fraction(f64),
}

impl Exact {
    #[expect(clippy::cast_possible_truncation, reason = "an exact float without a fraction is an integer below 2^53")]
    fn of(number: &Number) -> Option<Self> {
        if let Some(integer) = number.as_i128() {
            return Some(Self::Integer(integer));
        }
        let float = number.as_f64().filter(|float| is_exact_float(*float))?;
        Some(if float.fract() == 0.0 { Self::Integer(float as i128) } else { Self::Fraction(float) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::strict_json;

    /// As the token has it: which number a text becomes is part of what is tested.
    fn number(text: &str) -> Number {
        let Value::Number(number) = strict_json::read(text.as_bytes()).unwrap() else { panic!("{text}") };
        number
    }

    /// Threat J-96.
    #[test]
    fn numbers_are_compared_by_value_and_integers_exactly() {
        for (a, b, expected) in [
            ("1", "1", true),
            ("1", "2", false),
            ("1", "1.0", true),
            ("100", "1e2", true),
            ("100", "1E+2", true),
            ("1.5", "15e-1", true),
            ("1", "1.5", false),
            ("0", "-0", true),
            ("0", "-0.0", true),
            ("0.0", "-0.0", true),
            ("-1", "1", false),
            ("-1", "-1.0", true),
            ("-1", "18446744073709551615", false),
            ("9223372036854775807", "9223372036854775807", true),
            ("9223372036854775807", "9223372036854775808", false),
            ("9223372036854775807", "9223372036854775808.0", false),
            ("-9223372036854775808", "-9223372036854775808", true),
            ("-9223372036854775808", "9223372036854775808", false),
            ("18446744073709551614", "18446744073709551615", false),
            ("18446744073709551615", "18446744073709551615", true),
            ("9007199254740991", "9007199254740991.0", true),
            ("9007199254740993", "9007199254740992", false),
            ("9007199254740993", "9007199254740992.0", false),
            ("9007199254740992", "9007199254740993.0", false),
            ("9007199254740992", "9007199254740992.0", false),
            ("-9007199254740992", "-9007199254740993.0", false),
            ("18446744073709551616", "18446744073709551617", false),
            ("18446744073709551615", "18446744073709551616", false),
            ("10000000000000000000", "1e19", false),
            ("1e300", "1e300", false),
        ] {
            assert_eq!(is_equal(&number(a), &number(b)), expected, "{a} {b}");
            assert_eq!(is_equal(&number(b), &number(a)), expected, "{b} {a}");
            if expected {
                assert_eq!(text(&number(a)), text(&number(b)), "{a} {b}");
            } else if let (Some(first), Some(second)) = (text(&number(a)), text(&number(b))) {
                assert_ne!(first, second, "{a} {b}");
            }
        }
    }

    #[test]
    fn an_inexact_number_has_no_text() {
        for (written, expected) in [
            ("7", Some("7")),
            ("-0", Some("0")),
            ("7.0", Some("7")),
            ("0.25", Some("0.25")),
            ("18446744073709551615", Some("18446744073709551615")),
            ("-9223372036854775808", Some("-9223372036854775808")),
            ("18446744073709551616", None),
            ("-9223372036854775809", None),
            ("9007199254740992.0", None),
            ("1e300", None),
        ] {
            assert_eq!(text(&number(written)).as_deref(), expected, "{written}");
        }
    }

    #[test]
    fn inexact_numbers_are_found_at_any_depth() {
        for (text, expected) in [
            (r#"{"a":[1,{"b":18446744073709551616}]}"#, true),
            (r#"{"a":[1,{"b":18446744073709551615}]}"#, false),
            ("[1e300]", true),
            (r#"["1e300",null,true]"#, false),
        ] {
            assert_eq!(contains_inexact(&strict_json::read(text.as_bytes()).unwrap()), expected, "{text}");
        }
    }
}
