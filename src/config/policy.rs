//! `[policy]`.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::fault::{Complaint, Faults, Warning};
use super::listener::Addresses;
use super::raw::{Keys, Once, Reader, Section};
use super::statement::{self, Statement};
use super::{Effect, Listener, Mode, Policy, Registry, When};

pub(super) const KEYS: Keys = Keys { known: &["default", "mode", "statement"], later: &[] };
const ALONE: Keys = Keys { known: &["policy"], later: &[] };

const MAX_STATEMENTS: usize = 10_000;

/// What statements may name.
#[derive(Clone, Copy)]
pub(super) struct Around<'a>(Option<(&'a [Listener], &'a [Arc<Registry>])>);

impl<'a> Around<'a> {
    pub(super) fn new(listeners: &'a [Listener], registries: &'a [Arc<Registry>]) -> Self {
        Self(Some((listeners, registries)))
    }

    pub(super) fn has_listener(&self, name: &str) -> bool {
        self.0.is_none_or(|(listeners, _)| listeners.iter().any(|listener| &*listener.name == name))
    }

    pub(super) fn has_registry(&self, name: &str) -> bool {
        self.0.is_none_or(|(_, registries)| registries.iter().any(|registry| registry.name.covers(name)))
    }
}

/// A policy in the words of its file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct PolicySection {
    default: Effect,
    mode: Mode,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    statement: Vec<StatementSection>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct StatementSection {
    id: String,
    effect: Effect,
    mode: Mode,
    #[serde(flatten)]
    when: When,
}

impl PolicySection {
    pub(super) fn new(policy: &Policy) -> Self {
        let shown = |statement: &Statement| StatementSection {
            id: statement.id.to_string(),
            effect: statement.effect,
            mode: statement.mode,
            when: statement.when.clone(),
        };
        Self { default: policy.default, mode: policy.mode, statement: policy.statements.iter().map(shown).collect() }
    }
}

impl Policy {
    /// A policy that is nothing but its default.
    pub fn without_statements(default: Effect) -> Self {
        Self { default, mode: Mode::Enforce, statements: Vec::new() }
    }

    /// Reads a text that has a `[policy]` and nothing else, as if it stood in the file at `path`. Which listeners and registries
    /// there are is not known then, so nothing is said of statements that name others.
    ///
    /// # Errors
    /// Every fault in it.
    pub fn parse(text: &str, path: &Path) -> Result<(Self, Vec<Warning>), Faults> {
        let reader = Reader::new(text, path, &|_| None);
        let policy = reader.parse().map(|table| {
            let root = Section::root(&reader, table.get_ref(), &ALONE);
            let section = root.get("policy").and_then(|value| value.section(&KEYS));
            check(section.as_ref(), &Addresses::default(), Around(None))
        });
        let warnings = reader.finish()?;
        Ok((policy.expect("a text that does not parse has a fault"), warnings))
    }

    /// The policy in one line of text that is the same for the same policy, however its file is written.
    pub fn canonical(&self) -> String {
        serde_json::json!(PolicySection::new(self)).to_string()
    }
}

/// Reads the section, or what holds where it is absent: on loopback everybody may, elsewhere somebody has to say so.
pub(super) fn check(section: Option<&Section<'_>>, addresses: &Addresses<'_>, around: Around<'_>) -> Policy {
    let get = |key| section.and_then(|section| section.get(key));
    let statements = statements(section, around);
    let mode = get("mode").and_then(|value| value.parse(mode)).unwrap_or(Mode::Enforce);
    let default = match get("default") {
        Some(value) => value.parse(effect).unwrap_or(Effect::Deny),
        None if get("statement").is_some() => Effect::Deny,
        None => {
            refuse_open_proxy(addresses);
            Effect::Allow
        }
    };
    let policy = Policy { default, mode, statements };
    warn(&policy, section, addresses);
    policy
}

fn statements(section: Option<&Section<'_>>, around: Around<'_>) -> Vec<Statement> {
    let Some(value) = section.and_then(|section| section.get("statement")) else { return Vec::new() };
    let sections = value.sections(&statement::KEYS);
    if sections.len() > MAX_STATEMENTS {
        value.fault(format!("more than {MAX_STATEMENTS} statements"), "use patterns, so that one statement says more");
        return Vec::new();
    }
    let mut ids = Once::default();
    sections.iter().filter_map(|section| statement::check(section, &mut ids, &around)).collect()
}

fn warn(policy: &Policy, section: Option<&Section<'_>>, addresses: &Addresses<'_>) {
    let Some(section) = section else { return };
    let allows = policy.statements.iter().any(|statement| statement.effect == Effect::Allow && statement.mode == Mode::Enforce);
    if policy.default == Effect::Deny
        && policy.mode == Mode::Enforce
        && !allows
        && let Some(value) = section.get("default").or_else(|| section.get("statement"))
    {
        let remedy = "write default = \"allow\", or statements with effect = \"allow\"";
        value.warn("without a statement that allows, this refuses every request", remedy);
    }
    if let (Mode::Shadow, Some(value), Some(_)) = (policy.mode, section.get("mode"), addresses.beyond_loopback()) {
        value.warn("everybody who reaches the listeners may pull: nothing is refused in shadow mode", "write \"enforce\"");
    }
}

fn refuse_open_proxy(addresses: &Addresses<'_>) {
    if let Some(value) = addresses.beyond_loopback() {
        let remedy = "write [[policy.statement]] sections that say who may pull what, [policy] default = \"allow\" to let \
                      everybody who reaches it pull, or listen on 127.0.0.1";
        value.fault("other machines reach this address and there is no policy", remedy);
    }
}

pub(super) fn effect(text: &str) -> Result<Effect, Complaint> {
    match text {
        "allow" => Ok(Effect::Allow),
        "deny" => Ok(Effect::Deny),
        _ => Err(Complaint::new(format!("{text:?} is not an effect"), "write \"allow\" or \"deny\"")),
    }
}

pub(super) fn mode(text: &str) -> Result<Mode, Complaint> {
    match text {
        "enforce" => Ok(Mode::Enforce),
        "shadow" => Ok(Mode::Shadow),
        _ => Err(Complaint::new(format!("{text:?} is not a mode"), "write \"enforce\", or \"shadow\" to only record")),
    }
}
