//! More downloads than may run at once.

use super::*;

/// The digest of the blob that nobody sends; they differ by `nth`.
fn absent(nth: usize) -> Digest {
    digest_of(&nth.to_le_bytes())
}

#[tokio::test(start_paused = true)]
async fn beyond_the_most_downloads_one_is_refused_until_another_has_ended() {
    let second = Duration::from_secs(1);
    let first = absent(0).to_string();
    let script = move |asked: &Asked| match asked.path.contains(&first) {
        true => Reply::After(second, Reply::status(502).into()),
        false => Reply::Hang,
    };
    let bench = Bench::new(script).await;
    let ask = |nth| {
        let mirror = bench.mirror.clone();
        tokio::spawn(
            async move { mirror.blob(&permit("app", Item::Blob(absent(nth))), &Allowance::default(), false).await.map(drop) },
        )
    };
    let started = Instant::now();
    let answered = ask(0);
    while bench.asked() < 1 {
        tokio::task::yield_now().await;
    }
    let _waiting: Vec<_> = (1..MAX_DOWNLOADS).map(ask).collect();
    while bench.mirror.downloads.len() < MAX_DOWNLOADS {
        tokio::task::yield_now().await;
    }
    assert_eq!(started.elapsed(), Duration::ZERO);

    let refused = bench.blob("app", absent(MAX_DOWNLOADS)).await.err().unwrap();
    assert_eq!((refused.kind, refused.retry_after), (Kind::Overloaded, Some(2 * second)));
    assert_eq!((started.elapsed(), bench.mirror.downloads.len()), (Duration::ZERO, MAX_DOWNLOADS), "it left nothing behind");
    // Who asks for what is under way is no burden.
    let joined = tokio::time::timeout(second / 2, bench.blob("app", absent(1))).await;
    assert!(joined.is_err(), "it waits as the first who asked does");

    assert_eq!((answered.await.unwrap().unwrap_err().kind, started.elapsed()), (Kind::BadGateway, second));
    let taken = tokio::time::timeout(second, bench.blob("app", absent(MAX_DOWNLOADS))).await;
    assert!(taken.is_err() && bench.mirror.downloads.len() == MAX_DOWNLOADS, "its place was free");
}
