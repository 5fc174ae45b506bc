//! Builds and joins everything, starts it, and stops it.

mod check;
mod error;
mod limits;
mod notify;
mod process;
mod reload;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::server::ShutdownWatch;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::Admin;
use crate::config::{self, Config};
use crate::egress::{Guarded, Names};
use crate::front::{Handler, Listener, Turns, Workers};
use crate::mirror::{Mirror, Purge, Purged};
use crate::server::{Live, Server, Snapshot};
use crate::store::Store;
use crate::telemetry::Telemetry;
use crate::upstream::Upstreams;
pub use check::check_files;
pub use error::Error;
pub use process::serve;
use reload::{Prints, Reloader};
pub use reload::{Reloaded, Source};

/// What is left of the drain's 25 s for tasks that no client waits for.
const BACKGROUND_DRAIN: Duration = Duration::from_secs(2);

/// The proxy, bound to its addresses and not yet serving.
pub struct App {
    data: Vec<(Listener, Arc<dyn Handler>)>,
    admin: (Listener, Arc<dyn Handler>),
    background: Background,
    reloader: Arc<Reloader>,
    telemetry: Arc<Telemetry>,
}

/// Where a bound proxy listens.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The data listeners, in the configuration's order, with the ports that were given for port 0.
    pub data: Vec<SocketAddr>,
    /// The admin listener.
    pub admin: SocketAddr,
}

