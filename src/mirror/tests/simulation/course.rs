//! The course of one seed: the mirror's lives one after the other, and what must be left at the end of the last.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::client::Client;
use super::judge::{Judge, most_fills};
use super::life::Life;
use super::log::{Fault, Log, Rule};
use super::upstream::Upstream;
use super::world::{End, REPOSITORIES, World};
use crate::mirror::tests::{permit, read};
use crate::quota::Allowance;
use crate::request::{Item, Served};
use crate::store::inline_blocking;

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
/// All clients together take no longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What one seed came to.
pub(super) struct Report {
    pub(super) lines: Vec<String>,
    pub(super) faults: Vec<Fault>,
}

/// Runs a seed in a folder of its own.
pub(super) fn run(seed: u64) -> Report {
    let _inline = inline_blocking();
    let folder = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() });
    let (folder, log, world) = (folder.unwrap(), Log::new(), Arc::new(World::new(seed)));
    let upstream = Upstream::new(world.clone(), log.clone());
    let judge = Arc::new(Judge { world: world.clone(), upstream, log: log.clone() });
    let course = Course::new(judge, folder.path().to_owned());
    course.describe();
    let ends = world.ends.iter().copied().map(Some).chain([None]);
    for (life, end) in ends.enumerate() {
        let runtime = runtime(seed);
        let goes_on = runtime.block_on(course.live(life, end));
        // What is still running ends here, as with the process: in the middle of whatever it waits for.
        drop(runtime);
        if !goes_on {
            break;
        }
    }
    let (lines, faults) = log.take();
    Report { lines, faults }
}

/// A runtime of one thread whose time passes when nothing else is to be done.
fn runtime(seed: u64) -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    // The order in which those are woken who wait for the same thing is drawn by tokio; it takes a seed only where it is
    // built with `--cfg tokio_unstable`.
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
    #[cfg(not(tokio_unstable))]
    let _ = seed;
    builder.build().unwrap()
}

struct Course {
    judge: Arc<Judge>,
    clients: Vec<Arc<Client>>,
    root: PathBuf,
}

impl Course {
    fn new(judge: Arc<Judge>, root: PathBuf) -> Self {
        let client = |number| Arc::new(Client { number, judge: judge.clone(), over: AtomicUsize::new(0) });
        let clients = (0..judge.world.clients.len()).map(client).collect();
        Self { judge, clients, root }
    }

    fn describe(&self) {
        let (world, log) = (&self.judge.world, &self.judge.log);
        log.note("world", format_args!("room for {}, {} repositories", world.room, world.repositories));
        for (blob, truth) in world.blobs.iter().enumerate() {
            let (size, short) = (truth.len(), &truth.digest.to_hex()[..8]);
            let (sized, announced, holders) = (truth.sized, truth.announced, &truth.holders);
            log.note(
                "world",
                format_args!("blob {blob}: {size} bytes, {short}, sized {sized}, announced {announced}, in {holders:?}"),
            );
        }
        log.note("world", format_args!("disk: {:?}, wrong sizes from {:?}", world.disk, world.mistaken));
        for (site, end) in world.sites.iter().enumerate() {
            log.note("world", format_args!("url {site}: {} times {:?}, tags {}", end.budget, end.vices, end.tagged));
        }
    }

    /// One life of the mirror. Whether there may be another.
    async fn live(&self, life: usize, end: Option<End>) -> bool {
        let (judge, log) = (&self.judge, &self.judge.log);
        log.begin();
        log.note("mirror", "starts");
        judge.upstream.begin_life();
        let Some(mirror) = Life::begin(life as u64, &self.folder(life), judge).await else { return false };
        let mirror = Arc::new(mirror);
        let mut clients: JoinSet<()> = self.clients.iter().map(|client| client.clone().run(mirror.clone())).collect();
        match end {
            Some(End::Kill { at, index }) => {
                sleep(at).await;
                log.note("mirror", "is killed");
                self.kill(life, &mirror, index);
            }
            Some(End::Stop { at }) => {
                sleep(at).await;
                log.note("mirror", "stops");
                mirror.stop(judge).await;
            }
            None => {
                if timeout(LONGEST, async { while clients.join_next().await.is_some() {} }).await.is_err() {
                    log.fault(Rule::Hang, "clients", "are not done after a day");
                }
                self.check_end(life, &mirror).await;
                mirror.stop(judge).await;
            }
        }
        self.check_fetched();
        clients.shutdown().await;
        log.end();
        if !matches!(end, Some(End::Kill { .. })) {
            mirror.end().await;
        }
        true
    }

    /// The cache folder of a life.
    fn folder(&self, life: usize) -> PathBuf {
        let kills = self.judge.world.ends.iter().take(life).filter(|end| matches!(end, End::Kill { .. })).count();
        self.root.join(kills.to_string())
    }

    /// Takes the folder as it is at this moment for the next life: nothing that is done in this one from now on is seen.
    fn kill(&self, life: usize, mirror: &Life, index: bool) {
        if index {
            mirror.flush();
        }
        copy(&self.folder(life), &self.folder(life + 1), index);
    }

