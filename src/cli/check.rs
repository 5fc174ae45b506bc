//! `roadstead check`: read the configuration and say what it means.

use super::{ConfigArgument, Faulty, complain, say};
use crate::config::{Config, Warning};
use crate::telemetry::audit;
use crate::{app, egress, policy};

pub(super) const EXAMPLE: &str = "Examples:
  roadstead check --config roadstead.toml
  roadstead check --json | jq .registry";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Print the effective settings as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Faulty> {
    let config = arguments.config.load()?;
    check_files(&config)?;
    remark(&config, arguments);
    if arguments.json {
        return say(&serde_json::json!(config.effective()));
    }
    match arguments.config.path() {
        Some(path) => say(&format_args!("{} is good. The effective settings are:\n", path.display()))?,
        None => say(&"No file was given. The built-in settings are:\n")?,
    }
    say(&config.effective())
}

/// What the files that it names hold is no part of the configuration, and yet keeps the proxy from starting.
fn check_files(config: &Config) -> Result<(), Faulty> {
    let listeners = app::check_files(config);
    let registries = egress::check_certificates(config);
    let audit = config.audit.as_ref().and_then(|config| audit::check(config).err());
    let told = listeners.iter().map(complain).chain(registries.iter().map(complain)).chain(audit.iter().map(complain)).count();
    if told == 0 { Ok(()) } else { Err(Faulty) }
}

/// Says what is likely not meant in the policy, in the form of the other warnings.
fn remark(config: &Config, arguments: &Arguments) {
    let file = arguments.config.path().map(|path| path.display().to_string()).unwrap_or_default();
    for remark in policy::review(&config.policy, jiff::Timestamp::now()) {
        let message = format!("{}: {}", remark.statement, remark.message);
        let (line, remedy) = (Some(remark.line), remark.remedy.to_owned());
        complain(&Warning { file: file.clone(), line, key: "policy.statement".to_owned(), message, remedy });
    }
}
