//! Tags: served while they are fresh, confirmed by one shared HEAD when they are not, and served stale, marked as such, while
//! the upstream cannot be asked.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use moka::sync::Cache;
use tokio::time::{Instant, timeout, timeout_at};

use super::flight::Flight;
use super::freshness::{self, Verdict};
use super::manifest::{Held, ManifestAnswer};
use super::{Error, Mirror, Place};
use crate::oci::{Digest, Reference, RegistryName, RepositoryName, Tag};
use crate::request::{Item, Served};
use crate::store::TagRecord;

/// How long a tag that can be served waits for the upstream's word, counted from when the upstream was asked.
const REVALIDATION_DEADLINE: Duration = Duration::from_millis(1500);

/// A HEAD and the GET after it share what is meant for all URLs of one question: containerd gives a mirror up after 30 s.
const BUDGET: Duration = Duration::from_secs(20);

/// After a failed refresh, what is held is served at once for so long.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(5);

/// One tag of one repository.
pub(super) type TagKey = (RegistryName, RepositoryName, Tag);

/// What a refresh of a tag found.
#[derive(Clone, Debug)]
pub(super) struct Refreshed {
    held: Arc<Held>,
    /// Whether it was held already, and the upstream only said that the tag means it.
    same: bool,
}

/// The tags whose last refresh failed, and when.
pub(super) struct Failing(Cache<TagKey, Instant>);

impl Failing {
    pub(super) fn new() -> Self {
        Self(Cache::new(10_000))
    }

    fn failed(&self, key: &TagKey) {
        self.0.insert(key.clone(), Instant::now());
    }

    fn rests(&self, key: &TagKey) -> bool {
        self.0.get(key).is_some_and(|since| since.elapsed() < REST_AFTER_FAILURE)
    }

    pub(super) fn forgive(&self, key: &TagKey) {
        self.0.invalidate(key);
    }
}

impl Mirror {
    /// What a fresh tag means, where that takes no look-up that could wait and its lineage is known.
    pub(super) fn fresh_at_hand(&self, place: &Place, tag: &Tag) -> Option<ManifestAnswer> {
        let record = self.meanings.record(place, tag, self.store.tags_version())?;
        let (rule, now) = (freshness::rule(&place.registry.config().freshness, tag), SystemTime::now());
        if freshness::judge(rule, record.checked, now) != Verdict::Fresh {
            return None;
        }
        let held = self.manifest_at_hand(place, &record.digest)?;
        Some(held.answer(Served::Hit, freshness::age(record.checked, now)))
    }

    pub(super) async fn manifest_by_tag(self: &Arc<Self>, place: &Place, tag: &Tag, head: bool) -> Result<ManifestAnswer, Error> {
        let Some(record) = self.store.tag(&place.name, &place.repository, tag).await else {
            return self.manifest_by_new_tag(place, tag, head).await;
        };
        let rule = freshness::rule(&place.registry.config().freshness, tag);
        let now = SystemTime::now();
        let age = freshness::age(record.checked, now);
        let held = self.held_manifest(place, &record.digest).await;
        match (freshness::judge(rule, record.checked, now), held) {
            (Verdict::Fresh, Some(held)) => Ok(held.answer(Served::Hit, age)),
            (Verdict::Usable, Some(held)) => self.revalidate(place, tag, held, age).await,
            (Verdict::Expired, Some(held)) => self.wait_for_refresh(place, tag, Some(held)).await,
            (_, None) => self.manifest_by_new_tag(place, tag, head).await,
        }
    }

    /// Nothing usable is held.
    async fn manifest_by_new_tag(self: &Arc<Self>, place: &Place, tag: &Tag, head: bool) -> Result<ManifestAnswer, Error> {
        let reference = Reference::Tag(tag.clone());
        self.check_absent(place, &reference)?;
        if head && let Some(answer) = self.head_upstream(place, &reference).await? {
            // The GET that follows comes by digest, so this is the only chance to learn what the tag means.
            self.record_tag(place, tag, answer.digest).await;
            return Ok(answer);
        }
        self.wait_for_refresh(place, tag, None).await
    }

