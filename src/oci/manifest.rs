//! Manifests and indexes: enough of them to know what they are and what they name (image-spec; fact sheet section 4).

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Digest;

/// The largest manifest that is read, in bytes: what registries accept, and below what containerd does (fact sheet 5.1).
pub const MAX_MANIFEST: u64 = 4 * 1024 * 1024;

/// The one Accept header that every upstream gets, whatever the client sent: all forms that exist, so that a registry never
/// converts and every client shares one stored answer.
pub const ACCEPT_MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.oci.artifact.manifest.v1+json, */*";

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What a manifest says of something else.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Descriptor {
    /// The digest of the content.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Its media type, empty where it has none.
    #[serde(default, rename = "mediaType")]
    pub media_type: String,
}

/// Whether a manifest names blobs or other manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestKind {
    /// An image or artifact: its children are blobs.
    Image,
    /// An index or manifest list: its children are manifests.
    Index,
    /// Something else (schema 1, unknown JSON): served as it is, nothing is known of its children.
    Opaque,
}

/// What is known of a manifest's content. The bytes themselves are kept beside it and never written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The type to serve it under.
    pub media_type: String,
    /// What its children are.
    pub kind: ManifestKind,
    /// What it names, config first. Descriptors whose digest is not one of ours are left out.
    pub children: Vec<Descriptor>,
    /// What it refers to, where it is a referrer.
    pub subject: Option<Descriptor>,
}

/// Why bytes are no manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not a JSON object.
    #[error("the manifest is not a JSON object")]
    Json,
    /// Both `manifests` and `layers` or `config`: two readers could take it for two things (CVE-2021-41190).
    #[error("the manifest is both an image and an index")]
    Ambiguous,
    /// Larger than [`MAX_MANIFEST`].
    #[error("the manifest is larger than 4 MiB")]
    TooLarge,
}

/// The members that are looked at, each as it stands in the body: a tree of it all would take a hundred times its bytes.
#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow, rename = "mediaType")]
    media_type: Option<&'a RawValue>,
    manifests: Option<Descriptors>,
    #[serde(borrow)]
    config: Option<&'a RawValue>,
    layers: Option<Descriptors>,
    blobs: Option<Descriptors>,
    #[serde(borrow)]
    subject: Option<&'a RawValue>,
}

/// The usable descriptors of a list.
#[derive(Default)]
struct Descriptors(Vec<Descriptor>);

impl<'de> Deserialize<'de> for Descriptors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Self::default())
    }
}

impl<'de> Visitor<'de> for Descriptors {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of descriptors")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Self, A::Error> {
        while let Some(item) = items.next_element::<&RawValue>()? {
            self.0.extend(read(item));
        }
        Ok(self)
    }
}

impl Manifest {
    /// Reads a manifest. `content_type` is the upstream's header; it decides the type only where the body names none that
    /// fits. Takes time linear in the body, which the caller has capped.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn parse(body: &[u8], content_type: Option<&str>) -> Result<Self, ManifestError> {
        if body.len() as u64 > MAX_MANIFEST {
            return Err(ManifestError::TooLarge);
        }
        // serde would take a list for an object as well.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(ManifestError::Json);
        }
        let raw: Raw<'_> = serde_json::from_slice(body).map_err(|_| ManifestError::Json)?;
        let is_index = raw.manifests.is_some();
        let is_image = raw.layers.is_some() || raw.config.is_some();
        if is_index && is_image {
            return Err(ManifestError::Ambiguous);
        }
        let own = raw.media_type.and_then(read::<String>);
        let kind = if is_index {
            ManifestKind::Index
        } else if is_image || raw.blobs.is_some() {
            ManifestKind::Image
        } else {
            ManifestKind::Opaque
        };
        let list = |list: Option<Descriptors>| list.unwrap_or_default().0;
        let children = list(raw.manifests).into_iter().chain(raw.config.and_then(read)).chain(list(raw.layers));
        Ok(Self {
            media_type: served_as(own.as_deref(), content_type, kind),
            kind,
            children: children.chain(list(raw.blobs)).collect(),
            subject: raw.subject.and_then(read),
        })
    }
}

fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

/// The media type in a `Content-Type` that somebody else wrote, without its parameters. `None` where it is not fit to be
/// sent on.
pub fn media_type(content_type: &str) -> Option<&str> {
    let text = content_type.split(';').next().unwrap_or_default().trim();
    let good = text.contains('/') && text.len() < 256 && text.bytes().all(|b| (0x21..0x7f).contains(&b));
    good.then_some(text)
}

/// The body's own word first: clients refuse an answer whose header says otherwise (distribution-spec "Pulling manifests").
fn served_as(own: Option<&str>, header: Option<&str>, kind: ManifestKind) -> String {
    let generic = |text: &&str| matches!(*text, "application/json" | "text/plain" | "application/octet-stream");
    let header = || header.and_then(media_type).filter(|text| !generic(text));
    let found = own.filter(|own| media_type(own) == Some(own)).or_else(header);
    let fallback = match kind {
        ManifestKind::Index => OCI_INDEX,
        ManifestKind::Image => OCI_MANIFEST,
        ManifestKind::Opaque => "application/json",
    };
    found.unwrap_or(fallback).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(body: &str, content_type: Option<&str>) -> Result<Manifest, ManifestError> {
        Manifest::parse(body.as_bytes(), content_type)
    }

    #[test]
    fn an_image_names_its_config_and_layers() {
        let body = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{D}","size":2}},"layers":[{{"mediaType":"l","digest":"{D}","size":3}},{{"digest":"md5:x","size":1}}]}}"#
        );
        let manifest = parse(&body, Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8")).unwrap();
        assert_eq!(manifest.kind, ManifestKind::Image);
        assert_eq!(manifest.media_type, OCI_MANIFEST);
        assert_eq!(manifest.children.iter().map(|c| c.size).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn an_index_names_manifests() {
        let body = format!(
            r#"{{"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[{{"digest":"{D}","size":9}}]}}"#
        );
        let manifest = parse(&body, Some("text/plain")).unwrap();
        assert_eq!(manifest.kind, ManifestKind::Index);
        assert_eq!(manifest.media_type, "application/vnd.docker.distribution.manifest.list.v2+json");
        assert_eq!(manifest.children.len(), 1);
    }

    #[test]
    fn the_type_is_found_even_where_nothing_useful_is_said() {
        for (body, content_type, expected) in [
            (r#"{"layers":[]}"#, None, OCI_MANIFEST),
            (r#"{"manifests":[]}"#, Some("application/json"), OCI_INDEX),
            (r#"{"layers":[],"mediaType":"evil\r\nheader: x/y"}"#, Some("a/b"), "a/b"),
            (r#"{"layers":[],"mediaType":7}"#, Some("a/b"), "a/b"),
            (r#"{"layers":[],"mediaType":"a/b; c=d"}"#, None, OCI_MANIFEST),
            (r#"{"layers":[],"mediaType":"\u0061/b","config":null}"#, Some("c/d"), "a/b"),
            (
                r#"{"fsLayers":[]}"#,
                Some("application/vnd.docker.distribution.manifest.v1+prettyjws"),
                "application/vnd.docker.distribution.manifest.v1+prettyjws",
            ),
        ] {
            assert_eq!(parse(body, content_type).unwrap().media_type, expected, "{body}");
        }
    }

    #[test]
    fn what_could_be_read_two_ways_is_refused() {
        assert_eq!(parse(r#"{"manifests":[],"layers":[]}"#, None), Err(ManifestError::Ambiguous));
        assert_eq!(parse(r#"{"manifests":[],"config":{}}"#, None), Err(ManifestError::Ambiguous));
        assert_eq!(parse(r#"{"layers":[],"layers":[]}"#, None), Err(ManifestError::Json));
        assert_eq!(parse("[]", None), Err(ManifestError::Json));
        assert_eq!(parse("[null,[],null,null,null,null]", None), Err(ManifestError::Json));
        assert_eq!(parse(r#"{"layers":{}}"#, None), Err(ManifestError::Json));
        assert_eq!(parse("not json", None), Err(ManifestError::Json));
        assert_eq!(Manifest::parse(&vec![b' '; MAX_MANIFEST as usize + 1], None), Err(ManifestError::TooLarge));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(body in proptest::collection::vec(proptest::num::u8::ANY, 0..300), header in proptest::option::of(".{0,40}")) {
            let _ = Manifest::parse(&body, header.as_deref());
        }
    }
}
