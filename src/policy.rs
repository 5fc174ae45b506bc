//! May this caller do this: a pure decision that makes a [`Permit`] or a named refusal.
//!
//! `mirror` serves only against a permit, and only this room makes one, so what was not decided cannot be served.

use std::sync::Arc;

use http::HeaderValue;

use crate::config::{self, Effect};
use crate::oci::Digest;
use crate::request::{Caller, Decision, Target, Verdict};

/// Proof that a policy decision let a request through. It carries what was decided about.
#[derive(Clone, Debug)]
pub struct Permit {
    target: Target,
    scope: Scope,
    decision: Decision,
    passed: Option<HeaderValue>,
}

/// How much of a permit's target may be read: all that is asked for, or what was reached in certain ways.
#[derive(Clone, Debug)]
pub enum Scope {
    /// Whatever the target's repository has under the name that was asked for.
    Whole,
    /// Depends on how the content was reached: `mirror` asks [`Limited::admits`] with each way it knows; one that is admitted
    /// suffices.
    Limited(Arc<Limited>),
}

/// What is left to be decided when it is known how content was reached: statements that are limited to tags or digests.
#[derive(Debug)]
pub struct Limited {}

/// One way to content: a tag, the manifest that it meant, what that names, and so on down to the content itself.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// The tag that it began with; none where the first manifest was asked for by digest.
    pub tag: Option<&'a str>,
    /// From the first manifest to the content itself, which is the last; never empty.
    pub digests: &'a [Digest],
}

impl Limited {
    /// Whether content that was reached in this way may be read.
    pub fn admits(&self, _way: Way<'_>) -> bool {
        false
    }
}

/// The policy refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy does not allow this (decided by: {})", .decision.statement)]
pub struct Refusal {
    /// What decided.
    pub decision: Decision,
}

/// A policy, made ready to decide. Immutable; a reload makes a new one.
#[derive(Debug)]
pub struct Rules {
    default: Effect,
    name: Arc<str>,
}

/// What is asked of a policy, all that a decision may depend on.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// For what.
    pub target: &'a Target,
    /// The client's own name for itself, as sent; forgeable.
    pub user_agent: Option<&'a str>,
    /// Whether the registry is asked with credentials of ours: then an anonymous caller needs a statement that allows.
    pub is_private: bool,
    /// When.
    pub now: jiff::Timestamp,
}

impl Permit {
    /// A permit for the operator's own work (warming, refreshing, repairing), with the reason for the record.
    pub fn operator(target: Target, reason: &'static str) -> Self {
        let decision = Decision { verdict: Verdict::Allow, statement: reason.into(), policy: "operator".into() };
        Self { target, scope: Scope::Whole, decision, passed: None }
    }

    /// For a request that has `passed` through other proxies of this kind, as a `Via` for those that are asked for it.
    pub fn having_passed(self, passed: Option<HeaderValue>) -> Self {
        Self { passed, ..self }
    }

    /// What the request has passed through.
    pub fn passed(&self) -> Option<&HeaderValue> {
        self.passed.as_ref()
    }

    /// What may be read.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// How much of it.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// What let it through, for the record.
    pub fn decision(&self) -> &Decision {
        &self.decision
    }
}

impl Rules {
    /// Makes `policy` ready.
    pub fn new(policy: &config::Policy) -> Self {
        Self { default: policy.default, name: "0000000000000000".into() }
    }

    /// Decides. Looks at nothing but the question, so that the answer for something stored and something absent is the same.
    ///
    /// # Errors
    /// A [`Refusal`] naming the statement that decided.
    pub fn decide(&self, question: &Question<'_>) -> Result<Permit, Refusal> {
        let decision = |verdict| Decision { verdict, statement: "default".into(), policy: self.name.clone() };
        match self.default {
            Effect::Allow => {
                let decision = decision(Verdict::Allow);
                Ok(Permit { target: question.target.clone(), scope: Scope::Whole, decision, passed: None })
            }
            Effect::Deny => Err(Refusal { decision: decision(Verdict::Deny) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Item;

    #[test]
    fn the_default_decides_where_no_statement_does() {
        let caller = Caller::direct("nodes".into(), ([127, 0, 0, 1], 4000).into());
        let target =
            Target { registry: "docker.io".parse().unwrap(), repository: "library/busybox".parse().unwrap(), item: Item::Tags };
        let now = jiff::Timestamp::UNIX_EPOCH;
        let question = Question { caller: &caller, target: &target, user_agent: None, is_private: false, now };
        let permit = Rules::new(&config::Policy { default: Effect::Allow }).decide(&question).unwrap();
        assert_eq!(permit.target(), &target);
        let refusal = Rules::new(&config::Policy { default: Effect::Deny }).decide(&question).unwrap_err();
        assert_eq!(refusal.to_string(), "the policy does not allow this (decided by: default)");
    }
}
