//! Ranges of blobs that are on their way: what is far ahead is fetched beside, and nothing is fetched twice.

use std::sync::Mutex;

use rustix::io::Errno;

use super::*;
use crate::store::Operation;

const K: usize = 1 << 10;
const M: usize = 1 << 20;

fn large() -> Bytes {
    (0..16 * M).map(|i| (i / 7 % 253) as u8).collect::<Vec<_>>().into()
}

/// An upstream that does as ranges say, sends 64 KiB each `pause`, and keeps count of what it sent.
struct Slow {
    body: Bytes,
    asked: Mutex<Vec<(usize, usize)>>,
}

impl Slow {
    fn new() -> Arc<Self> {
        Arc::new(Self { body: large(), asked: Mutex::default() })
    }

    fn reply(&self, asked: &Asked, pause: Duration) -> Reply {
        let range = asked.range.as_deref().map(|range| range.strip_prefix("bytes=").unwrap().split_once('-').unwrap());
        let (from, until) = range.map_or((0, self.body.len()), |(first, last)| {
            (first.parse().unwrap(), last.parse().map_or(self.body.len(), |last: usize| last + 1))
        });
        self.asked.lock().unwrap().push((from, until));
        let head = match range {
            None => Reply::status(200).header("content-length", &self.body.len().to_string()),
            Some(_) => Reply::status(206).header("content-range", &format!("bytes {from}-{}/{}", until - 1, self.body.len())),
        };
        self.body
            .slice(from..until)
            .chunks(64 * K)
            .fold(head, |reply, chunk| reply.step(Step::Pause(pause)).step(Step::Bytes(self.body.slice_ref(chunk))))
    }
}

