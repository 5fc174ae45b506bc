//! The cache itself: the one room that knows both what is stored and where it comes from.
//!
//! Everything is served against a [`Permit`]. Work that outlives a request (downloads, refreshes, proofs) runs as tasks on
//! one tracker and belongs to no client: a caller that is dropped at any await leaves it going on.

mod absent;
mod blob;
mod content;
mod download;
mod error;
mod flight;
mod freshness;
mod lineage;
mod list;
mod manifest;
mod place;
mod proof;
mod purge;
mod sizes;
mod tag;
mod tasks;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::oci::Digest;
use crate::policy::Permit;
use crate::request::Target;
use crate::store::{Link, Store};
use crate::telemetry::Telemetry;
pub use crate::upstream::Circle;
use crate::upstream::{ManifestHead, Registry, Upstreams};
use absent::Absent;
pub use blob::BlobAnswer;
pub use content::{Content, Piece, Pieces};
use download::Downloads;
pub use download::MAX_DOWNLOADS;
pub use error::{Error, Kind};
use flight::Flights;
pub use list::{ListAnswer, ListQuery};
pub use manifest::ManifestAnswer;
use manifest::{Held, ManifestKey};
use place::Place;
pub use purge::{Purge, PurgeError, Purged};
use sizes::Sizes;
use tag::{Refreshed, TagKey};
use tasks::Tasks;

/// The cache, shared by all requests.
pub struct Mirror {
    store: Arc<Store>,
    upstreams: ArcSwap<Upstreams>,
    telemetry: Arc<Telemetry>,
    downloads: Downloads,
    manifests: Flights<ManifestKey, Arc<Held>>,
    heads: Flights<Target, ManifestHead>,
    refreshes: Flights<TagKey, Refreshed>,
    lists: Flights<list::ListKey, Arc<ListAnswer>>,
    failing: tag::Failing,
    absent: Absent,
    sizes: Sizes,
    meanings: lineage::Meanings,
    tasks: Tasks,
}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mirror")
    }
}

impl Mirror {
    /// A mirror over `store` and `upstreams`. Its tasks run on `tracker` and on the runtime that
    /// this is called on, and end when `stop` is cancelled.
    pub fn new(
        store: Arc<Store>,
        upstreams: Upstreams,
        telemetry: Arc<Telemetry>,
        tracker: TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let tasks = Tasks::new(tracker, stop);
        Arc::new(Self {
            store,
            upstreams: ArcSwap::from_pointee(upstreams),
            telemetry,
            downloads: Downloads::new(),
            manifests: Flights::new(tasks.clone()),
            heads: Flights::new(tasks.clone()),
            refreshes: Flights::new(tasks.clone()),
            lists: Flights::new(tasks.clone()),
            failing: tag::Failing::new(),
            absent: Absent::new(),
            sizes: Sizes::new(),
            meanings: lineage::Meanings::new(),
            tasks,
        })
    }

    /// The upstreams of another configuration, to be put in the place of these by [`Mirror::ask`]. Reads certificate files.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn upstreams_of(&self, config: &Config) -> Result<Upstreams, Error> {
        self.upstreams.load().renewed(config).map_err(|error| Error::new(Kind::Internal, error.to_string()))
    }

    /// From now on `upstreams` are asked. What is under way goes on with those it began with.
    pub fn ask(&self, upstreams: Upstreams) {
        self.spawn(upstreams.prepare());
        self.upstreams.store(Arc::new(upstreams));
    }

    /// What a request with these `Via` headers has passed through, for its permit; nothing worth passing on where it has not.
    ///
    /// # Errors
    /// It goes round in a circle, so that answering it would ask ourselves.
    pub fn passed<'a>(&self, via: impl IntoIterator<Item = &'a http::HeaderValue>) -> Result<Option<http::HeaderValue>, Circle> {
        let mut via = via.into_iter().peekable();
        if via.peek().is_none() {
            return Ok(None);
        }
        self.upstreams.load().via().after(via)
    }

    /// Runs `task` to its end, or until the proxy stops.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.start(task);
    }

    /// Where a permit's target is to be had. A permit from before a reload does not go for what that has changed: the registry
    /// may be gone, or have got credentials that nobody decided about.
    fn place(&self, permit: &Permit) -> Result<Place, Error> {
        let target = permit.target();
        let registry = self.upstreams.load().registry(&target.registry);
        let is_meant = |registry: &Arc<Registry>| permit.is_private() || registry.config().credentials.is_none();
        let registry = registry.filter(is_meant).ok_or_else(|| Error::changed(&target.registry))?;
        let registry = match permit.passed() {
            Some(via) => Arc::new(registry.with_via(via.clone())),
            None => registry,
        };
        Ok(Place { registry, name: target.registry.clone(), repository: target.repository.clone() })
    }

    async fn link(&self, place: &Place, digest: &Digest) -> Option<Link> {
        self.store.link(&place.name, &place.repository, digest).await
    }

    async fn is_linked(&self, place: &Place, digest: &Digest) -> bool {
        self.link(place, digest).await.is_some()
    }

    /// The upstream answered for this digest in this repository: it may be served there from now on.
    async fn learn_link(&self, place: &Place, digest: &Digest) {
        if !self.is_linked(place, digest).await {
            self.store.put_link(&place.name, &place.repository, digest, Link { manifest: None });
        }
    }
}
