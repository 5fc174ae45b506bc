//! `roadstead serve`: run the proxy.

use std::sync::Arc;

use super::{ConfigArgument, Faulty, complain};
use crate::app::{self, Addresses};
use crate::config::Config;
use crate::egress::SystemNames;
use crate::telemetry::{AccessLog, Telemetry};

pub(super) const EXAMPLE: &str = "Examples:
  roadstead serve
  roadstead serve --config /etc/roadstead/roadstead.toml

The access log goes to standard output, diagnostics to standard error (RUST_LOG=debug for more). SIGTERM or Ctrl-C drains:
answers under way get 25 s; a second one ends it at once. SIGHUP reads the configuration, and the files it names, again, and opens
the audit log's file anew.";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Faulty> {
    let config = arguments.config.load()?;
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let source = arguments.config.path().map_or_else(|| "built in".to_owned(), |path| path.display().to_string());
    tracing::info!(configuration = source, "starting");
    let (names, summary) = (names(&config), summary(&config));
    let started = move |addresses: &Addresses| {
        for ((endpoint, scheme), address) in names.iter().zip(&addresses.data) {
            tracing::info!(endpoint = &**endpoint, "listening for clients on {scheme}://{address}");
        }
        tracing::info!("listening for the operator on http://{}: metrics, health, reload, purge", addresses.admin);
        tracing::info!("{summary}");
    };
    let telemetry = Telemetry::start(AccessLog::stdout(), config.audit.as_ref());
    let telemetry = telemetry.map_err(|error| complain(&format_args!("roadstead cannot start: {error}")))?;
    let served =
        app::serve(config, arguments.config.source(), Arc::new(SystemNames::default()), telemetry.clone(), threads, started);
    telemetry.finish();
    served.map_err(|error| complain(&format_args!("roadstead cannot go on: {error}")))
}

/// The listeners' names, and how clients speak to them.
fn names(config: &Config) -> Vec<(Arc<str>, &'static str)> {
    let scheme = |tls: bool| if tls { "https" } else { "http" };
    config.listeners.iter().map(|listener| (listener.name.clone(), scheme(listener.tls.is_some()))).collect()
}

fn summary(config: &Config) -> String {
    let registries: Vec<String> = config.registries.iter().map(|registry| registry.label()).collect();
    format!("mirroring {}, with the cache in {}", registries.join(", "), config.cache.directory.display())
}
