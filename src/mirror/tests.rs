//! The mirror between a scripted upstream and a store of its own, mostly under paused time. Time stands still while the store
//! works, so what passes is what the mirror waited for.

mod blobs;
mod endings;
mod lineage;
mod overload;
mod ranges;
mod reloads;
mod simulation;
mod tags;

use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::Instant;

use super::*;
use crate::config::{Cache, Freshness};
use crate::oci::{Algorithm, Reference, RepositoryName, Span, Tag};
use crate::quota::Allowance;
use crate::request::{Item, Served, Target};
use crate::store::{Faults, TagRecord};
use crate::upstream::scripted::{Reply, Scripted, Step, config, registry};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const ROOM: u64 = 1 << 30;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A mirror of r.test, whose tags are fresh for a minute and may be served stale for an hour more.
struct Bench {
    mirror: Arc<Mirror>,
    store: Arc<Store>,
    other: Arc<Scripted>,
    tracker: TaskTracker,
    stop: CancellationToken,
    folder: tempfile::TempDir,
}

/// What the upstream is asked.
#[derive(Clone)]
struct Asked {
    /// How many requests came before.
    nth: usize,
    method: String,
    host: String,
    path: String,
    range: Option<String>,
    /// The validator under which a range is wanted.
    if_range: Option<String>,
}

impl Asked {
    fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    fn without_range(&self) -> Self {
        Self { range: None, ..self.clone() }
    }
}

impl Bench {
    async fn new(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(&["https://a.test"], ROOM, script).await
    }

    async fn with(urls: &[&str], room: u64, script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::on(Faults::default(), urls, room, script).await
    }

    /// One whose disk fails so.
    async fn on(faults: Faults, urls: &[&str], room: u64, script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), faults, urls, room, script).await
    }

    async fn in_folder(
        folder: tempfile::TempDir,
        faults: Faults,
        urls: &[&str],
        room: u64,
        script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let cache = Cache { directory: folder.path().join("cache"), max_size: Some(room), memory: 1 << 20 };
        let telemetry = Telemetry::quiet();
        let store = Store::open_faulty(&cache, telemetry.clone(), faults).await.unwrap();
        let (tracker, stop, other) = (TaskTracker::new(), CancellationToken::new(), upstream(script));
        let upstreams = Upstreams::new(&config([registry_at(urls)]), other.clone(), telemetry.clone()).unwrap();
        let mirror = Mirror::new(store.clone(), upstreams, telemetry, tracker.clone(), stop.clone());
        Self { mirror, store, other, tracker, stop, folder }
    }

    fn asked(&self) -> usize {
        self.other.seen().len()
    }

    async fn tag(&self, tag: &str) -> Result<ManifestAnswer, Error> {
        self.mirror.manifest(&permit("app", Item::Manifest(Reference::Tag(tag.parse().unwrap()))), false).await
    }

    async fn manifest(&self, digest: Digest) -> Result<ManifestAnswer, Error> {
        self.mirror.manifest(&permit("app", Item::Manifest(Reference::Digest(digest))), false).await
    }

    async fn blob(&self, repository: &str, digest: Digest) -> Result<BlobAnswer, Error> {
        self.mirror.blob(&permit(repository, Item::Blob(digest)), &Allowance::default(), false).await
    }

    /// The whole blob, as far as it came.
    async fn pull(&self, repository: &str, digest: Digest) -> Result<Vec<u8>, Error> {
        read(self.blob(repository, digest).await?).await.1
    }

    /// Puts a manifest into the cache, and a tag that was checked so long ago. Its digest.
    async fn hold(&self, tag: &str, body: &Bytes, age: Duration) -> Digest {
        let (place, digest) = (permit("app", Item::Tags), digest_of(body));
        let Target { registry, repository, .. } = place.target();
        self.store.put(&digest, body.clone()).await.unwrap();
        self.store.put_link(registry, repository, &digest, Link { manifest: Some(IMAGE.into()) });
        let record = TagRecord { digest, checked: SystemTime::now() - age };
        self.store.put_tag(registry, repository, &tag.parse::<Tag>().unwrap(), record);
        digest
    }

    /// Nothing is under way, and no table remembers anything that was.
    fn is_idle(&self) -> bool {
        let flights = self.mirror.manifests.len() + self.mirror.refreshes.len() + self.mirror.lists.len();
        self.tracker.is_empty() && flights == 0 && self.mirror.downloads.len() == 0
    }

    /// Waits until it is idle, for as long as that takes.
    async fn idle(&self) {
        while !self.is_idle() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn upstream(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Arc<Scripted> {
    let count = AtomicUsize::new(0);
    Scripted::new(move |_, request| {
        let header = |name| request.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        script(&Asked {
            nth: count.fetch_add(1, Ordering::SeqCst),
            method: request.method.to_string(),
            host: request.url.host_str().unwrap().to_owned(),
            path: request.url.path().to_owned(),
            range: header("range"),
            if_range: header("if-range"),
        })
    })
}

fn registry_at(urls: &[&str]) -> crate::config::Registry {
    let mut registry = registry(urls[0]);
    registry.max_connections = 1024;
    registry.urls = urls.iter().map(|url| url.parse().unwrap()).collect();
    let all = globset::Glob::new("*").unwrap().compile_matcher();
    registry.freshness = vec![Freshness { tags: all, fresh: Some(MINUTE), stale_if_error: HOUR }];
    registry
}

fn permit(repository: &str, item: Item) -> Permit {
    let repository: RepositoryName = repository.parse().unwrap();
    Permit::operator(Target { registry: "r.test".parse().unwrap(), repository, item }, "test")
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, bytes)
}

/// A manifest that differs from others by `mark`.
fn manifest(mark: &str) -> Bytes {
    format!(r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","layers":[],"annotations":{{"mark":"{mark}"}}}}"#).into()
}

/// The answer to whoever asks for a manifest, by GET or HEAD.
fn manifest_reply(asked: &Asked, body: &Bytes) -> Reply {
    let digest = digest_of(body).to_string();
    let head = Reply::status(200).header("content-type", IMAGE).header("docker-content-digest", &digest);
    let head = head.header("content-length", &body.len().to_string());
    if asked.is_head() { head } else { head.step(Step::Bytes(body.clone())) }
}

/// A blob that is long enough to be shown before it is verified.
fn layer() -> Bytes {
    (0..200_000u32).map(|i| (i % 251) as u8).collect::<Vec<_>>().into()
}

/// What came, and how it ended.
async fn read(answer: BlobAnswer) -> (usize, Result<Vec<u8>, Error>) {
    read_pieces(answer.content.unwrap().whole()).await
}

async fn read_pieces(mut pieces: Pieces) -> (usize, Result<Vec<u8>, Error>) {
    let mut all = Vec::new();
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => all.extend(bytes_of(&piece)),
            Err(error) => return (all.len(), Err(error)),
        }
    }
    (all.len(), Ok(all))
}

fn bytes_of(piece: &Piece) -> Vec<u8> {
    match piece {
        Piece::Bytes(bytes) => bytes.to_vec(),
        Piece::File(file, span) => {
            let mut bytes = vec![0; usize::try_from(span.len()).unwrap()];
            file.read_exact_at(&mut bytes, span.start).unwrap();
            bytes
        }
    }
}

/// Runs `work` and says how long it took.
async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    let done = work.await;
    (done, started.elapsed())
}
