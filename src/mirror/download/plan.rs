//! What a download fetches next: by its main transfer, and beside it for readers that are far ahead. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::oci::Span;

/// So little is read and thrown away rather than asking anew behind it: breaking a transfer off throws away as much.
const READ_THROUGH: u64 = 128 << 10;
/// A reader that is no further ahead than this waits for the main transfer, however slow that is.
pub(super) const NEAR: u64 = READ_THROUGH;
/// A reader whose bytes the main transfer would bring within this time waits for it.
const SOON: Duration = Duration::from_secs(2);
/// The most that is fetched at once for a reader. containerd abandons open ranges: the tail of one is not chased.
const LARGEST_PIECE: u64 = 8 << 20;
/// The least, where that much is missing: it is of use in any case, and a request costs a round trip.
const SMALLEST_PIECE: u64 = 256 << 10;

/// What the main transfer does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// All bytes are there.
    End,
    /// What is there up to this offset needs no transfer.
    Skip(u64),
    /// Somebody else is fetching the byte it stands before.
    Wait,
    /// The same, and so much from there on that the answer is broken off: while it is not read, its upstream goes on sending.
    HangUp,
    /// Take bytes, but none from this offset on.
    Read(u64),
    /// Take bytes and throw them away, up to this offset.
    Drain(u64),
    /// Ask for these bytes. `until` is `None` where everything to the end is wanted.
    Ask {
        /// The first byte.
        from: u64,
        /// After the last byte.
        until: Option<u64>,
    },
}

/// An answer that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The offset of its next byte.
    pub(super) at: u64,
    /// Whether its upstream does as a range says. One that does not would begin at 0 again.
    pub(super) ranged: bool,
}

/// Decides what follows when everything before `at` was taken. `missing` is the first run of bytes from `at` on that is not
/// there, `claimed` are the spans that are being fetched beside. A length that is unknown is `u64::MAX`.
pub(super) fn next(at: u64, length: u64, missing: Option<Span>, claimed: &[Span], line: Option<Line>) -> Next {
    let Some(missing) = missing else {
        return if at >= length { Next::End } else { Next::Skip(length) };
    };
    if missing.start > at {
        return Next::Skip(missing.start);
    }
    if let Some(claim) = claimed.iter().find(|claim| claim.contains(at)) {
        let long = line.is_some_and(|line| line.ranged) && claim.end - at > READ_THROUGH;
        return if long { Next::HangUp } else { Next::Wait };
    }
    let limit = unclaimed_until(at, missing.end, claimed);
    match line {
        Some(line) if line.at == at => Next::Read(limit),
        Some(line) if line.at < at && (!line.ranged || at - line.at <= READ_THROUGH) => Next::Drain(at),
        _ => Next::Ask { from: at, until: Some(limit).filter(|limit| *limit < length) },
    }
}

/// The span to fetch for a reader that waits at `at` and wants bytes up to `end`, while the main transfer stands at `front` and
/// brings `rate` bytes per second; `None` where waiting is better. `missing` is the first run of missing bytes from `at` on.
pub(super) fn piece(at: u64, end: u64, front: u64, rate: Option<f64>, missing: Option<Span>, claimed: &[Span]) -> Option<Span> {
    let ahead = at.checked_sub(front).filter(|ahead| *ahead > NEAR)?;
    // Not known yet how fast it is.
    let rate = rate?;
    if ahead as f64 <= rate * SOON.as_secs_f64() {
        return None;
    }
    let missing = missing.filter(|missing| missing.start == at)?;
    if claimed.iter().any(|claim| claim.contains(at)) {
        return None;
    }
    let wanted = (end - at).clamp(SMALLEST_PIECE, LARGEST_PIECE);
    let until = unclaimed_until(at, missing.end, claimed);
    Some(Span::new(at, until.min(at.saturating_add(wanted))))
}

/// Where the next claim behind `at` begins, or `end` where none does before.
fn unclaimed_until(at: u64, end: u64, claimed: &[Span]) -> u64 {
    claimed.iter().map(|claim| claim.start).filter(|start| *start > at).fold(end, u64::min)
}

/// How fast bytes come: those of the last one to two seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    began: Instant,
    any: bool,
    since: Instant,
    before: Option<u64>,
    now: u64,
}

