//! Tags and manifests: how long they wait, what is served meanwhile, and what is remembered.

use super::*;
use crate::quota::Allowance;
use crate::store::ListRecord;

const DEADLINE: Duration = Duration::from_millis(1500);

#[tokio::test(start_paused = true)]
async fn a_stale_tag_waits_for_the_deadline_of_the_one_refresh_that_all_share() {
    let bench = Bench::new(|_| Reply::Hang).await;
    let digest = bench.hold("latest", &manifest("old"), 2 * MINUTE).await;
    let late = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        timed(bench.tag("latest")).await
    };
    let ((first, waited), (second, waited_less)) = tokio::join!(timed(bench.tag("latest")), late);
    assert_eq!((waited, waited_less), (DEADLINE, DEADLINE - Duration::from_secs(1)));
    for answer in [first.unwrap(), second.unwrap()] {
        assert_eq!((answer.served, answer.digest, answer.body), (Served::Stale, digest, Some(manifest("old"))));
        assert!(answer.age >= 2 * MINUTE);
    }
    let (third, waited) = timed(bench.tag("latest")).await;
    assert_eq!((third.unwrap().served, waited), (Served::Stale, Duration::ZERO));
    assert_eq!(bench.other.lines(), ["HEAD https://a.test/v2/app/manifests/latest"]);
}

