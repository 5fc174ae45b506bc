//! The proxy as a process: signals, and pingora's server as the runtime it lives on.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{ListenFds, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora_core::services::Service;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Addresses, App, Error, Reloader, Source, notify};
use crate::config::Config;
use crate::egress::Names;
use crate::front::Workers;
use crate::telemetry::Telemetry;

/// Runs the proxy until SIGTERM or SIGINT, then drains; a second signal ends it at once. `started` is called when it is
/// bound and about to serve. Connections have `threads` threads, and what goes on behind them as many.
///
/// # Errors
/// As [`App::build`].
pub fn serve(
    config: Config,
    source: Option<Source>,
    names: Arc<dyn Names>,
    telemetry: Arc<Telemetry>,
    threads: usize,
    started: impl FnOnce(&Addresses) + Send + Sync + 'static,
) -> Result<(), Error> {
    telemetry.health.not_ready("listeners", "starting");
    let ended = CancellationToken::new();
    // What stands if the service ends without a word, which only a panic does.
    let (outcome, result) = watch::channel(Err(Error::Task("the proxy panicked; its log says where".to_owned())));
    let start = Start { config, source, names, telemetry, threads, started: Box::new(started) };
    let mut server = Server::new_with_opt_and_conf(None, server_conf(threads));
    server.bootstrap();
    server.add_service(Proxy { start: Some(start), outcome, ended: ended.clone() });
    server.run(RunArgs { shutdown_signal: Box::new(WhenEnded(ended)) });
    result.borrow().clone()
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
    source: Option<Source>,
    names: Arc<dyn Names>,
    telemetry: Arc<Telemetry>,
    threads: usize,
    started: Box<dyn FnOnce(&Addresses) + Send + Sync>,
}

/// The whole proxy as one pingora service, whose runtime has all but the connections.
struct Proxy {
    start: Option<Start>,
    outcome: watch::Sender<Result<(), Error>>,
    ended: CancellationToken,
}

#[async_trait]
impl Service for Proxy {
    async fn start_service(&mut self, _fds: Option<ListenFds>, _shutdown: ShutdownWatch, _listeners: usize) {
        // Dropped when this panics too: pingora waits for it, and for nothing else.
        let _ended = self.ended.clone().drop_guard();
        let Some(start) = self.start.take() else { return };
        let mut signals = Signals::watch();
        let (stop, shutdown) = watch::channel(false);
        let signalled = async {
            signals.next().await;
            stop.send_replace(true);
            signals.next().await;
            tracing::warn!("second signal: ending at once");
        };
        let outcome = tokio::select! {
            outcome = run(start, shutdown) => outcome,
            () = signalled => Ok(()),
        };
        drop(self.outcome.send_replace(outcome));
    }

    fn name(&self) -> &'static str {
        "roadstead"
    }
}

async fn run(start: Start, shutdown: ShutdownWatch) -> Result<(), Error> {
    // Without a handler the signal would end the process, also while it still starts.
    let watched = watch_signal(SignalKind::hangup(), "SIGHUP");
    let telemetry = start.telemetry.clone();
    let mut app = App::build(start.config, start.names, start.telemetry).await?.with_workers(Workers::start(start.threads)?);
    if let Some(source) = start.source {
        app = app.with_source(source);
    }
    let hangups = hangups(watched, app.reloader(), telemetry);
    (start.started)(&app.addresses());
    notify::ready();
    tokio::select! {
        () = app.run(shutdown) => {}
        () = hangups => {}
    }
    Ok(())
}

/// At every SIGHUP, has logs opened anew and the configuration read again. Never completes.
async fn hangups(mut signals: Option<Signal>, reloader: Arc<Reloader>, telemetry: Arc<Telemetry>) {
    loop {
        received(signals.as_mut()).await;
        notify::reloading();
        telemetry.reopen_audit();
        // What came of it is told there.
        let _ = reloader.reload().await;
        notify::ready();
    }
}

fn watch_signal(kind: SignalKind, name: &str) -> Option<Signal> {
    let watched = signal(kind);
    watched.inspect_err(|error| tracing::warn!(%error, "{name} cannot be watched; it will end the process at once")).ok()
}

/// SIGTERM and SIGINT, watched from before anything is opened: one that comes while the proxy still starts counts as well.
struct Signals {
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
}

impl Signals {
    fn watch() -> Self {
        Self {
            terminate: watch_signal(SignalKind::terminate(), "SIGTERM"),
            interrupt: watch_signal(SignalKind::interrupt(), "SIGINT"),
        }
    }

    /// Completes with the next of either.
    async fn next(&mut self) {
        tokio::select! {
            () = received(self.terminate.as_mut()) => {}
            () = received(self.interrupt.as_mut()) => {}
        }
    }
}

async fn received(signals: Option<&mut Signal>) {
    if let Some(signals) = signals
        && signals.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}
