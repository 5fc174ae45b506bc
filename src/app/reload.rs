//! Taking on a changed configuration while serving: all of it that can be changed, or nothing.
//!
//! Everything new is made first (the file read and checked, certificates, users, upstreams), and only when nothing was wrong put
//! in the place of the old, piece by piece, each in one step. A request keeps the snapshot that it began with, a connection its
//! certificate, a download its upstream.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Error, limits};
use crate::admin::Reload;
use crate::config::{Config, Faults, Listener, Warning};
use crate::front::{Entrance, Terms};
use crate::mirror::Mirror;
use crate::server::{Live, Snapshot};
use crate::telemetry::Telemetry;
use crate::upstream::Upstreams;

/// How often the files that the configuration names are looked at: certificates are renewed by programs that tell nobody.
const LOOK: Duration = Duration::from_secs(10);

/// The data listeners' entrances, by the listeners' names.
pub(super) type Entrances = Vec<(Arc<str>, Arc<Entrance>)>;

/// Reads the configuration again.
pub type Source = Arc<dyn Fn() -> Result<(Config, Vec<Warning>), Faults> + Send + Sync>;

/// What came of a reload that worked.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Reloaded {
    /// What of the new configuration holds only after a restart, in its words.
    pub needs_restart: Vec<String>,
}

/// Puts a new configuration in the place of the old.
pub(super) struct Reloader {
    source: OnceLock<Source>,
    live: Arc<Live>,
    entrances: Entrances,
    mirror: Arc<Mirror>,
    telemetry: Arc<Telemetry>,
    /// One at a time.
    turn: tokio::sync::Mutex<()>,
}

/// Everything new, made and not yet put in place.
struct Prepared {
    snapshot: Snapshot,
    terms: Vec<(Arc<Entrance>, Terms)>,
    upstreams: Upstreams,
    reloaded: Reloaded,
}

impl Reloader {
    pub(super) fn new(live: Arc<Live>, entrances: Entrances, mirror: Arc<Mirror>, telemetry: Arc<Telemetry>) -> Arc<Self> {
        Arc::new(Self { source: OnceLock::new(), live, entrances, mirror, telemetry, turn: tokio::sync::Mutex::new(()) })
    }

    /// From where the configuration is read again.
    pub(super) fn read_from(&self, source: Source) {
        // There is one, from the start on.
        let _ = self.source.set(source);
    }

    /// Reads the configuration and everything that it names again, and takes it on. Dropping the future changes nothing, or
    /// everything.
    ///
    /// # Errors
    /// What is wrong with the new one. Nothing was changed then.
    pub(super) async fn reload(self: &Arc<Self>) -> Result<Reloaded, Error> {
        let source = self.source.get().cloned().ok_or(Error::NoSource)?;
        let read = move || {
            let (mut config, warnings) = source().map_err(|faults| Error::Config(Arc::new(faults)))?;
            warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            limits::fit(&mut config);
            Ok(Arc::new(config))
        };
        self.take_on(read).await
    }

    /// Takes on what `read` brings, and tells everybody what came of it.
    async fn take_on(
        self: &Arc<Self>,
        read: impl FnOnce() -> Result<Arc<Config>, Error> + Send + 'static,
    ) -> Result<Reloaded, Error> {
        let _turn = self.turn.lock().await;
        let reloader = self.clone();
        let prepared = tokio::task::spawn_blocking(move || reloader.prepare(read()?)).await;
        let done = prepared.unwrap_or_else(|error| Err(Error::Task(error.to_string()))).map(|prepared| self.put_in_place(prepared));
        self.telemetry.metrics.reloaded(done.is_ok());
        match &done {
            Ok(reloaded) => {
                tracing::info!("the configuration was taken on");
                for part in &reloaded.needs_restart {
                    tracing::warn!("{part} holds only after a restart");
                }
            }
            Err(error) => tracing::error!("the new configuration is not taken on, the old one holds: {error}"),
        }
        done
    }

    fn prepare(&self, config: Arc<Config>) -> Result<Prepared, Error> {
        let before = self.live.load();
        let terms = self.entrances.iter().filter_map(|(name, entrance)| {
            let listener = config.listeners.iter().find(|listener| listener.name == *name)?;
            Some(Terms::read(listener).map(|terms| (entrance.clone(), terms)))
        });
        Ok(Prepared {
            terms: terms.collect::<Result<_, _>>()?,
            upstreams: self.mirror.upstreams_of(&config)?,
            reloaded: Reloaded { needs_restart: needs_restart(before.config(), &config) },
            snapshot: Snapshot::new(config, Some(&before))?,
        })
    }

    fn put_in_place(&self, prepared: Prepared) -> Reloaded {
        prepared.terms.into_iter().for_each(|(entrance, terms)| entrance.replace(terms));
        self.mirror.ask(prepared.upstreams);
        self.live.store(Arc::new(prepared.snapshot));
        prepared.reloaded
    }

    /// Looks at the files that the configuration names now and then, and reads them again when one has changed.
    pub(super) async fn watch_files(self: Arc<Self>, stop: CancellationToken) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            let config = self.live.load().config().clone();
            let files = files(&config);
            // A file that cannot be looked at is one that changed, once.
            let Ok(now) = tokio::task::spawn_blocking(move || files.iter().map(print).collect::<Vec<_>>()).await else { continue };
            if seen.as_ref().is_some_and(|seen| *seen != now) {
                // What came of it is told there; the next change is the next try.
                let _ = self.take_on(move || Ok(config)).await;
            }
            seen = Some(now);
        }
    }
}

#[async_trait]
impl Reload for Arc<Reloader> {
    async fn reload(&self) -> Result<serde_json::Value, String> {
        Reloader::reload(self).await.map(|reloaded| serde_json::json!(reloaded)).map_err(|error| error.to_string())
    }
}

/// When a file was written, and how long and which one it is: another one under its name shows.
fn print(file: &PathBuf) -> Option<(SystemTime, u64, u64)> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), std::os::unix::fs::MetadataExt::ino(&metadata)))
}

/// The files that are read for listeners: certificates, keys, authorities and users.
fn files(config: &Config) -> Vec<PathBuf> {
    config.listeners.iter().flat_map(Listener::files).collect()
}

/// What differs and cannot be changed while serving.
fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let mut parts = Vec::new();
    if old.cache != new.cache {
        parts.push("[cache]".to_owned());
    }
    if old.admin != new.admin {
        parts.push("[admin]".to_owned());
    }
    let key = |listener: &Listener| (listener.name.clone(), listener.address, listener.max_connections);
    let has = |config: &Config, listener| config.listeners.iter().any(|other| key(other) == key(listener));
    for listener in new.listeners.iter().filter(|listener| !has(old, listener)) {
        parts.push(format!("name, address or max_connections of listener {:?}", listener.name));
    }
    for listener in old.listeners.iter().filter(|listener| new.listeners.iter().all(|other| other.name != listener.name)) {
        parts.push(format!("the end of listener {:?}", listener.name));
    }
    parts
}
