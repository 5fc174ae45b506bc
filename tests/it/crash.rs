//! `kill -9`, again and again, on one cache folder: whatever is answered is right, what was stored stays stored, and what was
//! half-way goes on from there.
//!
//! A campaign is a number of rounds. In each, something may happen to the folder; the real program is started; clients pull,
//! as a mix drawn from the seed; the program is killed; and what clients, upstream and folder saw is held against each other.
//! The seed decides who asks for what and when the kill comes, not how threads are scheduled.
//!
//! `ROADSTEAD_CRASH_ROUNDS` and `ROADSTEAD_CRASH_SEED` make it longer and other; `make crash` does.

mod accounts;
mod folder;
mod pulls;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use roadstead::oci::Digest;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::support::process::Process;
use super::support::proxy::Setup;
use super::support::*;
use accounts::{Accounts, Run};
use pulls::{Ask, Clients, Right};
use world::{Tagged, Thing, World};

const ROUNDS: u64 = 4;
const SEED: u64 = 7;
/// Larger than all that is there at any time.
const AMPLE: u64 = 512 << 20;
const CRAMPED: u64 = 32 << 20;
/// So many images are upstream at a time, and those beyond that are not yet stored.
const IMAGES: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_kill_9_interrupts_nothing_is_wrong_and_nothing_stored_is_lost() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse().unwrap());
    let rounds = number("ROADSTEAD_CRASH_ROUNDS").unwrap_or(ROUNDS);
    let seed = number("ROADSTEAD_CRASH_SEED").unwrap_or(SEED);
    eprintln!("this is ROADSTEAD_CRASH_ROUNDS={rounds} ROADSTEAD_CRASH_SEED={seed}");
    let mut campaign = Campaign::new(seed).await;
    for number in 0..rounds {
        campaign.round(number).await;
    }
    campaign.finish().await;
}

/// Something that happens to the folder while no proxy runs, or for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mishap {
    Nothing,
    /// There is not nearly enough room.
    Cramped,
    IndexLost,
    PartialsDamaged,
}

/// When the kill comes.
#[derive(Clone, Copy, Debug)]
enum Kill {
    /// So long after the start of the process.
    Starting(Duration),
    /// So long after the clients began.
    After(Duration),
    /// So long after so many larger blobs had come whole: they are made durable just then.
    Committing(usize, Duration),
    /// So long after the clients had all that they wanted.
    Done(Duration),
    /// With a large blob half-way, and so long after its upstream fell silent.
    HalfWay(Duration),
}

struct Campaign {
    rng: StdRng,
    world: World,
    setup: Setup,
    accounts: Accounts,
    stored: BTreeSet<Digest>,
    /// Blobs whose links were read from the disk once, so that they are on it.
    linked: BTreeSet<Digest>,
    /// Unfinished blobs whose bytes on the disk were damaged, perhaps.
    suspects: BTreeSet<Digest>,
    faults: Vec<String>,
}

/// What came of the clients of one run of the proxy.
struct Pulled {
    right: Vec<Right>,
    /// The last number of stored blobs that the proxy told.
    told: u64,
}

