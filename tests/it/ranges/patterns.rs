//! What lazy and parallel pullers ask of a blob that is on its way: they get it exactly, and the upstream sends it once.

use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::super::support::proxy::Proxy;
use super::super::support::*;
use super::{join_all, path};

const MIB: usize = 1 << 20;
const SIZE: usize = 12 * MIB;
const CHUNK: usize = MIB;
const CHUNKS: usize = SIZE / CHUNK;
/// What the upstream sends at once, and how long it pauses before that, on each connection: some 2 MiB a second, so that what
/// is a third of the blob ahead is fetched beside.
const PACE: (usize, Duration) = (16 << 10, Duration::from_millis(7));

struct Scene {
    blob: Blob,
    hub: Registry,
    proxy: Proxy,
    rng: StdRng,
}

impl Scene {
    async fn new(seed: u64) -> Self {
        let (blob, hub) = (images::noise(seed, SIZE), Registry::start().await);
        hub.push_blob("library/app", &blob);
        hub.fault(on(blob.digest).get(), Fault::Trickle(PACE.0, PACE.1));
        Self { proxy: Proxy::of(&hub).await, blob, hub, rng: StdRng::seed_from_u64(seed) }
    }

    /// The numbers of all chunks, in a random order.
    fn shuffled(&mut self) -> Vec<usize> {
        let mut chunks: Vec<usize> = (0..CHUNKS).collect();
        chunks.shuffle(&mut self.rng);
        chunks
    }

    /// Begins to read everything from an offset on.
    async fn open(&self, from: usize) -> Client {
        let mut client = Client::connect(self.proxy.address).await;
        client.request("GET", &path(&self.blob), &[("range", format!("bytes={from}-").as_str())]).await;
        assert_eq!(client.head().await.unwrap().status, 206);
        client
    }

    async fn closed(&self, span: Range<usize>) {
        let range = format!("bytes={}-{}", span.start, span.end - 1);
        let reply = self.proxy.get(&path(&self.blob), &[("range", &range)]).await;
        assert_eq!((reply.status, reply.end), (206, End::Whole));
        assert!(reply.body == self.blob.bytes[span.clone()], "{span:?}");
    }

    async fn chunk(&self, chunk: usize) {
        self.closed(chunk * CHUNK..(chunk + 1) * CHUNK).await;
    }

    async fn head(&self) {
        let head = self.proxy.head(&path(&self.blob), &[]).await;
        assert_eq!((head.status, head.header("content-length")), (200, SIZE.to_string().as_str()));
    }

    async fn several(&self, starts: &[usize], length: usize) {
        let spans: Vec<String> = starts.iter().map(|start| format!("{start}-{}", start + length - 1)).collect();
        let reply = self.proxy.get(&path(&self.blob), &[("range", &format!("bytes={}", spans.join(",")))]).await;
        let parts = multipart::parts(&reply).unwrap();
        assert_eq!((parts.len(), reply.end), (starts.len(), End::Whole));
        for (part, start) in parts.iter().zip(starts) {
            assert!(part.body == self.blob.bytes[*start..start + length], "{start}");
        }
    }

    /// All was sent and received once, some of it beside the main transfer, and is kept.
    async fn check(&self) {
        let last = self.proxy.get_until(&path(&self.blob), |reply| reply.header("x-cache") == "hit").await;
        assert!(last.body == self.blob.bytes);
        let received = self.proxy.metric("roadstead_upstream_bytes_total{registry=\"docker.io\"}").await;
        let (asked, sent) = (self.hub.count(on(self.blob.digest).get()), self.hub.sent(on(self.blob.digest)));
        let told = format!("received {received}, sent {sent} of {SIZE} in {asked} answers");
        assert!(asked > 1, "nothing was fetched beside: {told}");
        assert!(received <= SIZE as f64 * 1.02, "{told}");
        // What is on its way when a transfer is left counts as sent: more of it where this machine is busy.
        assert!(sent as f64 <= SIZE as f64 * 1.25, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containerd_opens_ranges_and_leaves_after_a_chunk() {
    const CHUNK: usize = 2 * MIB;
    let scene = Scene::new(1).await;
    let read = async |mut open: Client, from: usize| {
        assert!(open.read(CHUNK).await == scene.blob.bytes[from..from + CHUNK], "from {from}");
    };
    let first = scene.open(0).await;
    let worker = async |nth: usize| {
        for from in (CHUNK..SIZE).step_by(CHUNK).skip(nth).step_by(4) {
            read(scene.open(from).await, from).await;
        }
    };
    tokio::join!(read(first, 0), join_all((0..4).map(worker)));
    scene.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stargz_reads_ends_and_then_several_places_at_once() {
    let mut scene = Scene::new(2).await;
    scene.closed(0..2).await;
    scene.head().await;
    // Who has mounted the image before knows the footer and the table of contents.
    let places: Vec<Vec<usize>> = (0..12)
        .map(|_| (0..scene.rng.random_range(2..6)).map(|_| scene.rng.random_range(0..SIZE / 50_000) * 50_000).collect())
        .collect();
    let reader = async |nth: usize| {
        for starts in places.iter().skip(nth).step_by(3) {
            let mut starts = starts.clone();
            starts.sort_unstable();
            starts.dedup();
            match starts.as_slice() {
                [one] => scene.closed(*one..one + 50_000).await,
                many => scene.several(many, 50_000).await,
            }
        }
    };
    let mount = async {
        scene.closed(SIZE - 51..SIZE).await;
        scene.closed(SIZE - 300_000..SIZE - 51).await;
    };
    tokio::join!(mount, join_all((0..3).map(reader)));
    scene.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soci_reads_chunks_in_any_order() {
    let mut scene = Scene::new(3).await;
    let chunks = scene.shuffled();
    let worker = async |nth: usize| {
        for chunk in chunks.iter().skip(nth).step_by(4) {
            scene.chunk(*chunk).await;
        }
    };
    join_all((0..4).map(worker)).await;
    scene.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nydus_reads_chunks_and_then_the_rest_of_the_stream() {
    let mut scene = Scene::new(4).await;
    scene.head().await;
    let chunks = scene.shuffled();
    for chunk in &chunks[..4] {
        scene.chunk(*chunk).await;
    }
    let (rest, end) = scene.open(5 * CHUNK).await.rest().await;
    assert_eq!(end, End::Whole);
    assert!(rest == scene.blob.bytes[5 * CHUNK..]);
    scene.check().await;
}
