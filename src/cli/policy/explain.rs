//! `roadstead policy explain`: why a decision comes out as it does, statement by statement.

use jiff::Timestamp;
use serde::Serialize;

use super::described::{Described, Told};
use super::why::{Miss, miss};
use super::{ConfigArgument, Faulty, say};
use crate::config::{Config, Effect, Mode, Statement};
use crate::policy::{Considered, Fit, Question, Rules};

pub(super) const EXAMPLE: &str = "Examples:
  roadstead policy explain --config roadstead.toml --source 10.0.0.1 --principal user:ci ghcr.io/acme/app:v1
  roadstead policy explain --config roadstead.toml --json ghcr.io/acme/app | jq '.statements[] | select(.fit == \"matches\")'";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// What is asked for: REGISTRY/REPOSITORY with :TAG or @DIGEST, or without both for the list of tags.
    #[arg(value_name = "RESOURCE")]
    resource: String,
    #[command(flatten)]
    described: Described,
    /// Print the explanation as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    told: Told,
    statements: Vec<Line>,
}

/// A statement and the request.
#[derive(Serialize)]
struct Line {
    id: String,
    line: usize,
    effect: Effect,
    mode: Mode,
    fit: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    misses: Vec<Miss>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Faulty> {
    let asked = arguments.described.asked(&arguments.resource)?;
    let config = arguments.config.load()?;
    let question = asked.question(|registry| config.has_credentials(registry), Timestamp::now());
    let report = report(&config, &question);
    if arguments.json {
        return say(&serde_json::json!(report));
    }
    say(&report.told)?;
    report.statements.iter().try_for_each(|line| say(&format_args!("  {line}")))
}

fn report(config: &Config, question: &Question<'_>) -> Report {
    let explained = Rules::new(&config.policy).explain(question);
    // Both are in the file's order.
    let statements = explained.statements.iter().zip(&config.policy.statements);
    let statements = statements.map(|(considered, statement)| Line::new(considered, statement, question)).collect();
    Report { told: Told::new(config, &explained.decided), statements }
}

impl Line {
    fn new(considered: &Considered, statement: &Statement, question: &Question<'_>) -> Self {
        let (fit, keys) = match &considered.fit {
            Fit::Matches => ("matches", &[][..]),
            Fit::Depends => ("depends", &[][..]),
            Fit::Misses(keys) => ("misses", &keys[..]),
        };
        let misses = keys.iter().map(|key| miss(*key, &statement.when, question)).collect();
        let Considered { id, line, effect, mode, .. } = considered;
        Self { id: id.to_string(), line: *line, effect: *effect, mode: *mode, fit, misses }
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let effect = match (self.effect, self.mode) {
            (Effect::Allow, Mode::Enforce) => "allow",
            (Effect::Deny, Mode::Enforce) => "deny",
            (Effect::Allow, Mode::Shadow) => "allow, shadow",
            (Effect::Deny, Mode::Shadow) => "deny, shadow",
        };
        write!(f, "{} (line {}, {effect}) ", self.id, self.line)?;
        match self.misses.split_first() {
            Some((first, [])) => write!(f, "does not match: {first}"),
            Some((first, more)) => {
                let keys: Vec<_> = more.iter().map(|miss| miss.key).collect();
                write!(f, "does not match: {first}; nor by {}", keys.join(", "))
            }
            None if self.fit == "depends" => f.write_str("depends on the tags and digests by which the content was reached"),
            None => f.write_str("matches"),
        }
    }
}
