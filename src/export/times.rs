//! How times look in outputs: dates and times of day in one time zone, and exact decimals of milliseconds.

use std::fmt::{self, Display, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::clock::Nanos;

/// Writes unix times as `YYYY-MM-DD HH:MM:SS:ffffff` (microseconds after the third colon, cut, not rounded).
#[derive(Clone, Debug)]
pub struct Calendar {
    zone: TimeZone,
    /// The second that `text` begins with: most times share it with the time before.
    second: Option<u64>,
    text: String,
}

/// Nanoseconds shown as milliseconds with six decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Millis(pub i64);

/// Unix nanoseconds shown as microseconds with three decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Micros(pub u64);

/// Length of `YYYY-MM-DD HH:MM:SS:`.
const SECOND: usize = 20;

impl Calendar {
    /// Shows times in the zone.
    pub fn new(zone: TimeZone) -> Self {
        Self { zone, second: None, text: String::new() }
    }

    /// The time as text, until the next call.
    pub fn text(&mut self, time: Nanos) -> &str {
        let second = time.0 / 1_000_000_000;
        if self.second != Some(second) {
            self.second = Some(second);
            self.text.clear();
            let timestamp = Timestamp::from_second(second as i64).unwrap_or(Timestamp::MAX);
            let local = timestamp.to_zoned(self.zone.clone());
            // Writing to a string does not fail.
            let _ = write!(self.text, "{}:", local.strftime("%Y-%m-%d %H:%M:%S"));
        }
        self.text.truncate(SECOND);
        let mut micros = time.0 % 1_000_000_000 / 1_000;
        let mut digits = [b'0'; 6];
        for digit in digits.iter_mut().rev() {
            *digit += (micros % 10) as u8;
            micros /= 10;
        }
        self.text.extend(digits.map(char::from));
        &self.text
    }
}

impl Calendar {
    /// The time cut to milliseconds: `YYYY-MM-DD HH:MM:SS:mmm`.
    pub fn to_millis(&mut self, time: Nanos) -> String {
        self.text(time)[..SECOND + 3].to_owned()
    }

    /// The time cut to seconds: `YYYY-MM-DD HH:MM:SS`.
    pub fn to_seconds(&mut self, time: Nanos) -> String {
        self.text(time)[..SECOND - 1].to_owned()
    }
}

impl Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nanos = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:06}", nanos / 1_000_000, nanos % 1_000_000)
    }
}

impl Micros {
    /// Appends it. Times are most of a timeline: `fmt` would take three times as long.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        let mut digits = [b'0'; 24];
        let (mut left, mut at) = (self.0, digits.len());
        while left > 0 || digits.len() - at < 5 {
            at -= 1;
            if digits.len() - at == 4 {
                digits[at] = b'.';
                at -= 1;
            }
            digits[at] = b'0' + (left % 10) as u8;
            left /= 10;
        }
        out.extend_from_slice(&digits[at..]);
    }
}

impl Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_the_zone_with_six_digits_after_a_colon() {
        let zone = |hours| TimeZone::fixed(jiff::tz::offset(hours));
        let mut utc = Calendar::new(zone(0));
        let mut shanghai = Calendar::new(zone(8));
        for (time, in_utc, in_shanghai) in [
            (0, "1970-01-01 00:00:00:000000", "1970-01-01 08:00:00:000000"),
            (1_700_000_000_123_456_789, "2023-11-14 22:13:20:123456", "2023-11-15 06:13:20:123456"),
            (1_700_000_000_999_999_999, "2023-11-14 22:13:20:999999", "2023-11-15 06:13:20:999999"),
            (1_700_000_001_000_000_000, "2023-11-14 22:13:21:000000", "2023-11-15 06:13:21:000000"),
        ] {
            assert_eq!(utc.text(Nanos(time)), in_utc);
            assert_eq!(shanghai.text(Nanos(time)), in_shanghai);
        }
    }

    #[test]
    fn decimals_are_exact() {
        assert_eq!(Millis(1_700_000_000_123_456_789).to_string(), "1700000000123.456789");
        assert_eq!(Millis(-1_500).to_string(), "-0.001500");
        assert_eq!(Micros(1_700_000_000_123_456_789).to_string(), "1700000000123456.789");
        assert_eq!(Micros(7).to_string(), "0.007");
        for time in [0, 7, 999, 1_000, 1_234_567, u64::MAX] {
            let mut out = Vec::new();
            Micros(time).write(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), Micros(time).to_string());
        }
    }
}
