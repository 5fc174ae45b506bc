//! One statement, ready to be asked: whether a request matches it, and by which key it does not.

use std::cell::OnceCell;
use std::net::IpAddr;
use std::sync::Arc;

use super::grams::Grams;
use super::moment;
use super::patterns::Patterns;
use super::resources::{Resources, Truth};
use super::sources::Sources;
use super::{Question, Way, resources};
use crate::config::{self, ANONYMOUS, Actions, Conditions, Effect, Mode};
use crate::request::{Action, Item, Principal};

/// A question, with what several statements would else have to find out each.
pub(super) struct Facts<'a> {
    pub(super) question: &'a Question<'a>,
    /// Registry and repository.
    pub(super) name: &'a str,
    /// Of the name, once a pattern has to be matched with it.
    grams: OnceCell<Grams>,
    source: IpAddr,
    action: u8,
}

/// A statement.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) id: Arc<str>,
    pub(super) effect: Effect,
    pub(super) mode: Mode,
    pub(super) line: usize,
    /// The keys that it has.
    keys: Box<[Key]>,
    pub(super) actions: Option<u8>,
    pub(super) not_actions: Option<u8>,
    pub(super) endpoints: Option<Patterns>,
    pub(super) not_endpoints: Option<Patterns>,
    pub(super) sources: Option<Sources>,
    pub(super) not_sources: Option<Sources>,
    pub(super) principals: Option<Principals>,
    pub(super) not_principals: Option<Principals>,
    pub(super) resources: Option<Resources>,
    pub(super) not_resources: Option<Resources>,
    pub(super) conditions: Conditions,
    pub(super) agents: Option<Patterns>,
}

/// A key of a statement, in the order in which they are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// `actions`
    Actions,
    /// `not_actions`
    NotActions,
    /// `endpoints`
    Endpoints,
    /// `not_endpoints`
    NotEndpoints,
    /// `sources`, without what `except` cuts out.
    Sources,
    /// `not_sources`
    NotSources,
    /// `principals`
    Principals,
    /// `not_principals`
    NotPrincipals,
    /// `resources`
    Resources,
    /// `not_resources`
    NotResources,
    /// `conditions.tls`
    Tls,
    /// `conditions.not_before`
    NotBefore,
    /// `conditions.not_after`
    NotAfter,
    /// `conditions.hours`
    Hours,
    /// `conditions.days`
    Days,
    /// `conditions.user_agent`
    UserAgent,
}

impl Key {
    const ALL: [Self; 16] = [
        Self::Actions,
        Self::NotActions,
        Self::Endpoints,
        Self::NotEndpoints,
        Self::Sources,
        Self::NotSources,
        Self::Principals,
        Self::NotPrincipals,
        Self::Resources,
        Self::NotResources,
        Self::Tls,
        Self::NotBefore,
        Self::NotAfter,
        Self::Hours,
        Self::Days,
        Self::UserAgent,
    ];

    /// As it is written in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Actions => "actions",
            Self::NotActions => "not_actions",
            Self::Endpoints => "endpoints",
            Self::NotEndpoints => "not_endpoints",
            Self::Sources => "sources",
            Self::NotSources => "not_sources",
            Self::Principals => "principals",
            Self::NotPrincipals => "not_principals",
            Self::Resources => "resources",
            Self::NotResources => "not_resources",
            Self::Tls => "conditions.tls",
            Self::NotBefore => "conditions.not_before",
            Self::NotAfter => "conditions.not_after",
            Self::Hours => "conditions.hours",
            Self::Days => "conditions.days",
            Self::UserAgent => "conditions.user_agent",
        }
    }
}

impl<'a> Facts<'a> {
    pub(super) fn new(question: &'a Question<'a>, name: &'a str) -> Self {
        let source = question.caller.source.ip().to_canonical();
        Self { question, name, grams: OnceCell::new(), source, action: bit(question.target.action()) }
    }

    pub(super) fn is_anonymous(&self) -> bool {
        self.question.caller.principals.is_empty()
    }

    fn grams(&self) -> Grams {
        *self.grams.get_or_init(|| Grams::of(self.name))
    }

    fn item(&self) -> &'a Item {
        &self.question.target.item
    }
}

