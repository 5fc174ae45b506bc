//! What was stored through one repository is served through another only when the upstream vouches for that one too.

use super::support::proxy::{Proxy, Setup};
use super::support::*;

fn blob_in(repository: &str, blob: &Blob) -> String {
    format!("/v2/{repository}/blobs/{}", blob.digest)
}

#[tokio::test]
async fn a_stored_blob_is_proved_with_the_upstream_and_then_served_from_disk() {
    let (hub, blob) = (Registry::start().await, layer(300_000));
    hub.push_blob("team/a", &blob);
    hub.push_blob("team/b", &blob);
    let proxy = Proxy::of(&hub).await;
    proxy.get_until(&blob_in("team/a", &blob), |reply| reply.header("x-cache") == "hit").await;
    hub.forget();
    let reply = proxy.get(&blob_in("team/b", &blob), &[]).await;
    assert_eq!((reply.header("x-cache"), &reply.body), ("revalidated", &blob.bytes));
    assert_eq!((hub.count(on("/team/b/").head()), hub.requests().len(), hub.sent(on("/v2/"))), (1, 1, 0));
    hub.stop().await;
    assert_eq!(proxy.get(&blob_in("team/b", &blob), &[]).await.header("x-cache"), "hit");
}

#[tokio::test]
async fn a_stored_blob_is_refused_where_the_upstream_refuses_it() {
    let (hub, blob) = (Registry::start().await, layer(300_000));
    hub.push_blob("private/a", &blob);
    hub.push_image("public/b", "latest", &[layer(10)]);
    let proxy = Proxy::of(&hub).await;
    proxy.get_until(&blob_in("private/a", &blob), |reply| reply.header("x-cache") == "hit").await;
    for (outage, status) in [(None, 404), (Some(403), 403), (Some(401), 403), (Some(500), 502)] {
        hub.heal();
        outage.into_iter().for_each(|status| hub.fault(on("/public/"), Fault::Status(status)));
        let path = format!("{}?attempt={status}", blob_in("public/b", &blob));
        for headers in [&[][..], &[("range", "bytes=0-0")]] {
            let reply = proxy.get(&path, headers).await;
            assert_eq!((reply.status, reply.body.len() < 1000), (status, true), "{outage:?}");
        }
        assert_eq!(proxy.head(&path, &[]).await.status, status);
        tokio::time::pause();
        tokio::time::advance(std::time::Duration::from_secs(11)).await;
        tokio::time::resume();
    }
    hub.stop().await;
    assert_ne!(proxy.get(&blob_in("public/b", &blob), &[]).await.status, 200);
}

#[tokio::test]
async fn a_stored_manifest_is_proved_too_and_the_manifest_of_one_registry_is_nothing_in_another() {
    let (hub, other) = (Registry::start().await, Registry::start().await);
    let image = hub.push_image("team/a", "latest", &[layer(10)]);
    hub.push("team/b", None, &image);
    let setup = Setup::new().registry("docker.io", &hub, "default = true").registry("other.test", &other, "");
    let proxy = setup.start().await;
    let digest = image.manifest.digest;
    proxy.get("/v2/team/a/manifests/latest", &[]).await;
    hub.forget();
    let reply = proxy.get(&format!("/v2/team/b/manifests/{digest}"), &[]).await;
    assert_eq!((reply.header("x-cache"), &reply.body), ("revalidated", &image.manifest.bytes));
    assert_eq!((hub.count(on("/team/b/").head()), hub.requests().len()), (1, 1));
    assert_eq!(proxy.get(&format!("/v2/team/a/manifests/{digest}?ns=other.test"), &[]).await.status, 404);
    assert_eq!(proxy.get(&format!("/v2/team/c/manifests/{digest}"), &[]).await.status, 404);
}

#[tokio::test]
async fn who_joins_a_download_through_another_repository_is_proved_first() {
    let (hub, blob) = (Registry::start().await, layer(2_000_000));
    ["team/a", "team/b"].iter().for_each(|repository| hub.push_blob(repository, &blob));
    hub.push_image("team/c", "latest", &[layer(10)]);
    let gate = Gate::new();
    hub.fault(on("/team/a/").get(), Fault::HoldAfter(1_000_000, gate.clone()));
    let proxy = Proxy::of(&hub).await;
    let mut first = Client::connect(proxy.address).await;
    first.request("GET", &blob_in("team/a", &blob), &[]).await;
    first.head().await.unwrap();
    first.read(1000).await;
    let mut second = Client::connect(proxy.address).await;
    second.request("GET", &blob_in("team/b", &blob), &[]).await;
    let head = second.head().await.unwrap();
    assert_eq!((head.status, head.headers["x-cache"].to_str().unwrap()), (200, "joined"));
    assert_eq!(hub.count(on("/team/b/").head()), 1);
    assert_eq!(proxy.get(&blob_in("team/c", &blob), &[]).await.status, 404);
    gate.open();
    assert_eq!(second.rest().await, (blob.bytes.clone(), End::Whole));
    assert_eq!(hub.count(on(blob.digest).get()), 1);
}

#[tokio::test]
async fn layers_shared_with_a_stored_image_are_proved_in_the_background_so_that_the_upstream_may_go() {
    let (hub, shared) = (Registry::start().await, layer(100_000));
    hub.push_image("team/a", "latest", std::slice::from_ref(&shared));
    hub.push_image("team/b", "latest", &[shared.clone(), layer(10)]);
    let proxy = Proxy::of(&hub).await;
    proxy.get_until(&blob_in("team/a", &shared), |reply| reply.header("x-cache") == "hit").await;
    proxy.get("/v2/team/b/manifests/latest", &[]).await;
    within(hub.seen(on("/team/b/blobs/").head(), 1)).await;
    let reply = proxy.get_until(&blob_in("team/b", &shared), |reply| reply.header("x-cache") == "hit").await;
    assert_eq!(reply.body, shared.bytes);
    assert_eq!(hub.count(on(shared.digest).get()), 1);
}
