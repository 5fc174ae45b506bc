//! Transfers that break in the middle, in every way an upstream has of breaking one. In each, 32 clients, some of whom come
//! late, get right bytes and see nothing of it, and hardly a byte is fetched twice.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use http::Method;

use super::support::client::H2Stream;
use super::support::proxy::{Proxy, Setup};
use super::support::*;

const SIZE: usize = 4 << 20;
/// How many cases run side by side.
const AT_ONCE: usize = 6;

/// A broken transfer.
#[derive(Clone, Debug)]
struct Case {
    /// After how much of what an answer promises it is cut, in hundredths.
    percent: usize,
    /// By RST rather than FIN.
    reset: bool,
    /// How many answers are cut.
    cuts: usize,
    then: Then,
}

/// What else is wrong with the upstream once the first answer was cut.
#[derive(Clone, Debug, PartialEq)]
enum Then {
    Nothing,
    /// The next so many questions get this.
    Answers(u16, usize),
    /// The next question gets this, and when to ask again.
    Later(u16),
    /// The next so many questions get no answer.
    Drops(usize),
    /// It is gone for a while.
    Restarts,
    TokenExpired,
    TokenRevoked,
    TokenRevokedAndTokenServerFails,
    /// Blobs are elsewhere, and the place that the first answer came from is closed.
    SignatureExpired,
    /// Blobs are elsewhere, and the new place is closed when it is asked.
    RedirectIsStale,
    IgnoresRange,
    OtherRange,
    /// It is gone, and another URL takes over.
    NextUrl,
    /// It answers a range with another entity tag, as if nobody had asked for the old one.
    OtherTagOnRange,
    /// The same, and another URL takes over.
    OtherTagAndNextUrl,
    /// The same bytes have another entity tag, so they come in whole.
    OtherTag,
    /// What was to come would have been wrong. Now it is right, and has another entity tag.
    WasWrong,
    /// What comes now, in whole, is wrong in its tail, and another URL has it right.
    TurnsWrong,
}

impl Case {
    fn cut(percent: usize, reset: bool, cuts: usize) -> Self {
        Self { percent, reset, cuts, then: Then::Nothing }
    }

    fn then(then: Then) -> Self {
        Self { then, ..Self::cut(50, false, 1) }
    }

    /// After how many bytes the nth answer is cut.
    fn places(&self) -> Vec<usize> {
        let share = |left: &mut usize| {
            let at = *left * self.percent / 100;
            *left -= at;
            at
        };
        let mut left = SIZE;
        (0..self.cuts).map(|_| share(&mut left)).collect()
    }

    /// How much is received twice, because there is no other way.
    fn twice(&self) -> usize {
        match self.then {
            Then::IgnoresRange | Then::OtherTagOnRange | Then::OtherTag | Then::WasWrong => self.places()[0],
            Then::TurnsWrong => self.places()[0] + SIZE,
            _ => 0,
        }
    }

    /// How many answers it takes at least, that of the token server aside.
    fn answers(&self) -> usize {
        match self.then {
            Then::Answers(_, times) | Then::Drops(times) => 2 + times,
            Then::OtherRange | Then::RedirectIsStale | Then::OtherTagAndNextUrl | Then::TurnsWrong | Then::Later(_) => 3,
            Then::TokenExpired | Then::TokenRevoked | Then::TokenRevokedAndTokenServerFails => 2,
            _ => 1 + self.cuts,
        }
    }

    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for percent in [25, 50, 99] {
            for (reset, cuts) in [(false, 1), (false, 5), (true, 1), (true, 5)] {
                all.push(Self::cut(percent, reset, cuts));
            }
        }
        let thens = [
            Then::Answers(500, 1),
            Then::Answers(500, 3),
            Then::Answers(503, 1),
            Then::Answers(404, 1),
            Then::Later(503),
            Then::Later(429),
            Then::Drops(2),
            Then::Restarts,
            Then::TokenExpired,
            Then::TokenRevoked,
            Then::TokenRevokedAndTokenServerFails,
            Then::SignatureExpired,
            Then::RedirectIsStale,
            Then::IgnoresRange,
            Then::OtherRange,
            Then::NextUrl,
            Then::OtherTagOnRange,
            Then::OtherTagAndNextUrl,
            Then::OtherTag,
            Then::WasWrong,
            Then::TurnsWrong,
        ];
        all.extend(thens.map(Self::then));
        all
    }
}

/// All who take part.
struct Scene {
    case: Case,
    blob: Blob,
    hub: Registry,
    spare: Registry,
    tokens: Tokens,
    cdn: Cdn,
    proxy: Proxy,
    /// Where the first answer waits before it is cut.
    gate: Gate,
}

