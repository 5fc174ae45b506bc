//! `roadstead check`: read the configuration and say what it means.

use super::{ConfigArgument, Faulty, complain};
use crate::egress;

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
    let told: Vec<Faulty> = egress::check_certificates(&config).iter().map(complain).collect();
    if !told.is_empty() {
        return Err(Faulty);
    }
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