    /// An honest upstream sends each blob once.
    fn check_fetched(&self) {
        let Judge { world, upstream, log } = &*self.judge;
        if !world.is_honest() || !world.disk.is_well() {
            return;
        }
        let record = upstream.record();
        for (blob, times) in record.whole.iter().filter(|(blob, _)| most_fills(world, **blob).is_some()) {
            // Asking a repository that lacks it costs a question, not a transfer.
            let most = if world.blobs[*blob].holders.iter().all(|holds| *holds) { 1 } else { usize::MAX };
            let sent = record.sent.get(blob).copied().unwrap_or_default();
            // What is fetched beside may be under way twice, but the blob is not long.
            if *times > most || sent > 2 * world.blobs[*blob].len() {
                log.fault(Rule::Once, "upstream", format_args!("blob {blob} was fetched {times} times, {sent} bytes"));
            }
        }
    }

    /// When all clients are gone: nothing is left of what they did, and all is well once the upstream is.
    async fn check_end(&self, life: usize, mirror: &Life) {
        self.judge.log.note("end", "all clients are gone");
        if !mirror.idle().await {
            self.judge.log.fault(Rule::Leftover, "end", "something still runs an hour after the last client");
        }
        if self.judge.world.disk.is_well() {
            self.check_folder(life, is_parked);
        }
        mirror.faults.lift();
        self.judge.upstream.heal();
        sleep(HOUR).await;
        // The hour may have passed while the store's housekeeping waited for the index, whose thread knows no simulated time.
        mirror.flush();
        sleep(2 * MINUTE).await;
        self.check_all_can_be_had(mirror).await;
        self.check_brim(mirror).await;
        self.check_folder(life, |_| false);
    }

    async fn check_all_can_be_had(&self, mirror: &Life) {
        for (blob, truth) in self.judge.world.blobs.iter().enumerate().take(self.judge.world.blobs.len() - 1) {
            for (repository, _) in truth.holders.iter().enumerate().filter(|(_, holds)| **holds) {
                let mistaken = truth.announced && self.judge.world.mistaken == Some(repository);
                if let Err(what) = self.pull(mirror, repository, blob).await
                    && !mistaken
                {
                    self.judge.log.fault(Rule::Heals, "end", format_args!("blob {blob} from {repository}: {what}"));
                }
            }
        }
    }

    /// A blob that just fits is stored, so no room is reserved for what is no more.
    async fn check_brim(&self, mirror: &Life) {
        let last = self.judge.world.blobs.len() - 1;
        for expected in [Served::Miss, Served::Hit] {
            match self.pull(mirror, 0, last).await {
                Ok(served) if served == expected => {}
                Ok(served) => {
                    let what = format!("a blob as large as the cache is a {} instead of a {}", served.as_str(), expected.as_str());
                    self.judge.log.fault(Rule::Leftover, "end", what);
                }
                Err(what) => self.judge.log.fault(Rule::Heals, "end", format_args!("the last blob: {what}")),
            }
        }
    }

    /// Where a whole blob came from, or what was wrong with it.
    async fn pull(&self, mirror: &Life, repository: usize, blob: usize) -> Result<Served, String> {
        let truth = &self.judge.world.blobs[blob];
        let permit = permit(REPOSITORIES[repository], Item::Blob(truth.digest));
        let answer = mirror.mirror.blob(&permit, &Allowance::default(), false).await.map_err(|error| error.to_string())?;
        let served = answer.served;
        let bytes = read(answer).await.1.map_err(|error| error.to_string())?;
        mirror.idle().await;
        if bytes == truth.bytes { Ok(served) } else { Err("wrong bytes".to_owned()) }
    }

    /// Nothing lies about but what `may_stay`, and none of it is open.
    fn check_folder(&self, life: usize, may_stay: impl Fn(&str) -> bool) {
        let partial = self.folder(life).join("partial");
        let names = fs::read_dir(&partial).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let left: Vec<String> = names.filter(|name| !may_stay(name)).collect();
        // What the sweep cannot delete of an earlier run is only told of.
        let told = life > 0 && !self.judge.world.disk.is_well();
        if !left.is_empty() && !told {
            self.judge.log.fault(Rule::Leftover, "end", format_args!("left in partial: {left:?}"));
        }
        let open: Vec<PathBuf> = descriptors().filter(|path| path.starts_with(&partial)).collect();
        if !open.is_empty() {
            self.judge.log.fault(Rule::Leftover, "end", format_args!("still open: {open:?}"));
        }
    }
}

/// Whether a file in `partial` is there to be taken up again.
fn is_parked(name: &str) -> bool {
    name.starts_with("kept-")
}

/// What the files lead to that this process has open. Those of other seeds come and go meanwhile.
fn descriptors() -> impl Iterator<Item = PathBuf> {
    fs::read_dir("/proc/self/fd").into_iter().flatten().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
}

/// Copies a cache folder, with or without its index. Files may go while it is being read.
fn copy(from: &Path, to: &Path, index: bool) {
    fs::create_dir_all(to).unwrap();
    let mut entries: Vec<PathBuf> = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).collect();
    // The index first: it must not know of more than is there. Then what may be renamed from the one place to the other.
    entries.sort_by_key(|path| (!path.ends_with("index.redb"), !path.ends_with("partial")));
    for path in entries {
        let name = path.file_name().unwrap();
        if path.is_dir() {
            copy(&path, &to.join(name), index);
        } else if index || !path.ends_with("index.redb") {
            // A file that is gone by now was gone before.
            let _ = fs::copy(&path, to.join(name));
        }
    }
}
