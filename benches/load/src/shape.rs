//! How slow the upstream is.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How far a line may have fallen behind and still make up for it: sleeps are never exact. One that carried nothing for longer has
/// not fallen behind, and what comes then is not sent in a burst.
const SLACK: Duration = Duration::from_millis(20);

/// The speed of one connection, or of all together.
#[derive(Debug)]
pub struct Line {
    /// Bytes per second; nothing is no limit.
    rate: Option<f64>,
    /// When the bytes that were let through will have passed.
    free: Mutex<Instant>,
}

impl Line {
    /// A line of this many bytes per second.
    #[must_use]
    pub fn new(rate: Option<u64>) -> Self {
        Self { rate: rate.map(|rate| rate as f64), free: Mutex::new(Instant::now()) }
    }

    /// Waits until `bytes` have passed.
    pub fn pass(&self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        let now = Instant::now();
        let until = self.book(now, Duration::from_secs_f64(bytes as f64 / rate));
        std::thread::sleep(until.saturating_duration_since(now));
    }

    fn book(&self, now: Instant, time: Duration) -> Instant {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let is_behind = now.saturating_duration_since(*free) <= SLACK;
        *free = if is_behind { *free } else { now } + time;
        *free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_lets_bytes_through_at_its_rate() {
        let line = Line::new(Some(1_000_000));
        let start = Instant::now() + Duration::from_secs(1);
        let second = Duration::from_secs(1);
        assert_eq!(line.book(start, second), start + second, "it was idle before");
        assert_eq!(line.book(start, second), start + 2 * second, "what comes second has to wait for the first");
        assert_eq!(line.book(start + 2 * second + SLACK, second), start + 3 * second, "it may make up for that much");
        let late = start + 3 * second + 2 * SLACK;
        assert_eq!(line.book(late, second), late + second, "and for no more");
    }
}