impl Scene {
    async fn new(case: Case) -> Self {
        let (hub, spare, tokens, cdn) =
            (Registry::start().await, Registry::start().await, Tokens::start().await, Cdn::start().await);
        let blob = layer(SIZE);
        [&hub, &spare].iter().for_each(|registry| registry.push_blob("library/app", &blob));
        let urls = match case.then {
            Then::NextUrl | Then::OtherTagAndNextUrl | Then::TurnsWrong => format!("\"{}\", \"{}\"", hub.url(), spare.url()),
            _ => format!("\"{}\"", hub.url()),
        };
        let keys = format!("default = true\nrealm = \"{}\"\nblob_hosts = [\"{}\"]\n", tokens.realm(), cdn.host());
        let setup = Setup::new().registries(&format!("[[registry]]\nname = \"docker.io\"\nurls = [{urls}]\n{keys}"));
        let scene = Self { proxy: setup.start().await, case, blob, hub, spare, tokens, cdn, gate: Gate::new() };
        scene.prepare();
        // So that the first answer to a GET is not a challenge.
        assert_eq!(scene.proxy.head(&scene.path(), &[]).await.status, 200);
        scene
    }

    fn path(&self) -> String {
        format!("/v2/library/app/blobs/{}", self.blob.digest)
    }

    /// Who sends the bytes at first.
    fn sender(&self) -> (&server::Server, faults::Which) {
        match self.case.then {
            Then::SignatureExpired | Then::RedirectIsStale => (&self.cdn, on("/data/").get()),
            _ => (&self.hub, on(self.blob.digest).get()),
        }
    }

    fn prepare(&self) {
        match self.case.then {
            Then::TokenExpired => self.tokens.set_lifetime(Duration::from_secs(3)),
            Then::SignatureExpired | Then::RedirectIsStale => self.hub.redirect_blobs(&self.cdn, 307),
            Then::WasWrong => self.push_changed(SIZE - SIZE / 4),
            _ => {}
        }
        if matches!(self.case.then, Then::TokenExpired | Then::TokenRevoked | Then::TokenRevokedAndTokenServerFails) {
            self.hub.require_tokens(&self.tokens);
        }
        let (sender, which) = self.sender();
        for (nth, at) in self.case.places().into_iter().enumerate() {
            let which = which.clone().after(nth).once();
            if nth == 0 {
                sender.fault(which.clone(), Fault::HoldAfter(at, self.gate.clone()));
            }
            sender.fault(which, if self.case.reset { Fault::ResetAt(at) } else { Fault::CutAt(at) });
        }
        let next = which.after(1);
        match self.case.then {
            Then::Answers(status, times) => sender.fault(next.times(times), Fault::Status(status)),
            Then::Later(status) => sender.fault(next.once(), Fault::Later(status, "1")),
            Then::Drops(times) => sender.fault(next.times(times), Fault::Drop),
            Then::IgnoresRange => sender.fault(next, Fault::IgnoreRange),
            Then::OtherRange => sender.fault(next.once(), Fault::OtherRange("bytes=1000-")),
            Then::OtherTagOnRange | Then::OtherTagAndNextUrl => sender.fault(next, Fault::Header("etag", "\"other\"".to_owned())),
            _ => {}
        }
    }

    /// The hub has a wrong byte there from now on.
    fn push_changed(&self, at: usize) {
        let mut bytes = self.blob.bytes.to_vec();
        bytes[at] ^= 1;
        self.hub.push_blob("library/app", &Blob { digest: self.blob.digest, bytes: bytes.into() });
    }

    /// What happens while the first answer is held.
    async fn strike(&self) {
        match self.case.then {
            Then::TokenExpired => tokio::time::sleep(Duration::from_millis(3100)).await,
            Then::TokenRevoked => self.tokens.revoke_all(),
            Then::TokenRevokedAndTokenServerFails => {
                self.tokens.revoke_all();
                self.tokens.fault(on("/token").once(), Fault::Status(500));
            }
            Then::SignatureExpired => self.cdn.expire_all(),
            Then::RedirectIsStale => self.cdn.set_lifetime(Duration::ZERO),
            Then::NextUrl | Then::Restarts => drop(self.hub.stop().await),
            Then::OtherTag => self.hub.set_etag("other"),
            Then::WasWrong => {
                self.hub.push_blob("library/app", &self.blob);
                self.hub.set_etag("other");
            }
            Then::TurnsWrong => {
                self.push_changed(SIZE - 1000);
                self.hub.set_etag("other");
            }
            _ => {}
        }
    }

