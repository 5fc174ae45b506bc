//! Ranges of blobs in every state, against a model, and the ranges that lazy and parallel pullers ask for.
//!
//! `ROADSTEAD_SEEDS` says how many seeds are tried, `ROADSTEAD_SEED` which is the first. A seed makes the same blob, upstream
//! and questions again, though not the same order of events.

mod model;
mod patterns;

use std::env;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use http::Method;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

use super::support::proxy::{Proxy, Setup};
use super::support::*;
use model::{Expected, Question};

/// Seeds tried by `cargo test`.
const SEEDS: u64 = 60;
/// How many are tried side by side.
const AT_ONCE: usize = 4;

/// What the proxy has of the blob when the questions come.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Nothing,
    /// A download is under way and stands still after so many bytes.
    Filling(usize),
    Stored,
    /// It was stored, and its file is not what it was.
    Damaged(Damage),
    /// Nothing, and it is larger than the cache.
    NoRoom,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Damage {
    Truncated,
    Deleted,
    Flipped,
}

/// What is wrong with the upstream.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Upstream {
    Good,
    /// It does not tell the blob's length.
    NoLength,
    NoRanges,
    /// Its first answer is cut after so many bytes.
    Cuts(usize),
}

struct Trial {
    blob: Blob,
    state: State,
    upstream: Upstream,
    clients: Vec<Asker>,
    /// How long a download stands still after the first questions came.
    held: Duration,
    /// The size of the pieces that the upstream sends, and the pause before each.
    pace: (usize, Duration),
}

/// A client and what it asks, one after the other.
#[derive(Clone, Debug)]
struct Asker {
    two: bool,
    questions: Vec<Question>,
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_what_the_model_says() {
    let (first, count) = (number("ROADSTEAD_SEED", 0), number("ROADSTEAD_SEEDS", SEEDS));
    let tried = futures_util::stream::iter(first..first + count).map(|seed| async move {
        let tried = tokio::spawn(Trial::draw(seed).run()).await;
        if let Err(error) = tried {
            println!("\nseed {seed}, which ROADSTEAD_SEED={seed} ROADSTEAD_SEEDS=1 runs alone:\n{}", Trial::draw(seed).tell());
            resume_unwind(error.into_panic());
        }
    });
    tried.buffer_unordered(AT_ONCE).collect::<()>().await;
}

fn path(blob: &Blob) -> String {
    format!("/v2/library/app/blobs/{}", blob.digest)
}

impl Trial {
    fn draw(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let edges = [0, 1, 65_535, 65_536, 65_537, 131_072, 200_000];
        let length = if rng.random_bool(0.3) { *edges.choose(&mut rng).unwrap() } else { rng.random_range(0..3 << 20) };
        let mut bytes = vec![0; length];
        rng.fill_bytes(&mut bytes);
        let state = match rng.random_range(0..10) {
            0..2 => State::Nothing,
            2..5 if length > 0 => State::Filling(rng.random_range(0..length)),
            5 => State::Stored,
            6..8 if length > 1 => State::NoRoom,
            8..10 if length > 1 => State::Damaged(*[Damage::Truncated, Damage::Deleted, Damage::Flipped].choose(&mut rng).unwrap()),
            _ => State::Nothing,
        };
        let upstream = match rng.random_range(0..8) {
            0 => Upstream::NoLength,
            1 => Upstream::NoRanges,
            2..4 => Upstream::Cuts(rng.random_range(0..=length)),
            _ => Upstream::Good,
        };
        let pieces = [8 << 10, 32 << 10, 128 << 10];
        let pace = (*pieces.choose(&mut rng).unwrap(), Duration::from_millis(rng.random_range(0..3)));
        let held = Duration::from_millis(rng.random_range(0..500));
        let clients = (0..rng.random_range(1..=6)).map(|_| Asker::draw(&mut rng, length as u64)).collect();
        Self { blob: Blob::new(bytes), state, upstream, clients, held, pace }
    }

    fn tell(&self) -> String {
        let Self { blob, state, upstream, clients, held, pace } = self;
        let clients: Vec<String> = clients.iter().map(|client| format!("{client:?}\n")).collect();
        format!("{state:?}, upstream {upstream:?}, {} bytes, {pace:?}, held {held:?}\n{}", blob.len(), clients.concat())
    }

    async fn run(self) {
        let hub = Registry::start().await;
        hub.push_blob("library/app", &self.blob);
        let max_size = if self.state == State::NoRoom { self.blob.len() / 2 } else { 1 << 30 };
        let setup = Setup::new().registry("docker.io", &hub, "default = true").cache(&format!("max_size = \"{max_size} B\""));
        let (proxy, gate) = (setup.start().await, Gate::new());
        self.prepare(&hub, &proxy, &gate).await;
        let open = async {
            tokio::time::sleep(self.held).await;
            gate.open();
        };
        tokio::join!(open, join_all(self.clients.iter().map(|client| client.run(&proxy, &self))));
        let whole = |reply: &Reply| self.state == State::NoRoom || reply.header("x-cache") == "hit";
        assert!(proxy.get_until(&path(&self.blob), whole).await.body == self.blob.bytes);
    }

