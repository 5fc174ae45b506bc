//! The distribution specification's rules for pulls, in both forms in which its conformance suites expect them, and what
//! clients rely on beyond them.

use serde_json::json;

use super::support::images::{OCI_INDEX, OCI_MANIFEST};
use super::support::proxy::Proxy;
use super::support::*;

/// sha256 of "hello world", which the suite asks for as the blob that is not there.
const ABSENT: &str = "sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";

async fn scene() -> (Registry, Image, Proxy) {
    let hub = Registry::start().await;
    let image = hub.push_image("library/app", "v1", &[layer(100_000)]);
    hub.push_manifest("library/app", Some("list"), &Manifest::index(&[(&image, "linux/amd64")]));
    let proxy = Proxy::of(&hub).await;
    (hub, image, proxy)
}

#[tokio::test]
async fn the_base_says_that_this_is_a_registry() {
    let (hub, _, proxy) = scene().await;
    for path in ["/v2/", "/v2"] {
        let reply = proxy.get(path, &[]).await;
        assert_eq!((reply.status, reply.header("docker-distribution-api-version")), (200, "registry/2.0"));
        assert_eq!(proxy.head(path, &[]).await.status, 200);
    }
    assert!(hub.requests().is_empty());
}

#[tokio::test]
async fn content_has_its_exact_bytes_type_length_and_digest_cold_and_warm() {
    let (_hub, image, proxy) = scene().await;
    let (layer, manifest) = (&image.layers[0], &image.manifest);
    let digest = manifest.digest;
    for round in ["cold", "warm"] {
        for (path, bytes, media_type, digest) in [
            ("manifests/v1".to_owned(), &manifest.bytes, OCI_MANIFEST, digest),
            (format!("manifests/{digest}"), &manifest.bytes, OCI_MANIFEST, digest),
            (format!("blobs/{}", layer.digest), &layer.bytes, "application/octet-stream", layer.digest),
            (format!("blobs/{}", image.config.digest), &image.config.bytes, "application/octet-stream", image.config.digest),
        ] {
            let path = format!("/v2/library/app/{path}");
            let (head, get) = (proxy.head(&path, &[]).await, proxy.get(&path, &[]).await);
            assert_eq!((head.status, head.body.len()), (200, 0), "{round} {path}");
            assert_eq!((get.status, &get.body), (200, bytes), "{round} {path}");
            for reply in [&head, &get] {
                assert_eq!(reply.header("content-length"), bytes.len().to_string(), "{round} {path}");
                assert_eq!(reply.header("content-type"), media_type, "{round} {path}");
                assert_eq!(reply.header("docker-content-digest"), digest.to_string());
                assert_eq!(reply.header("etag"), format!("\"{digest}\""));
                assert_eq!(reply.header("accept-ranges"), "bytes");
                assert!(!reply.header("x-cache").is_empty() && !reply.header("age").is_empty());
                assert_eq!(reply.header("x-request-id").len(), 16);
            }
        }
    }
    let as_blob = proxy.get(&format!("/v2/library/app/blobs/{digest}"), &[]).await;
    assert_eq!((as_blob.status, &as_blob.body), (200, &manifest.bytes), "containerd asks so for a digest of unknown kind");
    let as_manifest = proxy.head(&format!("/v2/library/app/manifests/{}", layer.digest), &[]).await;
    assert_eq!(as_manifest.status, 404, "and expects this where it is a blob");
    let index = proxy.get("/v2/library/app/manifests/list", &[("accept", "application/vnd.nothing")]).await;
    assert_eq!((index.status, index.header("content-type")), (200, OCI_INDEX), "what is held is what is sent");
}

#[tokio::test]
async fn what_is_absent_or_malformed_gets_the_status_that_both_suites_take() {
    let (_hub, _, proxy) = scene().await;
    for (path, status, code) in [
        (format!("blobs/{ABSENT}"), 404, "BLOB_UNKNOWN"),
        (format!("manifests/{ABSENT}"), 404, "MANIFEST_UNKNOWN"),
        ("manifests/absent".to_owned(), 404, "MANIFEST_UNKNOWN"),
        ("manifests/.INVALID_MANIFEST_NAME".to_owned(), 404, "MANIFEST_UNKNOWN"),
        ("manifests/sha256:totallywrong".to_owned(), 400, "DIGEST_INVALID"),
        ("blobs/sha256:totallywrong".to_owned(), 400, "DIGEST_INVALID"),
        ("referrers/sha256:totallywrong".to_owned(), 400, "DIGEST_INVALID"),
    ] {
        let path = format!("/v2/library/app/{path}");
        let reply = proxy.get(&path, &[]).await;
        assert_eq!((reply.status, reply.json()["errors"][0]["code"].as_str()), (status, Some(code)), "{path}");
        assert_eq!(reply.header("content-type"), "application/json");
        let head = proxy.head(&path, &[]).await;
        assert_eq!((head.status, head.body.len()), (status, 0), "{path}");
    }
    assert_eq!(proxy.get("/v2/_catalog", &[]).await.status, 404);
    assert_eq!(proxy.get("/v2/no/such/manifests/v1", &[]).await.status, 404);
}

