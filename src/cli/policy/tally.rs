//! What a new policy changes about recorded requests, counted. Bounded, however long the record.

use std::collections::HashMap;

use serde::Serialize;

use super::record::Decided;
use crate::oci::Reference;
use crate::policy::{Permit, Refusal, Scope, Way};
use crate::request::{Item, Verdict};

/// Beyond so many groups, what would be a new one is only counted.
const MAX_GROUPS: usize = 10_000;

/// How the new answer is to the old one, where it is not the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Change {
    /// It was served and would be refused.
    NewlyDenied,
    /// It was refused and would be served.
    NewlyAllowed,
    /// It is served, and what is only tried out would refuse it.
    NewlyShadowDenied,
    /// It depends on the tags by which the content was reached, which the record does not say.
    DependsOnTags,
}

/// Requests that are alike, and what becomes of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub(super) struct Alike {
    pub(super) change: Change,
    pub(super) endpoint: String,
    pub(super) identity: String,
    /// Registry and repository.
    pub(super) repository: String,
    pub(super) action: &'static str,
}

/// A group of requests.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Group {
    #[serde(flatten)]
    pub(super) alike: Alike,
    pub(super) requests: u64,
    /// What decides the first of them under the new policy.
    pub(super) statement: String,
}

/// All that was counted.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tally {
    /// Decisions that were asked about again.
    pub(super) decisions: u64,
    pub(super) same: u64,
    pub(super) newly_denied: u64,
    pub(super) newly_allowed: u64,
    pub(super) newly_shadow_denied: u64,
    pub(super) depends_on_tags: u64,
    /// Requests that were answered before the policy was asked.
    pub(super) undecided: u64,
    /// Lines that are no record.
    pub(super) broken: u64,
    /// Changes that are in none of the groups, because there are too many.
    pub(super) ungrouped: u64,
    #[serde(skip)]
    groups: HashMap<Alike, (u64, String)>,
}

impl Tally {
    /// Counts what `now` is decided about what was decided `then`.
    pub(super) fn decision(&mut self, then: &Decided, now: &Result<Permit, Refusal>) {
        self.decisions += 1;
        let (new, statement) = verdict(then, now);
        match change(then.verdict, new) {
            None => self.same += 1,
            Some(change) => self.changed(change, then, statement),
        }
    }

    fn changed(&mut self, change: Change, then: &Decided, statement: String) {
        *match change {
            Change::NewlyDenied => &mut self.newly_denied,
            Change::NewlyAllowed => &mut self.newly_allowed,
            Change::NewlyShadowDenied => &mut self.newly_shadow_denied,
            Change::DependsOnTags => &mut self.depends_on_tags,
        } += 1;
        let alike = Alike {
            change,
            endpoint: then.caller.endpoint.to_string(),
            identity: then.caller.name().to_string(),
            repository: format!("{}/{}", then.target.registry, then.target.repository),
            action: then.target.action().as_str(),
        };
        if let Some((count, _)) = self.groups.get_mut(&alike) {
            *count += 1;
        } else if self.groups.len() < MAX_GROUPS {
            self.groups.insert(alike, (1, statement));
        } else {
            self.ungrouped += 1;
        }
    }

    /// Whether any answer surely changes.
    pub(super) fn has_changes(&self) -> bool {
        self.newly_denied + self.newly_allowed + self.newly_shadow_denied > 0
    }

    /// By change, and of each the largest first.
    pub(super) fn groups(&self) -> Vec<Group> {
        let group = |(alike, (requests, statement)): (&Alike, &(u64, String))| Group {
            alike: alike.clone(),
            requests: *requests,
            statement: statement.clone(),
        };
        let mut groups: Vec<Group> = self.groups.iter().map(group).collect();
        let name = |group: &Group| (group.alike.repository.clone(), group.alike.endpoint.clone(), group.alike.identity.clone());
        groups.sort_by_cached_key(|group| (group.alike.change, std::cmp::Reverse(group.requests), name(group), group.alike.action));
        groups
    }
}