impl Campaign {
    async fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World::new(&mut rng).await;
        let setup = Setup::new().registry("docker.io", &world.hub, "default = true");
        let (accounts, stored, linked, suspects, faults) = Default::default();
        Self { rng, world, setup, accounts, stored, linked, suspects, faults }
    }

    async fn round(&mut self, number: u64) {
        let (mishap, kill) = self.draw(number);
        self.befall(mishap);
        let setup =
            self.setup.clone().cache(&format!("max_size = \"{} B\"", if mishap == Mishap::Cramped { CRAMPED } else { AMPLE }));
        let started = Instant::now();
        let (pulled, stderr) = match kill {
            Kill::Starting(after) => {
                let process = Process::launch(&setup);
                tokio::time::sleep(after).await;
                let stderr = process.stderr();
                process.kill();
                (None, stderr)
            }
            kill => {
                let process = Process::start(&setup).await;
                self.make_new(&process).await;
                let (pulled, stderr) = self.pull_and_kill(process, mishap, kill).await;
                (Some(pulled), stderr)
            }
        };
        // Nothing more is counted as sent.
        self.world.hub.hang_up().await;
        self.world.hub.heal();
        self.check(mishap, pulled, &stderr);
        eprintln!("round {number}: {mishap:?}, {kill:?}, {:.1} s, {} stored", started.elapsed().as_secs_f64(), self.stored.len());
        assert!(self.faults.is_empty(), "{}\n--- the proxy said\n{stderr}", self.faults.join("\n"));
    }

    /// What happens in a round. The first four have something of everything: the first stops half-way through the largest
    /// blob, and the second finishes it undisturbed.
    fn draw(&mut self, number: u64) -> (Mishap, Kill) {
        let mut millis = |most| Duration::from_millis(self.rng.random_range(0..most));
        let (soon, some_time, at_once) = (millis(300), millis(1500), millis(15));
        let mishaps = [Mishap::Cramped, Mishap::IndexLost, Mishap::PartialsDamaged, Mishap::PartialsDamaged, Mishap::Nothing];
        let kill = match self.rng.random_range(0..9) {
            0 => Kill::Starting(soon),
            1..4 => Kill::Committing(self.rng.random_range(1..6), at_once),
            4 | 5 => Kill::HalfWay(soon),
            6 => Kill::Done(at_once),
            _ => Kill::After(some_time),
        };
        match number {
            0 => (Mishap::Nothing, Kill::HalfWay(soon)),
            1 => (Mishap::Nothing, Kill::Done(at_once)),
            2 => (mishaps[self.rng.random_range(0..2)], Kill::HalfWay(soon)),
            3 => (Mishap::PartialsDamaged, Kill::Committing(1, at_once)),
            _ => (mishaps[self.rng.random_range(0..mishaps.len())], kill),
        }
    }

    fn befall(&mut self, mishap: Mishap) {
        let cache = self.setup.cache_folder();
        match mishap {
            Mishap::Nothing => {}
            Mishap::Cramped => self.linked.clear(),
            Mishap::IndexLost => {
                // It may be lost already, where the last run was killed before it made it anew.
                std::fs::remove_file(cache.join("index.redb")).ok();
                self.linked.clear();
            }
            Mishap::PartialsDamaged => {
                let beginnings = folder::damage(&cache, &mut self.rng);
                self.suspect(&beginnings);
            }
        }
    }

    /// The unfinished blob that begins in one of these ways may have to be fetched anew, or any, where none does.
    fn suspect(&mut self, beginnings: &[Vec<u8>]) {
        let unfinished: Vec<_> = self.world.blobs().filter(|blob| !self.stored.contains(&blob.digest)).collect();
        let is_its = |blob: &&Thing| beginnings.iter().any(|beginning| blob.bytes.starts_with(beginning));
        let hit: Vec<_> = unfinished.iter().filter(is_its).cloned().collect();
        let hit = if hit.is_empty() { unfinished } else { hit };
        self.accounts.forgive(&hit);
        self.suspects.extend(hit.iter().map(|blob| blob.digest));
    }

    /// A new image upstream, in place of old ones where there are many: these are purged.
    async fn make_new(&mut self, process: &Process) {
        self.world.add_image(&mut self.rng);
        let whole = |tagged: &Tagged| tagged.things().iter().all(|thing| self.stored.contains(&thing.digest));
        for old in self.world.retire(IMAGES, whole) {
            let path = format!("/api/v1/blobs/{}", old.digest);
            let purged = Client::connect(process.admin).await.ask("DELETE", &path, &[]).await;
            assert_eq!(purged.status, 200, "{path}");
            self.stored.remove(&old.digest);
            self.linked.remove(&old.digest);
        }
    }

    async fn pull_and_kill(&mut self, process: Process, mishap: Mishap, kill: Kill) -> (Pulled, String) {
        let clients = self.clients(&process, mishap);
        let gate = self.pace(kill);
        let (mut open, mut ended) = (JoinSet::new(), Vec::new());
        if let Some((large, gate)) = &gate {
            open.spawn(clients.clone().run(vec![Ask::whole(large.clone())]));
            // Where there is no room for it, it may come to its end otherwise.
            tokio::select! {
                () = within(gate.reached(1)) => {}
                Some(client) = open.join_next() => ended.push(client.unwrap()),
            }
        }
        self.mix().into_iter().for_each(|asks| drop(open.spawn(clients.clone().run(asks))));
        let told = tokio::spawn(count_stored(process.admin));
        tokio::select! {
            () = moment(kill, &clients.cold) => {}
            () = all(&mut open, &mut ended) => if let Kill::Done(after) = kill { tokio::time::sleep(after).await },
        }
        clients.killed.store(true, Ordering::SeqCst);
        let stderr = process.stderr();
        process.kill();
        ended.extend(open.join_all().await);
        let told = told.await.unwrap();
        let (right, wrong): (Vec<_>, Vec<_>) = ended.into_iter().partition(Result::is_ok);
        self.faults.extend(wrong.into_iter().filter_map(Result::err));
        (Pulled { right: right.into_iter().flatten().flatten().collect(), told }, stderr)
    }

    fn clients(&self, process: &Process, mishap: Mishap) -> Clients {
        Clients {
            address: process.address,
            killed: Arc::default(),
            suspects: Arc::new(self.suspects.clone()),
            may_ignore_ranges: mishap == Mishap::Cramped,
            cold: watch::Sender::new(0),
        }
    }

    /// How fast the upstream sends. Where the kill comes half-way, the largest blob that is not there stops there.
    fn pace(&mut self, kill: Kill) -> Option<(Thing, Gate)> {
        let hub = &self.world.hub;
        let pause = Duration::from_millis(self.rng.random_range(8..40));
        if !matches!(kill, Kill::Done(_)) {
            hub.fault(on("/blobs/").get(), Fault::Trickle(256 << 10, pause));
        }
        if !matches!(kill, Kill::HalfWay(_)) {
            return None;
        }
        // Where an earlier run stopped is not known here, but a new one begins at its beginning.
        let fresh = &self.world.images[if self.stored.is_empty() { 0 } else { self.world.images.len() - 1 }];
        let large = fresh.things().into_iter().max_by_key(|thing| thing.bytes.len()).unwrap();
        let gate = Gate::new();
        hub.fault(on(large.digest).get().once(), Fault::HoldAfter(large.bytes.len() / 2, gate.clone()));
        Some((large, gate))
    }

    /// What each of some clients asks for: all that is unfinished, whole images, and anything.
    fn mix(&mut self) -> Vec<Vec<Ask>> {
        let (world, rng) = (&self.world, &mut self.rng);
        let things: Vec<_> = world.things().collect();
        let unfinished: Vec<_> =
            things.iter().filter(|thing| !self.stored.contains(&thing.digest)).cloned().map(Ask::whole).collect();
        let mut mix = vec![unfinished];
        for _ in 0..3 {
            let image = &world.images[rng.random_range(0..world.images.len())];
            mix.push(image.pull().into_iter().map(Ask::whole).collect());
        }
        for _ in 0..3 {
            mix.push((0..12).map(|_| Ask::any(things[rng.random_range(0..things.len())].clone(), rng)).collect());
        }
        mix
    }

    /// Holds against each other what clients, upstream and folder saw.
    fn check(&mut self, mishap: Mishap, pulled: Option<Pulled>, stderr: &str) {
        let cramped = mishap == Mishap::Cramped;
        let stored = self.look();
        let run = Run { before: &self.stored, after: &stored, cramped };
        let asked: BTreeSet<_> =
            self.world.things().map(|thing| thing.digest).filter(|digest| self.world.hub.count(on(digest)) > 0).collect();
        self.faults.extend(self.accounts.close(&run, self.world.things(), &self.world.hub));
        self.check_size(if cramped { CRAMPED } else { AMPLE }, stderr);
        if !cramped {
            let lost = |digest: &&Digest| !stored.contains(digest);
            self.faults.extend(self.stored.iter().filter(lost).map(|digest| format!("{digest} was stored and is not any more")));
            self.faults.extend(self.linked.intersection(&asked).map(|digest| format!("{digest} had lost its link")));
            if let Some(pulled) = pulled {
                self.check_pulled(&pulled, &stored, &asked);
            }
        }
        self.suspects.retain(|digest| !stored.contains(digest));
        self.stored = stored;
    }

    /// The stored content, all of which must be right.
    fn look(&mut self) -> BTreeSet<Digest> {
        let known: BTreeMap<_, _> = self.world.things().map(|thing| (thing.digest, thing.bytes)).collect();
        let stored = folder::stored(&self.setup.cache_folder());
        for (digest, file) in &stored {
            match known.get(digest) {
                None => self.faults.push(format!("{digest} was purged and is stored")),
                Some(bytes) if std::fs::read(file).unwrap() != *bytes => self.faults.push(format!("{digest} is stored and wrong")),
                Some(_) => {}
            }
        }
        stored.into_keys().collect()
    }

    /// What was answered from the store, or told to be in it, is still there.
    fn check_pulled(&mut self, pulled: &Pulled, stored: &BTreeSet<Digest>, asked: &BTreeSet<Digest>) {
        // A manifest may be answered from memory before it is stored.
        let hits: BTreeSet<_> = pulled.right.iter().filter(|right| right.hit && right.is_blob).map(|hit| hit.digest).collect();
        self.faults.extend(hits.difference(stored).map(|hit| format!("{hit} was a hit and is not stored")));
        if pulled.told > stored.len() as u64 {
            self.faults.push(format!("{} blobs were told to be stored, and {} are", pulled.told, stored.len()));
        }
        self.linked.extend(hits.difference(asked));
    }

    /// The cap holds as soon as the proxy knows what there is.
    fn check_size(&mut self, cap: u64, stderr: &str) {
        let cache = self.setup.cache_folder();
        // Files end in the middle of a page.
        let slack = 4096 * (self.world.things().count() + folder::partials(&cache).len()) as u64;
        let used = folder::used(&cache);
        if stderr.contains("swept the cache folder") && used > cap + slack {
            self.faults.push(format!("{used} bytes are used where the cap is {cap}"));
        }
    }

    /// Everything can be had, is stored, and nothing else is left.
    async fn finish(mut self) {
        let setup = self.setup.clone().cache(&format!("max_size = \"{AMPLE} B\""));
        let mut process = Process::start(&setup).await;
        let clients = self.clients(&process, Mishap::Nothing);
        for thing in self.world.things() {
            let hit = async || clients.clone().run(vec![Ask::whole(thing.clone())]).await.unwrap()[0].hit;
            within(async { while !hit().await {} }).await;
        }
        process.terminate();
        assert_eq!(process.ended().await.code(), Some(0), "{}", process.stderr());
        self.check(Mishap::Nothing, None, &process.stderr());
        assert!(self.faults.is_empty(), "{}", self.faults.join("\n"));
        let things: BTreeSet<_> = self.world.things().map(|thing| thing.digest).collect();
        assert_eq!(self.stored, things);
        assert_eq!(folder::partials(&setup.cache_folder()), Vec::<std::path::PathBuf>::new(), "all downloads are finished");
        eprintln!("{} downloads were resumed, and {} KiB fetched twice", self.accounts.resumed, self.accounts.again >> 10);
        assert!(self.accounts.resumed > 0, "no download was resumed after a restart");
    }
}

