//! Images made from nothing but a seed: the same bytes and digests on every run.

use bytes::Bytes;
use roadstead::oci::{Algorithm, Digest};
use serde_json::{Value, json};

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Some content and what it is called by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    pub digest: Digest,
    pub bytes: Bytes,
}

/// A manifest, index or list, as it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub digest: Digest,
    pub media_type: String,
    pub bytes: Bytes,
}

/// An image and all that its manifest names.
#[derive(Clone, Debug)]
pub struct Image {
    pub manifest: Manifest,
    pub config: Blob,
    pub layers: Vec<Blob>,
}

impl Blob {
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { digest: Digest::of(Algorithm::Sha256, &bytes), bytes }
    }

    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The descriptor that names this blob.
    pub fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.bytes.len() })
    }
}

/// A layer of `size` incompressible bytes; the same size gives the same layer.
pub fn layer(size: usize) -> Blob {
    noise(size as u64, size)
}

/// `size` incompressible bytes from a seed (splitmix64).
pub fn noise(seed: u64, size: usize) -> Blob {
    let word = |n: u64| {
        let mut z = seed.wrapping_add((n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    Blob::new((0u64..).flat_map(|n| word(n).to_le_bytes()).take(size).collect::<Vec<u8>>())
}

impl Manifest {
    /// A manifest of any content, true or not.
    pub fn new(media_type: &str, content: &Value) -> Self {
        Self::raw(media_type, content.to_string())
    }

    /// A manifest of any bytes.
    pub fn raw(media_type: &str, bytes: impl Into<Bytes>) -> Self {
        let Blob { digest, bytes } = Blob::new(bytes);
        Self { digest, media_type: media_type.to_owned(), bytes }
    }

    /// An OCI index of images by platform (`linux/amd64`).
    pub fn index(images: &[(&Image, &str)]) -> Self {
        Self::of_platforms(OCI_INDEX, images)
    }

    /// A Docker manifest list of images by platform.
    pub fn docker_list(images: &[(&Image, &str)]) -> Self {
        Self::of_platforms(DOCKER_LIST, images)
    }

    fn of_platforms(media_type: &str, images: &[(&Image, &str)]) -> Self {
        let entry = |(image, platform): &(&Image, &str)| {
            let (os, architecture) = platform.split_once('/').unwrap();
            let mut entry = image.manifest.descriptor();
            entry["platform"] = json!({ "os": os, "architecture": architecture });
            entry
        };
        let manifests: Vec<Value> = images.iter().map(entry).collect();
        Self::new(media_type, &json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests }))
    }

    /// The descriptor that names this manifest.
    pub fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len() })
    }

    /// The content as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }
}

impl Image {
    /// An OCI image of these layers.
    pub fn oci(layers: &[Blob]) -> Self {
        Self::of(OCI_MANIFEST, (OCI_CONFIG, OCI_LAYER), layers)
    }

    /// A Docker schema 2 image of these layers.
    pub fn docker(layers: &[Blob]) -> Self {
        Self::of(DOCKER_MANIFEST, (DOCKER_CONFIG, DOCKER_LAYER), layers)
    }

    /// An OCI 1.1 artifact of this type that refers to `subject`.
    pub fn artifact(subject: &Manifest, artifact_type: &str, payload: &Blob) -> Self {
        let config = Blob::new("{}");
        let content = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": artifact_type, "config": config.descriptor(EMPTY),
            "layers": [payload.descriptor(artifact_type)], "subject": subject.descriptor(),
        });
        Self { manifest: Manifest::new(OCI_MANIFEST, &content), config, layers: vec![payload.clone()] }
    }

    /// The same image under a manifest that `edit` has changed: a wrong size, a missing type.
    pub fn edited(&self, edit: impl FnOnce(&mut Value)) -> Self {
        let mut content = self.manifest.json();
        edit(&mut content);
        Self { manifest: Manifest::new(&self.manifest.media_type, &content), ..self.clone() }
    }

    fn of(media_type: &str, (config_type, layer_type): (&str, &str), layers: &[Blob]) -> Self {
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
        let rootfs = json!({ "type": "layers", "diff_ids": diff_ids });
        let config = Blob::new(json!({ "os": "linux", "architecture": "amd64", "rootfs": rootfs }).to_string());
        let named: Vec<Value> = layers.iter().map(|layer| layer.descriptor(layer_type)).collect();
        let content =
            json!({ "schemaVersion": 2, "mediaType": media_type, "config": config.descriptor(config_type), "layers": named });
        Self { manifest: Manifest::new(media_type, &content), config, layers: layers.to_vec() }
    }
}
