//! May this caller do this: a pure decision that makes a [`Permit`] or a named refusal.
//!
//! `mirror` serves only against a permit, and only this room makes one, so what was not decided cannot be served.

use crate::config::{Effect, Policy};
use crate::request::{Caller, Target};

/// Proof that a policy decision let a request through. It carries what was decided about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    target: Target,
    reason: &'static str,
}

/// The policy refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy does not allow this (decided by: {statement})")]
pub struct Refusal {
    /// The statement that decided, or `default`.
    pub statement: &'static str,
}

impl Permit {
    /// A permit for the operator's own work (warming, refreshing, repairing), with the reason for the record.
    pub fn operator(target: Target, reason: &'static str) -> Self {
        Self { target, reason }
    }

    /// What may be read.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Which statement let it through, or the operator's reason.
    pub fn reason(&self) -> &'static str {
        self.reason
    }
}

/// Decides. Looks at nothing but its arguments, so that the answer for something stored and something absent is the same.
///
/// # Errors
/// A [`Refusal`] naming the statement that decided.
pub fn decide(policy: &Policy, _caller: &Caller, target: &Target) -> Result<Permit, Refusal> {
    match policy.default {
        Effect::Allow => Ok(Permit { target: target.clone(), reason: "default" }),
        Effect::Deny => Err(Refusal { statement: "default" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Item;

    #[test]
    fn the_default_decides_where_no_statement_does() {
        let caller = Caller { source: [127, 0, 0, 1].into(), endpoint: "nodes".into(), tls: false };
        let target =
            Target { registry: "docker.io".parse().unwrap(), repository: "library/busybox".parse().unwrap(), item: Item::Tags };
        let permit = decide(&Policy { default: Effect::Allow }, &caller, &target).unwrap();
        assert_eq!(permit.target(), &target);
        let refusal = decide(&Policy { default: Effect::Deny }, &caller, &target).unwrap_err();
        assert_eq!(refusal.to_string(), "the policy does not allow this (decided by: default)");
    }
}
