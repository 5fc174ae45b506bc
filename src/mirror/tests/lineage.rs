//! Permits that are limited to how content was reached: through a tag, down to its layers, and to nothing else.

use super::*;
use std::path::Path;

use crate::config::Policy;
use crate::policy::{Question, Rules};
use crate::request::Caller;
use crate::store::Operation;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A blob, a manifest or an index of the scripted registry.
struct Thing {
    digest: Digest,
    body: Bytes,
    kind: &'static str,
}

/// Two multi-platform images of one repository that have a layer in common, each under a tag of its own.
struct Images {
    open: Image,
    closed: Image,
}

struct Image {
    index: Arc<Thing>,
    manifest: Arc<Thing>,
    config: Arc<Thing>,
    own: Arc<Thing>,
    shared: Arc<Thing>,
}

impl Image {
    fn new(mark: &str, shared: &Arc<Thing>) -> Self {
        let blob = |text: String| thing("application/octet-stream", text);
        let (config, own) = (blob(format!("{{\"config\":\"{mark}\"}}")), blob(format!("layer of {mark}")));
        let manifest = thing(
            IMAGE,
            format!(r#"{{"mediaType":"{IMAGE}","config":{},"layers":[{},{}]}}"#, named(&config), named(&own), named(shared)),
        );
        let index = thing(INDEX, format!(r#"{{"mediaType":"{INDEX}","manifests":[{}]}}"#, named(&manifest)));
        Self { index, manifest, config, own, shared: shared.clone() }
    }

    fn things(&self) -> [&Arc<Thing>; 5] {
        [&self.index, &self.manifest, &self.config, &self.own, &self.shared]
    }
}

fn thing(kind: &'static str, body: impl Into<Bytes>) -> Arc<Thing> {
    let body = body.into();
    Arc::new(Thing { digest: digest_of(&body), body, kind })
}

fn named(thing: &Thing) -> String {
    format!(r#"{{"mediaType":"{}","digest":"{}","size":{}}}"#, thing.kind, thing.digest, thing.body.len())
}

impl Images {
    fn new() -> Arc<Self> {
        let shared = thing("application/octet-stream", "the base layer");
        Arc::new(Self { open: Image::new("open", &shared), closed: Image::new("closed", &shared) })
    }

    /// What `v1` and `secret` mean, and all content by its digest, whatever its kind.
    fn reply(&self, asked: &Asked) -> Reply {
        let name = asked.path.rsplit('/').next().unwrap();
        let thing = match name {
            "v1" => Some(&self.open.index),
            "secret" => Some(&self.closed.index),
            _ => self.open.things().into_iter().chain(self.closed.things()).find(|thing| thing.digest.to_string() == name),
        };
        thing.map_or_else(|| Reply::status(404), |thing| reply(asked, thing))
    }
}

fn reply(asked: &Asked, thing: &Thing) -> Reply {
    let head = Reply::status(200).header("content-type", thing.kind).header("docker-content-digest", &thing.digest.to_string());
    let head = head.header("content-length", &thing.body.len().to_string());
    if asked.is_head() { head } else { head.step(Step::Bytes(thing.body.clone())) }
}

/// What was reached by tags like these, and nothing else.
const V_TAGS: &str = r#"statement = [{ id = "versions", effect = "allow", resources = ["r.test/app:v*"] }]"#;
/// All but what was reached by one tag.
const BUT_SECRET: &str = r#"
    default = "allow"
    statement = [{ id = "secret", effect = "deny", resources = ["r.test/app:secret"] }]"#;

/// All but one digest, and what was reached through it.
fn but(digest: &Digest) -> String {
    format!(
        r#"
        default = "allow"
        statement = [{{ id = "revoked", effect = "deny", resources = ["r.test/app@{digest}"] }}]"#
    )
}

/// A permit as this policy gives it.
fn limited(policy: &str, item: Item) -> Permit {
    let policy = Policy::parse(&format!("[policy]\n{policy}"), Path::new("test.toml")).unwrap().0;
    let (caller, repository) = (Caller::direct("nodes".into(), ([127, 0, 0, 1], 4000).into()), "app".parse().unwrap());
    let target = Target { registry: "r.test".parse().unwrap(), repository, item };
    let now = jiff::Timestamp::UNIX_EPOCH;
    let question = Question { caller: &caller, target: &target, user_agent: None, is_private: false, now };
    Rules::new(&policy).decide(&question).unwrap()
}

impl Bench {
    async fn images(images: &Arc<Images>) -> Self {
        let images = images.clone();
        Self::new(move |asked| images.reply(asked)).await
    }

    /// The same folder after a restart, perhaps without its index.
    async fn restarted(self, lost: bool, script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        self.idle().await;
        self.store.flush().await;
        let Self { mirror, store, folder, .. } = self;
        drop(mirror);
        while Arc::strong_count(&store) > 1 {
            tokio::task::yield_now().await;
        }
        drop(store);
        if lost {
            std::fs::remove_file(folder.path().join("cache/index.redb")).unwrap();
        }
        Self::in_folder(folder, Faults::default(), &["https://a.test"], ROOM, script).await
    }

    async fn limited_manifest(&self, policy: &str, digest: Digest, head: bool) -> Result<ManifestAnswer, Error> {
        self.mirror.manifest(&limited(policy, Item::Manifest(Reference::Digest(digest))), head).await
    }

    async fn limited_tag(&self, policy: &str, tag: &str, head: bool) -> Result<ManifestAnswer, Error> {
        self.mirror.manifest(&limited(policy, Item::Manifest(Reference::Tag(tag.parse().unwrap()))), head).await
    }

    async fn limited_blob(&self, policy: &str, digest: Digest) -> Result<Vec<u8>, Error> {
        read(self.mirror.blob(&limited(policy, Item::Blob(digest)), &Allowance::default(), false).await?).await.1
    }

    /// Asks for all of an image by digest, as a client does that has its tag. What went well.
    async fn pull_by_digest(&self, policy: &str, image: &Image) -> [bool; 5] {
        let index = self.limited_manifest(policy, image.index.digest, false).await.is_ok();
        let manifest = self.limited_manifest(policy, image.manifest.digest, false).await.is_ok();
        let mut got = [index, manifest, false, false, false];
        for (n, blob) in [&image.config, &image.own, &image.shared].into_iter().enumerate() {
            got[n + 2] = self.limited_blob(policy, blob.digest).await.is_ok_and(|bytes| bytes == blob.body);
        }
        got
    }
}

const ALL: [bool; 5] = [true; 5];
const NOTHING: [bool; 5] = [false; 5];
/// The layer that the other image has too.
const SHARED: [bool; 5] = [false, false, false, false, true];

#[tokio::test]
async fn what_a_tag_leads_to_can_be_had_by_digest_at_once_and_the_rest_of_the_repository_cannot() {
    let images = Images::new();
    let bench = Bench::images(&images).await;
    assert_eq!(bench.pull_by_digest(V_TAGS, &images.open).await, NOTHING, "nobody has come by the tag yet");
    assert_eq!(bench.asked(), 0);
    for head in [true, false] {
        let index = bench.limited_tag(V_TAGS, "v1", head).await.unwrap();
        assert_eq!(index.digest, images.open.index.digest);
    }
    assert_eq!(bench.pull_by_digest(V_TAGS, &images.open).await, ALL);
    assert_eq!(bench.pull_by_digest(V_TAGS, &images.closed).await, SHARED);
    let asked = bench.asked();
    // Others fetch it: now it is stored, and still of no way that the permit admits.
    bench.tag("secret").await.unwrap();
    for manifest in [&images.closed.index, &images.closed.manifest] {
        bench.manifest(manifest.digest).await.unwrap();
    }
    for blob in [&images.closed.config, &images.closed.own] {
        bench.pull("app", blob.digest).await.unwrap();
    }
    assert!(bench.asked() > asked);
    assert_eq!(bench.pull_by_digest(V_TAGS, &images.closed).await, SHARED);
    assert_eq!(bench.pull_by_digest(V_TAGS, &images.open).await, ALL);
}

#[tokio::test]
async fn a_head_of_the_tag_is_enough_to_go_on_by_digest() {
    let images = Images::new();
    let bench = Bench::images(&images).await;
    bench.limited_tag(V_TAGS, "v1", true).await.unwrap();
    assert_eq!(bench.pull_by_digest(V_TAGS, &images.open).await, ALL);
}

#[tokio::test]
async fn what_is_withheld_is_withheld_in_every_form_and_neither_upstream_nor_content_is_looked_at() {
    let images = Images::new();
    let (faults, looks, served) = (Faults::default(), Arc::new(AtomicUsize::new(0)), images.clone());
    let bench = Bench::on(faults.clone(), &["https://a.test"], ROOM, move |asked| served.reply(asked)).await;
    bench.tag("secret").await.unwrap();
    bench.manifest(images.closed.manifest.digest).await.unwrap();
    bench.pull("app", images.closed.own.digest).await.unwrap();
    bench.idle().await;
    let counted = looks.clone();
    faults.decide(move |operation| {
        let is_look = matches!(operation, Operation::Open | Operation::Metadata | Operation::Read);
        counted.fetch_add(usize::from(is_look), Ordering::SeqCst);
        None
    });
    let (asked, absent) = (bench.asked(), digest_of(b"nowhere"));
    for digest in [images.closed.index.digest, images.closed.manifest.digest, images.closed.own.digest, absent] {
        for head in [false, true] {
            let manifest = bench.limited_manifest(V_TAGS, digest, head).await.unwrap_err();
            let blob = bench.mirror.blob(&limited(V_TAGS, Item::Blob(digest)), &Allowance::default(), head).await.err().unwrap();
            assert_eq!((manifest.kind, blob.kind), (Kind::Withheld, Kind::Withheld), "{digest}");
        }
        let list = bench.mirror.list(&limited(V_TAGS, Item::Referrers(digest)), &ListQuery::default()).await;
        assert_eq!(list.unwrap_err().kind, Kind::Withheld, "{digest}");
    }
    assert_eq!((bench.asked(), looks.load(Ordering::SeqCst)), (asked, 0));
    bench.pull("app", images.closed.own.digest).await.unwrap();
    assert!(looks.load(Ordering::SeqCst) > 0, "it would show");
}

#[tokio::test]
async fn the_referrers_of_what_was_reached_are_listed() {
    let images = Images::new();
    let served = images.clone();
    let list = format!(r#"{{"mediaType":"{INDEX}","manifests":[]}}"#);
    let script = move |asked: &Asked| match asked.path.contains("/referrers/") {
        true => Reply::status(200).header("content-type", INDEX).step(Step::Bytes(list.clone().into())),
        false => served.reply(asked),
    };
    let bench = Bench::new(script).await;
    bench.limited_tag(V_TAGS, "v1", false).await.unwrap();
    for (digest, fine) in [(images.open.manifest.digest, true), (images.closed.manifest.digest, false)] {
        let list = bench.mirror.list(&limited(V_TAGS, Item::Referrers(digest)), &ListQuery::default()).await;
        assert_eq!(list.is_ok(), fine);
    }
}

#[tokio::test]
async fn a_tag_that_means_what_is_denied_is_as_absent() {
    let images = Images::new();
    let bench = Bench::images(&images).await;
    let but_open = &but(&images.open.index.digest);
    for head in [true, false, true] {
        let error = bench.limited_tag(but_open, "v1", head).await.unwrap_err();
        assert_eq!((error.kind, error.statement().map(|by| &**by)), (Kind::Withheld, Some("revoked")));
        assert!(bench.limited_tag(but_open, "secret", head).await.is_ok());
    }
    bench.manifest(images.open.manifest.digest).await.unwrap();
    bench.manifest(images.closed.manifest.digest).await.unwrap();
    let error = bench.limited_manifest(but_open, images.open.manifest.digest, false).await.unwrap_err();
    assert_eq!((error.kind, error.statement().map(|by| &**by)), (Kind::Withheld, Some("revoked")));
    assert!(bench.limited_blob(but_open, images.open.own.digest).await.is_err());
    assert!(bench.limited_blob(but_open, images.open.shared.digest).await.is_ok(), "it is in the other image too");
}

#[tokio::test]
async fn what_only_a_refused_tag_leads_to_cannot_be_had_by_digest() {
    let images = Images::new();
    let bench = Bench::images(&images).await;
    assert_eq!(bench.pull_by_digest(BUT_SECRET, &images.open).await, NOTHING, "it may be what the tag means");
    bench.tag("secret").await.unwrap();
    bench.tag("v1").await.unwrap();
    bench.manifest(images.closed.manifest.digest).await.unwrap();
    assert_eq!(bench.pull_by_digest(BUT_SECRET, &images.closed).await, NOTHING);
    assert_eq!(bench.pull_by_digest(BUT_SECRET, &images.open).await, ALL);
}

#[tokio::test(start_paused = true)]
async fn what_a_tag_meant_before_stays_reached() {
    let images = Images::new();
    let served = images.clone();
    let moved = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let now = moved.clone();
    let script = move |asked: &Asked| match asked.path.ends_with("/v1") && now.load(Ordering::SeqCst) {
        true => reply(asked, &served.closed.index),
        false => served.reply(asked),
    };
    let bench = Bench::new(script).await;
    bench.limited_tag(V_TAGS, "v1", false).await.unwrap();
    moved.store(true, Ordering::SeqCst);
    assert_eq!(bench.pull_by_digest(V_TAGS, &images.closed).await, NOTHING);
    bench.store.remove_tag(&"r.test".parse().unwrap(), &"app".parse().unwrap(), &"v1".parse().unwrap()).await;
    assert_eq!(bench.limited_tag(V_TAGS, "v1", false).await.unwrap().digest, images.closed.index.digest);
    assert_eq!(bench.pull_by_digest(V_TAGS, &images.closed).await, ALL);
    assert_eq!(bench.pull_by_digest(V_TAGS, &images.open).await, ALL);
}

#[tokio::test]
async fn a_purge_forgets_what_was_reached() {
    let images = Images::new();
    let bench = Bench::images(&images).await;
    for (purge, left) in [
        ("r.test/app:v1".to_owned(), NOTHING),
        ("r.test/app".to_owned(), NOTHING),
        (format!("r.test/app@{}", images.open.index.digest), ALL),
        (format!("r.test/app@{}", images.open.own.digest), ALL),
    ] {
        bench.limited_tag(V_TAGS, "v1", false).await.unwrap();
        assert_eq!(bench.pull_by_digest(V_TAGS, &images.open).await, ALL);
        bench.idle().await;
        bench.mirror.purge(&purge.parse().unwrap()).await.unwrap();
        assert_eq!(bench.pull_by_digest(V_TAGS, &images.open).await, left, "{purge}");
    }
}

#[tokio::test]
async fn what_is_held_since_before_lineage_was_kept_is_learned_when_it_is_served() {
    let images = Images::new();
    let bench = Bench::images(&images).await;
    for (index, tag) in [(&images.open.index, "v1"), (&images.open.manifest, "x")] {
        bench.hold(tag, &index.body, Duration::ZERO).await;
    }
    assert_eq!(bench.pull_by_digest(V_TAGS, &images.open).await, NOTHING);
    assert_eq!(bench.limited_tag(V_TAGS, "v1", false).await.unwrap().served, Served::Hit);
    assert_eq!(bench.pull_by_digest(V_TAGS, &images.open).await, ALL);
}

#[tokio::test]
async fn of_many_at_once_each_gets_the_whole_image() {
    let images = Images::new();
    let bench = Bench::images(&images).await;
    let pull = async {
        bench.limited_tag(V_TAGS, "v1", false).await.unwrap();
        bench.pull_by_digest(V_TAGS, &images.open).await
    };
    let pulls = futures_util::future::join_all((0..20).map(|_| async { bench.limited_tag(V_TAGS, "v1", false).await.is_ok() }));
    let (got, all) = tokio::join!(pull, pulls);
    assert_eq!((got, all.iter().all(|fine| *fine)), (ALL, true));
}

#[tokio::test]
async fn a_restart_keeps_it_and_without_the_index_the_next_pull_by_tag_learns_it_again() {
    let images = Images::new();
    let mut bench = Bench::images(&images).await;
    bench.limited_tag(V_TAGS, "v1", false).await.unwrap();
    assert_eq!(bench.pull_by_digest(V_TAGS, &images.open).await, ALL);
    for lost in [false, true] {
        let served = images.clone();
        bench = bench.restarted(lost, move |asked| served.reply(asked)).await;
        assert_eq!(bench.pull_by_digest(V_TAGS, &images.open).await, if lost { NOTHING } else { ALL });
        bench.limited_tag(V_TAGS, "v1", false).await.unwrap();
        assert_eq!(bench.pull_by_digest(V_TAGS, &images.open).await, ALL);
        assert_eq!(bench.pull_by_digest(V_TAGS, &images.closed).await, SHARED);
    }
}