/// What the new policy says, and by which statement; nothing where that depends on what the record does not say.
fn verdict(then: &Decided, now: &Result<Permit, Refusal>) -> (Option<Verdict>, String) {
    let permit = match now {
        Ok(permit) => permit,
        Err(refusal) => return (Some(Verdict::Deny), refusal.decision.statement.to_string()),
    };
    let (verdict, statement) = (permit.decision().verdict, permit.decision().statement.to_string());
    match (permit.scope(), &then.target.item, &then.resolved) {
        (Scope::Whole, _, _) => (Some(verdict), statement),
        (Scope::Limited(limited), Item::Manifest(Reference::Tag(tag)), Some(digest)) => {
            match limited.judge(Way { tag: Some(tag.as_str()), digests: &[*digest] }) {
                Ok(_) => (Some(verdict), statement),
                Err(by) => (Some(Verdict::Deny), by.to_string()),
            }
        }
        (Scope::Limited(_), _, _) => (None, statement),
    }
}

fn change(old: Verdict, new: Option<Verdict>) -> Option<Change> {
    match (old, new) {
        (_, None) => Some(Change::DependsOnTags),
        (Verdict::Deny, Some(Verdict::Deny)) => None,
        (Verdict::Deny, Some(_)) => Some(Change::NewlyAllowed),
        (_, Some(Verdict::Deny)) => Some(Change::NewlyDenied),
        (Verdict::Allow, Some(Verdict::ShadowDeny)) => Some(Change::NewlyShadowDenied),
        (_, Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Effect, Policy};
    use crate::policy::{Question, Rules};
    use crate::request::{Caller, Endpoint, Target};

    #[test]
    fn a_record_of_more_groups_than_are_kept_is_counted_all_the_same() {
        let target = Target { registry: "a.test".parse().unwrap(), repository: "b".parse().unwrap(), item: Item::Tags };
        let deny = Rules::new(&Policy::without_statements(Effect::Deny));
        let mut tally = Tally::default();
        for number in (0..=MAX_GROUPS as u64).chain([0, 0]) {
            let caller = Caller { endpoint: Endpoint::gcp(number), ..Caller::direct("l".into(), ([127, 0, 0, 1], 1).into()) };
            let time = jiff::Timestamp::UNIX_EPOCH;
            let question = Question { caller: &caller, target: &target, user_agent: None, is_private: false, now: time };
            let now = deny.decide(&question);
            let then = Decided { target: target.clone(), user_agent: None, time, verdict: Verdict::Allow, resolved: None, caller };
            tally.decision(&then, &now);
        }
        let groups = tally.groups();
        assert_eq!((tally.newly_denied, tally.ungrouped, groups.len()), (MAX_GROUPS as u64 + 3, 1, MAX_GROUPS));
        assert_eq!((&*groups[0].alike.endpoint, groups[0].requests), ("gcp:0", 3));
    }

    #[test]
    fn every_change_has_its_name() {
        use Verdict::{Allow, Deny, ShadowDeny};
        for (old, new, told) in [
            (Allow, Some(Allow), None),
            (Allow, Some(Deny), Some(Change::NewlyDenied)),
            (Allow, Some(ShadowDeny), Some(Change::NewlyShadowDenied)),
            (Deny, Some(Allow), Some(Change::NewlyAllowed)),
            (Deny, Some(Deny), None),
            (Deny, Some(ShadowDeny), Some(Change::NewlyAllowed)),
            (ShadowDeny, Some(Allow), None),
            (ShadowDeny, Some(Deny), Some(Change::NewlyDenied)),
            (ShadowDeny, Some(ShadowDeny), None),
            (Allow, None, Some(Change::DependsOnTags)),
            (Deny, None, Some(Change::DependsOnTags)),
        ] {
            assert_eq!(change(old, new), told, "{old:?} {new:?}");
        }
    }
}
