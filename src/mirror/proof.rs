//! Links: what is stored for one repository is served through another only after the upstream vouched for that one too.

use std::sync::Arc;

use super::{Error, Mirror, Place};
use crate::oci::{Descriptor, Digest, ManifestKind};

/// Children of one manifest that are proved in the background; more than any real manifest has.
const MOST_CHILDREN: usize = 256;

impl Mirror {
    /// Asks the upstream whether `digest` is in this repository, and links it. Its length, where the upstream said.
    pub(super) async fn prove_blob(&self, place: &Place, digest: &Digest) -> Result<Option<u64>, Error> {
        let head = place.registry.head_blob(&place.repository, digest).await;
        let head = head.map_err(|error| self.note_blob_absent(place, digest, error.into()))?;
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
                mirror.prove_child(&place, kind, &digest).await;
            }
        });
    }

    async fn prove_child(self: &Arc<Self>, place: &Place, kind: ManifestKind, digest: &Digest) {
        if self.is_linked(place, digest).await || !matches!(self.store.open_blob(digest).await, Ok(Some(_))) {
            return;
        }
        let proved = match kind {
            ManifestKind::Index => self.prove_manifest(place, digest).await.map(|_| ()),
            ManifestKind::Image | ManifestKind::Opaque => self.prove_blob(place, digest).await.map(|_| ()),
        };
        if let Err(error) = proved {
            tracing::debug!(%place, %digest, %error, "not linked");
        }
    }
}
