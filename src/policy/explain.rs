//! Why a decision came out as it did, statement by statement.

use std::sync::Arc;

use super::resources::Truth;
use super::statement::{Facts, Key, Statement};
use super::{Permit, Refusal};
use crate::config::{Effect, Mode};

/// A decision, and what each statement had to do with it.
#[derive(Debug)]
pub struct Explanation {
    /// What was decided.
    pub decided: Result<Permit, Refusal>,
    /// Every statement, in the file's order.
    pub statements: Vec<Considered>,
}

/// One statement and a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// The statement's id.
    pub id: Arc<str>,
    /// Its line in the configuration.
    pub line: usize,
    /// What it says to what it matches.
    pub effect: Effect,
    /// Whether that counts.
    pub mode: Mode,
    /// Whether the request matches it.
    pub fit: Fit,
}

/// Whether a request matches a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It does.
    Matches,
    /// That depends on the tags and digests that the content was reached through.
    Depends,
    /// It does not, by these keys; never empty.
    Misses(Vec<Key>),
}

impl Considered {
    pub(super) fn new(statement: &Statement, facts: &Facts<'_>) -> Self {
        let fit = match statement.matches(facts) {
            Truth::Yes => Fit::Matches,
            Truth::Open => Fit::Depends,
            Truth::No => Fit::Misses(statement.misses(facts)),
        };
        let Statement { id, line, effect, mode, .. } = statement;
        Self { id: id.clone(), line: *line, effect: *effect, mode: *mode, fit }
    }
}
