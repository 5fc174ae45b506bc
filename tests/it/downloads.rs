//! One download for all who ask (and for those who leave).

use futures_util::future::join_all;

use super::support::proxy::{Proxy, Setup};
use super::support::*;

const MIB: usize = 1 << 20;

fn path(blob: &Blob) -> String {
    format!("/v2/library/app/blobs/{}", blob.digest)
}

async fn hub_with(blob: &Blob) -> Registry {
    let hub = Registry::start().await;
    hub.push_image("library/app", "latest", std::slice::from_ref(blob));
    hub
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_blob_is_downloaded_once_for_32_clients_who_have_its_first_half_while_the_second_is_held_back() {
    let blob = layer(4 * MIB);
    let hub = hub_with(&blob).await;
    let gate = Gate::new();
    hub.fault(on(blob.digest).get(), Fault::HoldAfter(2 * MIB, gate.clone()));
    let proxy = Proxy::of(&hub).await;
    let clients = join_all((0..32).map(|_| async {
        let mut client = Client::connect(proxy.address).await;
        client.request("GET", &path(&blob), &[]).await;
        let head = client.head().await.unwrap();
        assert_eq!((head.status, head.headers["content-length"].to_str().unwrap()), (200, (4 * MIB).to_string().as_str()));
        assert_eq!(client.read(2 * MIB).await, blob.bytes.slice(..2 * MIB));
        client
    }))
    .await;
    gate.open();
    join_all(clients.into_iter().map(|mut client| async move { client.rest().await })).await.into_iter().for_each(|(rest, end)| {
        assert_eq!(end, End::Whole);
        assert_eq!(rest, blob.bytes.slice(2 * MIB..));
    });
    assert_eq!((hub.count(on(blob.digest)), hub.sent(on(blob.digest))), (1, blob.len()));
    assert_eq!(proxy.metric("roadstead_joins_total").await, 31.0);
    assert_eq!(proxy.metric("roadstead_saved_bytes_total{registry=\"docker.io\"}").await, 31.0 * blob.len() as f64);
    assert_eq!(proxy.metric("roadstead_upstream_bytes_total{registry=\"docker.io\"}").await, blob.len() as f64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_at_once_on_a_small_blob_cost_one_download_too() {
    let blob = layer(1000);
    let hub = hub_with(&blob).await;
    let proxy = Proxy::of(&hub).await;
    let path = path(&blob);
    for reply in join_all((0..64).map(|_| proxy.get(&path, &[]))).await {
        assert!(reply.complete() && reply.body == blob.bytes);
    }
    assert_eq!(hub.count(on(blob.digest)), 1);
}

#[tokio::test]
async fn a_download_goes_on_when_its_only_client_leaves() {
    let blob = layer(2 * MIB);
    let hub = hub_with(&blob).await;
    let gate = Gate::new();
    hub.fault(on(blob.digest).get(), Fault::HoldAfter(MIB, gate.clone()));
    let proxy = Proxy::of(&hub).await;
    let mut client = Client::connect(proxy.address).await;
    client.request("GET", &path(&blob), &[]).await;
    client.head().await.unwrap();
    client.read(1000).await;
    drop(client);
    gate.open();
    let reply = proxy.get_until(&path(&blob), |reply| reply.header("x-cache") == "hit").await;
    assert_eq!(reply.body, blob.bytes);
    assert_eq!((hub.count(on(blob.digest)), hub.sent(on(blob.digest))), (1, blob.len()));
}

#[tokio::test]
async fn a_download_starts_again_where_the_transfer_broke_and_no_client_notices() {
    let blob = layer(2 * MIB);
    let hub = hub_with(&blob).await;
    hub.fault(on(blob.digest).get().once(), Fault::CutAt(MIB));
    hub.fault(on(blob.digest).get().once(), Fault::ResetAt(MIB / 2));
    let proxy = Proxy::of(&hub).await;
    let reply = proxy.get(&path(&blob), &[]).await;
    assert!(reply.complete() && reply.body == blob.bytes);
    let ranges: Vec<_> = hub.matching(on(blob.digest)).iter().map(|asked| asked.header("range").map(str::to_owned)).collect();
    assert!(ranges.len() >= 2 && ranges[0].is_none() && ranges[1..].iter().all(Option::is_some), "{ranges:?}");
}

#[tokio::test]
async fn ranges_of_a_filling_blob_come_as_soon_as_their_bytes_are_there() {
    let blob = layer(2 * MIB);
    let hub = hub_with(&blob).await;
    let gate = Gate::new();
    hub.fault(on(blob.digest).get(), Fault::HoldAfter(MIB, gate.clone()));
    let proxy = Proxy::of(&hub).await;
    let part = proxy.get(&path(&blob), &[("range", "bytes=1000-1999")]).await;
    assert_eq!((part.status, part.header("content-range")), (206, format!("bytes 1000-1999/{}", blob.len()).as_str()));
    assert_eq!(part.body, blob.bytes.slice(1000..2000));
    let parts = proxy.get(&path(&blob), &[("range", "bytes=0-1,10-19")]).await;
    assert!(parts.status == 206 && parts.complete() && parts.header("content-type").starts_with("multipart/byteranges; boundary="));
    let outside = proxy.get(&path(&blob), &[("range", format!("bytes={}-", blob.len()).as_str())]).await;
    assert_eq!((outside.status, outside.header("content-range")), (416, format!("bytes */{}", blob.len()).as_str()));
    let (path, last) = (path(&blob), [("range", "bytes=-1000")]);
    let (tail, ()) = tokio::join!(proxy.get(&path, &last), async {
        gate.reached(1).await;
        gate.open();
    });
    assert_eq!((tail.status, &tail.body), (206, &blob.bytes.slice(2 * MIB - 1000..)));
    assert_eq!(hub.count(on(blob.digest)), 1);
}

#[tokio::test]
async fn a_blob_larger_than_the_cache_passes_through_and_evicts_nothing() {
    let (small, large) = (layer(100_000), layer(3 * MIB));
    let hub = hub_with(&small).await;
    hub.push_image("library/app", "large", std::slice::from_ref(&large));
    let setup = Setup::new().registry("docker.io", &hub, "default = true").cache("max_size = \"2 MiB\"");
    let proxy = setup.start().await;
    proxy.get(&path(&small), &[]).await;
    for _ in 0..2 {
        let reply = proxy.get(&path(&large), &[]).await;
        assert!(reply.complete() && reply.body == large.bytes);
    }
    hub.fault(on(large.digest).get(), Fault::Flip(MIB));
    assert!(!proxy.get(&path(&large), &[]).await.complete());
    assert_eq!(proxy.get_until(&path(&small), |_| true).await.header("x-cache"), "hit");
}

#[tokio::test]
async fn the_cache_stays_under_its_cap_and_refetches_what_was_evicted() {
    let hub = Registry::start().await;
    let blobs: Vec<Blob> = (0..12).map(|n| layer(400_000 + n)).collect();
    hub.push_image("library/app", "latest", &blobs);
    let setup = Setup::new().registry("docker.io", &hub, "default = true").cache("max_size = \"2 MiB\"");
    let proxy = setup.start().await;
    for blob in blobs.iter().chain(&blobs[..1]) {
        // Until it is a hit: what is not durable yet cannot be evicted, and what comes meanwhile passes through.
        let reply = proxy.get_until(&path(blob), |reply| reply.header("x-cache") == "hit").await;
        assert!(reply.complete() && reply.body == blob.bytes);
    }
    let evictions = proxy.metric("roadstead_evictions_total").await;
    assert!(evictions >= 8.0, "{evictions}");
    assert!(proxy.metric("roadstead_store_bytes").await <= 2.0 * MIB as f64);
}

#[tokio::test]
async fn many_heads_at_once_are_one_question_upstream() {
    let blob = layer(1000);
    let hub = hub_with(&blob).await;
    let gate = Gate::new();
    hub.fault(on("/v2/").head(), Fault::HoldHead(gate.clone()));
    let proxy = Proxy::of(&hub).await;
    let (tag, blob) = ("/v2/library/app/manifests/latest", path(&blob));
    let ask = |path| join_all((0..16).map(move |_| path).map(|path| proxy.head(path, &[])));
    let (tags, blobs, ()) = tokio::join!(ask(tag), ask(&blob), async {
        gate.reached(2).await;
        let connected = async || proxy.metric("roadstead_connections{endpoint=\"nodes\"}").await;
        while connected().await < 32.0 {}
        gate.open();
    });
    assert!(tags.iter().chain(&blobs).all(|reply| reply.status == 200));
    let asked = hub.count(on("/v2/").head());
    // Two, but for clients whose request was still on its way when the answers came.
    assert!(asked < 16, "{asked} questions for 32 clients");
}
