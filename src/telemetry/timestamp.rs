//! Timestamps: writes wall time as RFC 3339 text in UTC, with milliseconds.
//!
//! The log needs one direction and one time zone only, so there is no date library. The conversion
//! counts days in eras of 400 years, after which the Gregorian calendar repeats.

use std::fmt;

use crate::primitives::clock::WallTime;

/// Displays a time as `2025-01-31T23:59:59.123Z` (RFC 3339 §5.6), with milliseconds rounded down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rfc3339(pub(crate) WallTime);

const SECONDS_PER_DAY: u64 = 86_400;
const DAYS_PER_ERA: u64 = 146_097;
/// Days from 0000-03-01, where the first era begins, to 1970-01-01.
const DAYS_BEFORE_EPOCH: u64 = 719_468;

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.seconds();
        let (year, month, day) = civil(seconds / SECONDS_PER_DAY);
        let second_of_day = seconds % SECONDS_PER_DAY;
        let (hour, minute, second) = (second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60);
        let millis = self.0.micros() / 1_000 % 1_000;
        // Digit by digit: every line of the access log has a time, and the formatter's padding is
        // expensive.
        let mut text = *b"0000-00-00T00:00:00.000Z";
        write_digits(&mut text[0..4], year);
        write_digits(&mut text[5..7], month);
        write_digits(&mut text[8..10], day);
        write_digits(&mut text[11..13], hour);
        write_digits(&mut text[14..16], minute);
        write_digits(&mut text[17..19], second);
        write_digits(&mut text[20..23], millis);
        f.write_str(str::from_utf8(&text).expect("digits and punctuation"))
    }
}

/// Writes the last digits of `number`, as many as there is room for.
fn write_digits(room: &mut [u8], mut number: u64) {
    for place in room.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Year, month and day of a number of days since 1970-01-01.
fn civil(days_since_epoch: u64) -> (u64, u64, u64) {
    // A year that starts in March has the leap day at its end, so that leap years need no special
    // case.
    let days = days_since_epoch + DAYS_BEFORE_EPOCH;
    let (era, day_of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::primitives::clock::ManualClock;

    #[test]
    fn calendar_dates_are_right_around_leap_days_and_centuries() {
        for (seconds, expect) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (1_735_689_600, "2025-01-01T00:00:00.000Z"),
            (1_740_787_200, "2025-03-01T00:00:00.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799, "9999-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(Rfc3339(WallTime::from_seconds(seconds)).to_string(), expect, "{seconds}");
        }
    }

    #[test]
    fn the_days_of_four_centuries_are_consecutive() {
        let mut previous = civil(0);
        for days in 1..DAYS_PER_ERA {
            let (year, month, day) = civil(days);
            let next_day = (year, month, day) == (previous.0, previous.1, previous.2 + 1);
            let next_month = day == 1 && previous.2 >= 28 && (year, month) == (previous.0, previous.1 + 1);
            let next_year = (previous.1, previous.2) == (12, 31) && (year, month, day) == (previous.0 + 1, 1, 1);
            assert!(next_day || next_month || next_year, "{previous:?} then {:?}", (year, month, day));
            previous = (year, month, day);
        }
    }

    #[test]
    fn milliseconds_are_rounded_down() {
        let manual = ManualClock::at(1_735_689_599);
        manual.advance(Duration::from_micros(999_999));
        assert_eq!(Rfc3339(manual.clock().now()).to_string(), "2024-12-31T23:59:59.999Z");
    }

    #[test]
    fn the_latest_time_is_displayed_without_a_panic() {
        assert!(Rfc3339(WallTime::from_seconds(u64::MAX)).to_string().ends_with('Z'));
    }
}
