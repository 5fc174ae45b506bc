//! Whether a transfer is too slow to be waited for. Pure.

use std::time::Duration;

/// What a transfer must bring, in bytes a second.
const FLOOR: u64 = 8 * 1024;
/// How much waiting is judged at once: a pause of some seconds is nothing yet.
const WINDOW: Duration = Duration::from_secs(60);

/// What is to become of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on.
    Going,
    /// It brought less than 8 KiB/s over 60 s of waiting.
    TooSlow,
}

/// Counts what came against the time spent waiting for it; what its reader does between waits is not the transfer's fault.
#[derive(Debug, Default)]
pub(super) struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// A wait of `time` was over and brought `bytes`. Where that makes 60 s and all is well, counting begins anew.
    pub(super) fn waited(&mut self, time: Duration, bytes: u64) -> Verdict {
        self.waited += time;
        self.bytes += bytes;
        if self.waited < WINDOW {
            return Verdict::Going;
        }
        if u128::from(self.bytes) * 1000 < u128::from(FLOOR) * self.waited.as_millis() {
            return Verdict::TooSlow;
        }
        *self = Self::default();
        Verdict::Going
    }

    /// How much longer a wait may be until there is something to judge.
    pub(super) fn left(&self) -> Duration {
        WINDOW.saturating_sub(self.waited)
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Going, TooSlow};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nothing_is_judged_before_its_time() {
        let mut pace = Pace::default();
        assert_eq!(pace.left(), WINDOW);
        assert_eq!(pace.waited(59 * SECOND, 0), Going);
        assert_eq!(pace.left(), SECOND);
        assert_eq!(pace.waited(SECOND, 0), TooSlow);
        assert_eq!(pace.left(), Duration::ZERO);
    }

    #[test]
    fn the_floor_is_eight_kib_a_second() {
        for (time, bytes, verdict) in [
            (WINDOW, 60 * 8192, Going),
            (WINDOW, 60 * 8192 - 1, TooSlow),
            (2 * WINDOW, 120 * 8192, Going),
            (2 * WINDOW, 60 * 8192, TooSlow),
            (WINDOW, u64::MAX, Going),
            (Duration::ZERO, 0, Going),
        ] {
            assert_eq!(Pace::default().waited(time, bytes), verdict, "{bytes} bytes in {time:?}");
        }
    }

    #[test]
    fn what_was_fast_once_must_stay_so() {
        let mut pace = Pace::default();
        assert_eq!(pace.waited(WINDOW, 1 << 40), Going);
        assert_eq!(pace.left(), WINDOW);
        assert_eq!(pace.waited(WINDOW, 1), TooSlow);
    }

    #[test]
    fn a_verdict_that_nobody_heard_is_given_again() {
        let mut pace = Pace::default();
        assert_eq!(pace.waited(WINDOW, 0), TooSlow);
        assert_eq!(pace.waited(Duration::ZERO, 0), TooSlow);
        assert_eq!(pace.waited(Duration::ZERO, 60 * 8192), Going);
    }

    #[test]
    fn bytes_that_were_there_already_cost_no_time() {
        let mut pace = Pace::default();
        assert!((0..1000).all(|_| pace.waited(Duration::ZERO, 1) == Going));
        assert_eq!(pace.left(), WINDOW);
    }
}
