//! Taking on a changed configuration while serving: all of it that can be changed, or nothing.
//!
//! Everything new is made first (the file read and checked, certificates, users, upstreams), and only when nothing was wrong put
//! in the place of the old, piece by piece, each in one step. A request keeps the snapshot that it began with, a connection its
//! certificate, a download its upstream.

mod bound;
mod files;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{MissedTickBehavior, interval};

use super::{Error, limits};
use crate::admin::Reload;
use crate::config::{Config, Faults, Warning};
use crate::front::{Entrance, Terms};
use crate::mirror::Mirror;
use crate::server::{Live, Snapshot};
use crate::telemetry::Telemetry;
use crate::upstream::Upstreams;
pub(super) use files::Prints;

/// How often the files that the configuration names are looked at: certificates are renewed by programs that tell nobody.
const LOOK: Duration = Duration::from_secs(10);

/// The data listeners' entrances, by the listeners' names.
pub(super) type Entrances = Vec<(Arc<str>, Arc<Entrance>)>;

/// Reads the configuration again.
pub type Source = Arc<dyn Fn() -> Result<(Config, Vec<Warning>), Faults> + Send + Sync>;

/// What came of a reload that worked.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Reloaded {
    /// Names the policy that holds now, as decisions in the logs do.
    pub policy: String,
    /// What of the new configuration holds only after a restart, in its words.
    pub needs_restart: Vec<String>,
}

/// Puts a new configuration in the place of the old.
pub(super) struct Reloader {
    source: OnceLock<Source>,
    /// What the process was started with: its listeners are the bound ones.
    started: Arc<Config>,
    live: Arc<Live>,
    entrances: Entrances,
    mirror: Arc<Mirror>,
    telemetry: Arc<Telemetry>,
    /// What the files looked like that were read last. Held for no longer than it takes to compare.
    seen: Mutex<Prints>,
    /// One at a time.
    turn: tokio::sync::Mutex<()>,
}

/// What is read again.
enum Again {
    /// The configuration, and the files that it names.
    All,
    /// The files alone.
    Files,
}

/// Everything new, made and not yet put in place.
struct Prepared {
    snapshot: Snapshot,
    terms: Vec<(Arc<Entrance>, Terms)>,
    /// None where they stay the same.
    upstreams: Option<Upstreams>,
    seen: Prints,
    reloaded: Reloaded,
}

impl Reloader {
    /// For listeners that were bound with what is `live` now, after their files were `seen`.
    pub(super) fn new(
        live: Arc<Live>,
        entrances: Entrances,
        seen: Prints,
        mirror: Arc<Mirror>,
        telemetry: Arc<Telemetry>,
    ) -> Arc<Self> {
        let started = live.load().config().clone();
        let (source, turn) = (OnceLock::new(), tokio::sync::Mutex::default());
        Arc::new(Self { source, started, live, entrances, mirror, telemetry, seen: Mutex::new(seen), turn })
    }

    /// From where the configuration is read again.
    pub(super) fn read_from(&self, source: Source) {
        // There is one, from the start on.
        let _ = self.source.set(source);
    }

    /// Reads the configuration and everything that it names again, takes it on, and tells log and metrics what came of it.
    /// Dropping the future changes nothing.
    ///
    /// # Errors
    /// What is wrong with the new one. Nothing was changed then.
    pub(super) async fn reload(self: &Arc<Self>) -> Result<Reloaded, Error> {
        self.take_on(Again::All).await
    }

    async fn take_on(self: &Arc<Self>, again: Again) -> Result<Reloaded, Error> {
        let _turn = self.turn.lock().await;
        let reloader = self.clone();
        let prepared = tokio::task::spawn_blocking(move || reloader.prepare(&again)).await;
        // From here on nothing waits, so that all of it is done or nothing.
        let done = prepared.unwrap_or_else(|error| Err(Error::Task(error.to_string()))).map(|prepared| self.put_in_place(prepared));
        self.telemetry.metrics.reloaded(done.is_ok());
        tell(&done);
        done
    }

    /// Blocks on the disk.
    fn prepare(&self, again: &Again) -> Result<Prepared, Error> {
        let before = self.live.load();
        let (config, needs_restart) = match again {
            Again::All => self.read(before.config())?,
            Again::Files => (before.config().clone(), Vec::new()),
        };
        let seen = Prints::take(&config);
        if matches!(again, Again::Files) {
            // Whatever comes of it: the next change is the next try.
            self.seen().clone_from(&seen);
        }
        let terms = self.entrances.iter().filter_map(|(name, entrance)| {
            let listener = config.listeners.iter().find(|listener| listener.name == *name)?;
            Some(Terms::read(listener).map(|terms| (entrance.clone(), terms)))
        });
        let terms = terms.collect::<Result<_, _>>()?;
        let upstreams = (!Arc::ptr_eq(before.config(), &config)).then(|| self.mirror.upstreams_of(&config)).transpose()?;
        let snapshot = Snapshot::new(config, Some(&before))?;
        let reloaded = Reloaded { policy: snapshot.policy().to_string(), needs_restart };
        Ok(Prepared { snapshot, terms, upstreams, seen, reloaded })
    }

    /// The configuration as it is to hold, and what of it holds only after a restart.
    fn read(&self, before: &Config) -> Result<(Arc<Config>, Vec<String>), Error> {
        let source = self.source.get().ok_or(Error::NoSource)?;
        let (mut config, warnings) = source().map_err(|faults| Error::Config(Arc::new(faults)))?;
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        limits::fit(&mut config);
        let needs_restart = bound::needs_restart(&self.started, &config);
        bound::refuse_opening(&self.started, before, &config)?;
        bound::keep(&self.started, before, &mut config);
        Ok((Arc::new(config), needs_restart))
    }

    fn put_in_place(&self, prepared: Prepared) -> Reloaded {
        prepared.terms.into_iter().for_each(|(entrance, terms)| entrance.replace(terms));
        // Before the snapshot: a registry that is new in that is known then.
        if let Some(upstreams) = prepared.upstreams {
            self.mirror.ask(upstreams);
        }
        self.live.store(Arc::new(prepared.snapshot));
        *self.seen() = prepared.seen;
        prepared.reloaded
    }

    /// Looks at the files that the configuration names now and then, and reads them again when one has changed. Never
    /// completes; dropping the future changes nothing.
    pub(super) async fn watch_files(self: Arc<Self>) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let reloader = self.clone();
            let changed = tokio::task::spawn_blocking(move || reloader.have_files_changed()).await;
            if matches!(changed, Ok(true)) {
                // What came of it is told there.
                let _ = self.take_on(Again::Files).await;
            }
        }
    }

    fn have_files_changed(&self) -> bool {
        let now = Prints::take(self.live.load().config());
        now != *self.seen()
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Prints> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(done: &Result<Reloaded, Error>) {
    match done {
        Ok(reloaded) => {
            tracing::info!(policy = reloaded.policy, "the configuration was taken on");
            for part in &reloaded.needs_restart {
                tracing::warn!("{part} holds only after a restart");
            }
        }
        Err(error) => tracing::error!("the new configuration is not taken on, the old one holds: {error}"),
    }
}

#[async_trait]
impl Reload for Arc<Reloader> {
    async fn reload(&self) -> Result<serde_json::Value, String> {
        Reloader::reload(self).await.map(|reloaded| serde_json::json!(reloaded)).map_err(|error| error.to_string())
    }
}
