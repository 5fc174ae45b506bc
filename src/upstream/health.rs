//! Which URLs of a registry could not be reached lately, and so are asked last. Pure.

use std::time::Duration;

use tokio::time::Instant;

use super::Kind;

/// How long a URL is asked last after its first failure.
const FIRST: Duration = Duration::from_secs(5);
/// The longest that a URL is asked last.
const LONGEST: Duration = Duration::from_secs(60);
/// Who had less time than this to answer is not blamed: it went to waiting for a connection.
const FAIR: Duration = Duration::from_secs(1);

/// What is known of each URL, by index, together with all that it needs to answer: its token server, and where it redirects
/// to. Nothing but an answer heals one: when its time is over and it fails again, the next time is twice as long.
#[derive(Debug)]
pub(super) struct Health(Vec<Option<Down>>);

/// A URL that failed, and has not answered since.
#[derive(Clone, Copy, Debug)]
struct Down {
    /// How many times in a row.
    times: u32,
    /// When the last of them was noticed.
    since: Instant,
}

impl Down {
    fn is_last(&self, now: Instant) -> bool {
        now < self.since + FIRST.saturating_mul(2_u32.saturating_pow(self.times - 1)).min(LONGEST)
    }
}

impl Health {
    /// `urls` that nothing is known of.
    pub(super) fn new(urls: usize) -> Self {
        Self(vec![None; urls])
    }

    /// Whether the URL is to be asked after those that can be reached.
    pub(super) fn is_last(&self, url: usize, now: Instant) -> bool {
        self.0[url].is_some_and(|down| down.is_last(now))
    }

    /// How asking the URL from `began` to `now` ended. An answer is one whatever it says. Of many that were asked at once and
    /// failed together, the first counts.
    pub(super) fn asked(&mut self, url: usize, ended: Result<(), Kind>, began: Instant, now: Instant) {
        let down = &mut self.0[url];
        match ended {
            Err(Kind::TimedOut) if now - began < FAIR => {}
            Err(Kind::Unreachable | Kind::TimedOut) => match down {
                Some(down) if began < down.since => {}
                _ => *down = Some(Down { times: down.map_or(0, |down| down.times).saturating_add(1), since: now }),
            },
            // Not asked at all, or not to its end.
            Err(Kind::Forbidden | Kind::Loop | Kind::Overloaded) => {}
            Ok(()) | Err(Kind::NotFound | Kind::Denied | Kind::Unauthorized | Kind::RateLimited | Kind::Failed | Kind::Ended) => {
                *down = None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAD: Result<(), Kind> = Err(Kind::Unreachable);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// How long the URL is asked last after something that ended at `now`.
    fn rest(health: &Health, now: Instant) -> u64 {
        (0..).find(|after| !health.is_last(0, now + seconds(*after))).unwrap()
    }

    #[test]
    fn each_failure_in_a_row_doubles_the_time_up_to_a_minute() {
        let (mut health, mut now) = (Health::new(1), Instant::now());
        let rests: Vec<u64> = (0..40)
            .map(|_| {
                health.asked(0, DEAD, now, now);
                let rest = rest(&health, now);
                now += seconds(rest);
                rest
            })
            .collect();
        assert_eq!(rests[..6], [5, 10, 20, 40, 60, 60]);
        assert_eq!(rests[39], 60);
    }

    #[test]
    fn only_who_could_not_be_reached_is_asked_last() {
        for (ended, last, heals) in [
            (Ok(()), false, true),
            (Err(Kind::NotFound), false, true),
            (Err(Kind::Denied), false, true),
            (Err(Kind::Unauthorized), false, true),
            (Err(Kind::RateLimited), false, true),
            (Err(Kind::Failed), false, true),
            (Err(Kind::Unreachable), true, false),
            (Err(Kind::TimedOut), true, false),
            (Err(Kind::Forbidden), false, false),
            (Err(Kind::Loop), false, false),
            (Err(Kind::Overloaded), false, false),
        ] {
            let (began, now) = (Instant::now(), Instant::now() + seconds(10));
            let mut well = Health::new(2);
            well.asked(0, ended, began, now);
            assert_eq!((well.is_last(0, now), well.is_last(1, now)), (last, false), "{ended:?}");
            let mut down = Health::new(1);
            down.asked(0, DEAD, began, began);
            down.asked(0, ended, now, now + FAIR);
            down.asked(0, DEAD, now + FAIR, now + FAIR);
            assert_eq!(rest(&down, now + FAIR) == 5, heals, "{ended:?}");
        }
    }

    #[test]
    fn failing_together_is_failing_once() {
        let (mut health, began) = (Health::new(1), Instant::now());
        for ended in 3..10 {
            health.asked(0, DEAD, began, began + seconds(ended));
        }
        assert_eq!(rest(&health, began + seconds(3)), 5);
    }

    #[test]
    fn who_had_no_time_to_answer_is_not_blamed() {
        let (mut health, now) = (Health::new(1), Instant::now());
        health.asked(0, Err(Kind::TimedOut), now, now + FAIR / 2);
        assert!(!health.is_last(0, now + FAIR / 2));
        health.asked(0, Err(Kind::TimedOut), now, now + FAIR);
        assert!(health.is_last(0, now + FAIR));
    }
}
