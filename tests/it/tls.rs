//! The same content by every protocol that a listener speaks: HTTP/1.1 and HTTP/2, with TLS and without.

use futures_util::future::join_all;
use http::Method;

use super::support::client::H2Stream;
use super::support::proxy::{Proxy, Setup};
use super::support::*;

const SIZE: usize = 3 << 20;

/// Two proxies over the same registry, one with TLS and one without.
struct Scene {
    ca: Ca,
    tls: Proxy,
    plain: Proxy,
    blob: Blob,
    path: String,
    _hub: Registry,
}

impl Scene {
    async fn new() -> Self {
        let hub = Registry::start().await;
        let blob = layer(SIZE);
        hub.push_image("library/app", "latest", std::slice::from_ref(&blob));
        let ca = Ca::new();
        let identity = ca.issue(&["mirror.test"]);
        let setup = || Setup::new().registry("docker.io", &hub, "default = true");
        let with_tls = setup().listener("tls = { certificate = \"tls.crt\", key = \"tls.key\" }");
        std::fs::write(with_tls.folder().join("tls.crt"), &identity.certificate_pem).unwrap();
        std::fs::write(with_tls.folder().join("tls.key"), &identity.key_pem).unwrap();
        let path = format!("/v2/library/app/blobs/{}", blob.digest);
        Self { ca, tls: with_tls.start().await, plain: setup().start().await, blob, path, _hub: hub }
    }

    async fn http1(&self) -> Client {
        let config = self.ca.client(&["http/1.1"], None);
        Client::connect_tls(self.tls.address, "mirror.test", config).await.unwrap()
    }

    async fn http2(&self) -> H2 {
        H2::connect_tls(self.tls.address, "mirror.test", self.ca.client(&["h2"], None)).await
    }

    fn assert_whole(&self, reply: &Reply, what: &str) {
        assert_eq!((reply.status, reply.end, reply.header("content-length")), (200, End::Whole, "3145728"), "{what}");
        assert!(reply.body == self.blob.bytes, "{what}");
    }

    fn assert_part(&self, reply: &Reply, what: &str) {
        let range = format!("bytes 1000000-2999999/{SIZE}");
        assert_eq!((reply.status, reply.end, reply.header("content-range")), (206, End::Whole, range.as_str()), "{what}");
        assert!(reply.body == self.blob.bytes.slice(1_000_000..3_000_000), "{what}");
    }
}

const RANGE: &[(&str, &str)] = &[("range", "bytes=1000000-2999999")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_and_a_part_of_it_are_the_same_by_every_protocol_cold_and_warm() {
    let scene = Scene::new().await;
    let (mut http1, mut http2, mut h2c) = (scene.http1().await, scene.http2().await, H2::connect(scene.plain.address).await);
    for turn in ["cold", "warm"] {
        // The first pull fills both caches; by the last, each protocol has had its turn on a stored blob.
        scene.assert_whole(&http1.ask("GET", &scene.path, &[]).await, turn);
        scene.assert_whole(&http2.get(&scene.path, &[]).await, turn);
        scene.assert_whole(&h2c.get(&scene.path, &[]).await, turn);
        scene.assert_part(&http1.ask("GET", &scene.path, RANGE).await, turn);
        scene.assert_part(&http2.get(&scene.path, RANGE).await, turn);
        scene.assert_part(&h2c.get(&scene.path, RANGE).await, turn);
    }
    scene.assert_whole(&scene.plain.get(&scene.path, &[]).await, "plain");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_carries_many_pulls_at_once() {
    let scene = Scene::new().await;
    let mut http2 = scene.http2().await;
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(http2.open(Method::GET, &scene.path, &[]).await.unwrap());
    }
    // All are read side by side: one that is not would keep the connection's window from the others.
    for reply in join_all(open.into_iter().map(H2Stream::reply)).await {
        scene.assert_whole(&reply, "one of many");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_over_http2_has_the_length_and_no_body() {
    let scene = Scene::new().await;
    let reply = scene.http2().await.open(Method::HEAD, &scene.path, &[]).await.unwrap().reply().await;
    assert_eq!((reply.status, reply.end, reply.header("content-length")), (200, End::Whole, "3145728"));
    assert!(reply.body.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_is_told_that_it_is_not_offered_whatever_its_body() {
    let scene = Scene::new().await;
    for mut client in [scene.http2().await, H2::connect(scene.plain.address).await] {
        for size in [0, 10, 500_000] {
            let body = bytes::Bytes::from(vec![7; size]);
            let path = "/v2/library/app/blobs/uploads/";
            let reply = client.open_with(Method::POST, path, &[], body).await.unwrap().reply().await;
            assert_eq!((reply.status, reply.end, reply.header("allow")), (405, End::Whole, "GET, HEAD"), "{size}");
            assert_eq!(reply.json()["errors"][0]["code"], "UNSUPPORTED");
        }
        assert_eq!(client.get("/v2/", &[]).await.status, 200, "the connection goes on");
    }
    let mut client = scene.http1().await;
    client.send("PUT /v2/library/app/manifests/x HTTP/1.1\r\nHost: m\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(client.reply().await.status, 405);
    assert_eq!(client.ask("GET", "/v2/", &[]).await.status, 200);
}

#[tokio::test]
async fn a_client_that_speaks_no_tls_to_a_tls_listener_harms_nobody() {
    let scene = Scene::new().await;
    let mut client = Client::connect(scene.tls.address).await;
    client.request("GET", "/v2/", &[]).await;
    client.ended().await;
    assert_eq!(scene.http1().await.ask("GET", "/v2/", &[]).await.status, 200);
    assert_eq!(scene.tls.metric("roadstead_refused_connections_total{endpoint=\"nodes\",reason=\"tls\"}").await, 1.0);
}
