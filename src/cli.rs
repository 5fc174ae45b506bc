//! The verbs, one file each.

mod audit;
mod check;
mod egress;
mod policy;
mod rm;
mod serve;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::app::Source;
use crate::config::Config;

/// An edge pull-through caching proxy for container registries.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, after_help = EXAMPLE)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLE: &str = "Examples:
  roadstead serve                             a mirror of the public registries on 127.0.0.1:5000
  roadstead check --config roadstead.toml     before a change of the configuration is put to work
  curl -sI http://127.0.0.1:5000/v2/library/busybox/manifests/latest

The README says how podman, containerd, Docker and BuildKit are pointed at it.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the proxy.
    #[command(after_help = serve::EXAMPLE)]
    Serve(serve::Arguments),
    /// Read the configuration, report every fault with its line, and show the effective settings. Exit 0 or 1.
    #[command(after_help = check::EXAMPLE)]
    Check(check::Arguments),
    /// Ask a policy: about one request, about a table of cases, or about what an audit log has recorded.
    #[command(after_help = policy::EXAMPLE)]
    Policy(policy::Arguments),
    /// Show what the configuration needs of the network: hosts, ports and why.
    #[command(after_help = egress::EXAMPLE)]
    Egress(egress::Arguments),
    /// Drop cached content: a tag, a repository, or a digest.
    #[command(after_help = rm::EXAMPLE)]
    Rm(rm::Arguments),
    /// The audit log: check that it is what was written.
    #[command(after_help = audit::EXAMPLE)]
    Audit(audit::Arguments),
}

/// What every verb that reads the configuration takes.
#[derive(Debug, clap::Args)]
struct ConfigArgument {
    /// The configuration file. Without it, the built-in configuration: a mirror of the well-known public registries on
    /// 127.0.0.1:5000.
    #[arg(short, long, value_name = "FILE", env = "ROADSTEAD_CONFIG")]
    config: Option<PathBuf>,
}

impl ConfigArgument {
    /// Reads the configuration, and says every warning and fault on standard error.
    fn load(&self) -> Result<Config, Faulty> {
        let loaded = match &self.config {
            Some(path) => Config::load(path, &environment),
            None => Config::built_in(&environment),
        };
        let (config, warnings) = loaded.map_err(|faults| complain(&faults))?;
        for warning in warnings {
            complain(&warning);
        }
        Ok(config)
    }

    /// What reads the same file again; none where it is built in.
    fn source(&self) -> Option<Source> {
        let path = self.config.clone()?;
        Some(Arc::new(move || Config::load(&path, &environment)))
    }

    fn path(&self) -> Option<&Path> {
        self.config.as_deref()
    }
}

fn environment(key: &str) -> Option<String> {
    std::env::var(key).ok()
}

/// The configuration is at fault, and that has been said.
#[derive(Debug)]
struct Faulty;

fn complain(what: &impl std::fmt::Display) -> Faulty {
    eprintln!("{what}");
    Faulty
}

/// Runs the program. The exit code is 0, 1 for a failure that was told on standard error, or 2 for wrong arguments.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // What the proxy does is worth telling while it runs; the other verbs have an output of their own.
    start_diagnostics(if matches!(arguments.verb, Verb::Serve(_)) { "info,pingora_core=warn" } else { "warn" });
    let done = match arguments.verb {
        Verb::Serve(arguments) => serve::run(&arguments),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Policy(arguments) => policy::run(&arguments),
        Verb::Egress(arguments) => egress::run(&arguments),
        Verb::Rm(arguments) => rm::run(&arguments),
        Verb::Audit(arguments) => audit::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Faulty) => ExitCode::FAILURE,
    }
}

/// Diagnostics go to standard error; `RUST_LOG` chooses how much, else `default`.
fn start_diagnostics(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal).with_target(false).init();
}
