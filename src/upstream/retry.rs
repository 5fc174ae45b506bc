//! What a failure of one URL means for the request. Pure.

use std::time::Duration;

use super::{Error, Kind};

/// What to do after a URL failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask the next URL: it may know better.
    Try,
    /// The answer holds for the registry, whatever its other URLs would say.
    Stop,
}

/// Whether another URL is worth asking after a failure of this kind.
pub(super) fn next(kind: Kind) -> Next {
    match kind {
        Kind::Denied | Kind::Unauthorized | Kind::Overloaded => Next::Stop,
        Kind::NotFound
        | Kind::RateLimited
        | Kind::Failed
        | Kind::Ended
        | Kind::Unreachable
        | Kind::TimedOut
        | Kind::Forbidden
        | Kind::Loop => Next::Try,
    }
}

/// How long the next of `urls` may take when `left` is left for them all. What it leaves over is for those after it; one that
/// hangs in the middle of its answer must not keep them from being asked.
pub(super) fn share(left: Duration, urls: usize) -> Duration {
    left / u32::try_from(urls.max(1)).unwrap_or(u32::MAX)
}

/// The one failure that stands for two URLs'. "Not there" holds only where nobody failed to answer: a replica that lags
/// must not speak for one that is down. Of two failures, the one that says most of what to do counts.
pub(super) fn merge(first: Error, second: Error) -> Error {
    if weight(second.kind) > weight(first.kind) { second } else { first }
}

fn weight(kind: Kind) -> u8 {
    match kind {
        Kind::NotFound => 0,
        Kind::Forbidden | Kind::Loop | Kind::Ended => 1,
        Kind::Unreachable => 2,
        Kind::TimedOut => 3,
        Kind::Failed => 4,
        Kind::RateLimited => 5,
        Kind::Denied | Kind::Unauthorized | Kind::Overloaded => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Kind; 11] = [
        Kind::NotFound,
        Kind::Denied,
        Kind::Unauthorized,
        Kind::RateLimited,
        Kind::Failed,
        Kind::Ended,
        Kind::Unreachable,
        Kind::TimedOut,
        Kind::Forbidden,
        Kind::Loop,
        Kind::Overloaded,
    ];

    fn merged(first: Kind, second: Kind) -> Kind {
        let error = |kind| Error::new(kind, "r.test", "x");
        merge(error(first), error(second)).kind
    }

    #[test]
    fn only_what_is_authoritative_stops() {
        let stops: Vec<Kind> = ALL.into_iter().filter(|kind| next(*kind) == Next::Stop).collect();
        assert_eq!(stops, [Kind::Denied, Kind::Unauthorized, Kind::Overloaded]);
    }

    #[test]
    fn what_one_url_leaves_over_is_for_the_others() {
        let seconds = Duration::from_secs;
        assert_eq!(share(seconds(20), 1), seconds(20));
        assert_eq!(share(seconds(20), 2), seconds(10));
        assert_eq!(share(seconds(19), 1), seconds(19));
        assert_eq!(share(Duration::ZERO, 3), Duration::ZERO);
        assert_eq!(share(seconds(1), 0), seconds(1));
    }

    #[test]
    fn not_found_never_hides_a_failure() {
        for kind in ALL {
            assert_eq!(merged(Kind::NotFound, kind), kind);
            assert_eq!(merged(kind, Kind::NotFound), kind);
        }
    }

    #[test]
    fn the_telling_failure_counts_in_either_order() {
        for (weak, strong) in [
            (Kind::Unreachable, Kind::TimedOut),
            (Kind::Unreachable, Kind::Failed),
            (Kind::TimedOut, Kind::Failed),
            (Kind::Failed, Kind::RateLimited),
            (Kind::Forbidden, Kind::Unreachable),
            (Kind::Loop, Kind::Failed),
            (Kind::Ended, Kind::Unreachable),
            (Kind::RateLimited, Kind::Denied),
            (Kind::Failed, Kind::Unauthorized),
        ] {
            assert_eq!(merged(weak, strong), strong);
            assert_eq!(merged(strong, weak), strong);
        }
    }
}
