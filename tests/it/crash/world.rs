//! What there is to pull: images of all sizes, from a seed.

use bytes::Bytes;
use rand::RngExt as _;
use rand::rngs::StdRng;
use roadstead::oci::Digest;

use crate::support::{Blob, Image, Registry};

pub(super) const KIB: usize = 1 << 10;
pub(super) const MIB: usize = 1 << 20;
pub(super) const GIANT: usize = 24 * MIB;
const REPOSITORY: &str = "library/app";

/// The upstream and what it holds.
pub(super) struct World {
    pub(super) hub: Registry,
    pub(super) images: Vec<Tagged>,
    made: usize,
}

pub(super) struct Tagged {
    pub(super) tag: String,
    pub(super) image: Image,
}

/// Something that can be asked for.
#[derive(Clone, Debug)]
pub(super) struct Thing {
    pub(super) digest: Digest,
    pub(super) bytes: Bytes,
    /// Where it is.
    pub(super) path: String,
    pub(super) is_blob: bool,
}

impl World {
    /// Four images; the first layer of the first is the largest there is.
    pub(super) async fn new(rng: &mut StdRng) -> Self {
        let mut world = Self { hub: Registry::start().await, images: Vec::new(), made: 0 };
        world.add(&[noise(rng, GIANT), noise(rng, 5 * KIB)]);
        for _ in 0..3 {
            world.add_image(rng);
        }
        world
    }

    /// One more image: a tiny layer, a middling one and a large one.
    pub(super) fn add_image(&mut self, rng: &mut StdRng) {
        let sizes = [KIB..64 * KIB, 64 * KIB..4 * MIB, 6 * MIB..GIANT];
        let layers = sizes.map(|sizes| {
            let size = rng.random_range(sizes);
            noise(rng, size)
        });
        self.add(&layers);
    }

    fn add(&mut self, layers: &[Blob]) {
        let tag = format!("v{}", self.made);
        self.made += 1;
        let image = self.hub.push_image(REPOSITORY, &tag, layers);
        self.images.push(Tagged { tag, image });
    }

    /// The upstream keeps no more than `most` of the images that fit, the newest of them. What it has no more.
    pub(super) fn retire(&mut self, most: usize, fits: impl Fn(&Tagged) -> bool) -> Vec<Thing> {
        let mut retired = Vec::new();
        while let Some(old) = self.images.iter().position(&fits).filter(|_| self.images.len() > most) {
            retired.extend(self.images.remove(old).things());
        }
        retired.iter().for_each(|thing| self.hub.remove(REPOSITORY, &thing.digest));
        retired
    }

    /// Everything by digest.
    pub(super) fn things(&self) -> impl Iterator<Item = Thing> {
        self.images.iter().flat_map(Tagged::things)
    }

    pub(super) fn blobs(&self) -> impl Iterator<Item = Thing> {
        self.things().filter(|thing| thing.is_blob)
    }
}

impl Tagged {
    /// What a client asks for that pulls it, in that order.
    pub(super) fn pull(&self) -> Vec<Thing> {
        let mut things = self.things();
        things[0].path = format!("/v2/{REPOSITORY}/manifests/{}", self.tag);
        things
    }

    /// Manifest, configuration and layers, each by digest.
    pub(super) fn things(&self) -> Vec<Thing> {
        let Image { manifest, config, layers } = &self.image;
        let of = |digest: Digest, bytes: &Bytes, kind| Thing {
            digest,
            bytes: bytes.clone(),
            path: format!("/v2/{REPOSITORY}/{kind}/{digest}"),
            is_blob: kind == "blobs",
        };
        let blobs = [config].into_iter().chain(layers).map(|blob| of(blob.digest, &blob.bytes, "blobs"));
        [of(manifest.digest, &manifest.bytes, "manifests")].into_iter().chain(blobs).collect()
    }
}

/// Incompressible bytes, eight at a time (splitmix64): filling them from `rng` takes seconds in a build without optimisation.
fn noise(rng: &mut StdRng, size: usize) -> Blob {
    let mut state: u64 = rng.random();
    let mut bytes = vec![0; size];
    for word in bytes.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word.copy_from_slice(&mixed.to_le_bytes()[..word.len()]);
    }
    Blob::new(bytes)
}
