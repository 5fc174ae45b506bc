//! The thread that makes the index durable.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use moka::sync::Cache;
use tokio::sync::watch;

use super::database::{Batch, Database, Fault};
use super::overlay::Overlay;
use super::{Key, Table};
use crate::telemetry::Telemetry;

/// Between two commits, so that what comes in a burst is one.
const GATHER: Duration = Duration::from_millis(100);
/// Between two tries on a disk that refuses.
const RETRY: Duration = Duration::from_secs(2);

/// The name of this part in health reports.
const PART: &str = "index";

/// What readers, writers and the thread share.
pub(super) struct Shared {
    pub(super) database: Database,
    /// Records read or written of late: never older than the overlay, because both change under the state's lock.
    pub(super) hot: Cache<Key, Bytes>,
    state: Mutex<State>,
    /// How often each table was changed so far. Counted after the change can be seen, so that who reads a number and then the
    /// table has nothing older than what the number stands for.
    versions: [AtomicU64; Table::COUNT],
    wake: Condvar,
    /// The last round that ended, whether or not the disk took what it wrote.
    ended: watch::Sender<u64>,
    telemetry: Arc<Telemetry>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) overlay: Overlay,
    /// The last round that began.
    round: u64,
    /// A reader found the file at fault.
    fault: Option<Fault>,
    /// Somebody waits for what was written.
    hurry: bool,
    stop: bool,
}

/// What the thread is to do next.
struct Round {
    number: u64,
    batch: Arc<Batch>,
    fault: Option<Fault>,
    last: bool,
}

impl Shared {
    pub(super) fn new(database: Database, hot: Cache<Key, Bytes>, telemetry: Arc<Telemetry>) -> Self {
        let (ended, _) = watch::channel(0);
        let versions = std::array::from_fn(|_| AtomicU64::new(0));
        Self { database, hot, state: Mutex::default(), versions, wake: Condvar::new(), ended, telemetry }
    }

    /// Opens the file; one that is damaged is replaced.
    pub(super) fn open(&self) {
        let opened = self.database.open().or_else(|fault| {
            self.recover(&fault);
            self.database.open()
        });
        self.tell(&opened.map(drop));
    }

    /// Whether it was taken.
    pub(super) fn write(&self, key: Key, value: Option<Bytes>) -> bool {
        let (mut state, table) = (self.state(), key.table);
        let taken = state.overlay.write(key.clone(), value.clone());
        // Nobody asks for a parent by name.
        match value.filter(|_| taken && key.table != Table::Parents) {
            Some(value) => self.hot.insert(key, value),
            None => self.hot.invalidate(&key),
        }
        drop(state);
        self.changed(table);
        if taken {
            self.wake.notify_one();
        } else {
            self.telemetry.metrics.store_failed("index_full");
        }
        taken
    }

    /// What is in memory of a table: records whose key begins with `prefix` and that `keep` wants.
    pub(super) fn remembered(
        &self,
        table: Table,
        prefix: &[u8],
        keep: impl Fn(&[u8]) -> bool,
    ) -> impl Iterator<Item = (Box<[u8]>, Bytes)> {
        let fits = move |key: &Key| key.table == table && key.bytes.starts_with(prefix) && keep(&key.bytes);
        self.hot.iter().filter(move |(key, _)| fits(key)).map(|(key, value)| (key.bytes.clone(), value))
    }

    /// How often a table was changed.
    pub(super) fn version(&self, table: Table) -> u64 {
        self.versions[table as usize].load(Ordering::Acquire)
    }

    /// A table was changed, and that can be seen.
    fn changed(&self, table: Table) {
        self.versions[table as usize].fetch_add(1, Ordering::Release);
    }

    /// A reader met a fault.
    pub(super) fn report(&self, fault: Fault) {
        self.telemetry.metrics.store_failed("index_read");
        let mut state = self.state();
        state.fault = Some(fault.after(state.fault.take()));
        drop(state);
        self.wake.notify_one();
    }

    /// Has all that waits committed now: the round that tries it, and where to see rounds end.
    pub(super) fn hurry(&self) -> (u64, watch::Receiver<u64>) {
        let mut state = self.state();
        state.hurry = !state.overlay.is_empty();
        let round = state.round + u64::from(state.hurry);
        drop(state);
        self.wake.notify_one();
        (round, self.ended.subscribe())
    }

    pub(super) fn stop(&self) {
        self.state().stop = true;
        self.wake.notify_one();
    }

    /// Commits round after round until [`Shared::stop`].
    pub(super) fn run(&self) {
        let (mut pause, mut again) = (Duration::ZERO, !self.database.is_open());
        loop {
            let round = self.next(pause, again);
            let done = self.act(&round);
            self.state().overlay.land(done.is_ok());
            self.ended.send_replace(round.number);
            if round.last {
                return;
            }
            again = done.is_err();
            pause = if again { RETRY } else { GATHER };
        }
    }

    /// Waits `pause` for more to come, then until there is something to do: to open the file `again`, if nothing else.
    fn next(&self, pause: Duration, again: bool) -> Round {
        let pressing = |state: &mut State| !(state.stop || state.hurry || state.fault.is_some());
        let idle = |state: &mut State| !again && pressing(state) && state.overlay.is_empty();
        let (state, _) = self.wake.wait_timeout_while(self.state(), pause, pressing).unwrap_or_else(PoisonError::into_inner);
        let mut state = self.wake.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        state.hurry = false;
        state.round += 1;
        let (fault, last) = (state.fault.take(), state.stop);
        Round { number: state.round, batch: state.overlay.take_off(), fault, last }
    }

    fn act(&self, round: &Round) -> Result<(), Fault> {
        if let Some(fault) = &round.fault {
            self.recover(fault);
        }
        let done = self.commit(&round.batch).or_else(|fault| {
            self.recover(&fault);
            if matches!(fault, Fault::Damaged(_)) { self.commit(&round.batch) } else { Err(fault) }
        });
        if done.is_err() {
            self.telemetry.metrics.store_failed("index_write");
        }
        self.tell(&done);
        done
    }

    fn commit(&self, batch: &Batch) -> Result<(), Fault> {
        if self.database.open()? {
            self.forget();
        }
        if batch.is_empty() { Ok(()) } else { self.database.commit(batch) }
    }

    /// Closes the file: after an error redb wants it opened anew. Where it is known to be another then, what was read of it goes,
    /// because until now the old one was read. Where the disk failed, what is in memory is all that can be had until it is open.
    pub(super) fn recover(&self, fault: &Fault) {
        if let Fault::Damaged(_) = fault {
            tracing::warn!(%fault, "starting a new index; links will be proved again by the upstreams");
        }
        self.database.close(fault);
        if !matches!(fault, Fault::Failed(_)) {
            self.forget();
        }
    }

    /// Forgets what was read of the file.
    pub(super) fn forget(&self) {
        let mut state = self.state();
        state.overlay.begin_anew();
        self.hot.invalidate_all();
        drop(state);
        self.versions.iter().for_each(|version| _ = version.fetch_add(1, Ordering::Release));
    }

    fn tell(&self, result: &Result<(), Fault>) {
        match result {
            Ok(()) => self.telemetry.health.well(PART),
            Err(fault) => self.telemetry.health.troubled(PART, fault.to_string()),
        }
    }

    /// Every critical section leaves the state whole, so one that panicked spoils nothing.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
