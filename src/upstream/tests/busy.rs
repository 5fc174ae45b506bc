//! What happens to those for whom there is no free connection.

use super::*;

fn with_connections(most: usize, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Bench {
    Bench::with(&["https://r.test"], |configured| configured.max_connections = most, script)
}

fn stuck_blobs(most: usize) -> Bench {
    with_connections(most, |request| match request.url.path().contains("/blobs/") {
        true => Reply::status(200).step(Step::Hang),
        false => Reply::ok("{}"),
    })
}

fn blob_in_background(bench: &Bench) -> tokio::task::JoinHandle<Result<BlobReply, Error>> {
    let registry = bench.registry.clone();
    tokio::spawn(async move { registry.get_blob(&repository(), &digest(), &BlobAsk::default()).await })
}

const SOON: Option<Duration> = Some(Duration::from_secs(2));

#[tokio::test(start_paused = true)]
async fn who_asks_for_the_rest_of_a_transfer_that_is_over_does_not_wait_for_its_own_connection() {
    for last in [(|| Step::Break) as fn() -> Step, || Step::Hang, || Step::Bytes("y".into())] {
        let bench = with_connections(1, move |_| Reply::status(200).step(Step::Bytes("x".into())).step(last()));
        let mut over = bench.blob(0).await.unwrap();
        while let Ok(Some(_)) = over.chunk().await {}
        let started = Instant::now();
        assert!(bench.blob(1).await.is_ok());
        assert_eq!(started.elapsed(), Duration::ZERO);
        assert!(over.chunk().await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn downloads_that_stand_still_keep_nobody_from_asking() {
    let bench = stuck_blobs(8);
    let mut stuck = Vec::new();
    for _ in 0..7 {
        stuck.push(bench.blob(0).await.unwrap());
    }
    let error = bench.blob(0).await.unwrap_err();
    assert_eq!((error.kind, error.retry_after), (Kind::Overloaded, SOON));
    assert_eq!(
        error.to_string(),
        "r.test: all 7 connections to it that blobs may use were in use for 20 s; max_connections can be raised"
    );
    let started = Instant::now();
    assert!(bench.get().await.is_ok());
    assert_eq!(started.elapsed(), Duration::ZERO);
    stuck.pop();
    assert!(bench.blob(0).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_free_connection_within_the_budget_is_told() {
    let bench = stuck_blobs(1);
    let held = bench.blob(0).await.unwrap();
    let started = Instant::now();
    let error = bench.head().await.unwrap_err();
    assert_eq!((error.kind, error.retry_after), (Kind::Overloaded, SOON));
    assert_eq!((started.elapsed().as_secs(), bench.other.seen().len()), (20, 1));
    drop(held);
    assert!(bench.head().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_would_wait_behind_as_many_as_there_are_connections_is_told_at_once() {
    let bench = stuck_blobs(8);
    let mut held = Vec::new();
    for _ in 0..7 {
        held.push(bench.blob(0).await.unwrap());
    }
    let waiting: Vec<_> = (0..7).map(|_| blob_in_background(&bench)).collect();
    tokio::task::yield_now().await;
    let started = Instant::now();
    let error = bench.blob(0).await.unwrap_err();
    assert_eq!((error.kind, error.retry_after, started.elapsed()), (Kind::Overloaded, SOON, Duration::ZERO));
    assert_eq!(
        error.to_string(),
        "r.test: all 7 connections to it that blobs may use are in use, and as many requests wait for one; \
         max_connections can be raised"
    );
    assert!(bench.get().await.is_ok(), "blobs that wait are not in the way of manifests");
    // Who goes away makes room for another.
    waiting[0].abort();
    tokio::task::yield_now().await;
    let late = blob_in_background(&bench);
    tokio::task::yield_now().await;
    assert_eq!(bench.blob(0).await.unwrap_err().kind, Kind::Overloaded);
    drop(held);
    for waiting in waiting.into_iter().skip(1).chain([late]) {
        assert!(waiting.await.unwrap().is_ok());
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert!(bench.blob(0).await.is_ok());
}