/// What runs behind the listeners.
struct Background {
    store: Arc<Store>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl App {
    /// Opens the cache, reads certificates and binds every address, so that whatever can fail at start fails here. Must be
    /// called inside a tokio runtime, the one it is going to run on. Raises the process's limit of open files, and allows fewer
    /// connections than configured where that is too low.
    ///
    /// # Errors
    /// Names what could not be opened, read or bound, and what to do.
    pub async fn build(mut config: Config, names: Arc<dyn Names>, telemetry: Arc<Telemetry>) -> Result<Self, Error> {
        let requests = Arc::new(Turns::new(limits::fit(&mut config)));
        let config = Arc::new(config);
        // Before they are read: what changes after that is read again.
        let seen = Prints::take(&config);
        let data = bind_all(&config, &telemetry)?;
        // A telemetry of its own: what scrapers ask is no traffic of the proxy.
        let admin = Listener::bind(&admin_listener(&config), Telemetry::quiet())?;
        let own = data.iter().map(Listener::address).chain([admin.address()]).collect();
        let guarded = Arc::new(Guarded::new(names));
        guarded.refuse(own);
        let upstreams = Upstreams::new(&config, guarded, telemetry.clone())?;
        let store = Store::open(&config.cache, telemetry.clone()).await?;
        let background = Background { store: store.clone(), tracker: TaskTracker::new(), stop: CancellationToken::new() };
        background.tracker.spawn(upstreams.prepare());
        let mirror = Mirror::new(store, upstreams, telemetry.clone(), background.tracker.clone(), background.stop.clone());
        let live = Arc::new(Live::from_pointee(Snapshot::new(config.clone(), None)?));
        let entrances = config.listeners.iter().zip(&data).map(|(config, listener)| (config.name.clone(), listener.entrance()));
        let reloader = Reloader::new(live.clone(), entrances.collect(), seen, mirror.clone(), telemetry.clone());
        let server: Arc<dyn Handler> = Arc::new(Server::new(live, mirror.clone(), telemetry.clone()));
        let back_door: Arc<dyn Handler> = Arc::new(Admin::new(mirror, Arc::new(reloader.clone()), telemetry.clone()));
        let data = data.into_iter().map(|listener| (listener.with_requests(requests.clone()), server.clone())).collect();
        Ok(Self { data, admin: (admin, back_door), background, reloader, telemetry })
    }

    /// Has the connections of all data listeners served by `workers`. Without, everything runs on one runtime.
    pub fn with_workers(mut self, workers: Workers) -> Self {
        let workers = Arc::new(workers);
        let given = |(listener, handler): (Listener, _)| (listener.with_workers(workers.clone()), handler);
        self.data = self.data.into_iter().map(given).collect();
        self
    }

    /// Has reloads read the configuration from `source`. Without one there is nothing to be read again.
    pub fn with_source(self, source: Source) -> Self {
        self.reloader.read_from(source);
        self
    }

    fn reloader(&self) -> Arc<Reloader> {
        self.reloader.clone()
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        Addresses { data: self.data.iter().map(|(listener, _)| listener.address()).collect(), admin: self.admin.0.address() }
    }

    /// Serves until `shutdown` turns true, then drains: no new connections, answers under way get 25 s. Returns when all is
    /// written down. Dropping this future stops everything at once, as a crash would.
    pub async fn run(self, shutdown: ShutdownWatch) {
        let health = &self.telemetry.health;
        health.well("listeners");
        let store = tokio::spawn(self.background.store.clone().run(self.background.stop.clone()));
        let data = self.data.into_iter().map(|(listener, handler)| listener.serve(handler, shutdown.clone()));
        // The back door stays open while the front drains, so that a drain can be watched.
        let (drained, admin_shutdown) = watch::channel(false);
        let admin = tokio::spawn(self.admin.0.serve(self.admin.1, admin_shutdown));
        let stopping = announce_stop(shutdown.clone(), self.telemetry.clone());
        let watching = until(shutdown.clone(), self.reloader.watch_files());
        tokio::join!(futures_util::future::join_all(data), stopping, watching);
        self.background.finish(store).await;
        drained.send_replace(true);
        if let Err(error) = admin.await {
            tracing::warn!(%error, "the admin listener ended badly");
        }
    }
}

/// Runs `task` until `shutdown` turns true, then drops it.
async fn until(mut shutdown: ShutdownWatch, task: impl Future<Output = ()>) {
    tokio::select! {
        () = task => {}
        // The error says that the sender is gone, which comes to the same.
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
}

async fn announce_stop(mut shutdown: ShutdownWatch, telemetry: Arc<Telemetry>) {
    if shutdown.wait_for(|stop| *stop).await.is_ok() {
        telemetry.health.not_ready("listeners", "stopping");
        notify::stopping();
        tracing::info!("stopping: no new connections, answers under way get 25 s");
    }
}

impl Background {
    /// Ends what runs behind, giving it a moment, and has the store write down what it knows.
    async fn finish(self, store: tokio::task::JoinHandle<()>) {
        self.tracker.close();
        if tokio::time::timeout(BACKGROUND_DRAIN, self.tracker.wait()).await.is_err() {
            tracing::info!(tasks = self.tracker.len(), "ending downloads that no client waits for");
        }
        self.stop.cancel();
        self.tracker.wait().await;
        if let Err(error) = store.await {
            tracing::warn!(%error, "the store's housekeeping ended badly");
        }
    }
}

fn bind_all(config: &Config, telemetry: &Arc<Telemetry>) -> Result<Vec<Listener>, Error> {
    config.listeners.iter().map(|listener| Listener::bind(listener, telemetry.clone()).map_err(Error::from)).collect()
}

fn admin_listener(config: &Config) -> config::Listener {
    config::Listener::plain("admin", config.admin.address, limits::ADMIN_CONNECTIONS)
}

/// Drops cached content straight from the cache folder, for when no proxy runs on it.
///
/// # Errors
/// The folder cannot be opened (a running proxy holds it), or the disk failed.
pub async fn purge_offline(config: &Config, names: Arc<dyn Names>, purge: &Purge) -> Result<Purged, Error> {
    let telemetry = Telemetry::quiet();
    let upstreams = Upstreams::new(config, Arc::new(Guarded::new(names)), telemetry.clone())?;
    let store = Store::open(&config.cache, telemetry.clone()).await?;
    let stop = CancellationToken::new();
    let housekeeping = tokio::spawn(store.clone().run(stop.clone()));
    let mirror = Mirror::new(store, upstreams, telemetry, TaskTracker::new(), stop.clone());
    let purged = mirror.purge(purge).await;
    stop.cancel();
    housekeeping.await.map_err(|error| Error::Task(error.to_string()))?;
    Ok(purged?)
}
