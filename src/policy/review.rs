//! What is likely not meant in a policy, as far as it can be seen without requests: statements that never match, or never
//! count because of others.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use super::patterns::Patterns;
use super::resources::Resources;
use super::sources::Sources;
use super::statement::{EVERY_ACTION, LIST, Principals, Statement};
use crate::config::{self, Conditions, Effect, Mode};

/// Something that is likely not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The statement's line.
    pub line: usize,
    /// The statement.
    pub statement: Arc<str>,
    /// What is odd about it.
    pub message: String,
    /// What to do.
    pub remedy: &'static str,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.statement, self.message, self.remedy)
    }
}

/// Looks through `policy` as it is at `now`. One remark at most for each statement, in the file's order. What it tells is
/// so; of statements that overlap in part, or only together make another one useless, it tells nothing.
pub fn review(policy: &config::Policy, now: Timestamp) -> Vec<Remark> {
    let statements: Vec<Statement> = policy.statements.iter().map(Statement::new).collect();
    let denies: Vec<&Statement> = statements.iter().filter(|statement| is_enforced(statement, Effect::Deny)).collect();
    let mut seen = HashMap::new();
    let look = |(statement, written): (&Statement, &config::Statement)| {
        let told = never(statement, now)
            .or_else(|| repeated(&mut seen, written))
            .or_else(|| shadowed(statement, &denies))
            .or_else(|| by_default(statement, policy));
        let (message, remedy) = told?;
        Some(Remark { line: statement.line, statement: statement.id.clone(), message, remedy })
    };
    statements.iter().zip(&policy.statements).filter_map(look).collect()
}

type Told = (String, &'static str);

fn is_enforced(statement: &Statement, effect: Effect) -> bool {
    statement.mode == Mode::Enforce && statement.effect == effect
}

/// Why the statement matches no request, from `now` on.
fn never(statement: &Statement, now: Timestamp) -> Option<Told> {
    let told = |message: &str, remedy| Some((message.to_owned(), remedy));
    let conditions = &statement.conditions;
    if sources(statement).is_empty() {
        return told("no source is left of its sources, so it never matches", "cut out less of them");
    }
    if actions(statement) == 0 {
        return told("no action is left of its actions, so it never matches", "take out fewer of them");
    }
    if conditions.not_after.is_some_and(|end| end < now) {
        return told("its not_after has passed, so it never matches again", "remove it, or set a later one");
    }
    let is_part = statement.resources.as_ref().is_some_and(Resources::are_all_limited);
    if is_part && actions(statement) == LIST {
        return told("a list of tags is of no tag or digest, so it never matches", "write its resources without them");
    }
    if excluded(statement) {
        return told("what it takes out is all that it names, so it never matches", "take out less");
    }
    None
}

/// Whether a `not_` form covers the key itself.
fn excluded(statement: &Statement) -> bool {
    let both = |is: &Option<Patterns>, not: &Option<Patterns>| matches!((is, not), (Some(is), Some(not)) if not.cover(is));
    let principals = matches!((&statement.principals, &statement.not_principals), (Some(is), Some(not)) if not.cover(is));
    let resources = matches!((&statement.resources, &statement.not_resources), (Some(is), Some(not)) if not.cover(is));
    both(&statement.endpoints, &statement.not_endpoints) || principals || resources
}

fn repeated(seen: &mut HashMap<String, usize>, written: &config::Statement) -> Option<Told> {
    let text = serde_json::json!([written.effect, written.mode, written.when]).to_string();
    let first = *seen.entry(text).or_insert(written.line);
    (first != written.line).then(|| (format!("it says what the statement on line {first} says"), "remove one of the two"))
}

/// Nothing that is denied anyway can be allowed.
fn shadowed(statement: &Statement, denies: &[&Statement]) -> Option<Told> {
    let wider = || denies.iter().find(|deny| covers(deny, statement));
    let deny = if is_enforced(statement, Effect::Allow) { wider() } else { None }?;
    let message = format!("all that it allows is denied by {} on line {}", deny.id, deny.line);
    Some((message, "narrow that one, or remove this one"))
}

/// Denying where nothing is allowed does nothing.
fn by_default(statement: &Statement, policy: &config::Policy) -> Option<Told> {
    let allows = |other: &config::Statement| other.effect == Effect::Allow;
    let is_idle = policy.default == Effect::Deny && statement.effect == Effect::Deny && !policy.statements.iter().any(allows);
    is_idle
        .then(|| ("no statement allows anything, so there is nothing for it to deny".to_owned(), "remove it, or allow something"))
}

fn sources(statement: &Statement) -> Sources {
    let is = statement.sources.clone().unwrap_or_else(Sources::all);
    match &statement.not_sources {
        Some(not) => is.without(not),
        None => is,
    }
}

fn actions(statement: &Statement) -> u8 {
    statement.actions.unwrap_or(EVERY_ACTION) & !statement.not_actions.unwrap_or(0)
}

/// Whether `wide` surely matches whatever `narrow` matches. A `not_` form of `wide` has to take out no more than that of
/// `narrow` does.
fn covers(wide: &Statement, narrow: &Statement) -> bool {
    actions(narrow) & !actions(wide) == 0
        && fits(&wide.endpoints, &narrow.endpoints, Patterns::cover)
        && fits(&wide.not_endpoints, &narrow.not_endpoints, |wide, narrow| narrow.cover(wide))
        && fits(&wide.principals, &narrow.principals, Principals::cover)
        && fits(&wide.not_principals, &narrow.not_principals, |wide, narrow| narrow.cover(wide))
        && fits(&wide.resources, &narrow.resources, Resources::cover)
        && fits(&wide.not_resources, &narrow.not_resources, |wide, narrow| narrow.cover(wide))
        && conditions_cover(&wide.conditions, &narrow.conditions)
        && sources(wide).cover(&sources(narrow))
}

/// Whether the list `wide`, which lets everything through where it is absent, lets through whatever `narrow` does.
fn fits<T>(wide: &Option<T>, narrow: &Option<T>, cover: impl Fn(&T, &T) -> bool) -> bool {
    match (wide, narrow) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => cover(wide, narrow),
    }
}

