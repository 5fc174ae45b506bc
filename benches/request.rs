//! What a request costs between the front door and the store: whole answers by a true server over a true store, and the
//! steps on the way, each by itself.
//!
//!     cargo bench --bench request
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use roadstead::config::Config;
use roadstead::egress::{self, Exchange, Way};
use roadstead::front::{Answer, Handler, Request};
use roadstead::mirror::{ManifestAnswer, Mirror};
use roadstead::oci::{Algorithm, ContentName, Digest, RegistryName, RepositoryName};
use roadstead::policy::{Question, Rules};
use roadstead::request::{Caller, Item, Served, Target};
use roadstead::server::{Live, Server, Snapshot};
use roadstead::store::{Link, Store, TagRecord};
use roadstead::telemetry::{Outcome, Telemetry};
use roadstead::upstream::Upstreams;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

// The rooms keep these files to themselves, so each is compiled once more as a part of this program. They find the rooms
// that they import under the names they have in the crate.
use roadstead::{config, front, mirror, oci, request};

#[allow(dead_code, unused_imports)]
#[path = "../src/server/answer.rs"]
mod answer;
#[allow(dead_code, unused_imports)]
#[path = "../src/server/body.rs"]
mod body;
#[allow(dead_code, unused_imports)]
#[path = "../src/mirror/freshness.rs"]
mod freshness;
#[allow(dead_code, unused_imports)]
#[path = "../src/server/path.rs"]
mod path;
#[allow(dead_code, unused_imports)]
#[path = "../src/server/route.rs"]
mod route;

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const REGISTRY: &str = "docker.io";
const REPOSITORY: &str = "library/debian";
/// Bytes of the manifest and of the blob that are asked for.
const MANIFEST: usize = 4700;
const BLOB: usize = 64 << 10;
/// One, whose password is `secret`.
const USERS: &str = "ci:$2b$04$hj2Bx7iSyQzhVgalNf222uO8wKmP4BdHXtmsVxR8FnOBPHs063XjW\n";

/// No upstream: what is stored needs none.
struct Nobody;

#[async_trait]
impl Exchange for Nobody {
    async fn exchange(&self, _: &Way, _: egress::Request) -> Result<egress::Response, egress::Error> {
        panic!("a hit asks no upstream");
    }
}

/// A server whose cache holds an image.
struct Scene {
    runtime: Runtime,
    server: Server,
    store: Arc<Store>,
    telemetry: Arc<Telemetry>,
    manifest: Digest,
    blob: Digest,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn new(policy: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("there is a runtime");
        let (folder, telemetry) = (tempfile::tempdir().expect("there is a folder"), Telemetry::quiet());
        let (config, digests) = (configured(folder.path(), policy), runtime.block_on(fill(folder.path(), &telemetry)));
        let (server, store) = runtime.block_on(async {
            let store = Store::open(&config.cache, telemetry.clone()).await.expect("the folder opens");
            let upstreams = Upstreams::new(&config, Arc::new(Nobody), telemetry.clone()).expect("the registries are sound");
            let mirror = Mirror::new(store.clone(), upstreams, telemetry.clone(), TaskTracker::new(), CancellationToken::new());
            let live = Arc::new(Live::from_pointee(Snapshot::new(Arc::new(config), None).expect("there are no users")));
            (Server::new(live, mirror, telemetry.clone()), store)
        });
        Self { runtime, server, store, telemetry, manifest: digests.0, blob: digests.1, _folder: folder }
    }

    fn answer(&self, request: &Request, outcome: &mut Outcome) -> Answer {
        self.runtime.block_on(self.server.answer(request, outcome))
    }

    /// A request as containerd sends it, with an outcome to note it in.
    fn request(&self, path: &str) -> (Request, Outcome) {
        let path = format!("/v2/{REPOSITORY}/{path}");
        (asked(&path), Outcome::open(&self.telemetry, "GET", &path))
    }
}