impl Rate {
    const WINDOW: Duration = Duration::from_secs(1);
    /// Before this it cannot be told, and before the first byte not for [`SOON`].
    const FIRST: Duration = Duration::from_millis(200);

    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, any: false, since: now, before: None, now: 0 }
    }

    /// `bytes` came.
    pub(super) fn add(&mut self, now: Instant, bytes: u64) {
        self.turn(now);
        self.any = true;
        self.now += bytes;
    }

    /// Bytes per second; `None` where it is too early to tell.
    pub(super) fn per_second(&mut self, now: Instant) -> Option<f64> {
        self.turn(now);
        let elapsed = now - self.since;
        match self.before {
            _ if !self.any && now - self.began < SOON => None,
            Some(before) => Some((before + self.now) as f64 / (elapsed + Self::WINDOW).as_secs_f64()),
            None if elapsed >= Self::FIRST => Some(self.now as f64 / elapsed.as_secs_f64()),
            None => None,
        }
    }

    fn turn(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed >= Self::WINDOW {
            // After a longer silence, nothing came in the second before this one.
            self.before = Some(if elapsed < Self::WINDOW * 2 { self.now } else { 0 });
            self.now = 0;
            let windows = u32::try_from(elapsed.as_secs()).unwrap_or(u32::MAX);
            self.since += Self::WINDOW * windows;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const K: u64 = 1 << 10;
    const M: u64 = 1 << 20;

    fn span(start: u64, end: u64) -> Option<Span> {
        Some(Span::new(start, end))
    }

    #[test]
    fn the_main_transfer_takes_what_is_missing_and_nothing_twice() {
        let line = |at| Some(Line { at, ranged: true });
        let whole = Some(Line { at: 0, ranged: false });
        let claims = [Span::new(4 * M, 5 * M)];
        for (at, missing, claimed, open, expected) in [
            (0, span(0, 9 * M), &[][..], line(0), Next::Read(9 * M)),
            (0, span(0, 9 * M), &[], None, Next::Ask { from: 0, until: None }),
            (0, span(0, 2 * M), &[], None, Next::Ask { from: 0, until: Some(2 * M) }),
            (0, span(2 * M, 9 * M), &[], line(0), Next::Skip(2 * M)),
            (2 * M, span(2 * M, 9 * M), &[], line(0), Next::Ask { from: 2 * M, until: None }),
            (2 * M, span(2 * M, 9 * M), &[], line(2 * M - 64 * K), Next::Drain(2 * M)),
            (2 * M, span(2 * M, 9 * M), &[], whole, Next::Drain(2 * M)),
            (0, span(0, 9 * M), &claims, line(0), Next::Read(4 * M)),
            (4 * M, span(4 * M, 9 * M), &claims, line(4 * M), Next::HangUp),
            (4 * M, span(4 * M, 9 * M), &claims, None, Next::Wait),
            (4 * M, span(4 * M, 9 * M), &claims, whole, Next::Wait),
            (5 * M - 64 * K, span(5 * M - 64 * K, 9 * M), &claims, line(5 * M - 64 * K), Next::Wait),
            (5 * M, span(5 * M, 9 * M), &claims, line(4 * M), Next::Ask { from: 5 * M, until: None }),
            (3 * M, span(3 * M, 9 * M), &claims, None, Next::Ask { from: 3 * M, until: Some(4 * M) }),
            (8 * M, None, &[], line(8 * M), Next::Skip(9 * M)),
            (9 * M, None, &[], line(9 * M), Next::End),
        ] {
            assert_eq!(next(at, 9 * M, missing, claimed, open), expected, "{at} {missing:?} {claimed:?} {open:?}");
        }
        assert_eq!(next(7, u64::MAX, span(7, u64::MAX), &[], None), Next::Ask { from: 7, until: None });
    }

    #[test]
    fn only_what_is_far_ahead_is_fetched_beside_and_not_more_than_a_piece() {
        let slow = Some(100.0 * 1024.0);
        let far = |at: u64, end: u64| piece(at, end, 0, slow, span(at, 90 * M), &[]);
        assert_eq!(far(50 * M, 90 * M), span(50 * M, 58 * M));
        assert_eq!(far(50 * M, 50 * M + 1), span(50 * M, 50 * M + 256 * K), "a little more costs nothing");
        assert_eq!(far(90 * M - 10, 90 * M), span(90 * M - 10, 90 * M));
        assert_eq!(far(NEAR, 90 * M), None, "near");
        assert_eq!(piece(50 * M, 90 * M, 51 * M, slow, span(50 * M, 90 * M), &[]), None, "behind");
        assert_eq!(piece(200 * K, 90 * M, 0, slow, span(200 * K, 90 * M), &[]), None, "there in two seconds");
        assert_eq!(piece(50 * M, 90 * M, 0, Some(1e9), span(50 * M, 90 * M), &[]), None, "fast enough");
        assert_eq!(piece(50 * M, 90 * M, 0, None, span(50 * M, 90 * M), &[]), None, "too early to tell");
        assert_eq!(piece(50 * M, 90 * M, 0, Some(0.0), span(50 * M, 51 * M), &[]), span(50 * M, 51 * M), "up to what is there");
        let claims = [Span::new(52 * M, 60 * M)];
        assert_eq!(piece(50 * M, 90 * M, 0, slow, span(50 * M, 90 * M), &claims), span(50 * M, 52 * M));
        assert_eq!(piece(53 * M, 90 * M, 0, slow, span(53 * M, 90 * M), &claims), None, "it is coming");
        assert_eq!(piece(53 * M, 90 * M, 0, slow, span(54 * M, 90 * M), &[]), None, "it is there");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_forgets_what_is_long_ago() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut rate = Rate::new(start);
        rate.add(at(100), 1000);
        assert_eq!(rate.per_second(at(100)), None);
        assert_eq!(rate.per_second(at(500)), Some(2000.0));
        assert_eq!(rate.per_second(at(1500)), Some(1000.0 / 1.5));
        rate.add(at(1600), 500);
        assert_eq!(rate.per_second(at(2000)), Some(500.0));
        assert_eq!(rate.per_second(at(5000)), Some(0.0));
        let mut silent = Rate::new(start);
        assert_eq!((silent.per_second(at(1999)), silent.per_second(at(2000))), (None, Some(0.0)));
    }
}
