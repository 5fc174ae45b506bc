//! Why a key of a statement does not hold for a request: what the request has, and what is wanted.

use std::fmt;

use jiff::tz::TimeZone;
use serde::Serialize;

use crate::config::{ANONYMOUS, Actions, When};
use crate::oci::Reference;
use crate::policy::{Key, Question};
use crate::request::{Action, Item, Principal, Target};

/// A key by which a request does not match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Miss {
    /// As it is written in the file.
    pub(super) key: &'static str,
    /// What the request has.
    pub(super) given: String,
    /// How that is to what is wanted.
    #[serde(skip)]
    relation: &'static str,
    /// What the statement says.
    pub(super) wanted: String,
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, given, relation, wanted } = self;
        write!(f, "{key}: {given} {relation} {wanted}")
    }
}

/// Why `key`, which does not hold for what is asked, does not.
pub(super) fn miss(key: Key, when: &When, question: &Question<'_>) -> Miss {
    let conditions = &when.conditions;
    let (caller, now) = (question.caller, question.now);
    let (relation, given, wanted) = match key {
        Key::Actions => ("is none of", action(question.target), actions(when.actions.as_deref())),
        Key::NotActions => ("is one of", action(question.target), actions(when.not_actions.as_deref())),
        Key::Endpoints => ("is none of", caller.endpoint.to_string(), list(when.endpoints.as_deref())),
        Key::NotEndpoints => ("is one of", caller.endpoint.to_string(), list(when.not_endpoints.as_deref())),
        Key::Sources => ("is not in", caller.source.ip().to_string(), sources(when)),
        Key::NotSources => ("is in", caller.source.ip().to_string(), list(when.not_sources.as_deref())),
        Key::Principals => ("is none of", principals(&caller.principals), list(when.principals.as_deref())),
        Key::NotPrincipals => ("is one of", principals(&caller.principals), list(when.not_principals.as_deref())),
        Key::Resources => ("is none of", resource(question.target), list(when.resources.as_deref())),
        Key::NotResources => ("is one of", resource(question.target), list(when.not_resources.as_deref())),
        Key::Tls => ("is not", tls(caller.tls.is_some()), conditions.tls.map(tls).unwrap_or_default()),
        Key::NotBefore => ("is before", now.to_string(), shown(conditions.not_before)),
        Key::NotAfter => ("is after", now.to_string(), shown(conditions.not_after)),
        Key::Hours => ("is not in", clock(question, "%H:%M UTC"), shown(conditions.hours)),
        Key::Days => ("is none of", clock(question, "%a").to_lowercase(), days(when)),
        Key::UserAgent => ("is none of", agent(question), list(conditions.user_agent.as_deref())),
    };
    Miss { key: key.as_str(), given, relation, wanted }
}

fn list<T: fmt::Display>(items: Option<&[T]>) -> String {
    items.unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn shown<T: fmt::Display>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// As policies call it.
fn action(target: &Target) -> String {
    let word = match target.action() {
        Action::ManifestGet => "manifest:get",
        Action::BlobGet => "blob:get",
        Action::TagsList => "list",
        Action::ReferrersList => "referrers",
    };
    word.to_owned()
}

fn actions(actions: Option<&[Actions]>) -> String {
    let word = |actions: &Actions| match actions {
        Actions::Pull => "pull",
        Actions::List => "list",
        Actions::Referrers => "referrers",
        Actions::ManifestGet => "manifest:get",
        Actions::BlobGet => "blob:get",
        Actions::All => "*",
    };
    actions.unwrap_or_default().iter().map(word).collect::<Vec<_>>().join(", ")
}

fn sources(when: &When) -> String {
    let within = list(when.sources.as_deref());
    match &when.except {
        Some(except) => format!("{within} except {}", list(Some(except))),
        None => within,
    }
}

fn principals(principals: &[Principal]) -> String {
    if principals.is_empty() {
        return ANONYMOUS.to_owned();
    }
    principals.iter().map(Principal::as_str).collect::<Vec<_>>().join(", ")
}

fn resource(target: &Target) -> String {
    let name = format!("{}/{}", target.registry, target.repository);
    match &target.item {
        Item::Manifest(Reference::Tag(tag)) => format!("{name}:{tag}"),
        Item::Manifest(Reference::Digest(digest)) | Item::Blob(digest) | Item::Referrers(digest) => {
            format!("{name}@{digest}")
        }
        Item::Tags => name,
    }
}

fn tls(is_encrypted: bool) -> String {
    if is_encrypted { "an encrypted connection" } else { "an unencrypted connection" }.to_owned()
}

fn clock(question: &Question<'_>, format: &str) -> String {
    question.now.to_zoned(TimeZone::UTC).strftime(format).to_string()
}

fn days(when: &When) -> String {
    let days = when.conditions.days.iter().flatten();
    days.map(|day| format!("{day:?}").to_lowercase()).collect::<Vec<_>>().join(", ")
}

fn agent(question: &Question<'_>) -> String {
    question.user_agent.map_or_else(|| "no user agent".to_owned(), |agent| format!("{agent:?}"))
}
