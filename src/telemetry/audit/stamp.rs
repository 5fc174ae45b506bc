//! When a record was made, and its name: both written with as little work as there can be.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes times and event ids for one run of the program.
pub(super) struct Stamp {
    /// The second that `time` is of.
    second: u64,
    /// RFC 3339 with milliseconds, in UTC.
    time: String,
    /// Eight digits that name this run, and a number.
    event: String,
}

/// How long the name of a run is, with what comes after it.
const RUN: usize = 9;
/// How much of a time is the same for a whole second: `2026-08-21T10:11:12.`
const WHOLE: usize = 20;

impl Stamp {
    pub(super) fn new() -> Self {
        Self { second: u64::MAX, time: String::new(), event: format!("{:08x}-", rand::random::<u32>()) }
    }

    /// `time` in RFC 3339, UTC, milliseconds.
    pub(super) fn of(&mut self, time: SystemTime) -> &str {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if since.as_secs() != self.second {
            self.second = since.as_secs();
            let second = i64::try_from(self.second).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
            self.time = format!("{:.3}", second.unwrap_or_default());
        }
        let millis = since.subsec_millis();
        let digit = |divisor: u32| char::from_digit(millis / divisor % 10, 10).unwrap_or('0');
        self.time.truncate(WHOLE);
        self.time.extend([digit(100), digit(10), digit(1), 'Z']);
        &self.time
    }

    /// The name of the record with this number.
    pub(super) fn event(&mut self, number: u64) -> &str {
        self.event.truncate(RUN);
        // A String takes all that is written to it.
        let _ = write!(self.event, "{number}");
        &self.event
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_utc_with_milliseconds() {
        let mut stamp = Stamp::new();
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_787_306_896_007, "2026-08-21T10:08:16.007Z"),
            (1_787_306_896_999, "2026-08-21T10:08:16.999Z"),
            (1_787_306_897_120, "2026-08-21T10:08:17.120Z"),
            (1_787_306_896_000, "2026-08-21T10:08:16.000Z"),
        ] {
            assert_eq!(stamp.of(UNIX_EPOCH + Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn events_of_a_run_are_numbered() {
        let mut stamp = Stamp::new();
        let first = stamp.event(1).to_owned();
        assert_eq!(stamp.event(10), first.clone() + "0");
        assert_eq!(first.len(), RUN + 1);
    }
}