    /// Waits for the upstream's word, but not for long: something usable is held.
    async fn revalidate(self: &Arc<Self>, place: &Place, tag: &Tag, held: Held, age: Duration) -> Result<ManifestAnswer, Error> {
        let key = key(place, tag);
        if self.failing.rests(&key) {
            return Ok(held.answer(Served::Stale, age));
        }
        let (flight, joined) = self.refresh(place, tag, Some(held.clone()));
        let deadline = flight.started + REVALIDATION_DEADLINE;
        match timeout_at(deadline, flight.wait()).await {
            Ok(Ok(refreshed)) => Ok(refreshed.answer(joined)),
            Ok(Err(error)) if error.is_authoritative() => Err(error),
            Ok(Err(_)) | Err(_) => Ok(held.answer(Served::Stale, age)),
        }
    }

    async fn wait_for_refresh(self: &Arc<Self>, place: &Place, tag: &Tag, held: Option<Held>) -> Result<ManifestAnswer, Error> {
        let (flight, joined) = self.refresh(place, tag, held);
        Ok(flight.wait().await?.answer(joined))
    }

    fn refresh(self: &Arc<Self>, place: &Place, tag: &Tag, held: Option<Held>) -> (Flight<Refreshed>, bool) {
        let (mirror, place, tag) = (self.clone(), place.clone(), tag.clone());
        self.refreshes.join_or_start(&key(&place, &tag), || async move {
            let refreshed = timeout(BUDGET, mirror.refresh_now(&place, &tag, held)).await;
            let refreshed = refreshed.unwrap_or_else(|_| Err(Error::late(&place)));
            mirror.conclude(&place, &tag, &refreshed).await;
            refreshed
        })
    }

    /// HEAD first where something is held: Docker Hub counts only GETs. The body is fetched when the digest moved to one that
    /// is not held.
    async fn refresh_now(self: &Arc<Self>, place: &Place, tag: &Tag, held: Option<Held>) -> Result<Refreshed, Error> {
        let reference = Reference::Tag(tag.clone());
        let mut wanted = reference.clone();
        if let Some(held) = held {
            let head = self.ask_head(place, Item::Manifest(reference)).await?;
            match head.digest {
                Some(digest) if digest == held.digest => return Ok(Refreshed { held: Arc::new(held), same: true }),
                // It moved to what another tag brought, perhaps.
                Some(digest) => match self.held_manifest(place, &digest).await {
                    Some(held) => return Ok(Refreshed { held: Arc::new(held), same: true }),
                    None => wanted = Reference::Digest(digest),
                },
                None => {}
            }
        }
        let (held, _) = self.fetch_manifest(place, wanted).await?;
        Ok(Refreshed { held, same: false })
    }

    async fn conclude(&self, place: &Place, tag: &Tag, refreshed: &Result<Refreshed, Error>) {
        match refreshed {
            Ok(refreshed) => {
                self.failing.forgive(&key(place, tag));
                self.record_tag(place, tag, refreshed.held.digest).await;
            }
            // The upstream took the tag back: what is held may no longer stand in for it.
            Err(error) if error.is_authoritative() => {
                self.store.remove_tag(&place.name, &place.repository, tag).await;
            }
            Err(error) => {
                tracing::warn!(%place, %tag, %error, "the upstream could not be asked for a tag");
                self.failing.failed(&key(place, tag));
            }
        }
    }

    async fn record_tag(&self, place: &Place, tag: &Tag, digest: Digest) {
        self.store.put_reached(&place.name, &place.repository, &digest, tag).await;
        let record = TagRecord { digest, checked: SystemTime::now() };
        self.store.put_tag(&place.name, &place.repository, tag, record);
    }
}

impl Refreshed {
    fn answer(self, joined: bool) -> ManifestAnswer {
        let served = match (self.same, joined) {
            (true, _) => Served::Revalidated,
            (false, true) => Served::Joined,
            (false, false) => Served::Miss,
        };
        Arc::unwrap_or_clone(self.held).answer(served, Duration::ZERO)
    }
}

pub(super) fn key(place: &Place, tag: &Tag) -> TagKey {
    (place.name.clone(), place.repository.clone(), tag.clone())
}