#[tokio::test(start_paused = true)]
async fn for_five_seconds_after_a_failed_refresh_nobody_asks() {
    let bench = Bench::new(|_| Reply::status(503)).await;
    bench.hold("latest", &manifest("old"), 2 * MINUTE).await;
    assert_eq!(bench.tag("latest").await.unwrap().served, Served::Stale);
    assert_eq!(bench.asked(), 1);
    tokio::time::sleep(Duration::from_millis(4900)).await;
    let (answer, waited) = timed(bench.tag("latest")).await;
    assert_eq!((answer.unwrap().served, waited, bench.asked()), (Served::Stale, Duration::ZERO, 1));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(bench.tag("latest").await.unwrap().served, Served::Stale);
    assert_eq!(bench.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_outlives_its_callers_counts_all_the_same() {
    let after = |wait, body: &'static str| move |asked: &Asked| Reply::After(wait, manifest_reply(asked, &manifest(body)).into());
    let bench = Bench::new(after(Duration::from_secs(3), "new")).await;
    bench.hold("latest", &manifest("old"), 2 * MINUTE).await;
    assert_eq!(bench.tag("latest").await.unwrap().served, Served::Stale);
    bench.idle().await;
    let answer = bench.tag("latest").await.unwrap();
    assert_eq!((answer.served, answer.digest, bench.asked()), (Served::Hit, digest_of(&manifest("new")), 2));

    // A caller that vanishes takes nothing along.
    let bench = Bench::new(after(Duration::from_secs(1), "new")).await;
    let left = tokio::time::timeout(Duration::from_millis(100), bench.tag("latest")).await;
    assert!(left.is_err());
    bench.idle().await;
    assert_eq!((bench.tag("latest").await.unwrap().served, bench.asked()), (Served::Hit, 1));
}

#[tokio::test(start_paused = true)]
async fn a_fresh_tag_asks_nobody_and_an_unmoved_one_is_fresh_again() {
    let bench = Bench::new(|asked| manifest_reply(asked, &manifest("same"))).await;
    bench.hold("fresh", &manifest("same"), MINUTE / 2).await;
    assert_eq!((bench.tag("fresh").await.unwrap().served, bench.asked()), (Served::Hit, 0));
    bench.hold("latest", &manifest("same"), 2 * MINUTE).await;
    assert_eq!(bench.tag("latest").await.unwrap().served, Served::Revalidated);
    assert_eq!((bench.tag("latest").await.unwrap().served, bench.asked()), (Served::Hit, 1));
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_moved_to_what_is_held_costs_no_pull() {
    let bench = Bench::new(|asked| if asked.is_head() { manifest_reply(asked, &manifest("v2")) } else { Reply::status(429) }).await;
    let digest = bench.hold("v2", &manifest("v2"), MINUTE / 2).await;
    bench.hold("latest", &manifest("v1"), 2 * MINUTE).await;
    let answer = bench.tag("latest").await.unwrap();
    assert_eq!((answer.served, answer.digest, bench.asked()), (Served::Revalidated, digest, 1));
}

#[tokio::test(start_paused = true)]
async fn what_was_never_seen_gets_the_time_out() {
    for (urls, seconds) in [(&["https://a.test"][..], 10), (&["https://a.test", "https://b.test", "https://c.test"], 20)] {
        let bench = Bench::with(urls, ROOM, |_| Reply::Hang).await;
        let digest = digest_of(b"never seen");
        let (answer, waited) = timed(bench.tag("latest")).await;
        assert_eq!((answer.unwrap_err().kind, waited.as_secs()), (Kind::TimedOut, seconds));
        let (answer, waited) = timed(bench.manifest(digest)).await;
        assert_eq!((answer.unwrap_err().kind, waited.as_secs()), (Kind::TimedOut, seconds));
        let (answer, waited) = timed(bench.blob("app", digest)).await;
        assert_eq!((answer.err().unwrap().kind, waited.as_secs()), (Kind::TimedOut, seconds));
        let permit = permit("app", Item::Blob(digest));
        let (answer, waited) = timed(bench.mirror.blob(&permit, &Allowance::default(), true)).await;
        assert_eq!((answer.err().unwrap().kind, waited.as_secs()), (Kind::TimedOut, seconds));
        assert!(bench.is_idle());
    }
}

#[tokio::test(start_paused = true)]
async fn a_404_is_remembered_for_ten_seconds_and_asked_again_after() {
    let bench = Bench::new(|_| Reply::status(404)).await;
    let digest = digest_of(b"not there");
    for expected in 1..3 {
        for _ in 0..3 {
            assert_eq!(bench.tag("latest").await.unwrap_err().kind, Kind::NotFound);
            assert_eq!(bench.manifest(digest).await.unwrap_err().kind, Kind::NotFound);
            assert_eq!(bench.blob("app", digest).await.err().unwrap().kind, Kind::NotFound);
        }
        assert_eq!(bench.asked(), 3 * expected);
        tokio::time::sleep(Duration::from_millis(9900)).await;
        assert_eq!(bench.tag("latest").await.unwrap_err().kind, Kind::NotFound);
        assert_eq!(bench.asked(), 3 * expected);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_404_is_remembered() {
    for status in [401, 403, 429, 500] {
        let bench = Bench::new(move |_| Reply::status(status)).await;
        for _ in 0..2 {
            bench.tag("latest").await.unwrap_err();
            bench.blob("app", digest_of(b"x")).await.err().unwrap();
        }
        assert_eq!(bench.asked(), 4, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_not_there_says_nothing_of_the_list() {
    let bench = Bench::new(|asked| if asked.nth == 0 { Reply::status(404) } else { Reply::ok(r#"{"tags":[]}"#) }).await;
    let (permit, page) = (permit("app", Item::Tags), ListQuery { last: Some("x".to_owned()), ..ListQuery::default() });
    assert_eq!(bench.mirror.list(&permit, &page).await.unwrap_err().kind, Kind::NotFound);
    assert!(bench.mirror.list(&permit, &ListQuery::default()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_list_that_the_upstream_took_back_does_not_stand_in_for_it() {
    for (first, kind) in [(404, None), (403, None), (500, Some(Served::Stale))] {
        let bench = Bench::new(move |asked| Reply::status(if asked.nth == 0 { first } else { 500 })).await;
        let permit = permit("app", Item::Tags);
        let Target { registry, repository, .. } = permit.target();
        let fetched = SystemTime::now() - HOUR;
        let record = ListRecord { body: Bytes::new(), media_type: None, filters_applied: None, next: None, fetched };
        bench.store.put_list(registry, repository, "tags None None None", record);
        let list = || async { bench.mirror.list(&permit, &ListQuery::default()).await.ok().map(|list| list.served) };
        assert_eq!(list().await, kind, "{first}");
        tokio::time::sleep(MINUTE).await;
        assert_eq!(list().await, kind, "{first}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_is_too_old_gets_the_error() {
    for (reply, kind) in [((|| Reply::Hang) as fn() -> Reply, Kind::TimedOut), (|| Reply::status(503), Kind::BadGateway)] {
        let bench = Bench::new(move |_| reply()).await;
        bench.hold("latest", &manifest("old"), MINUTE + HOUR).await;
        assert_eq!(bench.tag("latest").await.unwrap_err().kind, kind);
        bench.hold("latest", &manifest("old"), MINUTE + HOUR - Duration::from_secs(30)).await;
        assert_eq!(bench.tag("latest").await.unwrap().served, Served::Stale);
    }
}

#[tokio::test(start_paused = true)]
async fn a_404_or_403_ends_what_was_held_of_a_tag() {
    for (status, kind) in [(404, Kind::NotFound), (403, Kind::Denied)] {
        let bench = Bench::new(move |asked| if asked.nth == 0 { Reply::status(status) } else { Reply::Hang }).await;
        let digest = bench.hold("latest", &manifest("old"), 2 * MINUTE).await;
        assert_eq!(bench.tag("latest").await.unwrap_err().kind, kind);
        bench.idle().await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(bench.tag("latest").await.unwrap_err().kind, Kind::TimedOut, "nothing is left to be served stale");
        assert_eq!(bench.manifest(digest).await.unwrap().served, Served::Hit, "by digest, it is what it was");
    }
}

#[tokio::test(start_paused = true)]
async fn a_401_and_a_failure_end_nothing() {
    for status in [401, 429, 500, 503] {
        let bench = Bench::new(move |_| Reply::status(status)).await;
        bench.hold("latest", &manifest("old"), 2 * MINUTE).await;
        assert_eq!(bench.tag("latest").await.unwrap().served, Served::Stale, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_was_served_over_and_over_means_at_once_what_it_is_recorded_to_mean() {
    let bench = Bench::new(|asked| manifest_reply(asked, &manifest("upstream"))).await;
    for body in ["first", "second"] {
        let digest = bench.hold("latest", &manifest(body), Duration::ZERO).await;
        for _ in 0..3 {
            let answer = bench.tag("latest").await.unwrap();
            assert_eq!((answer.served, answer.digest, answer.body), (Served::Hit, digest, Some(manifest(body))));
        }
    }
    assert_eq!(bench.asked(), 0);
    let place = permit("app", Item::Tags);
    bench.store.remove_tag(&place.target().registry, &place.target().repository, &"latest".parse().unwrap()).await;
    assert_eq!(bench.tag("latest").await.unwrap().served, Served::Miss);
}
