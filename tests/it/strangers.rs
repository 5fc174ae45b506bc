//! Requests that no client of good will sends: a clear 4xx, no file touched, no upstream asked, and next to no memory.

use super::support::process::Process;
use super::support::proxy::{Proxy, Setup};
use super::support::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn requests() -> Vec<(String, std::ops::RangeInclusive<u16>)> {
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n");
    let long = "a".repeat(10_000);
    let paths = [
        "/v2/../../etc/passwd/manifests/latest".to_owned(),
        "/v2/a/../b/manifests/latest".to_owned(),
        "/v2/a%2f..%2fb/manifests/latest".to_owned(),
        "/v2/a/manifests/..".to_owned(),
        "/v2/a/manifests/%2e%2e%2f".to_owned(),
        "/v2/a%00b/tags/list".to_owned(),
        "/v2/a/manifests/%00".to_owned(),
        format!("/v2/{long}/manifests/latest"),
        format!("/v2/a/manifests/{long}"),
        format!("/v2/a/tags/list?last={long}"),
        format!("/v2/a/blobs/{}", &DIGEST[..70]),
        format!("/v2/a/blobs/{DIGEST}0"),
        format!("/v2/a/blobs/md5:{}", &DIGEST[7..39]),
        format!("/v2/a/blobs/SHA256:{}", &DIGEST[7..]),
        "/v2/a/manifests/sha256:x".to_owned(),
        "/v2/a/manifests/latest?ns=docker.io&ns=registry.test".to_owned(),
        "/v2/a/manifests/latest?ns=unknown.test".to_owned(),
        "/v2/a/manifests/latest?ns=../etc".to_owned(),
        "/v2/a/manifests/latest?ns=".to_owned(),
        "/v2/unknown.test/a/manifests/latest".to_owned(),
        "/v2/a/tags/list?n=-1".to_owned(),
        "/".to_owned(),
        "/v2/_catalog".to_owned(),
    ];
    let mut all: Vec<_> = paths.iter().map(|path| (get(path, ""), 400..=499)).collect();
    let many: String = (0..300).map(|n| format!("X-{n}: y\r\n")).collect();
    all.push((get("/v2/", &many), 400..=499));
    all.push((get("/v2/", &format!("X: {}\r\n", "y".repeat(100_000))), 400..=499));
    all.push(("GET /v2/ HTTP/1.1\r\n\r\n".to_owned(), 400..=400));
    all.push(("GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), 400..=400));
    all.push(("BREW /v2/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400..=499));
    all.push(("\0\0\0\0 nonsense\r\n\r\n".to_owned(), 400..=400));
    all.push(("\u{16}\u{3}\u{1} a TLS client's hello\r\n\r\n".to_owned(), 400..=400));
    all
}

#[tokio::test]
async fn every_one_gets_a_clear_4xx_and_nothing_is_touched_or_asked() {
    let hub = Registry::start().await;
    let proxy = Proxy::of(&hub).await;
    let files = |proxy: &Proxy| walk(&proxy.setup().cache_folder());
    let before = files(&proxy);
    for (request, expected) in requests() {
        let mut client = Client::connect(proxy.address).await;
        client.send(&request).await;
        let shown = &request[..request.len().min(100)];
        let head = client.head().await.unwrap_or_else(|end| panic!("{end:?} without an answer to {shown}"));
        let (body, end) = client.rest().await;
        let reply = Reply { status: head.status, headers: head.headers, body, end };
        assert!(expected.contains(&reply.status), "{} for {shown}", reply.status);
        assert!(!reply.json()["errors"][0]["message"].as_str().unwrap().is_empty(), "{shown}");
    }
    assert_eq!(files(&proxy), before);
    assert_eq!((hub.connections(), hub.requests().len()), (0, 0));
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect();
    all.sort();
    all
}

#[tokio::test]
async fn ranges_that_overflow_are_ignored_or_unsatisfiable() {
    let hub = Registry::start().await;
    let image = hub.push_image("library/app", "latest", &[layer(100)]);
    let proxy = Proxy::of(&hub).await;
    let path = format!("/v2/library/app/blobs/{}", image.layers[0].digest);
    let many = format!("bytes={}", "0-0,".repeat(5000));
    for (range, status) in [
        ("bytes=18446744073709551615-", 416),
        ("bytes=18446744073709551616-", 200),
        ("bytes=0-18446744073709551615", 206),
        ("bytes=-18446744073709551615", 206),
        ("bytes=99999999999999999999999999-", 200),
        ("bytes=5-1", 200),
        (many.as_str(), 200),
    ] {
        let reply = proxy.get(&path, &[("range", range)]).await;
        assert_eq!((reply.status, reply.complete()), (status, true), "{}", &range[..range.len().min(60)]);
    }
}

#[tokio::test]
async fn ten_thousand_of_them_cost_less_than_eight_mebibytes() {
    let hub = Registry::start().await;
    let setup = Setup::new().registry("docker.io", &hub, "default = true");
    let process = Process::start(&setup).await;
    let (requests, send) = (requests(), async |request: &str| {
        let mut client = Client::connect(process.address).await;
        client.send(request).await;
        assert!((400..500).contains(&client.reply().await.status));
    });
    for (request, _) in requests.iter().cycle().take(300) {
        send(request).await;
    }
    process.forget_peak();
    let before = process.kibibytes("VmRSS");
    for (request, _) in requests.iter().cycle().take(10_000) {
        send(request).await;
    }
    let grown = process.kibibytes("VmHWM") - before;
    assert!(grown < 8 * 1024, "{grown} KiB");
    assert_eq!(hub.connections(), 0);
}