fn conditions_cover(wide: &Conditions, narrow: &Conditions) -> bool {
    fn same<T: PartialEq>(wide: &Option<T>, narrow: &Option<T>) -> bool {
        wide.is_none() || wide == narrow
    }
    same(&wide.not_before, &narrow.not_before)
        && same(&wide.not_after, &narrow.not_after)
        && same(&wide.hours, &narrow.hours)
        && same(&wide.days, &narrow.days)
        && same(&wide.tls, &narrow.tls)
        && same(&wide.user_agent, &narrow.user_agent)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn remarks(text: &str) -> Vec<String> {
        let policy = config::Policy::parse(text, Path::new("test.toml")).unwrap_or_else(|faults| panic!("{faults}")).0;
        let remarks = review(&policy, "2026-06-01T00:00:00Z".parse().unwrap());
        remarks.iter().map(|remark| format!("{}: {}", remark.line, remark)).collect()
    }

    /// A statement that denies, on lines 1 to 4, and one that allows, whose id is on line 6.
    fn both(deny: &str, allow: &str) -> String {
        format!(
            "[[policy.statement]]\nid = 'd'\neffect = 'deny'\n{deny}\n[[policy.statement]]\nid = 'a'\neffect = 'allow'\n{allow}\n"
        )
    }

    #[test]
    fn statements_that_never_match_are_told() {
        for (keys, told) in [
            ("sources = ['10.0.0.0/8']\nexcept = ['10.0.0.0/9', '10.128.0.0/9']", "no source is left"),
            ("sources = ['10.0.0.0/8']\nnot_sources = ['0.0.0.0/0']", "no source is left"),
            ("not_sources = ['0.0.0.0/0', '::/0']", "no source is left"),
            ("actions = ['pull']\nnot_actions = ['*']", "no action is left"),
            ("conditions = { not_after = 2026-05-31T23:59:59Z }", "its not_after has passed"),
            ("actions = ['list']\nresources = ['ghcr.io/a:v1']", "a list of tags is of no tag"),
            ("endpoints = ['aws:a']\nnot_endpoints = ['aws:*']", "what it takes out is all that it names"),
            ("principals = ['user:a', 'anonymous']\nnot_principals = ['*', 'anonymous']", "what it takes out is all that it names"),
            ("resources = ['ghcr.io/a/*']\nnot_resources = ['ghcr.io/**']", "what it takes out is all that it names"),
        ] {
            let told_of = remarks(&format!("[[policy.statement]]\nid = 'a'\neffect = 'allow'\n{keys}\n"));
            assert!(matches!(&told_of[..], [one] if one.starts_with(&format!("2: a: {told}"))), "{keys}: {told_of:?}");
        }
        for keys in [
            "sources = ['10.0.0.0/8']\nexcept = ['10.0.0.0/9']",
            "conditions = { not_after = 2026-06-01T00:00:00Z }",
            "principals = ['user:a', 'anonymous']\nnot_principals = ['*']",
            "resources = ['ghcr.io/a']\nnot_resources = ['ghcr.io/a:v1']",
        ] {
            assert_eq!(remarks(&format!("[[policy.statement]]\nid = 'a'\neffect = 'allow'\n{keys}\n")), [""; 0], "{keys}");
        }
    }

    #[test]
    fn what_is_denied_anyway_is_told() {
        for (deny, allow) in [
            ("", "resources = ['ghcr.io/a']"),
            ("resources = ['ghcr.io/**']", "resources = ['ghcr.io/a/*', 'ghcr.io/b:v1']"),
            ("endpoints = ['aws:*']", "endpoints = ['aws:x']\nprincipals = ['user:ci']"),
            ("sources = ['10.0.0.0/8']", "sources = ['10.1.0.0/16']\nexcept = ['10.1.2.0/24']"),
            ("not_principals = ['user:ci']", "not_principals = ['user:*']"),
            ("actions = ['*']", "actions = ['pull']\nconditions = { tls = true }"),
            ("resources = ['ghcr.io/a:*']", "resources = ['ghcr.io/a:v*']"),
            ("conditions = { tls = false }", "conditions = { tls = false, days = ['mon'] }"),
        ] {
            let told = remarks(&both(deny, allow));
            assert_eq!(told, ["6: a: all that it allows is denied by d on line 2; narrow that one, or remove this one"], "{deny}");
        }
        for (deny, allow) in [
            ("mode = 'shadow'", ""),
            ("resources = ['ghcr.io/a:v1']", "resources = ['ghcr.io/a']"),
            ("sources = ['10.0.0.0/8']", "sources = ['10.1.0.0/16', '192.0.2.1']"),
            ("not_principals = ['user:*']", "not_principals = ['user:ci']"),
            ("actions = ['pull']", ""),
            ("conditions = { tls = false }", ""),
            ("endpoints = ['aws:x']", ""),
            ("not_endpoints = ['aws:x']", ""),
        ] {
            assert_eq!(remarks(&both(deny, allow)), [""; 0], "{deny}");
        }
    }

    #[test]
    fn repeated_and_idle_statements_are_told() {
        let again = "[[policy.statement]]\nid = 'b'\neffect = 'allow'\nactions = ['pull']\n";
        let told = remarks(&format!("{again}{}", again.replace("'b'", "'c'")));
        assert_eq!(told, ["6: c: it says what the statement on line 2 says; remove one of the two"]);
        let told = remarks("[[policy.statement]]\nid = 'b'\neffect = 'deny'\nactions = ['pull']\n");
        assert!(told[0].starts_with("2: b: no statement allows anything"), "{told:?}");
    }
}
