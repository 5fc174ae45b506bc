//! How slow the upstream is.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How far a line may have fallen behind and still make up for it: sleeps are never exact.
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

    /// An answer begins. A line that had nothing to carry has not fallen behind: what comes now is not sent in a burst.
    pub fn begin(&self, now: Instant) {
        let mut free = self.lock();
        *free = (*free).max(now);
    }

    /// Waits until `bytes` have passed.
    pub fn pass(&self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        let now = Instant::now();
        let until = self.book(now, Duration::from_secs_f64(bytes as f64 / rate));
        std::thread::sleep(until.saturating_duration_since(now));
    }

    fn book(&self, now: Instant, time: Duration) -> Instant {
        let mut free = self.lock();
        let earliest = now.checked_sub(SLACK).unwrap_or(now);
        *free = (*free).max(earliest) + time;
        *free
    }

    fn lock(&self) -> MutexGuard<'_, Instant> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
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
        line.begin(start);
        assert_eq!(line.book(start, second), start + second, "it was idle before");
        line.begin(start);
        assert_eq!(line.book(start, second), start + 2 * second, "what comes second has to wait for the first");
        assert_eq!(line.book(start + 2 * second + SLACK, second), start + 3 * second, "it may make up for that much");
        let late = start + 3 * second + 2 * SLACK;
        assert_eq!(line.book(late, second), late - SLACK + second, "and for no more");
    }
}