#[tokio::test]
async fn a_read_only_mirror_answers_405_to_every_write() {
    let (hub, _, proxy) = scene().await;
    for (method, path) in [
        ("POST", "/v2/library/app/blobs/uploads/"),
        ("PATCH", "/v2/library/app/blobs/uploads/1"),
        ("PUT", "/v2/library/app/manifests/v1"),
        ("DELETE", "/v2/library/app/manifests/v1"),
    ] {
        let mut client = Client::connect(proxy.address).await;
        let body = "x".repeat(100_000);
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.json()["errors"][0]["code"].as_str()), (405, Some("UNSUPPORTED")), "{method}");
        assert!(reply.header("allow").contains("GET"));
    }
    assert!(hub.requests().is_empty());
}

#[tokio::test]
async fn conditions_and_ranges_follow_rfc_9110() {
    let (_hub, image, proxy) = scene().await;
    let blob = &image.layers[0];
    let path = format!("/v2/library/app/blobs/{}", blob.digest);
    let tag = format!("\"{}\"", blob.digest);
    let get = async |headers: client::Headers<'_>| proxy.get(&path, headers).await;
    for round in ["cold", "warm"] {
        let whole = get(&[("range", "bytes=0-")]).await;
        assert_eq!((whole.status, whole.header("content-range")), (206, "bytes 0-99999/100000"), "{round}");
        assert_eq!(whole.body, blob.bytes);
        let part = get(&[("range", "bytes=500-1499"), ("if-range", &tag)]).await;
        assert_eq!((part.status, part.header("content-range")), (206, "bytes 500-1499/100000"), "{round}");
        assert_eq!((&part.body, part.header("etag")), (&blob.bytes.slice(500..1500), tag.as_str()));
        assert_eq!(get(&[("range", "bytes=500-"), ("if-range", "\"other\"")]).await.status, 200);
        assert_eq!(get(&[("range", "bytes=-10")]).await.body, blob.bytes.slice(99_990..));
        assert_eq!(get(&[("range", "lines=1-2")]).await.status, 200);
        assert_eq!(get(&[("range", "bytes=100000-")]).await.status, 416);
        let fresh = get(&[("if-none-match", &tag), ("range", "bytes=0-1")]).await;
        assert_eq!((fresh.status, fresh.body.len(), fresh.header("etag")), (304, 0, tag.as_str()));
        assert_eq!(get(&[("if-none-match", "\"other\"")]).await.status, 200);
        let parts = get(&[("range", "bytes=0-1,99990-")]).await;
        assert_eq!(parts.status, 206);
        let boundary = parts.header("content-type").split_once("boundary=").unwrap().1;
        let expected = [(0_usize, 2_usize), (99_990, 100_000)].map(|(from, to)| {
            let head = format!("Content-Type: application/octet-stream\r\nContent-Range: bytes {from}-{}/100000\r\n\r\n", to - 1);
            [format!("\r\n--{boundary}\r\n{head}").as_bytes(), &blob.bytes[from..to]].concat()
        });
        let end = format!("\r\n--{boundary}--\r\n");
        assert_eq!(parts.body, [&expected[0][..], &expected[1], end.as_bytes()].concat());
        assert_eq!(proxy.head(&path, &[("range", "bytes=0-1")]).await.status, 200);
    }
    let manifest = format!("/v2/library/app/manifests/{}", image.manifest.digest);
    let reply = proxy.get(&manifest, &[("range", "bytes=0-")]).await;
    assert!(reply.body == image.manifest.bytes, "containerd 2 sends a range with everything and takes the whole");
    assert_eq!(proxy.get(&manifest, &[("if-none-match", "*")]).await.status, 304);
}