fn configured(folder: &Path, policy: &str) -> Config {
    let text = format!("[cache]\ndirectory = {folder:?}\nmax_size = \"1 GiB\"\nmemory = \"32 MiB\"\n{policy}");
    let environment = |key: &str| (key == "HOME").then(|| "/nonexistent".to_owned());
    Config::parse(&text, Path::new("bench.toml"), &environment).expect("it is a configuration").0
}

/// Stores a manifest under a tag, and a blob that is not in memory.
async fn fill(folder: &Path, telemetry: &Arc<Telemetry>) -> (Digest, Digest) {
    let store = Store::open(&configured(folder, "").cache, telemetry.clone()).await.expect("the folder opens");
    let (registry, repository) = names();
    let digest = |bytes: &Bytes| Digest::of(Algorithm::Sha256, bytes);
    let (manifest, blob) = (manifest(), Bytes::from(vec![7; BLOB]));
    for (bytes, media_type) in [(&manifest, Some(IMAGE.into())), (&blob, None)] {
        store.put(&digest(bytes), bytes.clone()).await.expect("there is room");
        store.put_link(&registry, &repository, &digest(bytes), Link { manifest: media_type });
    }
    // Fresh for as long as this may run.
    let record = TagRecord { digest: digest(&manifest), checked: SystemTime::now() + Duration::from_secs(50) };
    store.put_tag(&registry, &repository, &"latest".parse().expect("it is a tag"), record);
    store.flush().await;
    (digest(&manifest), digest(&blob))
}

fn manifest() -> Bytes {
    format!(r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","layers":[],"annotations":{{"pad":"{}"}}}}"#, "x".repeat(MANIFEST)).into()
}

fn names() -> (RegistryName, RepositoryName) {
    (REGISTRY.parse().expect("it is a registry"), REPOSITORY.parse().expect("it is a repository"))
}

fn asked(path: &str) -> Request {
    let headers = [
        (http::header::HOST, "127.0.0.1:5000"),
        (http::header::USER_AGENT, "containerd/2.0.1"),
        (http::header::ACCEPT, "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, */*"),
    ];
    Request {
        method: http::Method::GET,
        path: path.to_owned(),
        query: Some(format!("ns={REGISTRY}")),
        headers: headers.into_iter().map(|(name, value)| (name, http::HeaderValue::from_static(value))).collect(),
        host: "127.0.0.1:5000".to_owned(),
        caller: caller().into(),
    }
}

fn caller() -> Caller {
    Caller::direct("default".into(), ([127, 0, 0, 1], 50_000).into())
}

fn answers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("answer");
    let scene = Scene::new("");
    let cases = [
        ("manifest by digest", format!("manifests/{}", scene.manifest)),
        ("manifest by tag", "manifests/latest".to_owned()),
        ("blob", format!("blobs/{}", scene.blob)),
    ];
    for (name, path) in cases {
        let (request, mut outcome) = scene.request(&path);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let answer = scene.answer(black_box(&request), &mut outcome);
                assert_eq!((answer.status(), outcome.served), (http::StatusCode::OK, Some(Served::Hit)));
            });
        });
    }
    for (name, digest) in [("manifest in memory", scene.manifest), ("open blob", scene.blob)] {
        group.bench_function(name, |bencher| bencher.iter(|| scene.store.at_hand(black_box(&digest)).is_some()));
    }
    let folder = tempfile::tempdir().expect("there is a folder");
    std::fs::write(folder.path().join("users"), USERS).expect("the folder takes it");
    let listener = "[[listener]]\nname = \"default\"\naddress = \"127.0.0.1:5000\"";
    let scene = Scene::new(&format!("{listener}\nusers = {{ file = {:?} }}\n", folder.path().join("users")));
    let (mut request, mut outcome) = scene.request("manifests/latest");
    request.headers.insert(http::header::AUTHORIZATION, http::HeaderValue::from_static("Basic Y2k6c2VjcmV0"));
    group.bench_function("manifest by tag for a user", |bencher| {
        bencher.iter(|| {
            let answer = scene.answer(black_box(&request), &mut outcome);
            assert_eq!((answer.status(), outcome.served), (http::StatusCode::OK, Some(Served::Hit)));
        });
    });
    let scene = Scene::new("[policy]\ndefault = \"deny\"\n");
    let (request, mut outcome) = scene.request("manifests/latest");
    group.bench_function("denied", |bencher| {
        bencher.iter(|| {
            let answer = scene.answer(black_box(&request), &mut outcome);
            assert_eq!(answer.status(), http::StatusCode::FORBIDDEN);
        });
    });
    group.finish();
}

