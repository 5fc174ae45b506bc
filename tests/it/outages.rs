//! The upstream fails: what is held goes on being served, what is not is told as it is.

use super::support::proxy::{Proxy, Setup};
use super::support::server::Door;
use super::support::*;

/// Tags are out of date at once, so that every request would like to ask.
const STALE_AT_ONCE: &str = "[[registry.freshness]]\ntags = \"*\"\nfor = \"1ms\"\nstale_if_error = \"1h\"";

async fn pulled() -> (Registry, Image, Proxy) {
    let hub = Registry::start().await;
    let image = hub.push_image("library/app", "latest", &[layer(200_000)]);
    let setup = Setup::new().registry("docker.io", &hub, &format!("default = true\n{STALE_AT_ONCE}"));
    let proxy = setup.start().await;
    assert_eq!(proxy.get("/v2/library/app/manifests/latest", &[]).await.header("x-cache"), "miss");
    proxy.get_until(&blob(&image), |reply| reply.header("x-cache") == "hit").await;
    (hub, image, proxy)
}

fn blob(image: &Image) -> String {
    format!("/v2/library/app/blobs/{}", image.layers[0].digest)
}

fn manifest(image: &Image) -> String {
    format!("/v2/library/app/manifests/{}", image.manifest.digest)
}

#[tokio::test]
async fn what_is_held_by_digest_is_served_without_one_connection_attempt() {
    let (hub, image, proxy) = pulled().await;
    let errors = "roadstead_upstream_requests_total";
    for outage in [Fault::Status(503), Fault::Later(429, "30"), Fault::Hang, Fault::Drop] {
        hub.forget();
        hub.fault(on("/v2/"), outage);
        for _ in 0..3 {
            let (manifest, blob) = (proxy.get(&manifest(&image), &[]).await, proxy.get(&blob(&image), &[]).await);
            assert_eq!((manifest.status, &manifest.body), (200, &image.manifest.bytes));
            assert_eq!((blob.status, &blob.body), (200, &image.layers[0].bytes));
            assert_eq!((manifest.header("x-cache"), blob.header("x-cache")), ("hit", "hit"));
        }
        assert_eq!((hub.requests().len(), hub.connections()), (0, 0));
        hub.heal();
    }
    hub.stop().await;
    assert_eq!(proxy.get(&blob(&image), &[]).await.header("x-cache"), "hit");
    assert_eq!(proxy.metric(&format!("{errors}{{registry=\"docker.io\",result=\"unreachable\"}}")).await, 0.0);
}

#[tokio::test]
async fn a_tag_is_served_stale_while_the_upstream_fails_and_anew_when_it_is_back() {
    let (hub, image, proxy) = pulled().await;
    for outage in [Fault::Status(500), Fault::Status(503), Fault::Later(429, "30"), Fault::Drop, Fault::Status(401)] {
        hub.fault(on("/manifests/"), outage);
        let reply = proxy.get("/v2/library/app/manifests/latest", &[]).await;
        assert_eq!((reply.status, reply.header("x-cache"), &reply.body), (200, "stale", &image.manifest.bytes));
        hub.heal();
    }
    hub.stop().await;
    assert_eq!(proxy.get("/v2/library/app/manifests/latest", &[]).await.header("x-cache"), "stale");
    hub.resume();
    let moved = hub.push_image("library/app", "latest", &[layer(5000)]);
    let reply = proxy.get_until("/v2/library/app/manifests/latest", |reply| reply.header("x-cache") != "stale").await;
    assert_eq!((reply.header("x-cache"), &reply.body), ("miss", &moved.manifest.bytes));
}

#[tokio::test]
async fn a_hanging_upstream_holds_a_held_tag_up_for_no_longer_than_its_deadline() {
    let (hub, image, proxy) = pulled().await;
    hub.door(Door::Silent);
    hub.hang_up().await;
    let started = std::time::Instant::now();
    let reply = proxy.get("/v2/library/app/manifests/latest", &[]).await;
    assert_eq!((reply.header("x-cache"), &reply.body), ("stale", &image.manifest.bytes));
    // Ten times the deadline would be 15 s; containerd gives a mirror up after 30.
    assert!(started.elapsed().as_secs() < 10);
    // Who comes while the same attempt still hangs does not wait again.
    let started = std::time::Instant::now();
    assert_eq!(proxy.get("/v2/library/app/manifests/latest", &[]).await.header("x-cache"), "stale");
    assert!(started.elapsed().as_secs() < 1);
}

