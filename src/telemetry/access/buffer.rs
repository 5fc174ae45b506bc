//! Between the requests and the thread that writes: lines that wait for the output.
//!
//! Whoever leaves a line wakes the writer only where that is idle. A writer that has just written lets lines gather before
//! it looks again, so that a busy proxy wakes it a hundred times a second and not for each request.

use std::sync::mpsc::SyncSender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many lines may wait for the output, and how many bytes of them. What comes while they do is dropped and counted.
pub(super) const MOST_LINES: usize = 8192;
pub(super) const MOST_BYTES: usize = 4 << 20;
/// The writer lets lines gather for so long, unless half of them are there.
const GATHER: Duration = Duration::from_millis(10);
/// Memory that a burst has taken is not kept, in bytes.
const MOST_KEPT: usize = 1 << 20;

/// The lines that wait for one output.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    count: usize,
    /// The writer waits for a line, however long that takes.
    idle: bool,
    /// Nothing more will come.
    closed: bool,
    /// The output is gone.
    failed: bool,
    /// Who is to be told when these lines are written.
    done: Vec<SyncSender<()>>,
}

impl Waiting {
    fn is_pressing(&self) -> bool {
        self.closed || !self.done.is_empty() || self.count >= MOST_LINES / 2 || self.lines.len() >= MOST_BYTES / 2
    }
}

impl Buffer {
    /// Leaves a whole line. Never waits; false: there is no room for it.
    pub(super) fn push(&self, line: &[u8]) -> bool {
        let mut waiting = self.lock();
        if waiting.failed || waiting.count >= MOST_LINES || waiting.lines.len() + line.len() > MOST_BYTES {
            return false;
        }
        let pressed = waiting.is_pressing();
        waiting.lines.extend_from_slice(line);
        waiting.count += 1;
        let wake = std::mem::take(&mut waiting.idle) || waiting.is_pressing() && !pressed;
        drop(waiting);
        if wake {
            self.wake.notify_one();
        }
        true
    }

    /// Has `done` told when all lines so far are written; dropped, where they cannot be.
    pub(super) fn flush(&self, done: SyncSender<()>) {
        let mut waiting = self.lock();
        if !waiting.failed {
            waiting.done.push(done);
            self.wake.notify_one();
        }
    }

    /// Says that nothing more will come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// Says that nothing more can be written, and forgets all that waits.
    pub(super) fn fail(&self) {
        *self.lock() = Waiting { failed: true, ..Waiting::default() };
    }

    /// Waits for lines, takes all there are into `lines` instead of what it holds, and returns who is to be told when they are
    /// written. `None`: there are none, and nothing more will come.
    pub(super) fn take(&self, lines: &mut Vec<u8>) -> Option<Vec<SyncSender<()>>> {
        lines.clear();
        lines.shrink_to(MOST_KEPT);
        let gathered = self.wake.wait_timeout_while(self.lock(), GATHER, |waiting| !waiting.is_pressing());
        let mut waiting = gathered.unwrap_or_else(PoisonError::into_inner).0;
        while waiting.count == 0 && !waiting.is_pressing() {
            waiting.idle = true;
            waiting = self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.idle = false;
        if waiting.count == 0 && waiting.closed && waiting.done.is_empty() {
            return None;
        }
        std::mem::swap(&mut waiting.lines, lines);
        waiting.count = 0;
        Some(std::mem::take(&mut waiting.done))
    }

    /// Whether the writer sleeps until the next line.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.lock().idle
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
