//! Failed logins by where they come from, so that nobody guesses for long. A table without a clock.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// So many failures from one source are borne …
pub(super) const MOST: u32 = 10;
/// … in this time, from the first of them on.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// So many sources are remembered. Beyond, the one that began first is forgotten.
const MAX_SOURCES: usize = 4096;

/// Who has failed how often. An attempt counts from its beginning, so that neither many at once nor leaving early pays.
#[derive(Default)]
pub(super) struct Guesses(HashMap<IpAddr, Tries>);

#[derive(Clone, Copy)]
struct Tries {
    since: Instant,
    count: u32,
}

impl Tries {
    /// What is left of the window.
    fn left(self, now: Instant) -> Option<Duration> {
        WINDOW.checked_sub(now.saturating_duration_since(self.since)).filter(|left| !left.is_zero())
    }
}

impl Guesses {
    /// Whether `source` may try now.
    ///
    /// # Errors
    /// When it may again.
    pub(super) fn admit(&self, source: IpAddr, now: Instant) -> Result<(), Duration> {
        let full = self.0.get(&source).filter(|tries| tries.count >= MOST);
        full.and_then(|tries| tries.left(now)).map_or(Ok(()), Err)
    }

    /// The same, and the attempt counts as failed unless [`Guesses::succeeded`] takes that back.
    ///
    /// # Errors
    /// As [`Guesses::admit`].
    pub(super) fn begin(&mut self, source: IpAddr, now: Instant) -> Result<(), Duration> {
        self.admit(source, now)?;
        if !self.0.contains_key(&source) {
            self.make_room(now);
        }
        let tries = self.0.entry(source).or_insert(Tries { since: now, count: 0 });
        if tries.left(now).is_none() {
            *tries = Tries { since: now, count: 0 };
        }
        tries.count += 1;
        Ok(())
    }

    /// An attempt was none.
    pub(super) fn succeeded(&mut self, source: IpAddr) {
        if let Some(tries) = self.0.get_mut(&source) {
            tries.count = tries.count.saturating_sub(1);
        }
    }

    fn make_room(&mut self, now: Instant) {
        if self.0.len() < MAX_SOURCES {
            return;
        }
        self.0.retain(|_, tries| tries.left(now).is_some());
        if self.0.len() >= MAX_SOURCES
            && let Some(oldest) = self.0.iter().min_by_key(|(_, tries)| tries.since).map(|(source, _)| *source)
        {
            self.0.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ten_failures_in_a_minute_are_borne_and_then_none_until_it_is_over() {
        let (mut guesses, start) = (Guesses::default(), Instant::now());
        let (source, other) = (address("10.0.0.1"), address("10.0.0.2"));
        for n in 0..MOST {
            assert_eq!(guesses.begin(source, start + Duration::from_secs(n.into())), Ok(()));
        }
        let later = start + Duration::from_secs(20);
        assert_eq!(guesses.begin(source, later), Err(Duration::from_secs(40)));
        assert_eq!(guesses.admit(source, later), Err(Duration::from_secs(40)));
        assert_eq!(guesses.begin(other, later), Ok(()));
        assert_eq!(guesses.begin(source, start + WINDOW), Ok(()));
        assert_eq!(guesses.0[&source].count, 1);
    }

    #[test]
    fn what_succeeds_does_not_count() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        let source = address("10.0.0.1");
        for _ in 0..5 * MOST {
            guesses.begin(source, now).unwrap();
            guesses.succeeded(source);
        }
        assert_eq!(guesses.0[&source].count, 0);
        guesses.succeeded(address("10.0.0.2"));
    }

    #[test]
    fn the_table_is_bounded_and_the_oldest_goes() {
        let (mut guesses, start) = (Guesses::default(), Instant::now());
        let nth = |n: usize| IpAddr::from(std::net::Ipv4Addr::from_bits(u32::try_from(n).unwrap()));
        for n in 0..MAX_SOURCES + 3 {
            guesses.begin(nth(n), start + Duration::from_millis(n as u64)).unwrap();
        }
        assert_eq!(guesses.0.len(), MAX_SOURCES);
        assert!((0..3).all(|n| !guesses.0.contains_key(&nth(n))) && guesses.0.contains_key(&nth(3)));
        guesses.begin(nth(1 << 20), start + 2 * WINDOW).unwrap();
        assert_eq!(guesses.0.len(), 1);
    }
}
