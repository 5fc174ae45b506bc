//! The whole of asking an upstream, against scripted ones.

mod blobs;
mod busy;
mod health;
mod pace;
mod parts;
mod urls;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use http::header::{ACCEPT, AUTHORIZATION, IF_RANGE, RANGE, VIA};
use tokio::time::Instant;

use super::*;
use crate::config::{self, Credentials, Secret};
use crate::egress::scripted::{Reply, Scripted, Step, config, pattern, registry};
use crate::egress::{self, Request};
use crate::oci::{Digest, Reference, RegistryName, RepositoryName};
use crate::telemetry::Telemetry;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A registry called r.test at these URLs, whose other side is `script`.
struct Bench {
    registry: Arc<Registry>,
    other: Arc<Scripted>,
}

impl Bench {
    fn new(urls: &[&str], script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(urls, |_| {}, script)
    }

    fn with(
        urls: &[&str],
        change: impl FnOnce(&mut config::Registry),
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let mut configured = registry(urls[0]);
        configured.urls = urls.iter().map(|url| url.parse().unwrap()).collect();
        change(&mut configured);
        let other = Scripted::new(move |_, request| script(request));
        let upstreams = Upstreams::new(&config([configured]), other.clone(), Telemetry::quiet()).unwrap();
        Self { registry: upstreams.registry(&name("r.test")).unwrap(), other }
    }

    async fn head(&self) -> Result<ManifestHead, Error> {
        self.registry.head_manifest(&repository(), &latest()).await
    }

    async fn get(&self) -> Result<ManifestReply, Error> {
        self.registry.get_manifest(&repository(), &latest()).await
    }

    async fn blob(&self, from: u64) -> Result<BlobReply, Error> {
        self.part(&BlobAsk { from, ..BlobAsk::default() }).await
    }

    async fn part(&self, ask: &BlobAsk<'_>) -> Result<BlobReply, Error> {
        self.registry.get_blob(&repository(), &digest(), ask).await
    }

    async fn kind(&self) -> Kind {
        self.head().await.unwrap_err().kind
    }
}

fn name(text: &str) -> RegistryName {
    text.parse().unwrap()
}

fn repository() -> RepositoryName {
    "acme/app".parse().unwrap()
}

fn latest() -> Reference {
    Reference::Tag("latest".parse().unwrap())
}

fn digest() -> Digest {
    DIGEST.parse().unwrap()
}

fn authorization(request: &Request) -> Option<&str> {
    request.headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap())
}

fn header(request: &Request, name: HeaderName) -> Option<&str> {
    request.headers.get(name).map(|value| value.to_str().unwrap())
}

fn host(request: &Request) -> &str {
    request.url.host_str().unwrap()
}

async fn read(mut reply: BlobReply) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    while let Some(bytes) = reply.chunk().await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