    /// What ends the trouble, where it does not end by itself, once the transfer was taken up. Returns then.
    async fn recover(&self) {
        let (sender, which) = self.sender();
        match self.case.then {
            Then::Restarts => {
                // Long enough for it to be asked while it is gone.
                tokio::time::sleep(Duration::from_millis(250)).await;
                self.hub.resume();
            }
            Then::NextUrl => within(self.spare.seen(which.clone(), 1)).await,
            _ => within(sender.seen(which.clone(), 2)).await,
        }
        self.cdn.set_lifetime(Duration::from_secs(60));
    }

    /// So many new clients, each the fourth of HTTP/2, that have read so much.
    async fn pulls(&self, count: usize, read: usize) -> Vec<Pull<'_>> {
        join_all((0..count).map(|nth| async move {
            let mut pull = Pull::new(self, nth % 4 == 3).await;
            pull.read(read).await;
            pull
        }))
        .await
    }

    async fn play(&self) {
        let sent_first = self.case.places()[0];
        let early = self.pulls(16, sent_first / 2).await;
        within(self.gate.reached(1)).await;
        self.strike().await;
        let joined = self.pulls(8, sent_first / 4).await;
        self.gate.open();
        let late = async {
            self.recover().await;
            finish(self.pulls(8, 0).await).await;
        };
        tokio::join!(finish(early), finish(joined), late);
    }

    async fn check(&self) {
        let case = &self.case;
        let received = self.proxy.metric("roadstead_upstream_bytes_total{registry=\"docker.io\"}").await;
        let least = (SIZE + case.twice()) as f64;
        assert!((SIZE as f64..=least + SIZE as f64 / 100.0).contains(&received), "{case:?}: received {received}");
        let (sender, which) = self.sender();
        let answers = sender.count(which.clone()) + self.spare.count(which.clone());
        assert!(answers >= case.answers(), "{case:?}: {answers} answers");
        if !case.reset && case.then == Then::Nothing {
            assert_eq!(sender.sent(which.clone()), SIZE as u64, "{case:?}");
        }
        assert_eq!(self.proxy.get_until(&self.path(), |reply| reply.header("x-cache") == "hit").await.body, self.blob.bytes);
        assert_eq!(sender.count(which.clone()) + self.spare.count(which), answers, "{case:?}: asked again");
    }
}

/// A client on its way through the blob.
struct Pull<'a> {
    scene: &'a Scene,
    line: Line,
    at: usize,
}

enum Line {
    One(Client),
    Two(H2Stream),
}

impl<'a> Pull<'a> {
    async fn new(scene: &'a Scene, two: bool) -> Self {
        let (address, path) = (scene.proxy.address, scene.path());
        let (head, line) = if two {
            let stream = H2::connect(address).await.open(Method::GET, &path, &[]).await.expect("an answer's head");
            (stream.head.clone(), Line::Two(stream))
        } else {
            let mut client = Client::connect(address).await;
            client.request("GET", &path, &[]).await;
            (client.head().await.expect("an answer's head"), Line::One(client))
        };
        assert_eq!((head.status, &head.headers["content-length"]), (200, &SIZE.into()), "{:?}", scene.case);
        Self { scene, line, at: 0 }
    }

    /// Reads up to this offset.
    async fn read(&mut self, until: usize) {
        while self.at < until {
            let most = (until - self.at).min(64 << 10);
            let bytes = match &mut self.line {
                Line::One(client) => client.read(most).await,
                Line::Two(stream) => stream.read(most).await,
            };
            let case = &self.scene.case;
            assert!(bytes.len() == most, "{case:?}: cut after {} bytes", self.at + bytes.len());
            assert!(bytes == self.scene.blob.bytes[self.at..self.at + most], "{case:?}: wrong bytes from {} on", self.at);
            self.at += most;
        }
    }

    async fn finish(mut self) {
        self.read(SIZE).await;
        let (more, end) = match &mut self.line {
            Line::One(client) => client.rest().await,
            Line::Two(stream) => stream.rest().await,
        };
        assert_eq!((more.len(), end), (0, End::Whole), "{:?}", self.scene.case);
    }
}

async fn finish(pulls: Vec<Pull<'_>>) {
    join_all(pulls.into_iter().map(Pull::finish)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_breaks_a_transfer_no_client_notices() {
    let trials = futures_util::stream::iter(Case::all()).map(|case| async {
        let scene = Scene::new(case).await;
        scene.play().await;
        scene.check().await;
    });
    trials.buffer_unordered(AT_ONCE).collect::<()>().await;
}
