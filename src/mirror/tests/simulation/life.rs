//! One run of the mirror over the cache folder, from its start to its end.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::judge::Judge;
use super::log::Rule;
use super::world::{HOSTS, REPOSITORIES};
use crate::config::Cache;
use crate::mirror::Mirror;
use crate::mirror::tests::{digest_of, permit, registry_at, upstream};
use crate::oci::Reference;
use crate::request::{Item, Served};
use crate::store::{Faults, Store};
use crate::telemetry::Telemetry;
use crate::upstream::Upstreams;
use crate::upstream::scripted::config;

/// A mirror and what it runs on.
pub(super) struct Life {
    pub(super) mirror: Arc<Mirror>,
    store: Arc<Store>,
    tracker: TaskTracker,
    stop: CancellationToken,
    /// What fails of the disk.
    pub(super) faults: Faults,
    /// The store's housekeeping.
    keeper: Mutex<Option<JoinHandle<()>>>,
    /// The repositories whose manifest was fetched in this life, so that it knows the sizes in it.
    pub(super) announced: BTreeSet<usize>,
}

impl Life {
    /// Starts the mirror over what lies in `folder`. `None` where the folder is still in use.
    pub(super) async fn begin(life: u64, folder: &Path, judge: &Judge) -> Option<Self> {
        let cache = Cache { directory: folder.to_owned(), max_size: Some(judge.world.room), memory: 1 << 20 };
        let (telemetry, faults) = (Telemetry::quiet(), Faults::default());
        let store = match Store::open_faulty(&cache, telemetry.clone(), faults.clone()).await {
            Ok(store) => store,
            Err(error) => {
                judge.log.fault(Rule::Leftover, "mirror", format_args!("cannot start again: {error}"));
                return None;
            }
        };
        judge.world.disk.spoil(&faults, judge.world.seed, life);
        let urls: Vec<String> = HOSTS.iter().take(judge.world.sites.len()).map(|host| format!("https://{host}")).collect();
        let mut registry = registry_at(&urls.iter().map(String::as_str).collect::<Vec<_>>());
        registry.max_connections = 64;
        let (side, tracker, stop) = (judge.upstream.clone(), TaskTracker::new(), CancellationToken::new());
        let upstreams = Upstreams::new(&config([registry]), upstream(move |asked| side.reply(asked)), telemetry.clone()).unwrap();
        let mirror = Mirror::new(store.clone(), upstreams, telemetry, tracker.clone(), stop.clone());
        let keeper = Mutex::new(Some(tokio::spawn(store.clone().run(stop.clone()))));
        let mut life = Self { mirror, store, tracker, stop, faults, keeper, announced: BTreeSet::new() };
        life.announce(judge).await;
        Some(life)
    }

    /// Pulls the manifests, so that the mirror learns sizes.
    async fn announce(&mut self, judge: &Judge) {
        for (repository, name) in REPOSITORIES.iter().enumerate().take(judge.world.repositories) {
            let reference = Reference::Digest(digest_of(&judge.world.manifest(repository)));
            match self.mirror.manifest(&permit(name, Item::Manifest(reference)), false).await {
                Ok(answer) if answer.served == Served::Miss => drop(self.announced.insert(repository)),
                Ok(_) => {}
                Err(error) => judge.log.fault(Rule::Heals, "mirror", format_args!("no manifest of {name}: {error}")),
            }
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Whether nothing runs for a request and no table remembers one.
    pub(super) fn is_idle(&self) -> bool {
        let mirror = &self.mirror;
        let flights = mirror.manifests.len() + mirror.heads.len() + mirror.refreshes.len() + mirror.lists.len();
        self.tracker.is_empty() && flights == 0 && mirror.downloads.len() == 0
    }

    /// Waits until it is idle, for up to an hour.
    pub(super) async fn idle(&self) -> bool {
        let until = Instant::now() + Duration::from_secs(3600);
        while !self.is_idle() && Instant::now() < until {
            sleep(Duration::from_millis(100)).await;
        }
        // What is given up on the way out is done by then: time stands still while a thread works.
        sleep(Duration::from_millis(100)).await;
        self.is_idle()
    }

    /// Tells the mirror to stop and sees its work end.
    pub(super) async fn stop(&self, judge: &Judge) {
        self.stop.cancel();
        self.tracker.close();
        if timeout(Duration::from_secs(10), self.tracker.wait()).await.is_err() {
            judge.log.fault(Rule::Leftover, "mirror", format_args!("{} tasks go on after the stop", self.tracker.len()));
        }
    }

    /// Waits for the store to be durable, as the program does before it ends.
    pub(super) async fn end(&self) {
        let keeper = self.keeper.lock().unwrap().take();
        keeper.unwrap().await.unwrap();
    }

    /// Makes the index durable while time stands still for all others.
    pub(super) fn flush(&self) {
        let flush = || tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(self.store.flush());
        std::thread::scope(|threads| threads.spawn(flush).join().unwrap());
    }
}