#[tokio::test]
async fn what_was_never_held_gets_the_error_that_fits_and_never_404() {
    let (hub, _, proxy) = pulled().await;
    let absent = layer(77).digest;
    for (outage, status, code) in [
        (Fault::Status(500), 502, "UNAVAILABLE"),
        (Fault::Status(503), 502, "UNAVAILABLE"),
        (Fault::Later(429, "30"), 503, "TOOMANYREQUESTS"),
        (Fault::Drop, 502, "UNAVAILABLE"),
        (Fault::Status(401), 403, "DENIED"),
        (Fault::Status(403), 403, "DENIED"),
    ] {
        hub.fault(on("/v2/"), outage.clone());
        for path in ["/v2/library/app/manifests/other".to_owned(), format!("/v2/library/app/blobs/{absent}")] {
            let reply = proxy.get(&path, &[]).await;
            assert_eq!((reply.status, reply.json()["errors"][0]["code"].as_str()), (status, Some(code)), "{path}");
            assert!(!reply.headers.contains_key("www-authenticate"));
            assert!(!matches!(outage, Fault::Later(..)) || reply.header("retry-after") == "30");
            assert_eq!(proxy.head(&path, &[]).await.status, status, "HEAD {path}");
        }
        hub.heal();
    }
    hub.stop().await;
    assert_eq!(proxy.get("/v2/library/app/manifests/other", &[]).await.status, 502);
}

#[tokio::test]
async fn a_404_and_a_403_are_told_as_such_and_end_what_was_held_of_a_tag() {
    let (hub, image, proxy) = pulled().await;
    hub.remove_tag("library/app", "latest");
    let gone = proxy.get("/v2/library/app/manifests/latest", &[]).await;
    assert_eq!((gone.status, gone.json()["errors"][0]["code"].as_str()), (404, Some("MANIFEST_UNKNOWN")));
    hub.stop().await;
    assert_ne!(proxy.get("/v2/library/app/manifests/latest", &[]).await.status, 200);
    assert_eq!(proxy.get(&manifest(&image), &[]).await.status, 200, "by digest it is still what it was");
    let absent = format!("/v2/library/app/blobs/{}", layer(77).digest);
    hub.resume();
    hub.forget();
    for _ in 0..5 {
        assert_eq!(proxy.get(&absent, &[]).await.json()["errors"][0]["code"], "BLOB_UNKNOWN");
    }
    assert_eq!(hub.requests().len(), 1, "a 404 is remembered for a moment");
}

#[tokio::test]
async fn a_restart_keeps_what_was_pulled() {
    let (hub, image, proxy) = pulled().await;
    let setup = proxy.stop().await;
    hub.stop().await;
    let proxy = setup.start().await;
    assert_eq!(proxy.get(&blob(&image), &[]).await.body, image.layers[0].bytes);
    assert_eq!(proxy.get(&manifest(&image), &[]).await.body, image.manifest.bytes);
    assert_eq!(proxy.get("/v2/library/app/manifests/latest", &[]).await.header("x-cache"), "stale");
}

#[tokio::test]
async fn a_lost_index_costs_a_proof_but_no_download() {
    let (hub, image, proxy) = pulled().await;
    let setup = proxy.stop().await;
    std::fs::remove_file(setup.cache_folder().join("index.redb")).unwrap();
    hub.forget();
    let proxy = setup.start().await;
    assert_eq!(proxy.get(&blob(&image), &[]).await.body, image.layers[0].bytes);
    assert_eq!(proxy.get(&manifest(&image), &[]).await.body, image.manifest.bytes);
    assert_eq!((hub.count(on("/v2/library").get()), hub.count(on("/v2/library").head())), (0, 2));
}

#[tokio::test]
async fn replicas_are_tried_in_order_and_404_needs_all_of_them() {
    let (first, second) = (Registry::start().await, Registry::start().await);
    let image = second.push_image("library/app", "latest", &[layer(1000)]);
    let urls = format!("[[registry]]\nname = \"docker.io\"\nurls = [\"{}\", \"{}\"]\ndefault = true\n", first.url(), second.url());
    let proxy = Setup::new().registries(&urls).start().await;
    assert_eq!(proxy.get("/v2/library/app/manifests/latest", &[]).await.body, image.manifest.bytes, "404 of one is no answer");
    first.fault(on("/v2/"), Fault::Status(503));
    assert_eq!(proxy.get("/v2/library/app/manifests/none", &[]).await.status, 502, "one could not be asked");
    first.stop().await;
    assert_eq!(proxy.get(&blob(&image), &[]).await.body, image.layers[0].bytes);
}