#[tokio::test]
async fn tags_come_page_by_page_with_links_that_lead_here() {
    let (hub, image, proxy) = scene().await;
    for tag in ["a", "b", "c", "d"] {
        hub.push_manifest("library/app", Some(tag), &image.manifest);
    }
    let all = proxy.get("/v2/app/tags/list", &[]).await;
    assert_eq!(all.json(), json!({ "name": "app", "tags": ["a", "b", "c", "d", "list", "v1"] }), "the client's own name");
    let named = proxy.get("/v2/docker.io/library/app/tags/list", &[]).await;
    assert_eq!(named.json()["name"], "docker.io/library/app");
    let (mut tags, mut next) = (Vec::new(), "/v2/docker.io/library/app/tags/list?n=4&ns=docker.io".to_owned());
    while !next.is_empty() {
        let page = proxy.get(&next, &[]).await;
        assert_eq!((page.status, page.header("oci-namespace")), (200, "docker.io"));
        tags.extend(page.json()["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()));
        let link = page.header("link").to_owned();
        next = link.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        assert!(
            next.is_empty() || next.starts_with("/v2/docker.io/library/app/tags/list?") && next.contains("ns=docker.io"),
            "{link}"
        );
    }
    assert_eq!(tags, ["a", "b", "c", "d", "list", "v1"]);
    assert_eq!(proxy.get("/v2/library/app/tags/list?n=x", &[]).await.status, 400);
    proxy.get("/v2/library/app/tags/list?next_page=opaque", &[]).await;
    assert_eq!(hub.count(on("tags/list?next_page=opaque")), 1, "an upstream's own cursor goes back to it");
    hub.stop().await;
    assert_eq!(proxy.get("/v2/app/tags/list", &[]).await.status, 200, "held for when the upstream is gone");
    assert_eq!(proxy.get("/v2/other/tags/list", &[]).await.status, 502);
}

#[tokio::test]
async fn referrers_are_passed_on_page_by_page_and_so_is_their_404() {
    let (hub, image, proxy) = scene().await;
    for (kind, seed) in [("application/spdx+json", 1), ("application/vnd.sig", 2)] {
        let artifact = Image::artifact(&image.manifest, kind, &images::noise(seed, 50));
        hub.push("library/app", None, &artifact);
    }
    let path = format!("/v2/library/app/referrers/{}", image.manifest.digest);
    let all = proxy.get(&path, &[]).await;
    assert_eq!((all.status, all.header("content-type")), (200, OCI_INDEX));
    assert_eq!(all.json()["manifests"].as_array().unwrap().len(), 2);
    let one = proxy.get(&format!("{path}?artifactType=application%2Fspdx%2Bjson"), &[]).await;
    assert_eq!(one.header("oci-filters-applied"), "artifactType");
    assert_eq!(one.json()["manifests"].as_array().unwrap().len(), 1);
    hub.page_referrers(1);
    let first = proxy.get(&format!("{path}?artifactType="), &[]).await;
    if let Some(next) = first.header("link").split(['<', '>']).nth(1) {
        assert_eq!(proxy.get(next, &[]).await.status, 200, "{next}");
    }
    hub.stop().await;
    assert_eq!(proxy.get(&path, &[]).await.json(), all.json(), "held for when the upstream is gone");
    let (hub, image, proxy) = scene().await;
    hub.without_referrers();
    let path = format!("/v2/library/app/referrers/{}", image.manifest.digest);
    assert_eq!(proxy.get(&path, &[]).await.status, 404, "clients then look for the referrers tag");
}

#[tokio::test]
async fn a_registry_is_named_by_ns_path_host_or_default() {
    let (hub, other) = (Registry::start().await, Registry::start().await);
    let (image, elsewhere) = (hub.push_image("library/app", "v1", &[layer(1)]), other.push_image("acme/app", "v1", &[layer(2)]));
    let setup = proxy::Setup::new().registry("docker.io", &hub, "default = true").registry(
        "ghcr.io",
        &other,
        "hosts = [\"ghcr.mirror.test\"]",
    );
    let proxy = setup.start().await;
    for path in ["/v2/app/", "/v2/library/app/", "/v2/docker.io/library/app/", "/v2/index.docker.io/app/"] {
        assert_eq!(proxy.get(&format!("{path}manifests/v1"), &[]).await.body, image.manifest.bytes, "{path}");
    }
    for path in [
        "/v2/acme/app/manifests/v1?ns=ghcr.io",
        "/v2/ghcr.io/acme/app/manifests/v1",
        "/v2/ghcr.io/acme/app/manifests/v1?ns=ghcr.io",
    ] {
        let reply = proxy.get(path, &[]).await;
        assert_eq!(
            (&reply.body, reply.header("oci-namespace")),
            (&elsewhere.manifest.bytes, if path.contains("ns=") { "ghcr.io" } else { "" })
        );
    }
    let mut client = Client::connect(proxy.address).await.host("ghcr.mirror.test:5000");
    assert_eq!(client.ask("GET", "/v2/acme/app/manifests/v1", &[]).await.body, elsewhere.manifest.bytes);
    for path in ["/v2/quay.io/a/b/manifests/v1", "/v2/a/b/manifests/v1?ns=quay.io", "/v2/localhost/a/manifests/v1"] {
        let reply = proxy.get(path, &[]).await;
        assert_eq!((reply.status, reply.json()["errors"][0]["code"].as_str()), (404, Some("NAME_UNKNOWN")), "{path}");
    }
    assert!(hub.requests().iter().chain(&other.requests()).all(|asked| asked.parameter("ns").is_none()));
}

#[tokio::test]
async fn one_wide_accept_goes_upstream_whatever_the_client_says() {
    let (hub, _, proxy) = scene().await;
    proxy.get("/v2/library/app/manifests/v1", &[("accept", "application/json"), ("accept", "text/plain")]).await;
    let [asked] = &hub.matching(on("/manifests/"))[..] else { panic!("{:?}", hub.requests()) };
    let accept = asked.header("accept").unwrap();
    assert!(
        accept.contains(OCI_INDEX) && accept.contains(OCI_MANIFEST) && accept.contains("docker.distribution.manifest.list.v2+json")
    );
    assert!(asked.header("via").unwrap().starts_with("1.1 roadstead"));
    assert!(asked.header("user-agent").unwrap().starts_with("roadstead/"));
}
