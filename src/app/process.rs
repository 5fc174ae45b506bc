//! The proxy as a process: signals, and pingora's server as the runtime it lives on.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{ListenFds, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora_core::services::Service;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Addresses, App, Error, notify};
use crate::config::Config;
use crate::egress::Names;
use crate::telemetry::Telemetry;

/// Runs the proxy until SIGTERM or SIGINT, then drains; a second signal ends it at once. `started` is called when it is
/// bound and about to serve.
///
/// # Errors
/// As [`App::build`].
pub fn serve(
    config: Config,
    names: Arc<dyn Names>,
    telemetry: Arc<Telemetry>,
    threads: usize,
    started: impl FnOnce(&Addresses) + Send + Sync + 'static,
) -> Result<(), Error> {
    telemetry.health.not_ready("listeners", "starting");
    raise_descriptor_limit();
    let ended = CancellationToken::new();
    let (outcome, result) = watch::channel(Ok(()));
    let start = Start { config, names, telemetry, started: Box::new(started) };
    let mut server = Server::new_with_opt_and_conf(None, server_conf(threads));
    server.bootstrap();
    server.add_service(Proxy { start: Some(start), outcome, ended: ended.clone() });
    server.run(RunArgs { shutdown_signal: Box::new(WhenEnded(ended)) });
    result.borrow().clone()
}

/// Connections and open files share the limit, and systems start programs with a soft one that is far below the hard one.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, current = limit.current, "the limit of open files could not be raised");
    }
}

/// pingora would wait out its whole grace period whatever is going on. So it gets none, and is told to stop only when the
/// proxy has drained by itself.
fn server_conf(threads: usize) -> ServerConf {
    ServerConf { threads, grace_period_seconds: Some(0), graceful_shutdown_timeout_seconds: Some(0), ..ServerConf::default() }
}

struct WhenEnded(CancellationToken);

#[async_trait]
impl ShutdownSignalWatch for WhenEnded {
    async fn recv(&self) -> ShutdownSignal {
        self.0.cancelled().await;
        ShutdownSignal::FastShutdown
    }
}

struct Start {
    config: Config,
    names: Arc<dyn Names>,
    telemetry: Arc<Telemetry>,
    started: Box<dyn FnOnce(&Addresses) + Send + Sync>,
}

/// The whole proxy as one pingora service, so that all of it shares one runtime.
struct Proxy {
    start: Option<Start>,
    outcome: watch::Sender<Result<(), Error>>,
    ended: CancellationToken,
}

#[async_trait]
impl Service for Proxy {
    async fn start_service(&mut self, _fds: Option<ListenFds>, _shutdown: ShutdownWatch, _listeners: usize) {
        if let Some(start) = self.start.take() {
            let outcome = tokio::select! {
                outcome = run(start) => outcome,
                () = second_signal() => Ok(()),
            };
            drop(self.outcome.send_replace(outcome));
        }
        self.ended.cancel();
    }

    fn name(&self) -> &'static str {
        "roadstead"
    }
}

async fn run(start: Start) -> Result<(), Error> {
    let app = App::build(start.config, start.names, start.telemetry).await?;
    (start.started)(&app.addresses());
    let (stop, shutdown) = watch::channel(false);
    tokio::spawn(async move {
        first_signal().await;
        stop.send_replace(true);
    });
    notify::ready();
    app.run(shutdown).await;
    Ok(())
}

async fn first_signal() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => drop(signals.recv().await),
            Err(error) => {
                tracing::warn!(%error, "SIGTERM cannot be watched; it will end the process at once");
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

async fn second_signal() {
    first_signal().await;
    first_signal().await;
    tracing::warn!("second signal: ending at once");
}
