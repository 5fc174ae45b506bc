//! Parts of blobs: which ranges are asked for, what counts as an answer, and whose content it is a part of.

use super::*;

fn bytes(from: u64, until: Option<u64>) -> BlobAsk<'static> {
    BlobAsk { from, until, ..BlobAsk::default() }
}

/// Answers with a 206 of this `Content-Range`.
fn partial(range: &'static str, body: &'static str) -> Bench {
    Bench::new(&["https://r.test"], move |_| Reply::status(206).header("content-range", range).step(Step::Bytes(body.into())))
}

#[tokio::test]
async fn a_range_is_asked_for_only_where_a_part_is_wanted() {
    let bench = Bench::new(&["https://r.test"], |_| Reply::ok("0123456789"));
    for (from, until, range) in [
        (0, None, None),
        (4, None, Some("bytes=4-")),
        (0, Some(1), Some("bytes=0-0")),
        (4, Some(8), Some("bytes=4-7")),
        (4, Some(u64::MAX), Some("bytes=4-18446744073709551614")),
    ] {
        bench.part(&bytes(from, until)).await.unwrap();
        assert_eq!(header(&bench.other.seen().pop().unwrap(), RANGE), range);
    }
    let asked = bench.other.seen().len();
    for (from, until) in [(4, 4), (4, 3), (0, 0)] {
        assert_eq!(bench.part(&bytes(from, Some(until))).await.unwrap_err().kind, Kind::Failed);
    }
    assert_eq!(bench.other.seen().len(), asked);
}

#[tokio::test]
async fn a_part_says_what_it_is() {
    for (ask, range, length, until) in [
        (bytes(4, None), "bytes 4-9/10", Some(10), 10),
        (bytes(4, None), "bytes 4-9/*", None, 10),
        (bytes(4, Some(8)), "bytes 4-7/10", Some(10), 8),
        (bytes(4, Some(100)), "bytes 4-9/10", Some(10), 10),
        (bytes(4, None), "bytes 4-5/10", Some(10), 6),
        (bytes(4, Some(8)), "bytes 4-5/10", Some(10), 6),
    ] {
        let reply = partial(range, "45").part(&ask).await.unwrap();
        assert_eq!((reply.length, reply.from, reply.until), (length, 4, Some(until)), "{range}");
        assert_eq!(read(reply).await.unwrap(), b"45");
    }
}

#[tokio::test]
async fn a_part_must_begin_where_it_was_asked_to_and_end_in_time() {
    for (until, range) in [
        (None, "bytes 3-9/10"),
        (None, "bytes 5-9/10"),
        (None, "bytes 0-9/10"),
        (None, "bytes */10"),
        (None, "nonsense"),
        (None, ""),
        (Some(8), "bytes 4-8/10"),
        (Some(8), "bytes 4-9/10"),
    ] {
        assert_eq!(partial(range, "").part(&bytes(4, until)).await.unwrap_err().kind, Kind::Failed, "{range}");
    }
    let unsatisfiable = Bench::new(&["https://r.test"], |_| Reply::status(416).header("content-range", "bytes */3"));
    assert_eq!(unsatisfiable.blob(4).await.unwrap_err().kind, Kind::Ended);
}

#[tokio::test]
async fn the_whole_in_place_of_a_part_is_handed_over_as_it_is() {
    let bench = Bench::new(&["https://r.test"], |_| Reply::ok("0123456789"));
    let reply = bench.part(&bytes(4, Some(8))).await.unwrap();
    assert_eq!((reply.length, reply.from, reply.until), (Some(10), 0, Some(10)));
    assert_eq!(read(reply).await.unwrap(), b"0123456789");
    let unsaid = Bench::new(&["https://r.test"], |_| Reply::status(200).step(Step::Bytes("0123456789".into())));
    let reply = unsaid.blob(4).await.unwrap();
    assert_eq!((reply.length, reply.from, reply.until), (None, 0, None));
    assert_eq!(read(reply).await.unwrap(), b"0123456789");
}

#[tokio::test]
async fn nothing_comes_after_what_was_announced() {
    let mut reply = partial("bytes 4-7/10", "45678").part(&bytes(4, Some(8))).await.unwrap();
    assert_eq!(reply.chunk().await.unwrap_err().kind, Kind::Failed);
    let bench = Bench::new(&["https://r.test"], |_| Reply::ok("0123456789").step(Step::Bytes("x".into())));
    let mut reply = bench.blob(0).await.unwrap();
    assert_eq!(reply.chunk().await.unwrap().unwrap(), "0123456789");
    assert_eq!(reply.chunk().await.unwrap_err().kind, Kind::Failed);
    assert_eq!(reply.chunk().await.unwrap_err().kind, Kind::Failed);
}

#[tokio::test]
async fn content_is_known_again_where_it_was_seen_and_nowhere_else() {
    let bench = Bench::new(&["https://a.test", "https://b.test"], |request| match host(request) {
        "a.test" => Reply::ok("0123456789").header("etag", "\"v1\""),
        _ => Reply::ok("0123456789").header("etag", "W/\"v1\""),
    });
    let first = bench.blob(0).await.unwrap().validator.unwrap();
    assert_eq!((first.etag().as_bytes(), first.url()), (&b"\"v1\""[..], 0));
    let ask = BlobAsk { validator: Some(&first), ..bytes(4, None) };
    assert_eq!(bench.part(&ask).await.unwrap().validator.as_ref(), Some(&first));
    assert_eq!(bench.part(&BlobAsk { skip: &[0], ..ask }).await.unwrap().validator, None, "a weak one is none");
    // Without a range, the condition would have nothing to hold for.
    bench.part(&BlobAsk { from: 0, ..ask }).await.unwrap();
    let sent: Vec<_> = bench.other.seen().iter().map(|request| header(request, IF_RANGE).map(str::to_owned)).collect();
    assert_eq!(sent, [None, Some("\"v1\"".to_owned()), None, None]);
}

#[tokio::test]
async fn what_the_store_behind_a_redirect_says_of_its_content_goes_there_again() {
    let change = |configured: &mut config::Registry| configured.blob_hosts = vec![pattern("cdn.test")];
    let bench = Bench::with(&["https://r.test"], change, |request| match host(request) {
        "r.test" => Reply::status(307).header("location", "https://cdn.test/x").header("etag", "\"redirect\""),
        _ => Reply::ok("0123456789").header("etag", "\"blob\""),
    });
    let validator = bench.blob(0).await.unwrap().validator.unwrap();
    assert_eq!(validator.etag(), "\"blob\"");
    bench.part(&BlobAsk { validator: Some(&validator), ..bytes(4, None) }).await.unwrap();
    let last = bench.other.seen().pop().unwrap();
    assert_eq!((host(&last), header(&last, RANGE), header(&last, IF_RANGE)), ("cdn.test", Some("bytes=4-"), Some("\"blob\"")));
}
