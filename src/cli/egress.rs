//! `roadstead egress`: what the configuration needs of the network.

use std::fmt::Write;

use clap::{Subcommand, ValueEnum};

use super::{ConfigArgument, Faulty, say};
use crate::egress::{self, Entry, NetworkPolicy};

pub(super) const EXAMPLE: &str = "Examples:
  roadstead egress plan                                                what a firewall must let through
  roadstead egress plan --format json | jq -r '.[] | select(.via == null) | .host'
  roadstead egress plan --format networkpolicy | kubectl apply -f -";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print every host and port that the proxy may connect to, what for, and by way of whom.
    #[command(after_help = EXAMPLE)]
    Plan(Plan),
}

#[derive(Debug, clap::Args)]
struct Plan {
    #[command(flatten)]
    config: ConfigArgument,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// A table for people.
    Text,
    /// A list of objects.
    Json,
    /// A Kubernetes NetworkPolicy. It knows no names: these are let out to all public addresses.
    #[value(name = "networkpolicy")]
    NetworkPolicy,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Faulty> {
    let Verb::Plan(arguments) = &arguments.verb;
    let plan = egress::plan(&arguments.config.load()?);
    match arguments.format {
        Format::Text => say(&table(&plan).trim_end()),
        Format::Json => say(&serde_json::json!(plan)),
        Format::NetworkPolicy => say(&NetworkPolicy::new(&plan).to_string().trim_end()),
    }
}

fn table(plan: &[Entry]) -> String {
    let rows: Vec<[String; 5]> =
        std::iter::once(["HOST", "PORT", "FOR", "REGISTRY", "BY WAY OF"].map(str::to_owned)).chain(plan.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    rows.iter().fold(String::new(), |mut text, row| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}  ")).collect::<String>();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", cells.trim_end());
        text
    })
}

fn row(entry: &Entry) -> [String; 5] {
    let Entry { host, port, reason, registry, via, networks } = entry;
    let mut by: Vec<String> = via.iter().map(ToString::to_string).collect();
    if via.is_none() && !networks.is_empty() && entry.address().is_none() {
        let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
        by.push(format!("public addresses or {}", networks.join(", ")));
    }
    let registry = registry.clone().unwrap_or_else(|| "all".to_owned());
    [host.clone(), port.to_string(), reason.as_str().to_owned(), registry, by.join(", ")]
}
