//! The rule, said as plainly as possible over what the file says, for a request of which everything is known.

use super::*;
use crate::config::glob::tests::{chars, naive};
use crate::config::{Actions, Limit, Resource, Statement, When};
use crate::request::Action;

pub(super) struct Request<'a> {
    pub(super) policy: &'a Policy,
    pub(super) question: &'a Question<'a>,
}

fn glob(pattern: &str, text: &str, slash: bool) -> bool {
    naive(&chars(pattern), &chars(text), slash)
}

impl Request<'_> {
    /// Whether content that was reached in this way may be read.
    pub(super) fn admits(&self, tag: Option<&str>, digests: &[Digest]) -> bool {
        let matching = |effect| {
            let enforced = self.policy.statements.iter().filter(move |statement| statement.mode == config::Mode::Enforce);
            enforced.filter(move |statement| statement.effect == effect).any(|statement| self.matches(statement, tag, digests))
        };
        let needs_allow = self.question.is_private && self.question.caller.principals.is_empty();
        !matching(Effect::Deny) && (matching(Effect::Allow) || (self.policy.default == Effect::Allow && !needs_allow))
    }

    fn matches(&self, statement: &Statement, tag: Option<&str>, digests: &[Digest]) -> bool {
        let (when, caller) = (&statement.when, self.question.caller);
        let tls = when.conditions.tls.is_none_or(|tls| tls == caller.tls.is_some());
        // Nobody asks what a tag means on the word of a statement about digests.
        let by_tag = matches!(self.question.target.item, Item::Manifest(Reference::Tag(_)));
        let without_digests = by_tag && statement.effect == Effect::Allow;
        self.is_who(when)
            && tls
            && list(&when.actions, |actions| self.is_action(*actions))
            && !some(&when.not_actions, |actions| self.is_action(*actions))
            && list(&when.resources, |resource| {
                let is_digest = matches!(resource.limit, Some(Limit::Digest(_)));
                !(is_digest && without_digests) && self.is_resource(resource, tag, digests)
            })
            && !some(&when.not_resources, |resource| self.is_resource(resource, tag, digests))
    }

    fn is_who(&self, when: &When) -> bool {
        let caller = self.question.caller;
        let endpoint = |pattern: &String| glob(pattern, caller.endpoint.as_str(), true);
        let source = |network: &ipnet::IpNet| network.contains(&caller.source.ip());
        let principal = |pattern: &String| match (pattern.as_str(), caller.principals.is_empty()) {
            ("anonymous", is_anonymous) => is_anonymous,
            _ => caller.principals.iter().any(|principal| glob(pattern, principal.as_str(), true)),
        };
        list(&when.endpoints, endpoint)
            && !some(&when.not_endpoints, endpoint)
            && list(&when.sources, source)
            && !some(&when.not_sources, source)
            && list(&when.principals, principal)
            && !some(&when.not_principals, principal)
    }

    fn is_action(&self, actions: Actions) -> bool {
        use Action::{BlobGet, ManifestGet, ReferrersList, TagsList};
        let those: &[Action] = match actions {
            Actions::All => return true,
            Actions::Pull => &[ManifestGet, BlobGet],
            Actions::List => &[TagsList],
            Actions::Referrers => &[ReferrersList],
            Actions::ManifestGet => &[ManifestGet],
            Actions::BlobGet => &[BlobGet],
        };
        those.contains(&self.question.target.action())
    }

    fn is_resource(&self, resource: &Resource, tag: Option<&str>, digests: &[Digest]) -> bool {
        let target = self.question.target;
        let name = format!("{}/{}", target.registry, target.repository);
        let short = name.replace("docker.io/library/", "docker.io/");
        let named = glob(&resource.name, &name, false) || glob(&resource.name, &short, false);
        named
            && match &resource.limit {
                None => true,
                Some(Limit::Tag(pattern)) => tag.is_some_and(|tag| glob(pattern, tag, false)),
                Some(Limit::Digest(pattern)) => digests.iter().any(|digest| glob(pattern, &digest.to_string(), false)),
            }
    }
}

fn list<T>(items: &Option<Vec<T>>, fits: impl Fn(&T) -> bool) -> bool {
    items.as_ref().is_none_or(|items| items.iter().any(fits))
}

fn some<T>(items: &Option<Vec<T>>, fits: impl Fn(&T) -> bool) -> bool {
    items.iter().flatten().any(fits)
}
