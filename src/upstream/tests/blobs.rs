//! Blobs: streaming, resuming, proving.

use super::*;

#[tokio::test]
async fn a_blob_streams_with_its_length() {
    let bench = Bench::new(&["https://r.test"], |_| Reply::ok("0123456789"));
    let reply = bench.blob(0).await.unwrap();
    assert_eq!((reply.length, reply.from, reply.url), (Some(10), 0, 0));
    assert_eq!(read(reply).await.unwrap(), b"0123456789");
    assert!(!bench.other.seen()[0].headers.contains_key(RANGE));
}

#[tokio::test]
async fn the_head_is_had_before_the_bytes() {
    let signal = Arc::new(tokio::sync::Notify::new());
    let wait = signal.clone();
    let bench = Bench::new(&["https://r.test"], move |_| {
        Reply::status(200).header("content-length", "1").step(Step::Wait(wait.clone())).step(Step::Bytes("x".into()))
    });
    let reply = bench.blob(0).await.unwrap();
    assert_eq!(reply.length, Some(1));
    signal.notify_one();
    assert_eq!(read(reply).await.unwrap(), b"x");
}

#[tokio::test(start_paused = true)]
async fn a_broken_and_a_silent_body_are_told_apart() {
    let broken = Bench::new(&["https://r.test"], |_| Reply::status(200).step(Step::Bytes("x".into())).step(Step::Break));
    assert_eq!(read(broken.blob(0).await.unwrap()).await.unwrap_err().kind, Kind::Unreachable);
    let silent = Bench::new(&["https://r.test"], |_| Reply::status(200).step(Step::Bytes("x".into())).step(Step::Hang));
    assert_eq!(read(silent.blob(0).await.unwrap()).await.unwrap_err().kind, Kind::TimedOut);
}

#[tokio::test]
async fn a_blob_is_proved_by_one_byte_where_head_is_refused() {
    for status in [400, 403, 405] {
        let bench = Bench::new(&["https://r.test"], move |request| match request.method.as_str() {
            "HEAD" => Reply::status(status),
            _ => {
                assert_eq!(request.headers[RANGE], "bytes=0-0");
                Reply::status(206).header("content-range", "bytes 0-0/77").step(Step::Bytes("x".into()))
            }
        });
        assert_eq!(bench.registry.head_blob(&repository(), &digest()).await.unwrap().length, Some(77), "{status}");
    }
    let for_readers = Bench::with(&["https://r.test"], with_password, |request| match (host(request), request.method.as_str()) {
        ("auth.test", _) => Reply::ok(r#"{"token":"t"}"#),
        (_, "GET") if authorization(request).is_some() => {
            Reply::status(206).header("content-range", "bytes 0-0/77").step(Step::Bytes("x".into()))
        }
        _ => bearer_needed(),
    });
    assert_eq!(for_readers.registry.head_blob(&repository(), &digest()).await.unwrap().length, Some(77));
    let empty = Bench::new(&["https://r.test"], |request| match request.method.as_str() {
        "HEAD" => Reply::status(405),
        _ => Reply::status(416).header("content-range", "bytes */0"),
    });
    assert_eq!(empty.registry.head_blob(&repository(), &digest()).await.unwrap().length, Some(0));
    let gone = Bench::new(&["https://r.test"], |_| Reply::status(404));
    assert_eq!(gone.registry.head_blob(&repository(), &digest()).await.unwrap_err().kind, Kind::NotFound);
    let denied = Bench::new(&["https://r.test"], |_| Reply::status(403));
    assert_eq!(denied.registry.head_blob(&repository(), &digest()).await.unwrap_err().kind, Kind::Denied);
}
