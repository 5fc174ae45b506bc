//! Transfers that are too slow to be waited for, and those that only seem so.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// A body of so many pieces of so many bytes, each after a pause.
fn dripping(pause: Duration, size: usize, pieces: usize) -> Bench {
    Bench::new(&["https://r.test"], move |_| {
        let piece = Bytes::from(vec![0; size]);
        (0..pieces).fold(Reply::status(200), |reply, _| reply.step(Step::Pause(pause)).step(Step::Bytes(piece.clone())))
    })
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_drips_is_given_up() {
    let mut reply = dripping(Duration::from_secs(29), 1, 100).blob(0).await.unwrap();
    let started = Instant::now();
    assert_eq!(reply.chunk().await.unwrap().unwrap().len(), 1);
    assert_eq!(reply.chunk().await.unwrap().unwrap().len(), 1);
    let error = reply.chunk().await.unwrap_err();
    assert_eq!((error.kind, started.elapsed()), (Kind::TimedOut, MINUTE));
    assert_eq!(error.to_string(), "r.test: r.test: less than 8 KiB a second came for 60 s; the transfer is given up");
    assert!(reply.chunk().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_slow_transfer_above_the_floor_may_take_its_time() {
    let bench = dripping(Duration::from_secs(1), 16 * 1024, 3600);
    assert_eq!(read(bench.blob(0).await.unwrap()).await.unwrap().len(), 3600 * 16 * 1024);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_its_time_does_no_harm() {
    let mut reply = dripping(Duration::from_millis(1), 1, 100).blob(0).await.unwrap();
    for _ in 0..100 {
        assert!(reply.chunk().await.unwrap().is_some());
        tokio::time::sleep(MINUTE).await;
    }
    assert_eq!(reply.chunk().await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn looking_in_now_and_then_is_waiting_too() {
    let mut reply = dripping(Duration::from_secs(20), 1, 100).blob(0).await.unwrap();
    let started = Instant::now();
    let error = loop {
        match tokio::time::timeout(Duration::from_secs(1), reply.chunk()).await {
            Ok(Err(error)) => break error,
            Ok(Ok(None)) => panic!("a transfer that drips came to its end"),
            Ok(Ok(Some(_))) | Err(_) => {}
        }
    };
    assert_eq!((error.kind, started.elapsed()), (Kind::TimedOut, MINUTE));
}

/// A window's end is no chunk: what comes later must still come within 30 s of the last one.
#[tokio::test(start_paused = true)]
async fn silence_is_found_whatever_came_before() {
    let bench = Bench::new(&["https://r.test"], |_| {
        let much = (0..45).fold(Reply::status(200), |reply, _| {
            reply.step(Step::Pause(Duration::from_secs(1))).step(Step::Bytes(vec![0; 1 << 20].into()))
        });
        much.step(Step::Hang)
    });
    let started = Instant::now();
    assert_eq!(read(bench.blob(0).await.unwrap()).await.unwrap_err().kind, Kind::TimedOut);
    assert_eq!(started.elapsed(), Duration::from_secs(45 + 30));
}
