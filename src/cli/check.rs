//! `roadstead check`: read the configuration and say what it means.

use super::{ConfigArgument, Faulty, complain};
use crate::config::{Config, Warning};
use crate::identity::Users;
use crate::{egress, policy};

pub(super) const EXAMPLE: &str = "Examples:
  roadstead check --config roadstead.toml
  roadstead check --json | jq .registries";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Print the effective settings as JSON.
    #[arg(long)]
    json: bool,
}

#[allow(clippy::print_stdout, reason = "the settings are this verb's output")]
pub(super) fn run(arguments: &Arguments) -> Result<(), Faulty> {
    let config = arguments.config.load()?;
    check_files(&config)?;
    remark(&config, arguments);
    if arguments.json {
        println!("{}", serde_json::json!(config.effective()));
        return Ok(());
    }
    match arguments.config.path() {
        Some(path) => println!("{} is good. The effective settings are:\n", path.display()),
        None => println!("No file was given. The built-in settings are:\n"),
    }
    println!("{}", config.effective());
    Ok(())
}

/// What the files of users, authorities and certificates hold is no part of the configuration, and yet keeps the proxy from
/// starting.
fn check_files(config: &Config) -> Result<(), Faulty> {
    let files = config.listeners.iter().filter_map(|listener| listener.users.as_ref());
    let users = files.filter_map(|users| Users::load(&users.file).err()).map(|error| complain(&error));
    let certificates = egress::check_certificates(config);
    let told = users.chain(certificates.iter().map(complain)).count();
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
