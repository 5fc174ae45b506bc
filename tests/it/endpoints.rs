//! Private endpoints: what a load balancer's header makes of a request, and listeners with a registry of their own.

use super::support::proxy::{Proxy, Setup};
use super::support::*;

/// AWS's own sample: from 172.31.7.113, by vpce-08d2bf15fac5001c9.
const AWS: &str = "0d0a0d0a000d0a515549540a21110054ac1f0771ac1f0a1fc8f20050030004e8d6892dea001701767063652d3038643262663135666163353030316339040024000000000000000000000000000000000000000000000000000000000000000000000000";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

async fn behind_a_balancer(hub: &Registry) -> Proxy {
    let setup = Setup::new().registry("docker.io", hub, "default = true");
    setup.listener("proxy_protocol = { from = [\"127.0.0.0/8\"] }").start().await
}

/// A connection that begins with this header.
async fn connect(proxy: &Proxy, header: &[u8]) -> Client {
    let mut client = Client::connect(proxy.address).await;
    client.send(header).await;
    client
}

#[tokio::test]
async fn an_image_is_pulled_by_a_private_endpoint_and_the_log_says_which() {
    let hub = Registry::start().await;
    let image = hub.push_image("library/app", "latest", &[layer(1000)]);
    let proxy = behind_a_balancer(&hub).await;
    let mut client = connect(&proxy, &hex::decode(AWS).unwrap()).await;
    let manifest = client.ask("GET", "/v2/library/app/manifests/latest", &[]).await;
    assert_eq!((manifest.status, manifest.body), (200, image.manifest.bytes.clone()));
    let blob = client.ask("GET", &format!("/v2/library/app/blobs/{}", image.layers[0].digest), &[]).await;
    assert_eq!((blob.status, blob.body), (200, image.layers[0].bytes.clone()));
    for line in proxy.log() {
        assert_eq!((&line["source"], &line["endpoint"]), (&"172.31.7.113".into(), &"aws:vpce-08d2bf15fac5001c9".into()));
    }
    let mut without = Client::connect(proxy.address).await;
    without.request("GET", "/v2/", &[]).await;
    without.ended().await;
    let refused = "roadstead_refused_connections_total{endpoint=\"nodes\",reason=\"proxy_header\"}";
    assert_eq!(proxy.metric(refused).await, 1.0);
}

#[tokio::test]
async fn a_balancer_that_speaks_for_itself_may_ask_whether_the_proxy_is_ready_and_no_more() {
    let hub = Registry::start().await;
    hub.push_image("library/app", "latest", &[layer(1000)]);
    let proxy = behind_a_balancer(&hub).await;
    let mut probe = connect(&proxy, LOCAL).await;
    assert_eq!(probe.ask("GET", "/readyz", &[]).await.status, 200);
    for path in ["/v2/", "/v2/library/app/manifests/latest", "/v2/_catalog"] {
        assert_eq!(probe.ask("GET", path, &[]).await.status, 403, "{path}");
    }
    assert!(hub.requests().is_empty());
    let mut node = connect(&proxy, &hex::decode(AWS).unwrap()).await;
    assert_eq!(node.ask("GET", "/readyz", &[]).await.status, 404, "no client of a balancer is local");
    let mut local = connect(&proxy, b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n").await;
    assert_eq!(local.ask("GET", "/readyz", &[]).await.status, 200);
}

#[tokio::test]
async fn a_listener_may_have_a_default_registry_of_its_own() {
    let (hub, other) = (Registry::start().await, Registry::start().await);
    hub.push_image("acme/app", "latest", &[layer(1)]);
    let image = other.push_image("acme/app", "latest", &[layer(2)]);
    let setup = Setup::new().registry("docker.io", &hub, "default = true").registry("registry.test", &other, "");
    let proxy = setup.listener("default_registry = \"registry.test\"").start().await;
    let plain = proxy.get("/v2/acme/app/manifests/latest", &[]).await;
    assert_eq!((plain.status, plain.body), (200, image.manifest.bytes.clone()));
    assert!(hub.requests().is_empty());
    let named = proxy.get("/v2/acme/app/manifests/latest?ns=docker.io", &[]).await;
    assert!(named.status == 200 && named.body != image.manifest.bytes);
}
