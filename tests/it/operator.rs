//! What the operator sees and does: health, metrics, log, purge.

use super::support::proxy::Proxy;
use super::support::*;

async fn scene() -> (Registry, Image, Proxy) {
    let hub = Registry::start().await;
    let image = hub.push_image("library/app", "latest", &[layer(100_000)]);
    let proxy = Proxy::of(&hub).await;
    (hub, image, proxy)
}

async fn delete(proxy: &Proxy, path: &str) -> Reply {
    Client::connect(proxy.admin).await.ask("DELETE", path, &[]).await
}

#[tokio::test]
async fn health_is_on_the_admin_address_and_for_local_checks_on_the_data_address() {
    let (_hub, _, proxy) = scene().await;
    let get = async |path: &str| client::get(proxy.admin, path, &[]).await;
    assert_eq!((get("/livez").await.status, get("/readyz").await.status), (200, 200));
    assert_eq!(get("/nothing").await.status, 404);
    assert_eq!(client::get(proxy.admin, "/v2/", &[]).await.status, 404, "the back door pulls nothing");
    let metrics = get("/metrics").await;
    let types: Vec<_> = metrics.headers.get_all("content-type").iter().collect();
    assert_eq!(types, ["text/plain; version=0.0.4; charset=utf-8"], "a scraper goes by it");
    let local = proxy.get("/readyz", &[]).await;
    assert_eq!((local.status, local.body.len()), (200, 0));
    for path in ["/metrics", "/livez", "/api/v1/images/docker.io/library/app"] {
        assert_eq!(proxy.get(path, &[]).await.status, 404, "{path} is not for clients");
    }
}

#[tokio::test]
async fn each_request_is_one_line_of_the_log_and_one_count() {
    let (_hub, image, proxy) = scene().await;
    let path = format!("/v2/library/app/blobs/{}", image.layers[0].digest);
    let reply = proxy.get(&path, &[("user-agent", "tester"), ("authorization", "Basic c2VjcmV0")]).await;
    proxy.get_until(&path, |reply| reply.header("x-cache") == "hit").await;
    proxy.get("/v2/library/app/manifests/none", &[]).await;
    let log = within(async {
        while proxy.log().len() < 3 {
            tokio::task::yield_now().await;
        }
        proxy.log()
    })
    .await;
    assert_eq!(log[0]["id"], reply.header("x-request-id"));
    assert_eq!((&log[0]["registry"], &log[0]["repository"]), (&"docker.io".into(), &"library/app".into()));
    assert_eq!((&log[0]["status"], &log[0]["cache"], &log[0]["sent"]), (&200.into(), &"miss".into(), &100_000.into()));
    let last = log.last().unwrap();
    assert_eq!(last["status"], 404);
    assert!(last["reason"].as_str().unwrap().contains("docker.io"), "{last}");
    assert!(!format!("{log:?}").contains("c2VjcmV0"), "no secret is in the log");
    let hits = "roadstead_requests_total{action=\"blob\",cache=\"hit\",registry=\"docker.io\",status=\"200\"}";
    assert!(proxy.metric(hits).await >= 1.0);
    assert_eq!(proxy.metric("roadstead_upstream_bytes_total{registry=\"docker.io\"}").await, 100_000.0);
    assert!(proxy.metric("roadstead_store_blobs").await >= 1.0);
}

#[tokio::test]
async fn a_tag_a_repository_or_a_digest_can_be_dropped() {
    let (hub, image, proxy) = scene().await;
    let tag = "/v2/library/app/manifests/latest";
    let blob = format!("/v2/library/app/blobs/{}", image.layers[0].digest);
    proxy.get(tag, &[]).await;
    proxy.get_until(&blob, |reply| reply.header("x-cache") == "hit").await;
    let moved = hub.push_image("library/app", "latest", &[layer(10)]);
    assert_eq!(proxy.get(tag, &[]).await.body, image.manifest.bytes, "still fresh");
    assert_eq!(delete(&proxy, "/api/v1/images/docker.io/app:latest").await.json()["tags"], 1);
    assert_eq!(proxy.get(tag, &[]).await.body, moved.manifest.bytes);
    assert_eq!(delete(&proxy, &format!("/api/v1/blobs/{}", image.layers[0].digest)).await.json()["blobs"], 1);
    assert_eq!(proxy.get(&blob, &[]).await.header("x-cache"), "miss");
    proxy.get_until(&blob, |reply| reply.header("x-cache") == "hit").await;
    let dropped = delete(&proxy, "/api/v1/images/docker.io/library/app").await;
    assert!(dropped.json()["bytes"].as_u64().unwrap() > 100_000, "{:?}", dropped.body);
    assert_eq!(proxy.get(&blob, &[]).await.header("x-cache"), "miss");
    assert_eq!(delete(&proxy, "/api/v1/images/app").await.status, 400);
    assert_eq!(delete(&proxy, "/api/v1/blobs/sha256:x").await.status, 400);
    assert_eq!(Client::connect(proxy.admin).await.ask("POST", "/metrics", &[]).await.status, 405);
    for origin in ["https://evil.test", "http://evil.test:5001", "null"] {
        let headers = [("origin", origin)];
        for (method, path) in [("POST", "/api/v1/reload"), ("DELETE", "/api/v1/images/docker.io/library/app")] {
            let reply = Client::connect(proxy.admin).await.ask(method, path, &headers).await;
            assert_eq!(reply.status, 403, "{method} for a page of {origin}");
        }
        assert_eq!(client::get(proxy.admin, "/metrics", &headers).await.status, 200);
    }
}

#[tokio::test]
async fn a_policy_that_denies_says_so_before_anything_is_looked_up() {
    let hub = Registry::start().await;
    let image = hub.push_image("library/app", "latest", &[layer(10)]);
    let setup = proxy::Setup::new().registry("docker.io", &hub, "default = true");
    let setup = setup.start().await.stop().await;
    let proxy = setup.section("[policy]\ndefault = \"deny\"").start().await;
    for path in ["manifests/latest".to_owned(), "manifests/absent".to_owned(), format!("blobs/{}", image.layers[0].digest)] {
        let reply = proxy.get(&format!("/v2/library/app/{path}"), &[]).await;
        assert_eq!((reply.status, reply.json()["errors"][0]["code"].as_str()), (403, Some("DENIED")));
    }
    assert_eq!((proxy.get("/v2/", &[]).await.status, hub.connections()), (200, 0));
}
