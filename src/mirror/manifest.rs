//! Manifests: held, proved or fetched, always whole and verified before anything of them is answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::lineage::check_tag;
use super::{Error, Kind, Mirror, Place};
use crate::oci::{self, Algorithm, ContentName, Digest, MediaType, Reference, RegistryName, RepositoryName};
use crate::policy::{Permit, Scope};
use crate::request::{Item, Served};
use crate::store::{self, Link, StoredManifest};
use crate::upstream::{ManifestHead, ManifestReply};

/// A manifest's answer.
#[derive(Clone, Debug)]
pub struct ManifestAnswer {
    /// The digest of the content.
    pub digest: Digest,
    /// What headers call it.
    pub name: ContentName,
    /// What it is served as.
    pub media_type: MediaType,
    /// Its length in bytes.
    pub length: u64,
    /// Its bytes. `None` only for a HEAD of something that is not held.
    pub body: Option<Bytes>,
    /// Where it came from.
    pub served: Served,
    /// How long ago the upstream last confirmed it.
    pub age: Duration,
}

/// One manifest of one repository, by tag or digest.
pub(super) type ManifestKey = (RegistryName, RepositoryName, Reference);

/// A manifest in hand.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) digest: Digest,
    pub(super) name: ContentName,
    pub(super) media_type: MediaType,
    pub(super) body: Bytes,
}

impl Held {
    fn new(digest: &Digest, media_type: String, body: Bytes) -> Self {
        Self { digest: *digest, name: ContentName::of(digest), media_type: media_type.into(), body }
    }

    fn stored(digest: &Digest, manifest: StoredManifest) -> Self {
        let StoredManifest { name, media_type, bytes } = manifest;
        Self { digest: *digest, name, media_type, body: bytes }
    }

    pub(super) fn answer(self, served: Served, age: Duration) -> ManifestAnswer {
        let Self { digest, name, media_type, body } = self;
        ManifestAnswer { digest, name, media_type, length: body.len() as u64, body: Some(body), served, age }
    }
}

impl Mirror {
    /// The manifest that `permit` is for. `head`: only its head is wanted, so nothing is fetched for it.
    ///
    /// Dropping this future leaves a fetch going on for others.
    ///
    /// # Errors
    /// As the upstream answered, see [`Kind`]; `Withheld` where the permit is limited and does not cover it.
    pub async fn manifest(self: &Arc<Self>, permit: &Permit, head: bool) -> Result<ManifestAnswer, Error> {
        let Item::Manifest(reference) = &permit.target().item else {
            return Err(Error::new(Kind::Internal, "the permit is not for a manifest"));
        };
        let place = self.place(permit)?;
        match reference {
            Reference::Digest(digest) => {
                let is_limited = matches!(permit.scope(), Scope::Limited(_));
                if !is_limited && let Some(held) = self.manifest_at_hand(&place, digest) {
                    return Ok(held.answer(Served::Hit, Duration::ZERO));
                }
                self.check_reached(permit, &place, digest).await?;
                let answer = self.manifest_by_digest(&place, digest, head).await?;
                if is_limited {
                    self.remember_held(&place, &answer).await;
                }
                Ok(answer)
            }
            Reference::Tag(tag) => {
                if let Some(answer) = self.fresh_at_hand(&place, tag) {
                    check_tag(permit, &place, tag, &answer.digest)?;
                    return Ok(answer);
                }
                let answer = self.manifest_by_tag(&place, tag, head).await?;
                check_tag(permit, &place, tag, &answer.digest)?;
                self.remember_tag(&place, tag, &answer).await;
                Ok(answer)
            }
        }
    }

    async fn manifest_by_digest(self: &Arc<Self>, place: &Place, digest: &Digest, head: bool) -> Result<ManifestAnswer, Error> {
        if let Some(held) = self.held_manifest(place, digest).await {
            return Ok(held.answer(Served::Hit, Duration::ZERO));
        }
        let reference = Reference::Digest(*digest);
        self.check_absent(place, &reference)?;
        if let Some(held) = self.prove_manifest(place, digest).await? {
            return Ok(held.answer(Served::Revalidated, Duration::ZERO));
        }
        if head && let Some(answer) = self.head_upstream(place, &reference).await? {
            return Ok(answer);
        }
        let (held, joined) = self.fetch_manifest(place, reference).await?;
        Ok(Arc::unwrap_or_clone(held).answer(if joined { Served::Joined } else { Served::Miss }, Duration::ZERO))
    }

    /// What is stored and linked to this repository as a manifest.
    pub(super) async fn held_manifest(&self, place: &Place, digest: &Digest) -> Option<Held> {
        if let Some(held) = self.manifest_at_hand(place, digest) {
            return Some(held);
        }
        let stored = self.store.manifest(&place.name, &place.repository, digest).await;
        Some(Held::stored(digest, readable(digest, stored)?))
    }

    pub(super) fn manifest_at_hand(&self, place: &Place, digest: &Digest) -> Option<Held> {
        let stored = self.store.manifest_at_hand(&place.name, &place.repository, digest)?;
        Some(Held::stored(digest, stored))
    }