/// Collects what clients come to.
async fn all(open: &mut JoinSet<Result<Vec<Right>, String>>, ended: &mut Vec<Result<Vec<Right>, String>>) {
    while let Some(client) = open.join_next().await {
        ended.push(client.unwrap());
    }
}

/// Returns when it is time for the kill.
async fn moment(kill: Kill, cold: &watch::Sender<usize>) {
    match kill {
        Kill::Starting(after) | Kill::After(after) | Kill::HalfWay(after) => tokio::time::sleep(after).await,
        Kill::Committing(count, after) => {
            cold.subscribe().wait_for(|cold| *cold >= count).await.unwrap();
            tokio::time::sleep(after).await;
        }
        Kill::Done(_) => std::future::pending().await,
    }
}

/// Asks how many blobs are stored until nobody answers; the last that was told.
async fn count_stored(admin: std::net::SocketAddr) -> u64 {
    let mut told = 0;
    while let Ok(mut client) = Client::try_connect(admin).await {
        client.request("GET", "/metrics", &[]).await;
        if client.head().await.is_err() {
            break;
        }
        let (body, end) = client.rest().await;
        let text = String::from_utf8(body.to_vec()).unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix("roadstead_store_blobs "));
        if let (Some(count), End::Whole) = (count, end) {
            told = count.parse().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    told
}
