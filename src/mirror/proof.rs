//! Links: what is stored for one repository is served through another only after the upstream vouched for that one too.

use std::sync::Arc;

use super::{Error, Kind, Mirror, Place};
use crate::oci::{Descriptor, Digest, ManifestKind};
use crate::request::Item;
use crate::upstream::ManifestHead;

/// Children of one manifest that are proved in the background; more than any real manifest has.
const MOST_CHILDREN: usize = 256;

impl Mirror {
    /// Asks the upstream for the head of a manifest or blob, once for all who want it now. A 404 is remembered.
    pub(super) async fn ask_head(self: &Arc<Self>, place: &Place, item: Item) -> Result<ManifestHead, Error> {
        let (mirror, place, target) = (self.clone(), place.clone(), place.target(item));
        let (flight, _) = self.heads.join_or_start(&target.clone(), || async move {
            let head = mirror.ask_head_now(&place, &target.item).await;
            if head.as_ref().is_err_and(|error| error.kind == Kind::NotFound) {
                mirror.absent.insert(&target);
            }
            head
        });
        flight.wait().await
    }

    async fn ask_head_now(&self, place: &Place, item: &Item) -> Result<ManifestHead, Error> {
        match item {
            Item::Manifest(reference) => Ok(place.registry.head_manifest(&place.repository, reference).await?),
            Item::Blob(digest) => {
                let head = place.registry.head_blob(&place.repository, digest).await?;
                Ok(ManifestHead { digest: None, media_type: None, length: head.length })
            }
            Item::Tags | Item::Referrers(_) => Err(Error::new(Kind::Internal, "a list has no head")),
        }
    }

    /// Asks the upstream whether `digest` is in this repository, and links it. Its length, where the upstream said.
    pub(super) async fn prove_blob(self: &Arc<Self>, place: &Place, digest: &Digest) -> Result<Option<u64>, Error> {
        let head = self.ask_head(place, Item::Blob(*digest)).await?;
        self.learn_link(place, digest).await;
        Ok(head.length)
    }

    /// Proves those children of a new manifest that are stored already but not linked here, behind the answer's back: so a
    /// later pull finds them even when the upstream is gone.
    pub(super) fn prove_children(self: &Arc<Self>, place: &Place, kind: ManifestKind, children: &[Descriptor]) {
        let digests: Vec<Digest> = children.iter().take(MOST_CHILDREN).map(|child| child.digest).collect();
        let (mirror, place) = (self.clone(), place.clone());
        self.spawn(async move {
            for digest in digests {
                if let Err(error) = mirror.prove_child(&place, kind, &digest).await {
                    tracing::debug!(%place, %digest, %error, "not linked");
                    // What one is refused says nothing of the next, but an upstream that fails would fail on.
                    if !error.is_authoritative() {
                        return;
                    }
                }
            }
        });
    }

    async fn prove_child(self: &Arc<Self>, place: &Place, kind: ManifestKind, digest: &Digest) -> Result<(), Error> {
        if self.is_linked(place, digest).await || !matches!(self.store.open_blob(digest).await, Ok(Some(_))) {
            return Ok(());
        }
        match kind {
            ManifestKind::Index => self.prove_manifest(place, digest).await.map(drop),
            ManifestKind::Image | ManifestKind::Opaque => self.prove_blob(place, digest).await.map(drop),
        }
    }
}
