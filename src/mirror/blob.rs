//! Blobs: from memory, from disk, from a download under way, or from a new one.

use std::sync::Arc;

use super::content::Content;
use super::download::{Download, Seat};
use super::{Error, Kind, Mirror, Place};
use crate::oci::{ContentName, Digest};
use crate::policy::Permit;
use crate::quota::Allowance;
use crate::request::{Item, Served};
use crate::store::AtHand;

/// So many downloads through other repositories are joined one after the other, when each fails.
const MOST_FOREIGN_FAILURES: usize = 3;

/// A blob's answer.
pub struct BlobAnswer {
    /// What headers call it.
    pub name: ContentName,
    /// Its length in bytes, where anybody knows it yet.
    pub length: Option<u64>,
    /// Its bytes. `None` only for a HEAD of something that is not held.
    pub content: Option<Content>,
    /// Where it came from.
    pub served: Served,
}

impl Mirror {
    /// The blob that `permit` is for. `head`: only its head is wanted, so no download is started. A download that is started is
    /// one of `allowance`'s.
    ///
    /// Dropping this future, or the content it returned, leaves a download going on.
    ///
    /// # Errors
    /// As the upstream answered, see [`Kind`]; `Withheld` where the permit is limited and does not cover it.
    pub async fn blob(self: &Arc<Self>, permit: &Permit, allowance: &Allowance, head: bool) -> Result<BlobAnswer, Error> {
        let Item::Blob(digest) = permit.target().item else {
            return Err(Error::new(Kind::Internal, "the permit is not for a blob"));
        };
        let place = self.place(permit)?;
        self.check_reached(permit, &place, &digest).await?;
        if let Some(stored) = self.store.at_hand(&digest) {
            return self.stored_blob(&place, &digest, stored).await;
        }
        // In this order, what a download leaves behind when it ends between two looks is found by the next.
        let download = self.downloads.find(&place.name, &digest);
        if let Some(stored) = self.opened(&digest).await {
            return self.stored_blob(&place, &digest, stored).await;
        }
        let linked = self.is_linked(&place, &digest).await;
        self.check_blob_absent(&place, &digest)?;
        match head {
            true => self.head_blob(&place, digest, linked, download).await,
            false => self.download(&place, &digest, allowance, linked).await,
        }
    }

    /// Serves what is stored, once it is known to be in this repository.
    async fn stored_blob(self: &Arc<Self>, place: &Place, digest: &Digest, stored: AtHand) -> Result<BlobAnswer, Error> {
        let known = match &stored {
            AtHand::Memory(kept) => &kept.known,
            AtHand::File(blob) => &*blob.known,
        };
        let (name, link) = (known.name().clone(), self.store.link_of(known, &place.name, &place.repository, digest).await);
        if link.is_none() {
            self.check_blob_absent(place, digest)?;
            self.prove_blob(place, digest).await?;
        }
        let (length, content) = match stored {
            AtHand::Memory(kept) => (kept.bytes.len() as u64, Content::memory(kept.bytes.clone())),
            AtHand::File(blob) => (blob.size, Content::stored(blob, self.clone())),
        };
        let served = if link.is_some() { Served::Hit } else { Served::Revalidated };
        Ok(BlobAnswer { name, length: Some(length), content: Some(content), served })
    }

    async fn opened(&self, digest: &Digest) -> Option<AtHand> {
        match self.store.open_blob(digest).await {
            Ok(blob) => blob.map(AtHand::File),
            Err(error) => {
                tracing::warn!(%digest, %error, "a stored blob cannot be opened; asking the upstream");
                None
            }
        }
    }

    /// Has the store find out whether a blob is still what it was.
    pub(super) fn suspect(self: &Arc<Self>, digest: Digest) {
        tracing::warn!(%digest, "a stored blob cannot be read");
        let mirror = self.clone();
        self.spawn(async move {
            mirror.store.suspect(&digest).await;
        });
    }

    /// What a download was told is as good as asking again, where it was told so of this repository.
    async fn head_blob(
        self: &Arc<Self>,
        place: &Place,
        digest: Digest,
        linked: bool,
        download: Option<Arc<Download>>,
    ) -> Result<BlobAnswer, Error> {
        let vouched = download.filter(|download| linked || download.repository == place.repository);
        if let Some(length) = vouched.and_then(|download| download.length()) {
            return Ok(BlobAnswer { name: ContentName::of(&digest), length: Some(length), content: None, served: Served::Joined });
        }
        let length = self.prove_blob(place, &digest).await?;
        Ok(BlobAnswer { name: ContentName::of(&digest), length, content: None, served: Served::Miss })
    }

    /// Answers from a download that is joined or started now. Who comes through another repository than the one it runs
    /// through must be proved before joining. What ended since the store was looked into is found by the new one.
    async fn download(
        self: &Arc<Self>,
        place: &Place,
        digest: &Digest,
        allowance: &Allowance,
        mut linked: bool,
    ) -> Result<BlobAnswer, Error> {
        let is_foreign = |download: &Arc<Download>| download.repository != place.repository;
        for _ in 0..MOST_FOREIGN_FAILURES {
            if !linked && self.downloads.find(&place.name, digest).as_ref().is_some_and(is_foreign) {
                self.prove_blob(place, digest).await?;
                linked = true;
            }
            let (seat, joined) = self.downloads.join_or_start(self, place, digest, self.sizes.get(place, digest), allowance)?;
            let foreign = is_foreign(&seat.download);
            if foreign && !linked {
                // It began meanwhile.
                continue;
            }
            match self.answer(place, digest, seat, joined).await {
                // What an upstream says of another repository is no word on this one.
                Err(error) if foreign && error.is_of_repository() => {}
                Err(error) => return Err(self.note_blob_absent(place, digest, error)),
                answer => return answer,
            }
        }
        Err(Error::new(Kind::Overloaded, format!("downloads of {digest} through other repositories failed; ask again")))
    }

    async fn answer(&self, place: &Place, digest: &Digest, seat: Seat, joined: bool) -> Result<BlobAnswer, Error> {
        if joined {
            self.telemetry.metrics.joined();
        }
        // A promise of nothing would be a whole answer before the digest is known.
        let promised = || self.sizes.get(place, digest).filter(|size| *size > 0);
        let length = seat.download.head().await?.or_else(promised);
        let served = if joined { Served::Joined } else { Served::Miss };
        let (name, content) = (ContentName::of(digest), Some(Content::filling(seat, length)));
        Ok(BlobAnswer { name, length, content, served })
    }

    fn check_blob_absent(&self, place: &Place, digest: &Digest) -> Result<(), Error> {
        if self.absent.contains(&place.target(Item::Blob(*digest))) {
            return Err(Error::not_found(format_args!("{digest} in {place}")));
        }
        Ok(())
    }

    pub(super) fn note_blob_absent(&self, place: &Place, digest: &Digest, error: Error) -> Error {
        if error.kind == Kind::NotFound {
            self.absent.insert(&place.target(Item::Blob(*digest)));
        }
        error
    }
}
