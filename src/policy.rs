//! May this caller do this: a pure decision that makes a [`Permit`] or a named refusal.
//!
//! `mirror` serves only against a permit, and only this room makes one, so what was not decided cannot be served.
//!
//! The rule is that of the clouds' own policies: a statement that denies counts before one that allows, and that before the
//! default. `tests/policy/truth-table.toml` says it in cases.

pub mod cases;
mod explain;
mod glob;
mod grams;
mod index;
mod limited;
mod moment;
mod patterns;
mod resources;
mod review;
mod rules;
mod sources;
mod statement;
#[cfg(test)]
mod tests;

use std::fmt;

pub use explain::{Considered, Explanation, Fit};
pub use glob::Glob;
pub use limited::{Limited, Scope, Way};
pub use review::{Remark, review};
pub use rules::Rules;
pub use statement::Key;

use http::HeaderValue;

use crate::request::{Caller, Decision, Target, Verdict};

/// Proof that a policy decision let a request through. It carries what was decided about.
#[derive(Clone, Debug)]
pub struct Permit {
    target: Target,
    scope: Scope,
    decision: Decision,
    passed: Option<HeaderValue>,
    is_private: bool,
}

/// The policy refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy does not allow this (decided by: {}{})", .decision.statement, .reason)]
pub struct Refusal {
    /// What decided.
    pub decision: Decision,
    /// Why, for the operator; the client is not told.
    pub reason: Reason,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A statement denies it.
    Denied,
    /// No statement allows it, and the default does not either.
    NotAllowed,
    /// No statement allows it, and the default is not enough for an anonymous caller where our own credentials are used.
    PrivateToAnonymous,
}

impl fmt::Display for Reason {
    /// What there is to add to the id of what decided.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied | Self::NotAllowed => Ok(()),
            Self::PrivateToAnonymous => {
                f.write_str("; its registry is asked with credentials, so an anonymous caller needs a statement that allows")
            }
        }
    }
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
    fn new(question: &Question<'_>, scope: Scope, decision: Decision) -> Self {
        Self { target: question.target.clone(), scope, decision, passed: None, is_private: question.is_private }
    }

    /// A permit for the operator's own work (warming, refreshing, repairing), with the reason for the record.
    pub fn operator(target: Target, reason: &'static str) -> Self {
        let decision = Decision { verdict: Verdict::Allow, statement: reason.into(), policy: "operator".into() };
        Self { target, scope: Scope::Whole, decision, passed: None, is_private: true }
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

    /// Whether it was decided knowing that the registry is asked with credentials of ours. Without, none may be used.
    pub fn is_private(&self) -> bool {
        self.is_private
    }

    /// What let it through, for the record.
    pub fn decision(&self) -> &Decision {
        &self.decision
    }
}
