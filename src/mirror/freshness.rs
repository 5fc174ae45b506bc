//! How long a tag's answer holds good. Pure: the rules and an age in, a verdict out.

use std::time::{Duration, SystemTime};

use crate::config::Freshness;
use crate::oci::Tag;

/// What may be done with a held answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Serve it, ask nobody.
    Fresh,
    /// Ask the upstream; serve it should that fail.
    Usable,
    /// Ask the upstream; what is held is too old to stand in.
    Expired,
}

/// The rule for `tag`: the first that matches. The configuration ends in one that always does.
pub(super) fn rule<'a>(rules: &'a [Freshness], tag: &Tag) -> Option<&'a Freshness> {
    // The one that most tags come to is known without a match.
    rules.iter().find(|rule| rule.tags.glob().glob() == "*" || rule.tags.is_match(tag.as_str()))
}

/// Judges an answer that the upstream confirmed at `checked`.
pub(super) fn judge(rule: Option<&Freshness>, checked: SystemTime, now: SystemTime) -> Verdict {
    let Some(rule) = rule else { return Verdict::Expired };
    let Some(fresh) = rule.fresh else { return Verdict::Fresh };
    let age = age(checked, now);
    // A clock that was wrong must not keep a tag fresh for years.
    let from_the_future = checked.duration_since(now).is_ok_and(|ahead| ahead > fresh);
    if from_the_future {
        Verdict::Usable
    } else if age < fresh {
        Verdict::Fresh
    } else if age < fresh.saturating_add(rule.stale_if_error) {
        Verdict::Usable
    } else {
        Verdict::Expired
    }
}

/// How long ago `checked` was; nothing where the clock was set back since.
pub(super) fn age(checked: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(checked).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Vec<Freshness> {
        let glob = |text: &str| globset::Glob::new(text).unwrap().compile_matcher();
        vec![
            Freshness { tags: glob("v[0-9]*"), fresh: None, stale_if_error: Duration::ZERO },
            Freshness { tags: glob("*"), fresh: Some(Duration::from_secs(60)), stale_if_error: Duration::from_secs(3600) },
        ]
    }

    #[test]
    fn the_first_rule_that_matches_judges_by_age() {
        let (rules, start) = (rules(), SystemTime::UNIX_EPOCH);
        for (tag, age, verdict) in [
            ("v1", 1_000_000, Verdict::Fresh),
            ("latest", 0, Verdict::Fresh),
            ("latest", 59, Verdict::Fresh),
            ("latest", 60, Verdict::Usable),
            ("latest", 3659, Verdict::Usable),
            ("latest", 3660, Verdict::Expired),
        ] {
            let tag: Tag = tag.parse().unwrap();
            assert_eq!(judge(rule(&rules, &tag), start, start + Duration::from_secs(age)), verdict, "{tag} after {age} s");
        }
        assert_eq!(judge(None, start, start), Verdict::Expired);
    }

    #[test]
    fn a_clock_set_back_makes_nothing_old_and_keeps_nothing_fresh_for_long() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(5);
        assert_eq!(age(now + Duration::from_secs(9), now), Duration::ZERO);
        let (rules, tag) = (rules(), "latest".parse().unwrap());
        for (ahead, verdict) in [(9, Verdict::Fresh), (60, Verdict::Fresh), (61, Verdict::Usable), (1_000_000_000, Verdict::Usable)]
        {
            let checked = now + Duration::from_secs(ahead);
            assert_eq!(judge(rule(&rules, &tag), checked, now), verdict, "{ahead} s ahead");
        }
    }
}