fn parts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("part");
    let config = configured(Path::new("/nonexistent"), "");
    let digest = Digest::of(Algorithm::Sha256, b"");
    let (by_digest, by_tag) = (format!("/v2/{REPOSITORY}/manifests/{digest}"), format!("/v2/{REPOSITORY}/manifests/latest"));
    group.bench_function("path by digest", |bencher| bencher.iter(|| path::parse(black_box(&by_digest)).is_ok()));
    group.bench_function("path by tag", |bencher| bencher.iter(|| path::parse(black_box(&by_tag)).is_ok()));
    let query = format!("ns={REGISTRY}");
    group.bench_function("query", |bencher| bencher.iter(|| path::Query::parse(black_box(Some(&query))).is_ok()));
    for (name, ns) in [("route by ns", Some(REGISTRY)), ("route by default", None)] {
        let find = |host: &str| route::route(&config.registries, None, ns, host, REPOSITORY).is_ok();
        group.bench_function(name, |bencher| bencher.iter(|| find(black_box("127.0.0.1:5000"))));
    }
    let (rules, tag, now) = (&config.registries[0].freshness, "latest".parse().expect("it is a tag"), SystemTime::now());
    let judge = |checked| freshness::judge(freshness::rule(rules, &tag), checked, now);
    group.bench_function("freshness", |bencher| bencher.iter(|| judge(black_box(now))));
    group.finish();
}

fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decision");
    let one = |n| format!("[[policy.statement]]\nid = \"s{n}\"\neffect = \"allow\"\nresources = [\"docker.io/team-{n}/**\"]\n");
    let thousand: String = (0..1000).map(one).collect();
    let (registry, repository) = names();
    let item = Item::Manifest(oci::Reference::Tag("latest".parse().expect("it is a tag")));
    let (caller, target) = (caller(), Target { registry, repository, item });
    let now = jiff::Timestamp::UNIX_EPOCH;
    let question = Question { caller: &caller, target: &target, user_agent: Some("containerd/2.0.1"), is_private: false, now };
    for (name, statements) in [("no statement", ""), ("1000 statements", &thousand)] {
        let text = format!("[policy]\ndefault = \"allow\"\n{statements}");
        let rules = Rules::new(&configured(Path::new("/nonexistent"), &text).policy);
        group.bench_function(name, |bencher| bencher.iter(|| rules.decide(black_box(&question)).is_ok()));
    }
    group.finish();
}

fn headers(criterion: &mut Criterion) {
    let digest = Digest::of(Algorithm::Sha256, b"");
    let found = ManifestAnswer {
        digest,
        name: ContentName::of(&digest),
        media_type: IMAGE.into(),
        length: MANIFEST as u64,
        body: Some(manifest()),
        served: Served::Hit,
        age: Duration::ZERO,
    };
    let namespace = Some(http::HeaderValue::from_static(REGISTRY));
    let asker = answer::Asker { prefix: "", repository: names().1, ns: Some(REGISTRY.into()), namespace };
    let request = asked("/v2/");
    criterion.bench_function("headers", |bencher| bencher.iter(|| answer::manifest(black_box(found.clone()), &asker, &request)));
}

criterion_group!(benches, answers, parts, decisions, headers);
criterion_main!(benches);