fn bearer_needed() -> Reply {
    Reply::status(401).header("www-authenticate", r#"Bearer realm="https://auth.test/token",service="s",scope="x""#)
}

fn with_password(configured: &mut config::Registry) {
    configured.realm = Some("https://auth.test/token".parse().unwrap());
    configured.credentials = Some(Credentials { username: "u".to_owned(), password: Secret::new("p") });
}

#[tokio::test]
async fn a_manifest_is_asked_for_in_every_form_there_is() {
    let bench = Bench::new(&["https://r.test"], |_| {
        Reply::ok("{}").header("docker-content-digest", DIGEST).header("content-type", "application/vnd.oci.image.index.v1+json")
    });
    let reply = bench.get().await.unwrap();
    assert_eq!((reply.body, reply.digest, reply.url), (Bytes::from("{}"), Some(digest()), 0));
    assert_eq!(reply.media_type.as_deref(), Some("application/vnd.oci.image.index.v1+json"));
    let request = &bench.other.seen()[0];
    assert_eq!(request.url.as_str(), "https://r.test/v2/acme/app/manifests/latest");
    assert!(request.headers[ACCEPT].to_str().unwrap().ends_with("*/*"));
    assert!(request.headers[VIA].to_str().unwrap().starts_with("1.1 roadstead-"));
    assert_eq!(authorization(request), None);
}

#[tokio::test]
async fn a_head_that_is_refused_is_a_get() {
    let bench = Bench::new(&["https://r.test"], |request| match request.method.as_str() {
        "HEAD" => Reply::status(405),
        _ => Reply::ok(""),
    });
    let head = bench.head().await.unwrap();
    assert_eq!(head, ManifestHead { digest: Some(digest()), media_type: None, length: Some(0) });
}

#[tokio::test]
async fn a_manifest_without_end_is_not_read() {
    let announced = Bench::new(&["https://r.test"], |_| Reply::status(200).header("content-length", "4194305").step(Step::Hang));
    assert_eq!(announced.get().await.unwrap_err().kind, Kind::Failed);
    let endless = Bench::new(&["https://r.test"], |_| Reply::status(200).step(Step::Bytes(vec![0; 4 << 20 | 1].into())));
    assert_eq!(endless.get().await.unwrap_err().kind, Kind::Failed);
}

#[tokio::test]
async fn statuses_reach_the_caller_as_what_they_mean() {
    for (status, kind) in [
        (401, Kind::Unauthorized),
        (403, Kind::Denied),
        (404, Kind::NotFound),
        (429, Kind::RateLimited),
        (500, Kind::Failed),
        (503, Kind::Failed),
        (418, Kind::Failed),
    ] {
        let bench = Bench::new(&["https://r.test"], move |_| Reply::status(status));
        assert_eq!(bench.kind().await, kind, "{status}");
    }
    let limited = Bench::new(&["https://r.test"], |_| Reply::status(429).header("retry-after", "17"));
    assert_eq!(limited.head().await.unwrap_err().retry_after, Some(Duration::from_secs(17)));
}

#[tokio::test]
async fn an_error_names_registry_host_and_remedy() {
    let bench = Bench::new(&["https://replica.test"], |_| Reply::status(403));
    let text = bench.head().await.unwrap_err().to_string();
    assert_eq!(text, "r.test: replica.test answered 403; check that the credentials set for this registry allow it");
}

#[tokio::test]
async fn a_hot_token_goes_out_with_the_first_try() {
    let bench = Bench::with(&["https://r.test"], with_password, |request| match (host(request), authorization(request)) {
        ("auth.test", Some("Basic dTpw")) => Reply::ok(r#"{"token":"t"}"#),
        ("r.test", Some("Bearer t")) => Reply::ok("{}"),
        _ => bearer_needed(),
    });
    bench.get().await.unwrap();
    assert_eq!(bench.other.seen().len(), 3);
    bench.get().await.unwrap();
    assert_eq!(bench.other.seen().len(), 4);
    // The next repository needs its own token, but no challenge.
    let other = "acme/other".parse().unwrap();
    bench.registry.get_manifest(&other, &latest()).await.unwrap();
    assert_eq!(bench.other.lines()[4..].len(), 2);
    assert!(bench.other.lines()[4].starts_with("GET https://auth.test/token?service=s&scope=repository%3Aacme%2Fother%3Apull"));
}

#[tokio::test]
async fn basic_is_sent_to_a_registry_that_asks_for_it() {
    let bench = Bench::with(&["https://r.test"], with_password, |request| match authorization(request) {
        Some("Basic dTpw") => Reply::ok("{}"),
        _ => Reply::status(401).header("www-authenticate", "Basic realm=\"x\""),
    });
    bench.get().await.unwrap();
    bench.get().await.unwrap();
    assert_eq!(bench.other.seen().len(), 3);
}

#[tokio::test]
async fn a_wrong_realm_gets_nothing_and_is_named() {
    let bench = Bench::with(&["https://r.test"], with_password, |_| {
        Reply::status(401).header("www-authenticate", r#"Bearer realm="https://evil.test/token""#)
    });
    let error = bench.get().await.unwrap_err();
    assert_eq!(error.kind, Kind::Forbidden);
    assert!(error.to_string().contains("set realm = \"https://evil.test/token\""), "{error}");
    assert_eq!(bench.other.count("evil"), 0);
    assert!(bench.other.seen().iter().all(|request| authorization(request).is_none()));
}

#[tokio::test]
async fn a_token_that_does_not_help_ends_in_unauthorized_and_no_loop() {
    let bench = Bench::with(&["https://r.test"], with_password, |request| match host(request) {
        "auth.test" => Reply::ok(r#"{"token":"t"}"#),
        _ => bearer_needed(),
    });
    for _ in 0..5 {
        assert_eq!(bench.kind().await, Kind::Unauthorized);
    }
    assert_eq!(bench.other.count("auth.test"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failing_token_server_is_a_failing_upstream() {
    for (reply, kind) in [
        ((|| Reply::status(500)) as fn() -> Reply, Kind::Failed),
        (|| Reply::Hang, Kind::TimedOut),
        (|| Reply::Fail(egress::Kind::Unreachable), Kind::Unreachable),
        (|| Reply::status(401), Kind::Unauthorized),
        (|| Reply::status(403), Kind::Unauthorized),
        (|| Reply::status(429), Kind::RateLimited),
    ] {
        let bench = Bench::with(&["https://r.test"], with_password, move |request| match host(request) {
            "auth.test" => reply(),
            _ => bearer_needed(),
        });
        assert_eq!(bench.kind().await, kind);
    }
}

#[tokio::test]
async fn lists_are_asked_for_page_by_page() {
    let bench = Bench::new(&["https://r.test/v2/hub"], |_| {
        Reply::ok("{}")
            .header("link", r#"</v2/hub/acme/app/tags/list?n=2&last=b>; rel="next""#)
            .header("oci-filters-applied", "artifactType")
    });
    let page = Page { n: Some(2), last: Some("a&b".to_owned()), page: None };
    let reply = bench.registry.list_tags(&repository(), &page).await.unwrap();
    assert_eq!((reply.next.as_deref(), reply.filters_applied.as_deref()), (Some("n=2&last=b"), Some("artifactType")));
    let query = ReferrersQuery { artifact_type: Some("a/b+c".to_owned()), page: None };
    bench.registry.referrers(&repository(), &digest(), &query).await.unwrap();
    let query = ReferrersQuery { page: Some("x=1&y=2".to_owned()), ..query };
    bench.registry.referrers(&repository(), &digest(), &query).await.unwrap();
    assert_eq!(
        bench.other.lines(),
        [
            "GET https://r.test/v2/hub/acme/app/tags/list?n=2&last=a%26b".to_owned(),
            format!("GET https://r.test/v2/hub/acme/app/referrers/{DIGEST}?artifactType=a%2Fb%2Bc"),
            format!("GET https://r.test/v2/hub/acme/app/referrers/{DIGEST}?x=1&y=2"),
        ]
    );
}

#[tokio::test]
async fn a_list_is_bounded() {
    let bench = Bench::new(&["https://r.test"], |_| Reply::ok(vec![b' '; (1 << 20) + 1]));
    assert_eq!(bench.registry.list_tags(&repository(), &Page::default()).await.unwrap_err().kind, Kind::Failed);
}

#[tokio::test]
async fn a_wildcard_is_asked_under_the_concrete_host() {
    let mut wide = registry("https://*");
    wide.name = config::RegistryMatch::Suffix(".pkg.test".to_owned());
    wide.realm = Some("https://*/token".parse().unwrap());
    let mut narrow = registry("https://narrow.test");
    narrow.name = config::RegistryMatch::Suffix(".eu.pkg.test".to_owned());
    let mut exact = registry("https://exact.test");
    exact.name = config::RegistryMatch::Exact(name("one.pkg.test"));
    let other = Scripted::new(|_, request| match (request.url.path(), authorization(request)) {
        ("/token", _) => Reply::ok(r#"{"token":"t"}"#),
        (_, None) => Reply::status(401).header("www-authenticate", &format!("Bearer realm=\"https://{}/token\"", host(request))),
        _ => Reply::ok("{}"),
    });
    let upstreams = Upstreams::new(&config([wide, narrow, exact]), other.clone(), Telemetry::quiet()).unwrap();
    let two = upstreams.registry(&name("two.pkg.test")).unwrap();
    two.get_manifest(&repository(), &latest()).await.unwrap();
    assert_eq!(other.count("https://two.pkg.test/"), other.seen().len());
    assert_eq!(two.label(), "*.pkg.test");
    assert!(Arc::ptr_eq(&two, &upstreams.registry(&name("two.pkg.test")).unwrap()));
    for (asked, reached) in [("one.pkg.test", "exact.test"), ("x.eu.pkg.test", "narrow.test"), ("a.b.pkg.test", "a.b.pkg.test")] {
        let before = other.seen().len();
        let _ = upstreams.registry(&name(asked)).unwrap().head_manifest(&repository(), &latest()).await;
        assert_eq!(host(&other.seen()[before]), reached);
    }
    for unknown in ["pkg.test", "xpkg.test", "two.pkg.test:5000", "r.test"] {
        assert!(upstreams.registry(&name(unknown)).is_none(), "{unknown}");
    }
}

#[tokio::test]
async fn every_byte_received_is_counted() {
    let telemetry = Telemetry::quiet();
    let other = Scripted::new(|_, _| Reply::ok("0123456789"));
    let upstreams = Upstreams::new(&config([registry("https://r.test")]), other, telemetry.clone()).unwrap();
    let reply = upstreams.registry(&name("r.test")).unwrap().get_blob(&repository(), &digest(), &BlobAsk::default()).await.unwrap();
    read(reply).await.unwrap();
    let text = telemetry.metrics.render(&telemetry.health);
    assert!(text.contains("roadstead_upstream_bytes_total{registry=\"r.test\"} 10"), "{text}");
    assert!(text.contains("roadstead_upstream_requests_total{registry=\"r.test\",result=\"ok\"} 1"), "{text}");
}

/// What mirror does with it: futures must be able to move between workers.
#[test]
fn asking_can_be_spawned() {
    fn send<T: Send>(_: &T) {}
    let bench = Bench::new(&["https://r.test"], |_| Reply::Hang);
    let (repository, reference, digest) = (repository(), latest(), digest());
    send(&bench.registry.head_manifest(&repository, &reference));
    send(&bench.registry.get_blob(&repository, &digest, &BlobAsk::default()));
    send(&bench.registry.list_tags(&repository, &Page::default()));
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_registry_proves_no_password() {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let bench = Bench::with(&["https://r.test"], with_password, move |request| match authorization(request) {
        Some(_) if asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 => Reply::status(503),
        _ => Reply::status(401).header("www-authenticate", "Basic"),
    });
    assert_eq!(bench.kind().await, Kind::Failed);
    assert_eq!(bench.kind().await, Kind::Unauthorized);
    let before = bench.other.seen().len();
    assert_eq!(bench.kind().await, Kind::Unauthorized);
    assert_eq!(bench.other.seen().len(), before, "a password that never worked is not shown again at once");
}
