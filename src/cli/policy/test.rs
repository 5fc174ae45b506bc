//! `roadstead policy test`: does the policy say what it is to say?

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::described::{Described, Told};
use super::{ConfigArgument, Faulty, complain, say};
use crate::policy::Rules;
use crate::policy::cases::{Answer, Cases, Judged};

pub(super) const EXAMPLE: &str = "Examples:
  roadstead policy test --config roadstead.toml --source 10.0.0.1 --endpoint aws:vpce-1 --principal user:ci --tls \\
      --expect allow docker.io/library/app:v1
  roadstead policy test --config roadstead.toml --cases cases.toml

A file of cases has a line for each:
  case = [
    { describe = \"ci may pull\", request = { resource = \"ghcr.io/acme/app:v1\", principals = [\"user:ci\"] }, expect = \"allow\" },
    { describe = \"and nobody else\", request = { resource = \"ghcr.io/acme/app:v1\" }, expect = \"deny\", by = \"default\" },
  ]
expect is allow, deny, shadow-deny (served, and refused by what is only tried out) or limited (it depends on the tags by which
the content was reached). by, which may be left out, is the id of the statement that decides.";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// What is asked for: REGISTRY/REPOSITORY with :TAG or @DIGEST, or without both for the list of tags.
    #[arg(value_name = "RESOURCE", required_unless_present = "cases")]
    resource: Option<String>,
    #[command(flatten)]
    described: Described,
    /// What is to come out: allow, deny, shadow-deny or limited. Exit 1 if something else does.
    #[arg(long, value_name = "ANSWER", value_parser = answer)]
    expect: Option<Answer>,
    /// A file of cases. Those that bring no policy of their own are about that of the configuration.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["resource", "expect", "Described"])]
    cases: Option<PathBuf>,
    /// Print what came out as JSON.
    #[arg(long)]
    json: bool,
}

fn answer(text: &str) -> Result<Answer, String> {
    let all = [Answer::Allow, Answer::Deny, Answer::ShadowDeny, Answer::Limited];
    let known = all.into_iter().find(|answer| answer.as_str() == text);
    known.ok_or_else(|| "write allow, deny, shadow-deny or limited".to_owned())
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Faulty> {
    match (&arguments.cases, &arguments.resource) {
        (Some(file), _) => run_cases(arguments, file),
        (None, resource) => run_one(arguments, resource.as_deref().unwrap_or_default()),
    }
}

fn run_one(arguments: &Arguments, resource: &str) -> Result<(), Faulty> {
    let asked = arguments.described.asked(resource)?;
    let config = arguments.config.load()?;
    let question = asked.question(|registry| config.has_credentials(registry), Timestamp::now());
    let told = Told::new(&config, &Rules::new(&config.policy).decide(&question));
    if arguments.json {
        say(&serde_json::json!(told))?;
    } else {
        say(&told)?;
    }
    match arguments.expect.filter(|expected| *expected != told.answer) {
        Some(expected) => Err(complain(&format_args!("expected was {}", expected.as_str()))),
        None => Ok(()),
    }
}

fn run_cases(arguments: &Arguments, file: &Path) -> Result<(), Faulty> {
    let unreadable = |error| complain(&format_args!("{}: cannot be read: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    let cases = Cases::parse(&text, file).map_err(|error| complain(&error))?;
    if cases.count() == 0 {
        return Err(complain(&format_args!("{}: there is no case in it; write [[case]] or [[group]] sections", file.display())));
    }
    // What is built in is nobody's policy that would be worth a test.
    let config = arguments.config.path().map(|_| arguments.config.load()).transpose()?;
    let rules = config.as_ref().map(|config| Rules::new(&config.policy));
    let has_credentials = |registry: &_| config.as_ref().is_some_and(|config| config.has_credentials(registry));
    let judged = cases.run(rules.as_ref(), has_credentials, Timestamp::now());
    let judged = judged.map_err(|error| complain(&format_args!("{error}; name a configuration with --config")))?;
    let different: Vec<_> = judged.iter().filter(|case| !case.is_as_expected()).collect();
    report(&judged, &different, arguments.json)?;
    if different.is_empty() { Ok(()) } else { Err(Faulty) }
}

fn report(judged: &[Judged], different: &[&Judged], json: bool) -> Result<(), Faulty> {
    let (all, others) = (judged.len(), different.len());
    if json {
        let report = serde_json::json!({
            "cases": all, "as_expected": all - others, "different": others, "differences": different,
        });
        return say(&report);
    }
    for case in different {
        let group = if case.group.is_empty() { String::new() } else { format!("{}: ", case.group) };
        let by = case.expected_by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        say(&format_args!("{group}{}", case.describe))?;
        say(&format_args!("  expected {}{by}, found {} by {}", case.expected.as_str(), case.answer.as_str(), case.by))?;
    }
    say(&format_args!("{all} cases, {} as expected, {others} different", all - others))
}
