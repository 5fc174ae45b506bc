//! A token bucket, as the time at which it would be full again (the generic cell rate algorithm). Pure: `now` is an argument.

use std::time::{Duration, Instant};

const SECOND: u128 = 1_000_000_000;

/// So much per second, and as much at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    rate: u64,
    /// When it is full again. In the past: it is full.
    full: Instant,
}

impl Bucket {
    /// A full bucket of `rate` per second, which is at least one.
    pub(super) fn new(rate: u64, now: Instant) -> Self {
        Self { rate: rate.max(1), full: now }
    }

    /// Takes `count` if they are there, else says when they will be.
    pub(super) fn take(&mut self, count: u64, now: Instant) -> Result<(), Duration> {
        let full = self.full.max(now) + self.time(count);
        // A second's worth fits into it; more than that at once is let go when it is full.
        let late = full.saturating_duration_since(now + Duration::from_secs(1).max(self.time(count)));
        if late.is_zero() {
            self.full = full;
            return Ok(());
        }
        Err(late)
    }

    /// Takes `count` even if they are not there yet, and says when they will be.
    pub(super) fn reserve(&mut self, count: u64, now: Instant) -> Duration {
        let start = self.full.max(now);
        self.full = start + self.time(count);
        start.saturating_duration_since(now)
    }

    /// Puts back what was reserved and not used.
    pub(super) fn give_back(&mut self, count: u64) {
        self.full = self.full.checked_sub(self.time(count)).unwrap_or(self.full);
    }

    /// Whether nothing is missing.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.full <= now
    }

    fn time(&self, count: u64) -> Duration {
        let nanoseconds = u128::from(count) * SECOND / u128::from(self.rate);
        // A day at most, so that no sum with a clock overflows.
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)).min(Duration::from_secs(86_400))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn a_second_of_them_at_once_and_then_one_by_one() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, start);
        for _ in 0..10 {
            assert_eq!(bucket.take(1, start), Ok(()));
        }
        assert_eq!(bucket.take(1, start), Err(100 * MILLISECOND));
        assert_eq!(bucket.take(1, start + 99 * MILLISECOND), Err(MILLISECOND));
        assert_eq!(bucket.take(1, start + 100 * MILLISECOND), Ok(()));
        assert!(!bucket.is_full(start + 1000 * MILLISECOND));
        assert!(bucket.is_full(start + 1100 * MILLISECOND));
    }

    #[test]
    fn what_is_reserved_comes_in_its_turn() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000, start);
        assert_eq!(bucket.reserve(100, start), Duration::ZERO);
        assert_eq!(bucket.reserve(100, start), 100 * MILLISECOND);
        assert_eq!(bucket.reserve(50, start + 50 * MILLISECOND), 150 * MILLISECOND);
        assert_eq!(bucket.reserve(1, start + 1000 * MILLISECOND), Duration::ZERO);
    }

    proptest::proptest! {
        #[test]
        fn no_window_of_time_has_more_than_its_rate_and_a_second_in_hand(
            rate in 1_u64..1000,
            steps in proptest::collection::vec(0_u32..50, 1..300),
        ) {
            let start = Instant::now();
            let (mut bucket, mut now, mut taken) = (Bucket::new(rate, start), start, Vec::new());
            for step in steps {
                now += MILLISECOND * step;
                if bucket.take(1, now).is_ok() {
                    taken.push(now);
                }
            }
            for (first, from) in taken.iter().enumerate() {
                for (last, until) in taken.iter().enumerate().skip(first) {
                    let seconds = (*until - *from).as_secs_f64() + 1.0;
                    let most = seconds * rate as f64 + 1.0;
                    proptest::prop_assert!((last - first + 1) as f64 <= most, "{first} to {last} at {rate}");
                }
            }
        }
    }
}
