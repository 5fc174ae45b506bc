//! `roadstead policy simulate`: what a new policy would have decided about requests that were recorded.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::record::{Decided, Record};
use super::tally::{Change, Group, Tally};
use super::{ConfigArgument, Faulty, complain, say};
use crate::config::Config;
use crate::policy::{Question, Rules};

pub(super) const EXAMPLE: &str = "Examples:
  roadstead policy simulate --config new.toml --audit /var/log/roadstead/audit.log.1 /var/log/roadstead/audit.log
  roadstead policy simulate --config new.toml --audit audit.log --json | jq '.groups[] | select(.change == \"newly-denied\")'
  zcat audit.log.*.gz | roadstead policy simulate --config new.toml --audit - --fail-on-change

What was reached by digest may have been reached by a tag that the new policy is about. Which one is not in the record; such
requests are told as depending on tags.";

/// A longer line is no record, in bytes.
const MAX_LINE: u64 = 256 << 10;
/// So many broken lines are told; more are counted.
const MAX_COMPLAINTS: u64 = 20;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Files of the audit log, in any order; - is standard input.
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    audit: Vec<PathBuf>,
    /// How many groups are printed of each kind of change.
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    top: usize,
    /// Exit 1 if the answer to any request surely changes.
    #[arg(long)]
    fail_on_change: bool,
    /// Print all groups (10,000 at most) as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Faulty> {
    let config = arguments.config.load()?;
    let mut simulation = Simulation { rules: Rules::new(&config.policy), config, tally: Tally::default() };
    for file in &arguments.audit {
        let opened = if file.as_os_str() == "-" { Ok(Box::new(io::stdin()) as Box<dyn Read>) } else { open(file) };
        let read = opened.and_then(|input| simulation.read(file, BufReader::new(input)));
        read.map_err(|error| complain(&format_args!("{}: cannot be read: {error}", file.display())))?;
    }
    let tally = &simulation.tally;
    if arguments.json {
        print_json(tally)?;
    } else {
        print_text(tally, arguments.top)?;
    }
    if arguments.fail_on_change && tally.has_changes() { Err(Faulty) } else { Ok(()) }
}

fn open(file: &Path) -> io::Result<Box<dyn Read>> {
    Ok(Box::new(File::open(file)?))
}

struct Simulation {
    config: Config,
    rules: Rules,
    tally: Tally,
}

impl Simulation {
    fn read(&mut self, file: &Path, mut input: impl BufRead) -> io::Result<()> {
        let (mut line, mut number) = (Vec::new(), 0_u64);
        while (&mut input).take(MAX_LINE).read_until(b'\n', &mut line)? > 0 {
            number += 1;
            let record = if line.len() as u64 == MAX_LINE && !line.ends_with(b"\n") {
                input.skip_until(b'\n')?;
                Err(format!("longer than {} KiB", MAX_LINE >> 10))
            } else {
                Record::parse(line.trim_ascii_end())
            };
            match record {
                Ok(Record::Decided(decided)) => self.ask(&decided),
                Ok(Record::Undecided) => self.tally.undecided += 1,
                Ok(Record::Other) => {}
                Err(problem) => self.broken(file, number, &problem),
            }
            line.clear();
        }
        Ok(())
    }

    fn ask(&mut self, then: &Decided) {
        let question = Question {
            caller: &then.caller,
            target: &then.target,
            user_agent: then.user_agent.as_deref(),
            is_private: self.config.has_credentials(&then.target.registry),
            now: then.time,
        };
        self.tally.decision(then, &self.rules.decide(&question));
    }

    fn broken(&mut self, file: &Path, number: u64, problem: &str) {
        self.tally.broken += 1;
        if self.tally.broken <= MAX_COMPLAINTS {
            complain(&format_args!("{}:{number}: {problem}", file.display()));
        }
    }
}

fn print_json(tally: &Tally) -> Result<(), Faulty> {
    let mut report = serde_json::json!(tally);
    report["groups"] = serde_json::json!(tally.groups());
    say(&report)
}

fn print_text(tally: &Tally, top: usize) -> Result<(), Faulty> {
    say(&format_args!("{} decisions, {} the same", tally.decisions, tally.same))?;
    let groups = tally.groups();
    for (change, count, title) in [
        (Change::NewlyDenied, tally.newly_denied, "newly denied"),
        (Change::NewlyAllowed, tally.newly_allowed, "newly allowed"),
        (Change::NewlyShadowDenied, tally.newly_shadow_denied, "newly denied if what is only tried out were enforced"),
        (Change::DependsOnTags, tally.depends_on_tags, "depend on the tags by which the content was reached"),
    ] {
        let groups: Vec<&Group> = groups.iter().filter(|group| group.alike.change == change).collect();
        say(&format_args!("{count} {title}"))?;
        groups.iter().take(top).try_for_each(|group| say(&row(group)))?;
        if groups.len() > top {
            say(&format_args!("  and {} more groups (--top {})", groups.len() - top, groups.len()))?;
        }
    }
    for (count, what) in [
        (tally.ungrouped, "changes are in no group: there are too many"),
        (tally.undecided, "requests were answered before the policy was asked, and are not counted"),
        (tally.broken, "lines cannot be read, and are not counted"),
    ] {
        if count > 0 {
            say(&format_args!("{count} {what}"))?;
        }
    }
    Ok(())
}

fn row(group: &Group) -> String {
    let Group { alike, requests, statement } = group;
    format!("  {requests:>8}  {}  {}  {}  {}, by {statement}", alike.endpoint, alike.identity, alike.repository, alike.action)
}