async fn part(bench: &Bench, from: usize, until: usize) -> Vec<u8> {
    let answer = bench.blob("app", digest_of(&large())).await.unwrap();
    let pieces = answer.content.as_ref().unwrap().span(Span::new(from as u64, until as u64));
    drop(answer);
    read_pieces(pieces).await.1.unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_far_ahead_is_fetched_beside_and_the_main_transfer_skips_it() {
    let slow = Slow::new();
    let upstream = slow.clone();
    // 64 KiB a second: the whole takes 256 s.
    let bench = Bench::new(move |asked| upstream.reply(asked, Duration::from_secs(1))).await;
    let (first, took) = timed(part(&bench, 10 * M, 10 * M + 100)).await;
    assert!(first == large()[10 * M..10 * M + 100]);
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(part(&bench, 4 * M, 4 * M + 300 * K).await == large()[4 * M..4 * M + 300 * K]);
    assert!(bench.pull("app", digest_of(&large())).await.unwrap() == large());
    let mut asked = slow.asked.lock().unwrap().clone();
    assert_eq!(asked[..3], [(0, 16 * M), (10 * M, 10 * M + 256 * K), (4 * M, 4 * M + 300 * K)]);
    // The main transfer left out what was there: it ended before the first piece, and asked for the rest.
    assert_eq!(asked.split_off(3), [(4 * M + 300 * K, 10 * M), (10 * M + 256 * K, 16 * M)]);
    bench.idle().await;
    assert_eq!(bench.blob("app", digest_of(&large())).await.unwrap().served, Served::Hit);
}

#[tokio::test(start_paused = true)]
async fn a_range_that_comes_soon_is_waited_for() {
    let slow = Slow::new();
    let upstream = slow.clone();
    let bench = Bench::new(move |asked| upstream.reply(asked, Duration::from_millis(5))).await;
    assert!(part(&bench, 15 * M, 15 * M + 100).await == large()[15 * M..15 * M + 100]);
    assert_eq!(slow.asked.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_open_range_far_ahead_costs_a_piece_at_a_time() {
    let slow = Slow::new();
    let upstream = slow.clone();
    let bench = Bench::new(move |asked| upstream.reply(asked, Duration::from_secs(1))).await;
    let answer = bench.blob("app", digest_of(&large())).await.unwrap();
    let mut pieces = answer.content.as_ref().unwrap().span(Span::new(6 * M as u64, 16 * M as u64));
    pieces.next().await.unwrap().unwrap();
    // The client has what it wanted.
    drop((pieces, answer));
    assert!(bench.pull("app", digest_of(&large())).await.unwrap() == large());
    let asked = slow.asked.lock().unwrap();
    assert_eq!((asked.len(), asked[1], asked[2].1), (3, (6 * M, 14 * M), 16 * M));
    // The main transfer waited a while for the piece, then took over from where it was.
    assert!((12 * M..14 * M).contains(&asked[2].0), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_main_transfer_that_stands_still_keeps_nobody_from_what_lies_ahead() {
    let slow = Slow::new();
    let upstream = slow.clone();
    let bench = Bench::new(move |asked| match asked.nth {
        0 => Reply::status(200)
            .header("content-length", &(16 * M).to_string())
            .step(Step::Bytes(upstream.body.slice(..M)))
            .step(Step::Hang),
        _ => upstream.reply(asked, Duration::from_millis(1)),
    })
    .await;
    let (got, took) = timed(part(&bench, 8 * M, 9 * M)).await;
    assert!(got == large()[8 * M..9 * M]);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_without_ranges_is_read_through_once() {
    let slow = Slow::new();
    let upstream = slow.clone();
    let bench = Bench::new(move |asked| upstream.reply(&asked.without_range(), Duration::from_millis(500))).await;
    assert!(part(&bench, 10 * M, 10 * M + 100).await == large()[10 * M..10 * M + 100]);
    assert!(part(&bench, 12 * M, 12 * M + 100).await == large()[12 * M..12 * M + 100]);
    assert_eq!(slow.asked.lock().unwrap().len(), 2, "it is tried once");
}

#[tokio::test(start_paused = true)]
async fn wrong_bytes_from_beside_are_found_and_all_is_fetched_again() {
    let slow = Slow::new();
    let upstream = slow.clone();
    let bench = Bench::with(&["https://a.test", "https://b.test"], ROOM, move |asked| {
        let reply = upstream.reply(asked, Duration::from_secs(1));
        if asked.nth != 1 {
            return reply;
        }
        let head = Reply::status(206).header("content-range", &format!("bytes {}-{}/{}", 10 * M, 10 * M + 256 * K - 1, 16 * M));
        head.step(Step::Bytes(vec![7; 256 * K].into()))
    })
    .await;
    // A range in the middle cannot be told to be wrong before all is there; who has had it with the rest is cut then.
    part(&bench, 10 * M, 10 * M + 100).await;
    assert_eq!(bench.pull("app", digest_of(&large())).await.unwrap_err().kind, Kind::BadGateway);
    assert!(bench.pull("app", digest_of(&large())).await.unwrap() == large(), "the download went on");
    assert_eq!(slow.asked.lock().unwrap().last(), Some(&(0, 16 * M)), "from one who can be blamed");
}

/// What is far ahead comes all at once, while it is fetched beside or just after that.
#[tokio::test(start_paused = true)]
async fn wrong_bytes_from_beside_are_found_also_where_the_main_transfer_catches_up_meanwhile() {
    for pause in [5, 0] {
        let bench = Bench::new(move |asked| match asked.nth {
            0 => Reply::status(200)
                .header("content-length", &(16 * M).to_string())
                .step(Step::Pause(Duration::from_secs(1)))
                .step(Step::Bytes(large().slice(..64 * K)))
                .step(Step::Pause(Duration::from_secs(2)))
                .step(Step::Bytes(large().slice(64 * K..M)))
                .step(Step::Pause(Duration::from_secs(20)))
                .step(Step::Bytes(large().slice(M..))),
            1 => Reply::status(206)
                .header("content-range", &format!("bytes {}-{}/{}", 300 * K, 8 * M + 300 * K - 1, 16 * M))
                .step(Step::Pause(Duration::from_secs(pause)))
                .step(Step::Bytes(vec![7; 256 * K].into()))
                .step(Step::Break),
            _ => Slow::new().reply(asked, Duration::ZERO),
        })
        .await;
        let answer = bench.blob("app", digest_of(&large())).await.unwrap();
        let pieces = answer.content.as_ref().unwrap().span(Span::new(300 * K as u64, 16 * M as u64));
        drop(answer);
        let (_, ended) = read_pieces(pieces).await;
        assert!(ended.is_err() || ended.unwrap() == large()[300 * K..], "{pause} s: a wrong answer was completed");
        bench.idle().await;
        for _ in 0..2 {
            let pulled = bench.pull("app", digest_of(&large())).await.unwrap();
            assert!(pulled == large(), "{pause} s: what is not the blob was stored as it");
            bench.idle().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_fetched_beside_that_the_disk_does_not_take() {
    let (slow, faults) = (Slow::new(), Faults::default());
    let upstream = slow.clone();
    let script = move |asked: &Asked| upstream.reply(asked, Duration::from_secs(1));
    let bench = Bench::on(faults.clone(), &["https://a.test"], ROOM, script).await;
    faults.always(Operation::Write, Errno::IO);
    assert!(part(&bench, 10 * M, 10 * M + 100).await == large()[10 * M..10 * M + 100], "from the main transfer, as it goes by");
    assert_eq!(*slow.asked.lock().unwrap(), [(0, 16 * M)]);
}
