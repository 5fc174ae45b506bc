//! How work ends: nothing is left of it, and nobody waits for what will not come.

use super::*;

fn half() -> Reply {
    Reply::status(200).header("content-length", "200000").step(Step::Bytes(layer().slice(..100_000))).step(Step::Hang)
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_download_however_it_ended() {
    for (ending, reply) in [
        ("whole", (|| Reply::ok(layer())) as fn() -> Reply),
        ("wrong", || Reply::ok(vec![7; 200_000])),
        ("refused", || Reply::status(403)),
        ("absent", || Reply::status(404)),
        ("hanging", || Reply::Hang),
        ("broken", half),
        ("too long", || Reply::ok(layer()).step(Step::Bytes("x".into()))),
    ] {
        let bench = Bench::new(move |asked| if asked.range.is_some() { Reply::status(503) } else { reply() }).await;
        let pulled = bench.pull("app", digest_of(&layer())).await;
        // What comes after the last byte of the right blob changes nothing.
        let right = matches!(ending, "whole" | "too long");
        assert_eq!(pulled.is_ok(), right, "{ending}");
        bench.idle().await;
        assert_eq!(bench.store.usage().blobs, u64::from(right), "{ending}");
        assert_eq!(std::fs::read_dir(bench.folder.path().join("cache/partial")).unwrap().count(), 0, "{ending}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_at_any_time_takes_nothing_along() {
    for patience in [0, 500, 1500, 2500] {
        let slow = |_: &Asked| {
            let pause = || Step::Pause(Duration::from_secs(1));
            let answer = Reply::status(200).header("content-length", "200000").step(pause());
            let answer = answer.step(Step::Bytes(layer().slice(..100_000))).step(pause());
            Reply::After(Duration::from_secs(1), answer.step(Step::Bytes(layer().slice(100_000..))).into())
        };
        let bench = Bench::new(slow).await;
        // A client that is gone after no time at all was there all the same: it is polled once.
        let pull = bench.pull("app", digest_of(&layer()));
        assert!(tokio::time::timeout(Duration::from_millis(patience), pull).await.is_err());
        bench.idle().await;
        let started = bench.asked();
        assert!(bench.pull("app", digest_of(&layer())).await.unwrap() == layer(), "after {patience} ms");
        assert_eq!(bench.asked(), started.max(1), "after {patience} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_what_runs_and_tells_who_waits() {
    let bench = Bench::new(|asked| if asked.path.contains(&digest_of(&layer()).to_string()) { half() } else { Reply::Hang }).await;
    bench.hold("stale", &manifest("old"), 2 * MINUTE).await;
    let (list, first) = (permit("app", Item::Tags), ListQuery::default());
    let stop = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        bench.stop.cancel();
        bench.tracker.close();
        timed(bench.tracker.wait()).await.1
    };
    let (waited, filling, asking, by_digest, by_tag, stale, listed) = tokio::join!(
        stop,
        timed(bench.pull("app", digest_of(&layer()))),
        timed(bench.pull("app", digest_of(b"never answered"))),
        timed(bench.manifest(digest_of(b"never answered"))),
        timed(bench.tag("latest")),
        timed(bench.tag("stale")),
        timed(bench.mirror.list(&list, &first)),
    );
    assert_eq!(waited, Duration::ZERO, "the proxy waits for its tasks before it ends");
    let second = Duration::from_secs(1);
    for (error, after) in [
        (filling.0.unwrap_err(), filling.1),
        (asking.0.unwrap_err(), asking.1),
        (by_digest.0.unwrap_err(), by_digest.1),
        (by_tag.0.unwrap_err(), by_tag.1),
        (listed.0.unwrap_err(), listed.1),
    ] {
        assert_eq!((error.kind, after), (Kind::Overloaded, second), "{error}");
    }
    assert_eq!((stale.0.unwrap().served, stale.1), (Served::Stale, second));
    assert!(bench.is_idle());

    // Who comes later is told so at once.
    let (late, waited) = timed(bench.blob("app", digest_of(&layer()))).await;
    assert_eq!((late.err().unwrap().kind, waited), (Kind::Overloaded, Duration::ZERO));
    assert!(bench.is_idle());
}