impl Statement {
    pub(super) fn new(statement: &config::Statement) -> Self {
        let when = &statement.when;
        let patterns = |texts: &Option<Vec<String>>| texts.as_deref().map(Patterns::new);
        let principals = |texts: &Option<Vec<String>>| texts.as_deref().map(Principals::new);
        let resources = |resources: &Option<Vec<config::Resource>>| resources.as_deref().map(Resources::new);
        let except = Sources::new(when.except.as_deref().unwrap_or_default());
        let mut made = Self {
            id: statement.id.clone(),
            effect: statement.effect,
            mode: statement.mode,
            line: statement.line,
            keys: Box::default(),
            actions: when.actions.as_deref().map(bits),
            not_actions: when.not_actions.as_deref().map(bits),
            endpoints: patterns(&when.endpoints),
            not_endpoints: patterns(&when.not_endpoints),
            sources: when.sources.as_deref().map(|networks| Sources::new(networks).without(&except)),
            not_sources: when.not_sources.as_deref().map(Sources::new),
            principals: principals(&when.principals),
            not_principals: principals(&when.not_principals),
            resources: resources(&when.resources),
            not_resources: resources(&when.not_resources),
            agents: patterns(&when.conditions.user_agent),
            conditions: when.conditions.clone(),
        };
        made.keys = Key::ALL.into_iter().filter(|key| made.has(*key)).collect();
        made
    }

    fn has(&self, key: Key) -> bool {
        match key {
            Key::Actions => self.actions.is_some(),
            Key::NotActions => self.not_actions.is_some(),
            Key::Endpoints => self.endpoints.is_some(),
            Key::NotEndpoints => self.not_endpoints.is_some(),
            Key::Sources => self.sources.is_some(),
            Key::NotSources => self.not_sources.is_some(),
            Key::Principals => self.principals.is_some(),
            Key::NotPrincipals => self.not_principals.is_some(),
            Key::Resources => self.resources.is_some(),
            Key::NotResources => self.not_resources.is_some(),
            Key::Tls => self.conditions.tls.is_some(),
            Key::NotBefore => self.conditions.not_before.is_some(),
            Key::NotAfter => self.conditions.not_after.is_some(),
            Key::Hours => self.conditions.hours.is_some(),
            Key::Days => self.conditions.days.is_some(),
            Key::UserAgent => self.conditions.user_agent.is_some(),
        }
    }

    /// Whether the request matches. Open: that depends on how the content was reached.
    pub(super) fn matches(&self, facts: &Facts<'_>) -> Truth {
        let mut least = Truth::Yes;
        for key in &self.keys {
            least = least.min(self.holds(*key, facts));
            if least == Truth::No {
                break;
            }
        }
        least
    }

    /// The keys by which the request does not match.
    pub(super) fn misses(&self, facts: &Facts<'_>) -> Vec<Key> {
        self.keys.iter().copied().filter(|key| self.holds(*key, facts) == Truth::No).collect()
    }

    /// Whether one key holds; one that the statement does not have always does. A value that the request does not have fits
    /// no pattern, so the key itself does not hold and its `not_` form does.
    fn holds(&self, key: Key, facts: &Facts<'_>) -> Truth {
        let (caller, now) = (facts.question.caller, facts.question.now);
        let endpoint = |patterns: &Patterns| patterns.matches(caller.endpoint.as_str());
        let principal = |principals: &Principals| principals.match_any(&caller.principals);
        let conditions = &self.conditions;
        let holds = match key {
            Key::Actions => self.actions.is_none_or(|actions| actions & facts.action != 0),
            Key::NotActions => self.not_actions.is_none_or(|actions| actions & facts.action == 0),
            Key::Endpoints => self.endpoints.as_ref().is_none_or(endpoint),
            Key::NotEndpoints => !self.not_endpoints.as_ref().is_some_and(endpoint),
            Key::Sources => self.sources.as_ref().is_none_or(|sources| sources.contain(facts.source)),
            Key::NotSources => !self.not_sources.as_ref().is_some_and(|sources| sources.contain(facts.source)),
            Key::Principals => self.principals.as_ref().is_none_or(principal),
            Key::NotPrincipals => !self.not_principals.as_ref().is_some_and(principal),
            Key::Resources => return self.resource(facts),
            Key::NotResources => return self.no_resource(facts),
            Key::Tls => conditions.tls.is_none_or(|tls| tls == caller.tls.is_some()),
            Key::NotBefore => conditions.not_before.is_none_or(|from| now >= from),
            Key::NotAfter => conditions.not_after.is_none_or(|to| now <= to),
            Key::Hours => conditions.hours.is_none_or(|hours| moment::is_in(hours, now)),
            Key::Days => conditions.days.as_deref().is_none_or(|days| moment::is_on(days, now)),
            Key::UserAgent => {
                self.agents.as_ref().is_none_or(|agents| facts.question.user_agent.is_some_and(|agent| agents.matches(agent)))
            }
        };
        if holds { Truth::Yes } else { Truth::No }
    }

