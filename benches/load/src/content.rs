//! What the upstream has: blobs whose bytes follow from their number, and manifests.

use std::collections::HashMap;

use serde::Serialize;
use sha2::{Digest, Sha256};

/// The bytes of a blob repeat in pieces of this size, but for the stamp that each begins with.
const PIECE: usize = 64 << 10;
const STAMP: usize = 16;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The sort of size that manifests of real images have.
const MANIFEST_SIZE: usize = 4096;

/// Something that has a digest.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its media type.
    pub media_type: &'static str,
    /// How many bytes.
    pub size: u64,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Blob(u64),
    Bytes(Vec<u8>),
}

/// A line of the catalogue that the upstream prints.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// `sha256:…`
    pub digest: String,
    /// How many bytes.
    pub size: u64,
    /// The tag of a manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// All that there is, by digest, and manifests by tag as well.
#[derive(Debug)]
pub struct Content {
    piece: Vec<u8>,
    items: HashMap<String, Item>,
}

impl Default for Content {
    fn default() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let piece = std::iter::repeat_with(next).take(PIECE / 8).flatten().collect();
        Self { piece, items: HashMap::new() }
    }
}

impl Content {
    /// What has this digest or tag.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Item> {
        self.items.get(name)
    }

    /// Adds a blob of this number and size, which costs hashing it.
    pub fn add_blob(&mut self, number: u64, size: u64) -> Entry {
        let item = Item { media_type: "application/octet-stream", size, body: Body::Blob(number) };
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut offset = 0;
        while offset < size {
            let count = usize::try_from(size - offset).unwrap_or(usize::MAX).min(buffer.len());
            self.fill(&item, offset, &mut buffer[..count]);
            hash.update(&buffer[..count]);
            offset += count as u64;
        }
        self.add(&hash.finalize(), item, None)
    }

    /// Adds a manifest of about 4 KiB with the tag `t<number>`.
    pub fn add_manifest(&mut self, number: u64) -> Entry {
        let layer = |n: u64| {
            let digest = hex::encode(Sha256::digest(format!("layer {n} of {number}")));
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:{digest}","size":{}}}"#,
                1000 + n
            )
        };
        let config = layer(0).replace("layer.v1.tar+gzip", "config.v1+json");
        let mut layers: Vec<String> = (1..).map(layer).take(24).collect();
        let join = |layers: &[String]| {
            format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{}]}}"#, layers.join(","))
        };
        while join(&layers).len() > MANIFEST_SIZE {
            layers.pop();
        }
        let bytes = join(&layers).into_bytes();
        let hash = Sha256::digest(&bytes);
        let item = Item { media_type: MANIFEST, size: bytes.len() as u64, body: Body::Bytes(bytes) };
        self.add(&hash, item, Some(format!("t{number}")))
    }

    fn add(&mut self, hash: &[u8], item: Item, tag: Option<String>) -> Entry {
        let digest = format!("sha256:{}", hex::encode(hash));
        let entry = Entry { digest: digest.clone(), size: item.size, tag: tag.clone() };
        if let Some(tag) = tag {
            self.items.insert(tag, item.clone());
        }
        self.items.insert(digest, item);
        entry
    }

    /// Writes the bytes of an item from `offset` on into all of `into`, which must not reach beyond its end.
    pub fn fill(&self, item: &Item, offset: u64, into: &mut [u8]) {
        match &item.body {
            Body::Bytes(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX);
                into.copy_from_slice(&bytes[from..from + into.len()]);
            }
            Body::Blob(number) => self.fill_blob(*number, offset, into),
        }
    }

    fn fill_blob(&self, number: u64, offset: u64, into: &mut [u8]) {
        let mut at = offset;
        let mut rest = into;
        while !rest.is_empty() {
            let within = (at % PIECE as u64) as usize;
            let count = rest.len().min(PIECE - within);
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(&self.piece[within..within + count]);
            let mut stamp = [0; STAMP];
            stamp[..8].copy_from_slice(&number.to_le_bytes());
            stamp[8..].copy_from_slice(&(at / PIECE as u64).to_le_bytes());
            if within < STAMP {
                let stamped = count.min(STAMP - within);
                now[..stamped].copy_from_slice(&stamp[within..within + stamped]);
            }
            at += count as u64;
            rest = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_blob_is_what_lies_there_in_the_whole() {
        let content = Content::default();
        let item = Item { media_type: "", size: 300_000, body: Body::Blob(7) };
        let mut whole = vec![0; 300_000];
        content.fill(&item, 0, &mut whole);
        for (from, to) in [(0, 1), (5, 20), (65_530, 65_560), (131_072, 131_073), (1, 299_999)] {
            let mut part = vec![0; to - from];
            content.fill(&item, from as u64, &mut part);
            assert!(part == whole[from..to], "{from}..{to} differs");
        }
    }

    #[test]
    fn blobs_and_manifests_have_digests_of_their_own() {
        let mut content = Content::default();
        let (one, two) = (content.add_blob(1, 1000), content.add_blob(2, 1000));
        let manifest = content.add_manifest(1);
        assert_ne!(one.digest, two.digest);
        assert!((3700..=4096).contains(&manifest.size), "{}", manifest.size);
        assert!(content.find("t1").is_some() && content.find(&manifest.digest).is_some());
        let item = content.find(&one.digest).expect("it was added");
        let mut bytes = vec![0; 1000];
        content.fill(item, 0, &mut bytes);
        assert_eq!(one.digest, format!("sha256:{}", hex::encode(Sha256::digest(&bytes))));
    }
}
