//! Blobs: broken transfers, wrong bytes, and who may join whose download.

use rustix::io::Errno;
use tokio::sync::mpsc;

use super::*;
use crate::quota::Allowance;
use crate::store::Operation;
use crate::upstream::scripted::Kind as EgressKind;

fn head_of(body: &Bytes) -> Reply {
    Reply::status(200).header("content-length", &body.len().to_string())
}

fn rest_of(body: &Bytes, from: usize) -> Reply {
    let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
    Reply::status(206).header("content-range", &range).step(Step::Bytes(body.slice(from..)))
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_stands_still_is_taken_up_where_it_stopped() {
    let bench = Bench::new(|asked| match asked.range.as_deref() {
        None => head_of(&layer()).step(Step::Bytes(layer().slice(..100_000))).step(Step::Hang),
        Some("bytes=100000-") => rest_of(&layer(), 100_000),
        Some(other) => panic!("asked for {other}"),
    })
    .await;
    let (pulled, took) = timed(bench.pull("app", digest_of(&layer()))).await;
    assert!(pulled.unwrap() == layer());
    // The idle deadline, and the wait before the first resume.
    assert_eq!((took, bench.asked()), (Duration::from_millis(30_100), 2));
    bench.idle().await;
    assert_eq!(bench.blob("app", digest_of(&layer())).await.unwrap().served, Served::Hit);
}

#[tokio::test(start_paused = true)]
async fn where_only_a_part_of_another_content_is_to_be_had_all_of_that_is_fetched() {
    let bench = Bench::new(|asked| match (asked.nth, &asked.range) {
        (0, None) => head_of(&layer()).header("etag", "\"a\"").step(Step::Bytes(layer().slice(..100_000))).step(Step::Break),
        (1, Some(_)) => rest_of(&layer(), 100_000).header("etag", "\"b\""),
        (2, None) => head_of(&layer()).header("etag", "\"b\"").step(Step::Bytes(layer())),
        (nth, range) => panic!("{nth}: {range:?}"),
    })
    .await;
    assert!(bench.pull("app", digest_of(&layer())).await.unwrap() == layer());
    assert_eq!(bench.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_breaks_without_progress_is_given_up() {
    let bench = Bench::new(|asked| match asked.range {
        None => head_of(&layer()).step(Step::Bytes(layer().slice(..100_000))).step(Step::Break),
        Some(_) => Reply::status(503),
    })
    .await;
    let answer = bench.blob("app", digest_of(&layer())).await.unwrap();
    let (got, end) = read(answer).await;
    assert_eq!((got, end.unwrap_err().kind, bench.asked()), (100_000, Kind::BadGateway, 6));
    assert!(bench.is_idle(), "who learns of a failure finds nothing of it left");
}

#[tokio::test(start_paused = true)]
async fn wrong_bytes_are_fetched_again_at_the_next_url_and_who_had_none_does_not_notice() {
    // The last byte is wrong, which nobody is shown before the digest is known.
    let mut wrong = layer().to_vec();
    wrong[199_999] ^= 1;
    let script = move |asked: &Asked| if asked.host == "a.test" { Reply::ok(wrong.clone()) } else { Reply::ok(layer()) };
    let bench = Bench::with(&["https://a.test", "https://b.test"], ROOM, script).await;
    assert!(bench.pull("app", digest_of(&layer())).await.unwrap() == layer());
    assert_eq!((bench.other.count("a.test"), bench.other.count("b.test")), (1, 1));
    bench.idle().await;
    assert_eq!(bench.blob("app", digest_of(&layer())).await.unwrap().served, Served::Hit);
}

#[tokio::test(start_paused = true)]
async fn who_has_had_a_wrong_byte_is_cut_and_everybody_else_goes_on() {
    let slow = |body: Bytes| {
        head_of(&body)
            .step(Step::Bytes(body.slice(..100_000)))
            .step(Step::Pause(MINUTE / 4))
            .step(Step::Bytes(body.slice(100_000..)))
    };
    let script = move |asked: &Asked| match asked.host.as_str() {
        "a.test" => slow([&[7; 10], &layer()[10..]].concat().into()),
        _ => slow(layer()),
    };
    let bench = Bench::with(&["https://a.test", "https://b.test"], ROOM, script).await;
    let whole = bench.blob("app", digest_of(&layer())).await.unwrap();
    let behind = bench.blob("app", digest_of(&layer())).await.unwrap();
    let part = bench.blob("app", digest_of(&layer())).await.unwrap();
    let part = part.content.as_ref().unwrap().span(Span::new(50_000, 180_000));
    let late = async {
        tokio::time::sleep(MINUTE).await;
        read(behind).await
    };
    let (whole, part, (_, late)) = tokio::join!(read(whole), read_pieces(part), late);
    assert_eq!(whole.1.unwrap_err().kind, Kind::BadGateway);
    assert!(whole.0 <= 200_000 - 65_536, "{} bytes of a wrong answer were shown", whole.0);
    assert!(part.1.unwrap() == layer()[50_000..180_000], "the wrong bytes lay before");
    assert!(late.unwrap() == layer());
}

#[tokio::test(start_paused = true)]
async fn a_url_that_sent_wrong_bytes_twice_rests() {
    let bench = Bench::new(|_| Reply::ok(vec![7; 200_000])).await;
    for asked in [1, 2, 2] {
        // Told with the head, where it was known by then, else with the body.
        let (got, end) = match bench.blob("app", digest_of(&layer())).await {
            Ok(answer) => read(answer).await,
            Err(error) => (0, Err(error)),
        };
        assert_eq!(end.unwrap_err().kind, Kind::BadGateway);
        assert!(got <= 200_000 - 65_536, "{got} bytes of a wrong answer were shown");
        bench.idle().await;
        assert_eq!(bench.asked(), asked);
    }
}

#[tokio::test(start_paused = true)]
async fn a_url_that_rests_has_not_said_404() {
    let script = |asked: &Asked| if asked.host == "a.test" { Reply::ok(vec![7; 100]) } else { Reply::status(404) };
    let bench = Bench::with(&["https://a.test", "https://b.test"], ROOM, script).await;
    for _ in 0..4 {
        let error = bench.pull("app", digest_of(&layer())).await.unwrap_err();
        assert_eq!(error.kind, Kind::BadGateway, "{error}");
    }
    assert_eq!(bench.other.count("a.test"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_head_starts_no_fill_and_joins_none() {
    let bench = Bench::new(|asked| match asked.is_head() {
        true => head_of(&layer()),
        false => head_of(&layer()).step(Step::Bytes(layer().slice(..100))).step(Step::Hang),
    })
    .await;
    let permit = permit("app", Item::Blob(digest_of(&layer())));
    let answer = bench.mirror.blob(&permit, &Allowance::default(), true).await.unwrap();
    assert_eq!((answer.length, answer.content.is_none(), answer.served), (Some(200_000), true, Served::Miss));
    assert!(bench.is_idle());
    let _filling = bench.blob("app", digest_of(&layer())).await.unwrap();
    let answer = bench.mirror.blob(&permit, &Allowance::default(), true).await.unwrap();
    assert_eq!((answer.length, answer.content.is_none(), answer.served), (Some(200_000), true, Served::Joined));
    let line = |method: &str| format!("{method} https://a.test/v2/app/blobs/{}", digest_of(&layer()));
    assert_eq!(bench.other.lines(), [line("HEAD"), line("GET")]);
}

/// A manifest may lie about sizes, and a repository may lack what another has: neither is a word on the other's blob.
#[tokio::test(start_paused = true)]
async fn what_goes_wrong_in_one_repository_is_no_word_on_another() {
    for status in [404, 403] {
        let bench = Bench::new(move |asked| match (asked.path.starts_with("/v2/bad/"), asked.is_head()) {
            (true, _) => Reply::After(Duration::from_secs(1), Reply::status(status).into()),
            (false, true) => head_of(&layer()),
            (false, false) => Reply::ok(layer()),
        })
        .await;
        let late = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            bench.pull("good", digest_of(&layer())).await
        };
        let (bad, good) = tokio::join!(bench.blob("bad", digest_of(&layer())), late);
        assert!(bad.is_err());
        assert!(good.unwrap() == layer(), "{status}");
        assert_eq!(bench.other.count("/v2/good/"), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_is_asked_for_once_where_the_upstream_says_404() {
    let bench = Bench::new(|asked| if asked.path.starts_with("/v2/app/") { Reply::ok(layer()) } else { Reply::status(404) }).await;
    bench.pull("app", digest_of(&layer())).await.unwrap();
    bench.idle().await;
    for _ in 0..3 {
        assert_eq!(bench.blob("other", digest_of(&layer())).await.err().unwrap().kind, Kind::NotFound);
    }
    assert_eq!(bench.other.count("/v2/other/"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_has_no_room_passes_through_and_its_tail_waits_for_the_digest() {
    let bench = Bench::with(&["https://a.test"], 1000, |_| Reply::ok(layer())).await;
    assert!(bench.pull("app", digest_of(&layer())).await.unwrap() == layer());
    assert!(bench.is_idle());

    // Also where the upstream announces less than it sends: the end that a client sees is the announced one.
    let more = |_: &Asked| {
        let head = Reply::status(200).header("content-length", "100000");
        (0..20).fold(head, |reply, _| reply.step(Step::Bytes(vec![7; 10_000].into())))
    };
    let bench = Bench::with(&["https://a.test"], 1000, more).await;
    let (got, end) = match bench.blob("app", digest_of(&layer())).await {
        Ok(answer) => read(answer).await,
        Err(error) => (0, Err(error)),
    };
    assert_eq!(end.unwrap_err().kind, Kind::BadGateway);
    assert!(got <= 100_000 - 65_536, "{got} bytes of a wrong answer were shown");
}

/// Long enough for the window to move several times.
fn long() -> Bytes {
    (0..3_000_000u32).map(|i| (i % 241) as u8).collect::<Vec<_>>().into()
}

fn chunked(reply: Reply, body: &Bytes) -> Reply {
    body.chunks(50_000).fold(reply, |reply, chunk| reply.step(Step::Bytes(body.slice_ref(chunk))))
}

#[tokio::test(start_paused = true)]
async fn what_outgrows_the_room_while_it_comes_is_passed_on_to_all_who_are_there() {
    let slow = |_: &Asked| chunked(Reply::status(200).step(Step::Pause(Duration::from_secs(1))), &long());
    let bench = Bench::with(&["https://a.test"], 1 << 20, slow).await;
    let all = futures_util::future::join_all((0..8).map(|_| bench.pull("app", digest_of(&long())))).await;
    assert!(all.into_iter().all(|pulled| pulled.unwrap() == long()));
    assert_eq!(bench.asked(), 1);
    bench.idle().await;
    assert_eq!(bench.store.usage().blobs, 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_file_system_has_no_room_for_is_passed_on_from_where_it_said_so() {
    let (faults, body) = (Faults::default(), || chunked(head_of(&long()).step(Step::Pause(Duration::from_secs(1))), &long()));
    let bench = Bench::on(faults.clone(), &["https://a.test"], ROOM, move |_| body()).await;
    faults.always(Operation::Allocate, Errno::NOSPC);
    let all = futures_util::future::join_all((0..8).map(|_| bench.pull("app", digest_of(&long())))).await;
    assert!(all.into_iter().all(|pulled| pulled.unwrap() == long()));
    bench.idle().await;
    assert_eq!((bench.asked(), bench.store.usage().blobs), (1, 0), "a full disk is not filled further");
    faults.lift();
    bench.pull("app", digest_of(&long())).await.unwrap();
    bench.idle().await;
    assert_eq!((bench.asked(), bench.store.usage().blobs), (2, 1), "once there is room, it is stored");
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_disk_that_hangs_is_bounded() {
    const PIECE: usize = 64 << 10;
    let (faults, sent, body) = (Faults::default(), Arc::new(AtomicUsize::new(0)), Bytes::from(vec![7; 8 << 20]));
    let (all, count) = (body.clone(), sent.clone());
    let bench = Bench::on(faults.clone(), &["https://a.test"], ROOM, move |_| {
        (0..all.len()).step_by(PIECE).fold(head_of(&all), |reply, at| {
            let count = count.clone();
            let note = move || {
                count.fetch_add(PIECE, Ordering::SeqCst);
            };
            reply.step(Step::Bytes(all.slice(at..at + PIECE))).step(Step::Note(Box::new(note)))
        })
    })
    .await;
    let ((hangs, mut hung), (release, released)) = (mpsc::unbounded_channel(), std::sync::mpsc::channel::<()>());
    faults.decide(move |asked| {
        if asked == Operation::Write {
            // Nobody listens any more once it is released, and then nothing is waited for.
            let _ = (hangs.send(()), released.recv());
        }
        None
    });
    let upstream_stops = async {
        hung.recv().await;
        let mut quiet = 0;
        while quiet < 100 {
            let before = sent.load(Ordering::SeqCst);
            tokio::task::yield_now().await;
            quiet = if sent.load(Ordering::SeqCst) == before { quiet + 1 } else { 0 };
        }
        drop(release);
        sent.load(Ordering::SeqCst)
    };
    let (pulled, waiting) = tokio::join!(bench.pull("app", digest_of(&body)), upstream_stops);
    assert!((1 << 20..=(2 << 20) + PIECE).contains(&waiting), "{waiting}");
    assert!(pulled.unwrap() == body);
}

#[tokio::test(start_paused = true)]
async fn what_is_passed_on_waits_for_the_slowest_but_not_for_who_stands_still() {
    let bench = Bench::with(&["https://a.test"], 1000, |_| chunked(head_of(&long()), &long())).await;
    let (gone, slow, stalled) = tokio::join!(
        bench.blob("app", digest_of(&long())),
        bench.blob("app", digest_of(&long())),
        bench.blob("app", digest_of(&long())),
    );
    drop(gone);
    let slow = async {
        let (mut pieces, mut all) = (slow.unwrap().content.unwrap().whole(), Vec::new());
        while let Some(piece) = pieces.next().await {
            all.extend(bytes_of(&piece.unwrap()));
            tokio::time::sleep(Duration::from_secs(9)).await;
        }
        all
    };
    let stalled = async {
        let mut pieces = stalled.unwrap().content.unwrap().whole();
        let first = bytes_of(&pieces.next().await.unwrap().unwrap()).len();
        tokio::time::sleep(HOUR).await;
        (first, pieces.next().await.unwrap().unwrap_err().kind)
    };
    let (all, (first, kind)) = tokio::join!(slow, stalled);
    assert!(all == long());
    assert!(first < 600_000, "{first} bytes were held for one reader");
    assert_eq!((kind, bench.asked()), (Kind::Overloaded, 1));
    bench.idle().await;
}

#[tokio::test(start_paused = true)]
async fn who_comes_when_the_first_bytes_have_gone_by_has_its_own_and_nobody_s_bytes_are_fetched() {
    let bench = Bench::with(&["https://a.test"], 1000, |_| chunked(head_of(&long()), &long())).await;
    let mut first = bench.blob("app", digest_of(&long())).await.unwrap().content.unwrap().whole();
    for _ in 0..20 {
        first.next().await.unwrap().unwrap();
    }
    assert!(bench.pull("app", digest_of(&long())).await.unwrap() == long());
    assert_eq!(bench.asked(), 2);
    drop(first);
    bench.idle().await;
}

#[tokio::test(start_paused = true)]
async fn who_comes_when_the_last_has_left_is_not_told_that_nobody_is_left() {
    let bench = Bench::with(&["https://a.test"], 1000, |_| chunked(head_of(&long()), &long())).await;
    drop(bench.blob("app", digest_of(&long())).await.unwrap());
    assert!(bench.pull("app", digest_of(&long())).await.unwrap() == long());
    bench.idle().await;
}

#[tokio::test(start_paused = true)]
async fn one_range_of_what_is_passed_on_is_exact() {
    let bench = Bench::with(&["https://a.test"], 1000, |_| chunked(head_of(&long()), &long())).await;
    let answer = bench.blob("app", digest_of(&long())).await.unwrap();
    let content = answer.content.unwrap();
    assert_eq!(content.most_spans(), 1);
    let part = content.span(Span::new(1_000_000, 3_000_000));
    drop(content);
    assert!(read_pieces(part).await.1.unwrap() == long()[1_000_000..]);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_away_for_a_moment_is_asked_again() {
    let away = |moments: usize| {
        move |asked: &Asked| if asked.nth < moments { Reply::Fail(EgressKind::Unreachable) } else { Reply::ok(layer()) }
    };
    let bench = Bench::new(away(3)).await;
    let (pulled, took) = timed(bench.pull("app", digest_of(&layer()))).await;
    assert_eq!((pulled.unwrap() == layer(), took), (true, Duration::from_millis(700)));
    let bench = Bench::new(away(100)).await;
    let (pulled, took) = timed(bench.pull("app", digest_of(&layer()))).await;
    assert_eq!((pulled.unwrap_err().kind, took, bench.asked()), (Kind::BadGateway, Duration::from_millis(3100), 6));
    // For nobody it is not.
    let bench = Bench::new(away(100)).await;
    let gone = tokio::time::timeout(Duration::from_millis(150), bench.pull("app", digest_of(&layer()))).await;
    assert!(gone.is_err());
    bench.idle().await;
    assert_eq!(bench.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_url_that_breaks_again_and_again_is_left_for_the_next() {
    // Some bytes each time, but never enough to count as progress; the last of three URLs is well.
    let script = |asked: &Asked| {
        let from = asked.range.as_deref().map_or(0, |range| range[6..range.len() - 1].parse().unwrap());
        let rest = |reply: Reply, until: usize| reply.step(Step::Bytes(layer().slice(from..until)));
        let head = match from {
            0 => head_of(&layer()),
            _ => Reply::status(206).header("content-range", &format!("bytes {from}-199999/200000")),
        };
        if asked.host == "c.test" { rest(head, 200_000) } else { rest(head, from + 1000).step(Step::Break) }
    };
    let bench = Bench::with(&["https://a.test", "https://b.test", "https://c.test"], ROOM, script).await;
    assert!(bench.pull("app", digest_of(&layer())).await.unwrap() == layer());
    let asked: Vec<usize> = ["a.test", "b.test", "c.test"].map(|host| bench.other.count(host)).into();
    assert_eq!(asked, [2, 1, 1]);
}

/// Where the upstream tells no length, the client is told the manifest's and takes what comes up to there for the whole.
#[tokio::test(start_paused = true)]
async fn an_answer_of_the_length_that_a_manifest_gave_waits_for_the_digest() {
    for promised in [0, 100_000] {
        let layers = format!(r#"[{{"mediaType":"a/b","digest":"{}","size":{promised}}}]"#, digest_of(&layer()));
        let body: Bytes = format!(r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","layers":{layers}}}"#).into();
        let digest = digest_of(&body);
        // Of the bytes that are not the blob, so many come that those before the last 64 KiB are as many as were promised.
        let wrong = move || Reply::status(200).step(Step::Bytes(vec![7; promised + 65_536].into())).step(Step::Pause(MINUTE / 4));
        let bench = Bench::new(move |asked| match asked.path.contains("/manifests/") {
            true => manifest_reply(asked, &body),
            false => wrong(),
        })
        .await;
        bench.manifest(digest).await.unwrap();
        let (told, got) = match bench.blob("app", digest_of(&layer())).await {
            Ok(answer) => (answer.length, read(answer).await.0),
            Err(_) => (None, 0),
        };
        assert_ne!(told, Some(got as u64), "a wrong answer was completed");
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_download_left_is_read_up_to_where_the_upstream_knows_no_ranges() {
    let bench = Bench::new(|asked| match asked.nth {
        0 => head_of(&long()).step(Step::Bytes(long().slice(..2_000_000))).step(Step::Break),
        1..6 => Reply::status(503),
        _ => Reply::ok(long()),
    })
    .await;
    assert!(bench.pull("app", digest_of(&long())).await.is_err());
    bench.idle().await;
    assert_eq!(bench.asked(), 6);
    assert!(bench.pull("app", digest_of(&long())).await.unwrap() == long());
    assert_eq!(bench.asked(), 7, "the whole came, and was asked for again");
}

#[tokio::test(start_paused = true)]
async fn who_reads_on_while_another_url_is_asked_takes_no_byte_that_is_known_to_be_wrong() {
    let wrong: Bytes = [&layer()[..100_000], &[7; 100_000]].concat().into();
    let script = move |asked: &Asked| match asked.host.as_str() {
        "a.test" => head_of(&wrong)
            .step(Step::Bytes(wrong.slice(..50_000)))
            .step(Step::Pause(Duration::from_secs(1)))
            .step(Step::Bytes(wrong.slice(50_000..))),
        _ => Reply::After(Duration::from_secs(5), Reply::ok(layer()).into()),
    };
    let bench = Bench::with(&["https://a.test", "https://b.test"], ROOM, script).await;
    let mut pieces = bench.blob("app", digest_of(&layer())).await.unwrap().content.unwrap().whole();
    let mut all = bytes_of(&pieces.next().await.unwrap().unwrap());
    tokio::time::sleep(Duration::from_secs(3)).await;
    while let Some(piece) = pieces.next().await {
        all.extend(bytes_of(&piece.unwrap()));
    }
    assert!(all == layer());
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_answers_ranges_by_next_to_nothing_is_not_asked_for_ever() {
    let bench = Bench::new(|asked| match asked.range.as_deref() {
        None => head_of(&layer()).step(Step::Bytes(layer().slice(..100_000))).step(Step::Break),
        Some(range) => {
            let from: usize = range[6..range.len() - 1].parse().unwrap();
            let head = Reply::status(206).header("content-range", &format!("bytes {from}-{from}/200000"));
            head.step(Step::Bytes(layer().slice(from..=from)))
        }
    })
    .await;
    assert_eq!(bench.pull("app", digest_of(&layer())).await.unwrap_err().kind, Kind::BadGateway);
    assert_eq!(bench.asked(), 6);
}

#[tokio::test(start_paused = true)]
async fn what_failed_while_somebody_looked_into_the_store_is_not_what_they_get() {
    let bench = Bench::new(|asked| match asked.nth {
        0 => Reply::After(MINUTE / 60, Reply::status(403).into()),
        _ => Reply::ok(layer()),
    })
    .await;
    // A look into the store then takes a turn of the runtime, however fast the disk is.
    let _inline = crate::store::inline_blocking();
    let digest = digest_of(&layer());
    let late = async {
        tokio::time::sleep(MINUTE / 120).await;
        let mut late = std::pin::pin!(bench.blob("app", digest));
        assert!(futures_util::poll!(&mut late).is_pending(), "it looks into the store");
        bench.idle().await;
        late.await
    };
    let (first, late) = tokio::join!(bench.blob("app", digest), late);
    assert_eq!((first.err().unwrap().kind, late.unwrap().served), (Kind::Denied, Served::Miss));
}