    fn resource(&self, facts: &Facts<'_>) -> Truth {
        let Some(resources) = &self.resources else { return Truth::Yes };
        let truth = resources.have(facts.name, facts.grams(), facts.item());
        // What a tag means is only known when the upstream has been asked, and by this statement alone nobody may.
        let would_ask = truth == Truth::Open && self.effect == Effect::Allow && is_by_tag(facts.item());
        if would_ask { Truth::No } else { truth }
    }

    fn no_resource(&self, facts: &Facts<'_>) -> Truth {
        self.not_resources.as_ref().map_or(Truth::Yes, |resources| resources.have(facts.name, facts.grams(), facts.item()).not())
    }

    /// What is left to find out where [`Statement::matches`] was open.
    pub(super) fn residue(&self, facts: &Facts<'_>) -> Residue {
        let limits = |resources: &Option<Resources>| resources.as_ref().map(|resources| resources.limits(facts.name));
        let is = if self.resource(facts) == Truth::Open { limits(&self.resources) } else { None };
        let not = if self.no_resource(facts) == Truth::Open { limits(&self.not_resources) } else { None };
        Residue { id: self.id.clone(), is, not: not.unwrap_or_default() }
    }
}

fn is_by_tag(item: &Item) -> bool {
    matches!(item, Item::Manifest(crate::oci::Reference::Tag(_)))
}

/// What is left of a statement that a request matches in all but how the content was reached.
#[derive(Clone, Debug)]
pub(super) struct Residue {
    pub(super) id: Arc<str>,
    /// One of these must hold, where there are any.
    is: Option<Vec<resources::Limit>>,
    /// And none of these.
    not: Vec<resources::Limit>,
}

impl Residue {
    pub(super) fn matches(&self, way: &Way<'_>) -> Truth {
        let any = |limits: &[resources::Limit]| limits.iter().map(|limit| limit.has_way(way)).max().unwrap_or(Truth::No);
        let is = self.is.as_deref().map_or(Truth::Yes, any);
        is.min(any(&self.not).not())
    }
}

/// The patterns of `principals` or `not_principals`.
#[derive(Clone, Debug)]
pub(super) struct Principals {
    pub(super) anonymous: bool,
    pub(super) names: Patterns,
}

impl Principals {
    fn new(texts: &[String]) -> Self {
        let (anonymous, names): (Vec<String>, Vec<String>) = texts.iter().cloned().partition(|text| text == ANONYMOUS);
        Self { anonymous: !anonymous.is_empty(), names: Patterns::new(&names) }
    }

    fn match_any(&self, principals: &[Principal]) -> bool {
        if principals.is_empty() {
            return self.anonymous;
        }
        principals.iter().any(|principal| self.names.matches(principal.as_str()))
    }

    /// Whether they surely match whoever `others` match.
    pub(super) fn cover(&self, others: &Self) -> bool {
        (self.anonymous || !others.anonymous) && self.names.cover(&others.names)
    }
}

/// A bit for each action.
pub(super) const EVERY_ACTION: u8 = 0b1111;
/// That of the one that is never about a tag or digest.
pub(super) const LIST: u8 = 0b100;

fn bit(action: Action) -> u8 {
    match action {
        Action::ManifestGet => 0b1,
        Action::BlobGet => 0b10,
        Action::TagsList => LIST,
        Action::ReferrersList => 0b1000,
    }
}

fn bits(actions: &[Actions]) -> u8 {
    let bits = |actions: &Actions| match actions {
        Actions::Pull => bit(Action::ManifestGet) | bit(Action::BlobGet),
        Actions::List => bit(Action::TagsList),
        Actions::Referrers => bit(Action::ReferrersList),
        Actions::ManifestGet => bit(Action::ManifestGet),
        Actions::BlobGet => bit(Action::BlobGet),
        Actions::All => EVERY_ACTION,
    };
    actions.iter().map(bits).fold(0, std::ops::BitOr::bitor)
}
