//! Several URLs of which one cannot be reached: who pays for it, and how often.

use std::sync::Mutex;

use super::*;

/// Two URLs; what `a.test` does can be changed, `b.test` does `second`.
struct Pair {
    bench: Bench,
    first: Arc<Mutex<fn() -> Reply>>,
}

const DEAD: fn() -> Reply = || Reply::Fail(egress::Kind::Unreachable);

impl Pair {
    fn new(first: fn() -> Reply, second: fn() -> Reply) -> Self {
        let first = Arc::new(Mutex::new(first));
        let script = first.clone();
        let bench = Bench::new(&["https://a.test", "https://b.test"], move |request| match host(request) {
            "a.test" => script.lock().unwrap()(),
            _ => second(),
        });
        Self { bench, first }
    }

    fn becomes(&self, reply: fn() -> Reply) {
        *self.first.lock().unwrap() = reply;
    }

    /// The hosts that asking for a manifest asks, in order.
    async fn asked(&self) -> String {
        let before = self.bench.other.seen().len();
        let _ = self.bench.get().await;
        self.bench.other.seen()[before..].iter().map(|request| &host(request)[..1]).collect()
    }
}

async fn pass(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_url_that_hangs_holds_up_one_request_and_not_all() {
    let pair = Pair::new(|| Reply::Hang, || Reply::ok("{}"));
    let started = Instant::now();
    assert_eq!(pair.asked().await, "ab");
    assert_eq!(started.elapsed().as_secs(), 10);
    for _ in 0..4 {
        assert_eq!(pair.asked().await, "b");
        assert!(pair.bench.head().await.is_ok());
        assert!(pair.bench.registry.list_tags(&repository(), &Page::default()).await.is_ok());
        assert_eq!(pair.bench.blob(0).await.unwrap().url, 1);
        pass(1).await;
    }
    assert_eq!(started.elapsed().as_secs(), 14);
}

#[tokio::test(start_paused = true)]
async fn a_url_that_is_down_is_tried_again_ever_more_rarely() {
    let pair = Pair::new(DEAD, || Reply::ok("{}"));
    for rest in [5, 10, 20, 40, 60, 60] {
        assert_eq!(pair.asked().await, "ab", "{rest}");
        pass(rest - 1).await;
        assert_eq!(pair.asked().await, "b", "{rest}");
        pass(1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn any_answer_brings_a_url_back() {
    for answer in [(|| Reply::status(500)) as fn() -> Reply, || Reply::status(404), || Reply::status(429), || Reply::ok("{}")] {
        let pair = Pair::new(DEAD, || Reply::status(404));
        assert_eq!(pair.asked().await, "ab");
        assert_eq!(pair.asked().await, "ba", "last is not never");
        pair.becomes(answer);
        assert_eq!(pair.asked().await, "ba");
        assert_eq!(&pair.asked().await[..1], "a");
        // And the count begins anew.
        pair.becomes(DEAD);
        assert_eq!(pair.asked().await, "ab");
        pass(5).await;
        assert_eq!(pair.asked().await, "ab");
    }
}

#[tokio::test(start_paused = true)]
async fn urls_that_are_all_down_are_asked_as_configured() {
    let pair = Pair::new(DEAD, DEAD);
    for _ in 0..3 {
        assert_eq!(pair.asked().await, "ab");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_down_is_still_asked_before_what_broke_off() {
    let pair = Pair::new(DEAD, || Reply::ok("b"));
    assert_eq!(pair.asked().await, "ab");
    pair.becomes(|| Reply::ok("a"));
    let ask = BlobAsk { last: &[1], ..BlobAsk::default() };
    assert_eq!(pair.bench.part(&ask).await.unwrap().url, 0);
}

#[tokio::test(start_paused = true)]
async fn a_url_is_not_blamed_for_the_wait_for_a_connection() {
    let change = |configured: &mut config::Registry| configured.max_connections = 1;
    let bench = Bench::with(&["https://a.test", "https://b.test"], change, |request| match host(request) {
        "a.test" if request.method == "HEAD" => Reply::After(Duration::from_secs(1), Reply::ok("").into()),
        _ => Reply::ok("{}"),
    });
    let held = bench.blob(0).await.unwrap();
    let registry = bench.registry.clone();
    let late = tokio::spawn(async move { registry.head_manifest(&repository(), &latest()).await });
    tokio::time::sleep(Duration::from_millis(19_500)).await;
    drop(held);
    assert!(late.await.unwrap().is_ok());
    assert_eq!(bench.other.count("b.test"), 1, "the first had a quarter of a second to answer");
    assert_eq!(bench.get().await.unwrap().url, 0);
}
