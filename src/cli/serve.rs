//! `roadstead serve`: run the proxy.

use std::sync::Arc;

use super::{ConfigArgument, Faulty, complain};
use crate::app::{self, Addresses};
use crate::config::Config;
use crate::egress::SystemNames;
use crate::telemetry::{AccessLog, Telemetry};

pub(super) const EXAMPLE: &str = "Examples:
  roadstead serve
  roadstead serve --config /etc/roadstead/roadstead.toml";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Faulty> {
    let config = arguments.config.load()?;
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let summary = summary(&config);
    let started = move |addresses: &Addresses| {
        for address in &addresses.data {
            tracing::info!(%address, "listening");
        }
        tracing::info!(address = %addresses.admin, "admin listening: /metrics, /readyz");
        tracing::info!("{summary}");
    };
    let telemetry = Telemetry::new(AccessLog::stdout());
    app::serve(config, Arc::new(SystemNames), telemetry, threads, started)
        .map_err(|error| complain(&format_args!("roadstead cannot start: {error}")))
}

fn summary(config: &Config) -> String {
    let registries: Vec<String> = config.registries.iter().map(|registry| registry.label()).collect();
    format!("mirroring {} with the cache in {}", registries.join(", "), config.cache.directory.display())
}
