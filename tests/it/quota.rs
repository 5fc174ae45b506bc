//! What a tenant may take at once, and what it is told when it had that.

use super::support::proxy::Setup;
use super::support::*;

fn over(reply: &Reply, limit: &str) {
    assert_eq!(reply.status, 503, "{limit}");
    assert!(!reply.header("retry-after").is_empty(), "{limit}");
    let error = &reply.json()["errors"][0];
    assert_eq!(error["code"], "TOOMANYREQUESTS");
    assert!(error["message"].as_str().unwrap().contains(limit), "{error}");
}

#[tokio::test]
async fn requests_beyond_the_rate_are_told_to_come_back() {
    let hub = Registry::start().await;
    let image = hub.push_image("library/app", "latest", &[layer(100)]);
    let limit = "[[limit]]\nby = \"source\"\nrequests = 1\n";
    let proxy = Setup::new().registry("docker.io", &hub, "default = true").section(limit).start().await;
    let path = format!("/v2/library/app/manifests/{}", image.manifest.digest);
    let mut client = Client::connect(proxy.address).await;
    let mut statuses = Vec::new();
    for _ in 0..8 {
        let reply = client.ask("GET", &path, &[]).await;
        if reply.status != 200 {
            over(&reply, "1 requests per second for this source");
        }
        statuses.push(reply.status);
    }
    assert_eq!(statuses[0], 200);
    assert!(statuses.contains(&503), "one in a second: {statuses:?}");
    assert!(proxy.metric("roadstead_limited_total{by=\"source\",what=\"requests\"}").await > 0.0);
}

#[tokio::test]
async fn connections_beyond_the_cap_are_answered_once_and_closed() {
    let hub = Registry::start().await;
    let limit = "[[limit]]\nby = \"source\"\nconnections = 2\n";
    let proxy = Setup::new().registry("docker.io", &hub, "default = true").section(limit).start().await;
    let (mut first, mut second) = (Client::connect(proxy.address).await, Client::connect(proxy.address).await);
    assert_eq!(first.ask("GET", "/v2/", &[]).await.status, 200);
    assert_eq!(second.ask("GET", "/v2/", &[]).await.status, 200);
    let mut third = Client::connect(proxy.address).await;
    over(&third.ask("GET", "/v2/", &[]).await, "2 connections at once for this source");
    third.ended().await;
    assert_eq!(first.ask("GET", "/v2/", &[]).await.status, 200, "those that are open go on");
    drop(second);
    let admitted = async {
        while Client::connect(proxy.address).await.ask("GET", "/v2/", &[]).await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    within(admitted).await;
    assert!(proxy.metric("roadstead_limited_total{by=\"source\",what=\"connections\"}").await > 0.0);
}

#[tokio::test]
async fn a_tenant_starts_so_many_downloads_and_may_join_any_number() {
    let hub = Registry::start().await;
    let (slow, other) = (layer(300_000), layer(300_001));
    hub.push_image("library/app", "latest", &[slow.clone(), other.clone()]);
    let gate = Gate::new();
    hub.fault(on(slow.digest).get(), Fault::HoldAfter(100_000, gate.clone()));
    let limit = "[[limit]]\nby = \"endpoint\"\ndownloads = 1\n";
    let proxy = Setup::new().registry("docker.io", &hub, "default = true").section(limit).start().await;
    let (slow_path, other_path) =
        (format!("/v2/library/app/blobs/{}", slow.digest), format!("/v2/library/app/blobs/{}", other.digest));
    let mut first = Client::connect(proxy.address).await;
    first.request("GET", &slow_path, &[]).await;
    first.head().await.unwrap();
    over(&get(proxy.address, &other_path, &[]).await, "1 downloads at once for this endpoint");
    assert!(proxy.metric("roadstead_limited_total{by=\"endpoint\",what=\"downloads\"}").await > 0.0);
    let mut joined = Client::connect(proxy.address).await;
    joined.request("GET", &slow_path, &[]).await;
    assert_eq!(joined.head().await.unwrap().status, 200);
    gate.open();
    assert_eq!(first.rest().await.0, slow.bytes);
    assert_eq!(joined.rest().await.0, slow.bytes);
    // The download gives its place back when it is stored, a moment after its last byte.
    let admitted = async {
        loop {
            let reply = get(proxy.address, &other_path, &[]).await;
            if reply.status == 200 {
                break reply;
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(within(admitted).await.body, other.bytes);
}
