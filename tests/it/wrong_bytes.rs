//! Whatever an upstream sends, nobody ends up with wrong bytes that look right.

use http::Method;

use super::support::proxy::Proxy;
use super::support::*;

const SIZE: usize = 300_000;

async fn scene() -> (Registry, Image, Proxy) {
    let hub = Registry::start().await;
    let image = hub.push_image("library/app", "latest", &[layer(SIZE)]);
    let proxy = Proxy::of(&hub).await;
    (hub, image, proxy)
}

fn blob_path(image: &Image) -> String {
    format!("/v2/library/app/blobs/{}", image.layers[0].digest)
}

fn lies() -> Vec<(&'static str, Vec<Fault>)> {
    vec![
        ("a wrong byte at the start", vec![Fault::Flip(0)]),
        ("a wrong byte in the middle", vec![Fault::Flip(SIZE / 2)]),
        ("a wrong byte at the end", vec![Fault::Flip(SIZE - 1)]),
        ("a wrong byte, chunked", vec![Fault::Flip(9), Fault::NoLength]),
        ("too few bytes", vec![Fault::Short(SIZE - 1)]),
        ("too few bytes, chunked with a good end", vec![Fault::Short(SIZE / 2), Fault::NoLength]),
        ("no byte at all", vec![Fault::Short(0)]),
        ("too many bytes", vec![Fault::Extra(1)]),
        ("too many bytes, chunked", vec![Fault::Extra(100_000), Fault::NoLength]),
        ("other bytes of the same length", vec![Fault::Body(vec![7; SIZE].into())]),
        ("an error page with status 200", vec![Fault::Body("<html>sign in</html>".into())]),
    ]
}

#[tokio::test]
async fn a_blob_that_is_not_what_its_digest_says_is_never_completed_and_the_next_pull_is_right() {
    for with_manifest in [false, true] {
        for (lie, faults) in lies() {
            let (hub, image, proxy) = scene().await;
            if with_manifest {
                assert_eq!(proxy.get("/v2/library/app/manifests/latest", &[]).await.status, 200);
            }
            for fault in faults {
                hub.fault(on("/blobs/").get(), fault);
            }
            let wrong = proxy.get(&blob_path(&image), &[]).await;
            // A transfer that only ended early is taken up again, and then all is well.
            let good = wrong.body == image.layers[0].bytes;
            assert!(good || wrong.status != 200 || !wrong.complete(), "{lie}, manifest known: {with_manifest}");
            assert!(matches!(wrong.status, 200 | 502), "{lie}: {}", wrong.status);
            hub.heal();
            let right = proxy.get(&blob_path(&image), &[]).await;
            assert!(right.complete() && right.body == image.layers[0].bytes, "{lie}: {} {:?}", right.status, right.end);
        }
    }
}

#[tokio::test]
async fn all_who_joined_a_wrong_download_are_cut_short() {
    let (hub, image, proxy) = scene().await;
    let gate = Gate::new();
    hub.fault(on("/blobs/").get(), Fault::Flip(10));
    hub.fault(on("/blobs/").get(), Fault::HoldAfter(SIZE / 2, gate.clone()));
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = Client::connect(proxy.address).await;
        client.request("GET", &blob_path(&image), &[]).await;
        assert_eq!(client.head().await.unwrap().status, 200);
        client.read(1000).await;
        clients.push(client);
    }
    gate.open();
    for client in &mut clients {
        assert_ne!(client.rest().await.1, End::Whole);
    }
    let mut h2 = H2::connect(proxy.address).await;
    assert!(!h2.get(&blob_path(&image), &[]).await.complete());
    assert!(proxy.metric("roadstead_digest_mismatches_total{registry=\"docker.io\"}").await >= 1.0);
    let tail = proxy.get(&blob_path(&image), &[("range", "bytes=-100")]).await;
    assert!(tail.status != 206 || !tail.complete(), "a range that touches the end waits for the digest");
}

#[tokio::test]
async fn a_length_that_is_not_the_manifest_s_is_an_error_before_any_header() {
    let (hub, image, proxy) = scene().await;
    proxy.get("/v2/library/app/manifests/latest", &[]).await;
    hub.fault(on("/blobs/").get(), Fault::Body(vec![1; 10].into()));
    let reply = proxy.get(&blob_path(&image), &[]).await;
    assert_eq!((reply.status, reply.json()["errors"][0]["code"].as_str()), (502, Some("UNAVAILABLE")));
}

#[tokio::test]
async fn a_manifest_that_is_not_what_it_claims_is_refused_whole() {
    let other = layer(10).digest.to_string();
    for (lie, by_tag, fault) in [
        ("a lying digest header", true, Fault::Header("docker-content-digest", other.clone())),
        ("a lying digest header", false, Fault::Header("docker-content-digest", other.clone())),
        ("a wrong byte", true, Fault::Flip(20)),
        ("a wrong byte", false, Fault::Flip(20)),
        ("half of it", false, Fault::Short(100)),
        ("not JSON", true, Fault::Body("<html>".into())),
        ("both image and index", true, Fault::Body(r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#.into())),
    ] {
        let (hub, image, proxy) = scene().await;
        let reference = if by_tag { "latest".to_owned() } else { image.manifest.digest.to_string() };
        let path = format!("/v2/library/app/manifests/{reference}");
        hub.fault(on("/manifests/"), fault.clone());
        if matches!(fault, Fault::Body(_)) {
            hub.fault(on("/manifests/"), Fault::NoHeader("docker-content-digest"));
        }
        let reply = proxy.get(&path, &[]).await;
        assert_eq!(reply.status, 502, "{lie}, by tag: {by_tag}");
        hub.heal();
        let right = proxy.get(&path, &[]).await;
        assert_eq!((right.status, &right.body), (200, &image.manifest.bytes), "{lie}, by tag: {by_tag}");
    }
}

#[tokio::test]
async fn an_endless_manifest_is_refused_at_four_mebibytes() {
    let (hub, _, proxy) = scene().await;
    hub.fault(on("/manifests/").get(), Fault::Extra(5 << 20));
    hub.fault(on("/manifests/").get(), Fault::NoLength);
    assert_eq!(proxy.get("/v2/library/app/manifests/latest", &[]).await.status, 502);
}

#[tokio::test]
async fn bytes_are_never_encoded_anew_whatever_the_client_accepts() {
    let (hub, image, proxy) = scene().await;
    hub.fault(on("/v2/"), Fault::GzipIfAsked);
    for accept in ["gzip", "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5", "*", "identity;q=0, gzip"] {
        for (path, bytes) in [
            (format!("/v2/library/app/manifests/{}", image.manifest.digest), &image.manifest.bytes),
            (blob_path(&image), &image.layers[0].bytes),
        ] {
            let reply = proxy.get(&path, &[("accept-encoding", accept)]).await;
            assert_eq!((reply.status, &reply.body), (200, bytes), "{accept}");
            assert!(!reply.headers.contains_key("content-encoding"));
        }
    }
    assert!(hub.requests().iter().all(|asked| asked.header("accept-encoding").is_none_or(|value| value == "identity")));
    assert!(hub.requests().iter().all(|asked| asked.method == Method::GET || asked.method == Method::HEAD));
}
