//! A policy, made ready to decide.

use std::sync::Arc;

use super::index::Index;
use super::limited::{Limited, Scope};
use super::resources::{self, MAX_NAME, Truth};
use super::statement::{Facts, Statement};
use super::{Considered, Explanation, Permit, Question, Reason, Refusal};
use crate::config::{self, Effect, Mode};
use crate::oci::{Algorithm, Digest};
use crate::request::{Decision, Verdict};

/// Digits of the hash that names a policy.
const NAME_DIGITS: usize = 16;

/// A policy, made ready to decide. Immutable; a reload makes a new one.
#[derive(Debug)]
pub struct Rules {
    name: Arc<str>,
    default: Effect,
    /// What a decision is called that no statement made.
    no_statement: Arc<str>,
    mode: Mode,
    statements: Vec<Statement>,
    index: Index,
}

/// The statements that a request matches, by number. The first of each kind counts.
#[derive(Default)]
struct Matched {
    deny: Option<usize>,
    allow: Option<usize>,
    shadow_deny: Option<usize>,
    /// Those that it may turn out to match when it is known how the content was reached.
    open_denies: Vec<usize>,
    open_allows: Vec<usize>,
}

/// What the statements that count come to.
struct Said {
    id: Arc<str>,
    outcome: Result<Scope, Reason>,
}

impl Rules {
    /// Makes `policy` ready.
    pub fn new(policy: &config::Policy) -> Self {
        let hash = Digest::of(Algorithm::Sha256, policy.canonical().as_bytes()).to_hex();
        let statements: Vec<Statement> = policy.statements.iter().map(Statement::new).collect();
        Self {
            name: hash[..NAME_DIGITS].into(),
            default: policy.default,
            no_statement: "default".into(),
            mode: policy.mode,
            index: Index::new(&statements),
            statements,
        }
    }

    /// Names this policy: 16 hexadecimal digits of a hash of what it says, whatever its file looks like.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Decides. Looks at nothing but the question, so that the answer for something stored and something absent is the same.
    ///
    /// # Errors
    /// A [`Refusal`] naming the statement that decided.
    pub fn decide(&self, question: &Question<'_>) -> Result<Permit, Refusal> {
        let mut buffer = [0; MAX_NAME];
        let name = resources::name(question.target, &mut buffer);
        let facts = Facts::new(question, &name);
        let mut matched = Matched::default();
        self.index.each(&facts, |number| self.look(number, &facts, &mut matched));
        self.conclude(&facts, matched)
    }

    /// Decides as [`Rules::decide`] does, and tells of every statement whether the request matches it. Slow.
    pub fn explain(&self, question: &Question<'_>) -> Explanation {
        let mut buffer = [0; MAX_NAME];
        let name = resources::name(question.target, &mut buffer);
        let facts = Facts::new(question, &name);
        let mut matched = Matched::default();
        (0..self.statements.len()).for_each(|number| self.look(number, &facts, &mut matched));
        let statements = self.statements.iter().map(|statement| Considered::new(statement, &facts)).collect();
        Explanation { decided: self.conclude(&facts, matched), statements }
    }

    fn look(&self, number: usize, facts: &Facts<'_>, matched: &mut Matched) {
        let statement = &self.statements[number];
        match statement.matches(facts) {
            Truth::No => {}
            Truth::Yes => matched.surely(statement.effect, statement.mode, number),
            Truth::Open => matched.perhaps(statement.effect, statement.mode, number),
        }
    }

    fn conclude(&self, facts: &Facts<'_>, matched: Matched) -> Result<Permit, Refusal> {
        let shadow = matched.shadow_deny;
        let said = self.say(facts, matched);
        let decision = |verdict, statement| Decision { verdict, statement, policy: self.name.clone() };
        let permit = |scope, verdict, statement| Permit::new(facts.question, scope, decision(verdict, statement));
        match (said.outcome, self.mode) {
            (Err(reason), Mode::Enforce) => Err(Refusal { decision: decision(Verdict::Deny, said.id), reason }),
            (Err(_), Mode::Shadow) => Ok(permit(Scope::Whole, Verdict::ShadowDeny, said.id)),
            (Ok(scope), mode) => {
                let scope = if mode == Mode::Shadow { Scope::Whole } else { scope };
                Ok(match shadow {
                    Some(number) => permit(scope, Verdict::ShadowDeny, self.id(number)),
                    None => permit(scope, Verdict::Allow, said.id),
                })
            }
        }
    }

    /// Deny, then allow, then the default, leaving open what depends on how the content was reached.
    fn say(&self, facts: &Facts<'_>, matched: Matched) -> Said {
        if let Some(deny) = matched.deny {
            return Said { id: self.id(deny), outcome: Err(Reason::Denied) };
        }
        let needs_allow = facts.question.is_private && facts.is_anonymous();
        let by_default = (self.default == Effect::Allow && !needs_allow).then_some(&self.no_statement);
        let base = matched.allow.map(|allow| &self.statements[allow].id).or(by_default).cloned();
        let allows = if base.is_some() { Vec::new() } else { distinct(matched.open_allows) };
        let Some(id) = base.clone().or_else(|| allows.first().map(|first| self.id(*first))) else {
            let reason = if self.default == Effect::Allow { Reason::PrivateToAnonymous } else { Reason::NotAllowed };
            return Said { id: self.no_statement.clone(), outcome: Err(reason) };
        };
        let denies = distinct(matched.open_denies);
        if denies.is_empty() && base.is_some() {
            return Said { id, outcome: Ok(Scope::Whole) };
        }
        let residues = |numbers: &[usize]| numbers.iter().map(|number| self.statements[*number].residue(facts)).collect();
        let limited = Limited { denies: residues(&denies), allows: residues(&allows), base, default: self.no_statement.clone() };
        Said { id, outcome: Ok(Scope::Limited(Arc::new(limited))) }
    }

    fn id(&self, number: usize) -> Arc<str> {
        self.statements[number].id.clone()
    }
}

impl Matched {
    fn surely(&mut self, effect: Effect, mode: Mode, number: usize) {
        let first = match (effect, mode) {
            (Effect::Deny, Mode::Enforce) => &mut self.deny,
            (Effect::Allow, Mode::Enforce) => &mut self.allow,
            (Effect::Deny, Mode::Shadow) => &mut self.shadow_deny,
            // Allows nothing, and there is no verdict for what it would have allowed.
            (Effect::Allow, Mode::Shadow) => return,
        };
        *first = Some(first.map_or(number, |first| first.min(number)));
    }

    fn perhaps(&mut self, effect: Effect, mode: Mode, number: usize) {
        match (effect, mode) {
            (Effect::Deny, Mode::Enforce) => self.open_denies.push(number),
            (Effect::Allow, Mode::Enforce) => self.open_allows.push(number),
            // Whether it would have refused is known too late for this record.
            (_, Mode::Shadow) => {}
        }
    }
}

/// The index may bring a statement twice, and in any order.
fn distinct(mut numbers: Vec<usize>) -> Vec<usize> {
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}