    /// Bytes that are stored for another repository are served here only after the upstream vouched for this one.
    pub(super) async fn prove_manifest(self: &Arc<Self>, place: &Place, digest: &Digest) -> Result<Option<Held>, Error> {
        let Some(body) = readable(digest, self.store.read(digest).await) else { return Ok(None) };
        let head = self.ask_head(place, Item::Manifest(Reference::Digest(*digest))).await?;
        let manifest = oci::Manifest::parse(&body, head.media_type.as_deref())?;
        self.take_in(place, digest, &manifest);
        Ok(Some(Held::new(digest, manifest.media_type, body)))
    }

    /// Asks only for the head. `None` where the upstream's head says too little to answer with: clients need digest and length.
    pub(super) async fn head_upstream(
        self: &Arc<Self>,
        place: &Place,
        reference: &Reference,
    ) -> Result<Option<ManifestAnswer>, Error> {
        let ManifestHead { digest, media_type, length } = self.ask_head(place, Item::Manifest(reference.clone())).await?;
        let (Some(digest), Some(media_type), Some(length)) = (digest, media_type, length) else { return Ok(None) };
        if matches!(reference, Reference::Digest(asked) if *asked != digest) {
            return Err(Error::mismatch(place.registry.label(), &digest, "another digest"));
        }
        let (name, media_type, served) = (ContentName::of(&digest), media_type.into(), Served::Miss);
        Ok(Some(ManifestAnswer { digest, name, media_type, length, body: None, served, age: Duration::ZERO }))
    }

    /// Fetches, verifies and stores a manifest, once for all who want it now. The flag says whether it was joined.
    pub(super) async fn fetch_manifest(self: &Arc<Self>, place: &Place, reference: Reference) -> Result<(Arc<Held>, bool), Error> {
        let key = (place.name.clone(), place.repository.clone(), reference.clone());
        let (mirror, place) = (self.clone(), place.clone());
        let (flight, joined) = self.manifests.join_or_start(&key, || async move { mirror.fetch_now(&place, &reference).await });
        Ok((flight.wait().await?, joined))
    }

    async fn fetch_now(self: &Arc<Self>, place: &Place, reference: &Reference) -> Result<Arc<Held>, Error> {
        let reply = place.registry.get_manifest(&place.repository, reference).await;
        let reply = reply.map_err(|error| self.note_absent(place, reference, error.into()))?;
        let digest = self.verified_digest(place, reference, &reply)?;
        let manifest = oci::Manifest::parse(&reply.body, reply.media_type.as_deref())?;
        self.take_in(place, &digest, &manifest);
        self.keep_manifest(digest, reply.body.clone());
        self.prove_children(place, manifest.kind, &manifest.children);
        Ok(Arc::new(Held::new(&digest, manifest.media_type, reply.body)))
    }

    /// The digest of what came, which must be the one that was asked for and the one that the upstream claims.
    fn verified_digest(&self, place: &Place, reference: &Reference, reply: &ManifestReply) -> Result<Digest, Error> {
        let expected = match reference {
            Reference::Digest(digest) => Some(*digest),
            Reference::Tag(_) => reply.digest,
        };
        let algorithm = expected.map_or(Algorithm::Sha256, |digest| digest.algorithm());
        let found = Digest::of(algorithm, &reply.body);
        let lies = |claimed: Digest| claimed.algorithm() == algorithm && claimed != found;
        match expected.into_iter().chain(reply.digest).find(|claimed| lies(*claimed)) {
            None => Ok(found),
            Some(claimed) => {
                self.telemetry.metrics.mismatch(place.registry.label());
                Err(Error::mismatch(place.registry.label(), &claimed, found))
            }
        }
    }

    /// Links a manifest whose bytes are in hand, and learns from it, before it is answered: what it names is asked for next.
    fn take_in(&self, place: &Place, digest: &Digest, manifest: &oci::Manifest) {
        self.sizes.learn(place, manifest);
        let link = Link { manifest: Some(manifest.media_type.as_str().into()) };
        self.store.put_link(&place.name, &place.repository, digest, link);
        // After the link: an eviction meanwhile drops them in the other order, so that no link outlives the lineage.
        self.remember_children(place, digest, manifest);
    }

    /// Makes it durable behind the answer's back.
    fn keep_manifest(&self, digest: Digest, body: Bytes) {
        let stored = self.store.put(&digest, body);
        self.spawn(async move {
            if let Err(error) = stored.await {
                tracing::warn!(%digest, %error, "a manifest was served, but not stored");
            }
        });
    }

    pub(super) fn check_absent(&self, place: &Place, reference: &Reference) -> Result<(), Error> {
        if self.absent.contains(&place.target(Item::Manifest(reference.clone()))) {
            return Err(Error::not_found(format_args!("{reference} in {place}")));
        }
        Ok(())
    }

    /// Remembers a 404, and hands the error on.
    pub(super) fn note_absent(&self, place: &Place, reference: &Reference, error: Error) -> Error {
        if error.kind == Kind::NotFound {
            self.absent.insert(&place.target(Item::Manifest(reference.clone())));
        }
        error
    }
}

/// What was read, if it could be.
fn readable<T>(digest: &Digest, read: Result<Option<T>, store::Error>) -> Option<T> {
    read.unwrap_or_else(|error| {
        tracing::warn!(%digest, %error, "a stored manifest cannot be read; asking the upstream");
        None
    })
}