    async fn prepare(&self, hub: &Registry, proxy: &Proxy, gate: &Gate) {
        let which = || on(self.blob.digest).get();
        if let State::Stored | State::Damaged(_) = self.state {
            proxy.get_until(&path(&self.blob), |reply| reply.header("x-cache") == "hit").await;
            // Whoever comes until it is over joins the download, which has the file open.
            within(async { while proxy.metric("roadstead_downloads").await > 0.0 {} }).await;
        }
        match self.upstream {
            Upstream::Good => {}
            Upstream::NoLength => hub.fault(which(), Fault::NoLength),
            Upstream::NoRanges => hub.fault(which(), Fault::IgnoreRange),
            Upstream::Cuts(at) => hub.fault(which().once(), Fault::CutAt(at)),
        }
        match self.state {
            State::Filling(at) => {
                hub.fault(which().once(), Fault::HoldAfter(at, gate.clone()));
                let mut client = Client::connect(proxy.address).await;
                client.request("GET", &path(&self.blob), &[]).await;
                tokio::select! {
                    () = within(gate.reached(1)) => {}
                    // Where it is cut before.
                    () = within(hub.seen(which(), 2)) => {}
                }
            }
            State::Damaged(damage) => self.damage(damage, &proxy.setup().cache_folder()),
            _ => {}
        }
        let (piece, pause) = self.pace;
        hub.fault(which(), Fault::Trickle(piece, pause));
    }

    fn damage(&self, damage: Damage, folder: &std::path::Path) {
        let digest = self.blob.digest.to_string();
        let hex = digest.rsplit(':').next().unwrap();
        let file: PathBuf = folder.join("blobs/sha256").join(&hex[..2]).join(hex);
        match damage {
            Damage::Deleted => std::fs::remove_file(file).unwrap(),
            Damage::Truncated => {
                std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(self.blob.len() / 2).unwrap();
            }
            Damage::Flipped => {
                let mut bytes = self.blob.bytes.to_vec();
                bytes[self.blob.bytes.len() / 2] ^= 1;
                std::fs::write(file, bytes).unwrap();
            }
        }
    }

    /// Whether the answer may be the whole blob instead.
    fn may_be_whole(&self, expected: &Expected) -> bool {
        match expected {
            // Nothing is known of the end, so nothing is known of ranges.
            Expected::Part(_) | Expected::Parts(_) | Expected::Unsatisfiable if self.upstream == Upstream::NoLength => true,
            // What goes by goes by once.
            Expected::Parts(_) => self.state == State::NoRoom,
            _ => false,
        }
    }

    fn check(&self, question: &Question, reply: &Reply) {
        let expected = question.expected(self.blob.len());
        let fault = expected.fault(reply, &self.blob);
        let instead = |whole: Expected| self.may_be_whole(&expected) && whole.fault(reply, &self.blob).is_none();
        if let Some(fault) = fault.filter(|_| !instead(Expected::Whole)) {
            panic!("{question:?} of {} bytes is to be answered with {expected:?}, but {fault}", self.blob.len());
        }
    }

    /// What came before the client left is the beginning of the answer.
    fn check_beginning(&self, question: &Question, status: u16, got: &[u8]) {
        let from = match question.expected(self.blob.len()) {
            Expected::Part(span) if status == 206 => usize::try_from(span.start).unwrap(),
            _ if status == 200 => 0,
            _ => return,
        };
        assert!(self.blob.bytes[from..].starts_with(got), "{question:?}: wrong bytes before the client left");
    }
}

impl Asker {
    fn draw(rng: &mut StdRng, length: u64) -> Self {
        let questions = (0..rng.random_range(1..=3)).map(|_| Question::draw(rng, length)).collect();
        Self { two: rng.random_bool(0.3), questions }
    }

    async fn run(&self, proxy: &Proxy, trial: &Trial) {
        for question in &self.questions {
            let headers = question.headers(&trial.blob);
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            match question.leaves_after {
                None => trial.check(question, &self.ask(proxy, question.method(), &path(&trial.blob), &headers).await),
                Some(count) => {
                    let (status, got) = self.begin(proxy, question.method(), &path(&trial.blob), &headers, count).await;
                    trial.check_beginning(question, status, &got);
                }
            }
        }
    }

    async fn ask(&self, proxy: &Proxy, method: &str, path: &str, headers: client::Headers<'_>) -> Reply {
        if !self.two {
            return Client::connect(proxy.address).await.ask(method, path, headers).await;
        }
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        H2::connect(proxy.address).await.open(method, path, headers).await.expect("an answer's head").reply().await
    }

    /// The status and at most so many bytes of the body, before leaving.
    async fn begin(&self, proxy: &Proxy, method: &str, path: &str, headers: client::Headers<'_>, most: usize) -> (u16, Bytes) {
        if !self.two {
            let mut client = Client::connect(proxy.address).await;
            client.request(method, path, headers).await;
            let head = client.head().await.expect("an answer's head");
            return (head.status, client.read(most).await);
        }
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut stream = H2::connect(proxy.address).await.open(method, path, headers).await.expect("an answer's head");
        (stream.head.status, stream.read(most).await)
    }
}
