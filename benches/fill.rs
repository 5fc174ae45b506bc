//! Makes a cache folder of many small blobs, as after normal use, for measuring what roadstead does with it.
//!
//!     cargo bench --bench fill -- /tmp/cache 1000000 registry.example

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use clap::Parser;
use futures_util::{StreamExt, TryStreamExt, stream};
use roadstead::config;
use roadstead::oci::{Algorithm, Digest, RegistryName, RepositoryName, Tag};
use roadstead::store::{Error, Link, Store, TagRecord};
use roadstead::telemetry::Telemetry;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// A manifest and what it names.
const IMAGE: u64 = 10;
const REPOSITORIES: u64 = 1000;
const LARGEST: u64 = 4096;
/// So many blobs are put before the index has to have caught up.
const STEP: usize = 20_000;
const AT_ONCE: usize = 16;

/// Makes a cache folder of many small blobs, as roadstead leaves it: files under the digest of what is in them, with links, and
/// images of ten blobs each (a manifest, a config, eight layers of at most 4 KiB) that are tagged and have their lineage. It may be
/// measured and not be trusted: nothing is synced. Prints some paths that answer 200, a manifest's and a blob's by turns.
///
/// A million blobs take two to three minutes, 4 GiB and a million inodes.
#[derive(Debug, Parser)]
#[command(name = "fill")]
struct Arguments {
    /// The folder, as in `cache.directory`; empty, missing, or made by this tool before
    folder: PathBuf,
    /// How many blobs, manifests among them
    count: u64,
    /// The name of the registry that they are linked to, as clients call it
    registry: RegistryName,
    /// How many images' paths are printed
    #[arg(long, default_value_t = 10)]
    paths: u64,
    /// The number of the first blob: another one makes other blobs
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// Content by its number.
#[derive(Clone, Copy)]
struct Numbered {
    number: u64,
    digest: Digest,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let started = Instant::now();
    let cache = config::Cache { directory: arguments.folder.clone(), max_size: Some(u64::MAX), memory: 0 };
    let store = Store::open_hasty(&cache, Telemetry::quiet()).await?;
    let numbers = arguments.from..arguments.from + arguments.count;
    let mut all: Vec<Numbered> = numbers.clone().map(|number| Numbered { number, digest: digest(&content(number)) }).collect();
    // In the order of folders and of the index, which is quicker by far.
    all.sort_unstable_by_key(|blob| blob.digest);
    for some in all.chunks(STEP) {
        put(&store, &arguments.registry, some).await?;
        store.flush().await;
    }
    let mut out = std::io::stdout();
    let step = (arguments.count / arguments.paths.max(1)).max(1) as usize;
    for number in numbers.step_by(step).take(arguments.paths as usize).map(manifest_of) {
        writeln!(out, "{}\n{}", path(number), path(number + 1))?;
    }
    let (usage, seconds) = (store.usage(), started.elapsed().as_secs());
    writeln!(std::io::stderr(), "{} blobs of {} bytes in {seconds} s", usage.blobs, usage.bytes)?;
    Ok(())
}

async fn put(store: &Arc<Store>, registry: &RegistryName, blobs: &[Numbered]) -> Result<(), Error> {
    let one = |blob: &Numbered| {
        let (store, registry, blob) = (store.clone(), registry.clone(), *blob);
        async move {
            let bytes = Bytes::from(content(blob.number));
            record(&store, &registry, &blob, &bytes).await;
            store.put(&blob.digest, bytes).await
        }
    };
    stream::iter(blobs).map(one).buffer_unordered(AT_ONCE).try_collect().await
}

/// What is written down of content when it is fetched.
async fn record(store: &Store, registry: &RegistryName, blob: &Numbered, bytes: &Bytes) {
    let repository = repository(blob.number);
    if !is_manifest(blob.number) {
        store.put_link(registry, &repository, &blob.digest, Link::default());
        return;
    }
    store.put_link(registry, &repository, &blob.digest, Link { manifest: Some(MANIFEST.into()) });
    let manifest = roadstead::oci::Manifest::parse(bytes, Some(MANIFEST)).expect("it is a manifest");
    store.put_children(registry, &repository, &blob.digest, manifest.children.iter().map(|child| child.digest));
    let tag = tag(blob.number);
    store.put_reached(registry, &repository, &blob.digest, &tag).await;
    store.put_tag(registry, &repository, &tag, TagRecord { digest: blob.digest, checked: SystemTime::now() });
}

fn is_manifest(number: u64) -> bool {
    number.is_multiple_of(IMAGE)
}

fn manifest_of(number: u64) -> u64 {
    number / IMAGE * IMAGE
}

fn repository(number: u64) -> RepositoryName {
    format!("bench/app-{}", number / IMAGE % REPOSITORIES).parse().expect("it is a name")
}

fn tag(number: u64) -> Tag {
    format!("v{number}").parse().expect("it is a tag")
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, bytes)
}

fn path(number: u64) -> String {
    let (kind, digest) = (if is_manifest(number) { "manifests" } else { "blobs" }, digest(&content(number)));
    format!("/v2/{}/{kind}/{digest}", repository(number))
}

fn content(number: u64) -> Vec<u8> {
    if is_manifest(number) {
        return manifest(number).into_bytes();
    }
    // Spread evenly, by the golden ratio.
    let size = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let mut bytes = format!("blob {number}\n").into_bytes();
    bytes.resize(bytes.len().max((size % LARGEST) as usize), b'.');
    bytes
}

/// The nine numbers behind it are its config and its layers.
fn manifest(number: u64) -> String {
    let descriptor = |child: u64, kind: &str| {
        let bytes = content(child);
        format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{}","size":{}}}"#, digest(&bytes), bytes.len())
    };
    let config = descriptor(number + 1, "config.v1+json");
    let mut layers = descriptor(number + 2, "layer.v1.tar");
    for child in number + 3..number + IMAGE {
        write!(layers, ",{}", descriptor(child, "layer.v1.tar")).expect("a string takes everything");
    }
    format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{layers}]}}"#)
}
