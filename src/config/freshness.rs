//! `[[registry.freshness]]`: how long a tag's answer holds good.

use std::time::Duration;

use globset::{Glob, GlobMatcher};

use super::Freshness;
use super::fault::Complaint;
use super::raw::{Keys, Section, Value};

const KEYS: Keys = Keys { known: &["tags", "for", "stale_if_error"], later: &[] };

const FRESH: Duration = Duration::from_secs(60);
const STALE_IF_ERROR: Duration = Duration::from_secs(30 * 86_400);

/// The word that stands for a time without end.
pub(super) const FOREVER: &str = "forever";
/// The glob that matches every tag.
const ALL: &str = "*";

/// Reads a registry's rules. The last one of the result matches all tags.
pub(super) fn check(value: Option<&Value<'_>>) -> Vec<Freshness> {
    let sections = value.map(|value| value.sections(&KEYS)).unwrap_or_default();
    let mut rules = Vec::new();
    for section in &sections {
        warn_if_covered(section, &rules);
        rules.push(rule(section));
    }
    if !covered(&rules) {
        rules.push(Freshness { tags: all(), fresh: Some(FRESH), stale_if_error: STALE_IF_ERROR });
    }
    rules
}

fn rule(section: &Section<'_>) -> Freshness {
    let stale = section.get("stale_if_error");
    Freshness {
        tags: section.get("tags").and_then(|value| value.parse(glob)).unwrap_or_else(all),
        fresh: section.get("for").map_or(Some(FRESH), |value| fresh(&value)),
        stale_if_error: stale.and_then(|value| value.time()).unwrap_or(STALE_IF_ERROR),
    }
}

fn fresh(value: &Value<'_>) -> Option<Duration> {
    if value.is_word(FOREVER) { None } else { value.time() }
}

fn warn_if_covered(section: &Section<'_>, before: &[Freshness]) {
    if covered(before)
        && let Some(value) = section.get("tags").or_else(|| section.get("for"))
    {
        value.warn("this rule never counts: one before it matches all tags", "move it up");
    }
}

fn covered(rules: &[Freshness]) -> bool {
    rules.iter().any(|rule| rule.tags.glob().glob() == ALL)
}

fn glob(text: &str) -> Result<GlobMatcher, Complaint> {
    match Glob::new(text) {
        Ok(glob) => Ok(glob.compile_matcher()),
        Err(error) => Err(Complaint::new(format!("{text:?} is not a pattern: {}", error.kind()), "write one such as \"v[0-9]*\"")),
    }
}

fn all() -> GlobMatcher {
    Glob::new(ALL).expect("a star is a glob").compile_matcher()
}
