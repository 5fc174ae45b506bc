//! Between the requests and the thread that writes: records that wait, and places for those to come.
//!
//! A place is the right to leave a record. It is given back when the record is written, so places bound what waits; where
//! nothing may go unrecorded, a request takes one before it is answered. Whoever leaves a record wakes the writer only if it
//! is the first, or makes many: the writer waits a moment for more, so that a busy proxy wakes it a few times a second and
//! not for each request.

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Places for records: as many as requests may be under way (`app::limits`), and as many again that may wait for the disk.
const PLACES: usize = 32_768;
/// After its first record the writer waits so long for more, unless there are [`MANY`].
const LINGER: Duration = Duration::from_millis(50);
const MANY: usize = 1024;

/// The queue of one audit log.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    pub(super) places: Arc<Semaphore>,
}

/// What the writer has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Records' lines.
    pub(super) lines: Vec<u8>,
    /// Where each of them ends.
    pub(super) ends: Vec<usize>,
    /// How many there was no place for.
    pub(super) lost: u64,
    /// Whether the file is to be opened anew.
    pub(super) reopen: bool,
    /// Nothing more will come.
    pub(super) closed: bool,
    /// Who is to be told when all is written and the output closed.
    pub(super) done: Vec<SyncSender<()>>,
}

impl Waiting {
    fn is_pressing(&self) -> bool {
        self.closed || self.reopen || self.ends.len() >= MANY
    }
}

impl Queue {
    pub(super) fn new() -> Arc<Self> {
        Self::with_places(PLACES)
    }

    pub(super) fn with_places(places: usize) -> Arc<Self> {
        Arc::new(Self { waiting: Mutex::default(), wake: Condvar::new(), places: Arc::new(Semaphore::new(places)) })
    }

    /// Leaves a record's line, for which there is a place.
    pub(super) fn push(&self, line: &[u8]) {
        let mut waiting = self.lock();
        waiting.lines.extend_from_slice(line);
        let end = waiting.lines.len();
        waiting.ends.push(end);
        let count = waiting.ends.len();
        drop(waiting);
        if count == 1 || count == MANY {
            self.wake.notify_one();
        }
    }

    /// Notes that a record found no place.
    pub(super) fn lose(&self) {
        self.lock().lost += 1;
    }

    /// Has the file opened anew, after the records before it are written.
    pub(super) fn reopen(&self) {
        self.lock().reopen = true;
        self.wake.notify_one();
    }

    /// Says that nothing more will come. `done` is told when all is written and the output closed.
    pub(super) fn close(&self, done: Option<SyncSender<()>>) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.done.extend(done);
        self.wake.notify_one();
    }

    /// Waits for something to do, until `due` at most, and takes all that waits. `taken` is what was taken before, done with.
    pub(super) fn take(&self, mut taken: Waiting, due: Option<Instant>) -> Waiting {
        taken.lines.clear();
        taken.ends.clear();
        // After a burst, its memory is not kept.
        taken.lines.shrink_to(MANY << 10);
        taken.ends.shrink_to(MANY);
        (taken.lost, taken.reopen) = (0, false);
        let mut waiting = self.lock();
        let mut linger = None;
        while !waiting.is_pressing() {
            let now = Instant::now();
            if !waiting.ends.is_empty() {
                linger.get_or_insert(now + LINGER);
            }
            waiting = match [due, linger].into_iter().flatten().min() {
                Some(end) if end <= now => break,
                Some(end) => self.wake.wait_timeout(waiting, end - now).unwrap_or_else(PoisonError::into_inner).0,
                None => self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            };
        }
        std::mem::swap(&mut *waiting, &mut taken);
        waiting.closed = taken.closed;
        taken
    }

    /// Waits for so long, or until nothing more will come, and says whether that is so.
    pub(super) fn rest(&self, time: Duration) -> bool {
        let waiting = self.wake.wait_timeout_while(self.lock(), time, |waiting| !waiting.closed);
        waiting.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
