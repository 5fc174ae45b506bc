//! `roadstead policy`: what a policy says to requests that are described, listed in a file, or were recorded.

mod described;
mod explain;
mod record;
mod simulate;
mod tally;
mod test;
mod why;

use clap::Subcommand;

use super::{ConfigArgument, Faulty, complain, say};

pub(super) const EXAMPLE: &str = "Examples:
  roadstead policy test --config roadstead.toml --endpoint aws:vpce-1 docker.io/library/app:v1
  roadstead policy test --config roadstead.toml --cases cases.toml     exit 1 if one comes out otherwise
  roadstead policy explain --config roadstead.toml --principal user:ci ghcr.io/acme/app:v1
  roadstead policy simulate --config new.toml --audit /var/log/roadstead/audit.log";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Decide about one request that is described, or about a table of cases from a file. Exit 1 where one comes out otherwise
    /// than expected.
    #[command(after_help = test::EXAMPLE)]
    Test(test::Arguments),
    /// Decide about one request, and tell of each statement whether it matches, and if not by which key.
    #[command(after_help = explain::EXAMPLE)]
    Explain(explain::Arguments),
    /// Ask a new policy about the requests in an audit log, and tell whose answers would change.
    #[command(after_help = simulate::EXAMPLE)]
    Simulate(simulate::Arguments),
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Faulty> {
    match &arguments.verb {
        Verb::Test(arguments) => test::run(arguments),
        Verb::Explain(arguments) => explain::run(arguments),
        Verb::Simulate(arguments) => simulate::run(arguments),
    }
}
