//! When a refused credential is shown again. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// How long a refusal holds before the same thing is tried again. Asking on would lock accounts and wake rate limits.
pub(super) const BACK_OFF: Duration = Duration::from_secs(30);

/// What is known of a registry's credentials.
///
/// Once they have worked, a refusal is taken to be about the repository asked for: anybody may ask for one that they do not
/// cover, and must not be able to shut out the rest by that.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    proven: bool,
    rejected: Option<Instant>,
}

impl Standing {
    /// They worked.
    pub(super) fn accepted(&mut self) {
        *self = Self { proven: true, rejected: None };
    }

    /// They were refused.
    pub(super) fn rejected(&mut self, now: Instant) {
        self.rejected = Some(now);
    }

    /// Whether they are not to be shown now.
    pub(super) fn rests(&self, now: Instant) -> bool {
        !self.proven && self.rejected.is_some_and(|at| still_holds(at, now))
    }
}

/// Whether what was refused `at` is still not to be tried again.
pub(super) fn still_holds(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < BACK_OFF
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_password_rests_and_a_good_one_does_not() {
        let start = Instant::now();
        let mut standing = Standing::default();
        assert!(!standing.rests(start));
        standing.rejected(start);
        assert!(standing.rests(start + BACK_OFF / 2));
        assert!(!standing.rests(start + BACK_OFF));
        standing.accepted();
        standing.rejected(start);
        assert!(!standing.rests(start));
    }
}
