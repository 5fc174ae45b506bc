//! `roadstead audit`: is an audit log what was written?

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::{Faulty, complain, say};
use crate::telemetry::audit::{Hash, Verified, rotated, verify};

pub(super) const EXAMPLE: &str = "Examples:
  roadstead audit verify /var/log/roadstead/audit.log
  roadstead audit verify --rotated /var/log/roadstead/audit.log
  curl -s http://127.0.0.1:5001/metrics | grep audit_chain_head     the hash to keep elsewhere, for:
  roadstead audit verify --head 3dc7cf9d… /var/log/roadstead/audit.log";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Follow the chain of hashes and report the first place where something was changed, removed or inserted. Exit 0 or 1.
    #[command(after_help = EXAMPLE)]
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
struct Verify {
    /// The log's files, the oldest first.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// A hash that must be in the chain, as the metric roadstead_audit_chain_head gave it once. Without one, lines that are
    /// missing at the end do not show.
    #[arg(long, value_name = "HASH")]
    head: Option<Hash>,
    /// Read FILE.1, FILE.2 and so on before each FILE.
    #[arg(long)]
    rotated: bool,
    /// Also fail if lines at the end are not chained yet, or --head is not the last hash.
    #[arg(long)]
    strict: bool,
    /// Print what was found as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Faulty> {
    let Verb::Verify(arguments) = &arguments.verb;
    let with_rotated = |file: &PathBuf| if arguments.rotated { rotated(file) } else { Ok(vec![file.clone()]) };
    let files = arguments.files.iter().map(with_rotated).collect::<Result<Vec<_>, _>>().map_err(|error| complain(&error))?;
    let verified = verify(&files.concat(), arguments.head).map_err(|error| complain(&error))?;
    say(&if arguments.json { serde_json::json!(verified).to_string() } else { report(&verified) })?;
    if arguments.strict { be_strict(&verified, arguments.head) } else { Ok(()) }
}

fn be_strict(verified: &Verified, head: Option<Hash>) -> Result<(), Faulty> {
    if let Some(tail) = &verified.tail {
        return Err(complain(&format_args!("{}: not chained yet", place(&tail.file, tail.line))));
    }
    match head.filter(|head| *head != verified.head) {
        Some(head) => Err(complain(&format_args!("{head} is not the last hash of the chain"))),
        None => Ok(()),
    }
}

fn report(verified: &Verified) -> String {
    let Verified { first, last, head, records, links, adopted, lost, tail } = verified;
    let mut lines = vec![
        format!("{records} records are as they were written, in a chain of {links} links"),
        format!("the chain's head is link {last}: {head}"),
    ];
    if *first > 0 {
        lines.push(format!("the chain begins with link {first}: what was before is in none of these files"));
    }
    if *adopted > 0 {
        lines.push(format!("{adopted} of the records were chained only after a restart; the last before it may be cut short"));
    }
    if *lost > 0 {
        lines.push(format!("{lost} more records were lost, as the log itself says"));
    }
    if let Some(tail) = tail {
        let torn = if tail.torn { ", and the last is cut short" } else { "" };
        lines.push(format!("{} lines from {} on are not chained yet{torn}", tail.lines, place(&tail.file, tail.line)));
    }
    lines.join("\n")
}

fn place(file: &Path, line: u64) -> String {
    format!("{}:{line}", file.display())
}
