//! Where a request goes: redirects, and several URLs.

use super::*;

fn redirected(to: &'static str) -> Bench {
    let change = |configured: &mut config::Registry| {
        with_password(configured);
        configured.blob_hosts = vec![pattern("cdn.test")];
    };
    Bench::with(&["https://r.test"], change, move |request| match (host(request), authorization(request)) {
        ("auth.test", _) => Reply::ok(r#"{"token":"t"}"#),
        ("r.test", None) => bearer_needed(),
        ("r.test", _) if request.url.path() == "/there" => Reply::ok("there"),
        ("r.test", _) => Reply::status(307).header("location", to),
        ("cdn.test", None) => Reply::ok("blob"),
        _ => Reply::status(400),
    })
}

#[tokio::test]
async fn a_redirect_elsewhere_works_without_credentials() {
    let bench = redirected("https://cdn.test/signed?x=y");
    assert_eq!(read(bench.blob(0).await.unwrap()).await.unwrap(), b"blob");
    let last = bench.other.seen().pop().unwrap();
    assert_eq!((last.url.as_str(), authorization(&last)), ("https://cdn.test/signed?x=y", None));
}

#[tokio::test]
async fn a_redirect_within_the_registry_keeps_them() {
    let bench = redirected("/there");
    assert_eq!(read(bench.blob(0).await.unwrap()).await.unwrap(), b"there");
}

#[tokio::test]
async fn a_redirect_to_where_nobody_may_go_is_refused_unasked() {
    for to in [
        "https://other.test/x",
        "http://cdn.test/x",
        "http://169.254.169.254/latest/meta-data/",
        "https://169.254.169.254/",
        "https://2852039166/",
        "https://[::ffff:169.254.169.254]/",
        "https://localhost./",
        "https://127.0.0.1/",
        "https://u:p@cdn.test/",
        "https://cdn.test:8443/",
        "file:///etc/passwd",
    ] {
        let bench = redirected(to);
        let error = bench.blob(0).await.unwrap_err();
        assert_eq!(error.kind, Kind::Forbidden, "{to}: {error}");
        assert!(bench.other.seen().iter().all(|request| ["r.test", "auth.test"].contains(&host(request))), "{to}");
    }
    let text = redirected("https://other.test/x?signature=s").blob(0).await.unwrap_err().to_string();
    assert!(text.contains("other.test") && text.contains("blob_hosts") && !text.contains("signature"), "{text}");
}

#[tokio::test]
async fn redirects_end() {
    let bench = Bench::new(&["https://r.test"], |_| Reply::status(302).header("location", "/again"));
    assert_eq!(bench.kind().await, Kind::Failed);
    assert_eq!(bench.other.seen().len(), 6);
    assert_eq!(Bench::new(&["https://r.test"], |_| Reply::status(302)).kind().await, Kind::Failed);
}

#[tokio::test]
async fn a_store_s_refusal_is_its_failure_and_no_denial() {
    for status in [401, 403, 400] {
        let change = |configured: &mut config::Registry| configured.blob_hosts = vec![pattern("cdn.test")];
        let bench = Bench::with(&["https://r.test"], change, move |request| match host(request) {
            "r.test" => Reply::status(307).header("location", "https://cdn.test/x"),
            _ => Reply::status(status),
        });
        assert_eq!(bench.blob(0).await.unwrap_err().kind, Kind::Failed, "{status}");
        assert_eq!(bench.other.seen().len(), 2);
    }
}

/// Two URLs, of which the first does `first` and the second `second`.
fn two(first: fn() -> Reply, second: fn() -> Reply) -> Bench {
    Bench::new(&["https://a.test", "https://b.test"], move |request| match host(request) {
        "a.test" => first(),
        _ => second(),
    })
}

#[tokio::test(start_paused = true)]
async fn the_next_url_is_tried_after_every_kind_of_failure() {
    for first in [
        (|| Reply::status(500)) as fn() -> Reply,
        || Reply::status(429),
        || Reply::status(404),
        || Reply::status(400),
        || Reply::Hang,
        || Reply::Fail(egress::Kind::Unreachable),
        || Reply::Fail(egress::Kind::TimedOut),
        || Reply::Fail(egress::Kind::Forbidden),
    ] {
        let bench = two(first, || Reply::ok("{}"));
        assert_eq!(bench.get().await.unwrap().url, 1);
    }
    let broken = two(|| Reply::status(200).step(Step::Bytes("{".into())).step(Step::Break), || Reply::ok("{}"));
    assert_eq!(broken.get().await.unwrap().url, 1);
    let stuck = two(|| Reply::status(200).step(Step::Bytes("{".into())).step(Step::Hang), || Reply::ok("{}"));
    assert_eq!(stuck.get().await.unwrap().url, 1);
}

#[tokio::test]
async fn a_refusal_holds_for_all_urls() {
    for status in [401, 403] {
        let reply: fn() -> Reply = if status == 401 { || Reply::status(401) } else { || Reply::status(403) };
        let bench = two(reply, || Reply::ok("{}"));
        assert!(bench.head().await.is_err());
        assert_eq!(bench.other.count("b.test"), 0, "{status}");
    }
}

#[tokio::test]
async fn not_found_stands_only_where_all_say_so() {
    assert_eq!(two(|| Reply::status(404), || Reply::status(404)).kind().await, Kind::NotFound);
    assert_eq!(two(|| Reply::status(404), || Reply::status(503)).kind().await, Kind::Failed);
    assert_eq!(two(|| Reply::status(503), || Reply::status(404)).kind().await, Kind::Failed);
    assert_eq!(two(|| Reply::Fail(egress::Kind::Unreachable), || Reply::status(404)).kind().await, Kind::Unreachable);
    assert_eq!(two(|| Reply::status(404), || Reply::status(403)).kind().await, Kind::Denied);
}

#[tokio::test(start_paused = true)]
async fn all_urls_together_take_twenty_seconds() {
    let urls = ["https://a.test", "https://b.test", "https://c.test", "https://d.test"];
    let bench = Bench::new(&urls, |_| Reply::Hang);
    let started = Instant::now();
    assert_eq!(bench.kind().await, Kind::TimedOut);
    assert_eq!(started.elapsed().as_secs(), 20);

    // Also where each answers quickly but a body drips for ever.
    let drip = Bench::new(&["https://a.test"], |_| {
        (0..60).fold(Reply::status(200), |reply, _| reply.step(Step::Pause(Duration::from_secs(1))).step(Step::Bytes("x".into())))
    });
    let started = Instant::now();
    assert_eq!(drip.get().await.unwrap_err().kind, Kind::TimedOut);
    assert_eq!(started.elapsed().as_secs(), 20);
}

#[tokio::test]
async fn a_url_that_rests_does_not_say_that_it_is_not_there() {
    let bench = two(|| Reply::ok("a"), || Reply::status(404));
    let error = bench.part(&BlobAsk { skip: &[0], ..BlobAsk::default() }).await.unwrap_err();
    assert_eq!(error.kind, Kind::Failed);
    assert!(error.to_string().contains("wrong content"), "{error}");
}

#[tokio::test]
async fn urls_that_rest_are_not_asked() {
    let bench = two(|| Reply::ok("a"), || Reply::ok("b"));
    let skip = |skip| BlobAsk { skip, ..BlobAsk::default() };
    assert_eq!(bench.part(&skip(&[0])).await.unwrap().url, 1);
    assert_eq!(bench.part(&skip(&[0, 1])).await.unwrap_err().kind, Kind::Failed);
    assert_eq!(bench.other.count("a.test"), 0);
}

#[tokio::test]
async fn a_url_that_broke_off_is_asked_after_the_others() {
    let bench = two(|| Reply::ok("a"), || Reply::ok("b"));
    let last = |last| BlobAsk { last, ..BlobAsk::default() };
    assert_eq!(bench.part(&last(&[0])).await.unwrap().url, 1);
    assert_eq!(bench.other.count("a.test"), 0);
    assert_eq!(bench.part(&last(&[0, 1])).await.unwrap().url, 0);
    let bench = two(|| Reply::ok("a"), || Reply::status(404));
    assert_eq!(bench.part(&last(&[0])).await.unwrap().url, 0);
}
