//! Who reads a download and how far each is, and the window that is paced by them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ring::Ring;
use super::{Download, Error, Kind};

/// What a window holds at most, the held-back tail among it.
const WINDOW: u64 = 512 << 10;
/// Bytes go into the window in pieces of this size, so that it can let go of them.
const PIECE: usize = 64 << 10;
/// A reader that takes nothing for this long while the window waits for it is cut.
const STALL: Duration = Duration::from_secs(10);

/// All readers of one download.
#[derive(Debug, Default)]
pub(super) struct Readers {
    inner: Mutex<Inner>,
    /// One of them went on, or left.
    moved: Notify,
    /// One of them waits for bytes that may be far ahead.
    wanted: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    standing: BTreeMap<u64, Standing>,
    ring: Ring,
    /// Nobody was left to take what went by, so no more comes.
    closed: bool,
}

/// Where a reader is.
#[derive(Clone, Copy, Debug)]
struct Standing {
    start: u64,
    at: u64,
    /// After the last byte that it wants.
    end: u64,
    /// When it last took something.
    moved: Instant,
    /// Waits for the byte at `at`.
    waits: bool,
    /// Gets no more.
    cut: Option<Cut>,
}

/// Why a reader gets no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// It took nothing for too long, and what it wants may have gone by.
    TooSlow,
    /// What it has had may have been wrong, and nobody knows any more.
    Doubtful,
}

impl Cut {
    /// What is told to whoever reads.
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::TooSlow => Error::new(Kind::Overloaded, "the blob cannot be stored, and nothing of it was taken for 10 s"),
            Self::Doubtful => Error::new(Kind::BadGateway, "what came first was not the blob; ask again"),
        }
    }
}

impl Standing {
    /// Whether it will want bytes of a window that begins at `start`.
    fn holds(&self, start: u64) -> bool {
        self.cut.is_none() && self.end > start
    }
}

/// A reader's place among the readers. Dropping it gives the place up.
#[derive(Debug)]
pub(in crate::mirror) struct Seat {
    pub(in crate::mirror) download: Arc<Download>,
    id: u64,
}

impl Seat {
    /// A place for a reader of everything; `None` where bytes have gone by that it would miss, or would keep all others
    /// waiting for, and where no more come.
    pub(in crate::mirror) fn take(download: &Arc<Download>) -> Option<Self> {
        let mut inner = download.readers.lock();
        if inner.closed || inner.ring.start() > 0 {
            return None;
        }
        Some(inner.seat(download, 0, u64::MAX))
    }

    /// A further place beside this one, for a reader of the bytes from `at` to `end`.
    pub(super) fn beside(&self, at: u64, end: u64) -> Self {
        self.download.readers.lock().seat(&self.download, at, end)
    }

    /// The reader took everything before `at`.
    pub(super) fn moved(&self, at: u64) {
        let mut inner = self.download.readers.lock();
        if let Some(standing) = inner.standing.get_mut(&self.id) {
            *standing = Standing { at, moved: Instant::now(), waits: false, ..*standing };
        }
        drop(inner);
        self.download.readers.moved.notify_one();
    }

    /// The reader waits for bytes that the main transfer will not bring soon.
    pub(super) fn wants(&self) {
        let mut inner = self.download.readers.lock();
        let waited = inner.standing.get_mut(&self.id).is_none_or(|standing| std::mem::replace(&mut standing.waits, true));
        drop(inner);
        // Who waits is woken by every byte that comes, and would have all who wait looked at each time.
        if !waited {
            self.download.readers.wanted.notify_one();
        }
    }

    /// Why the reader gets no more, where it does not.
    pub(super) fn cut(&self) -> Option<Cut> {
        self.download.readers.lock().standing.get(&self.id).and_then(|standing| standing.cut)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.download.readers.lock().standing.remove(&self.id);
        self.download.readers.moved.notify_one();
    }
}

impl Inner {
    fn seat(&mut self, download: &Arc<Download>, at: u64, end: u64) -> Seat {
        self.next += 1;
        self.standing.insert(self.next, Standing { start: at, at, end, moved: Instant::now(), waits: false, cut: None });
        Seat { download: download.clone(), id: self.next }
    }

    /// Says whether `more` bytes fit, and lets go of what all have only if they otherwise would not: who comes a little later
    /// than the others wants all of it.
    fn fits(&mut self, more: u64) -> bool {
        if self.ring.len() + more <= WINDOW {
            return true;
        }
        let start = self.ring.start();
        let holding = self.standing.values().filter(|standing| standing.holds(start));
        let slowest = holding.map(|standing| standing.at).min().unwrap_or(u64::MAX);
        self.ring.trim(slowest);
        self.ring.len() + more <= WINDOW
    }

    /// Cuts those that the window has waited for since `since` and that stood still for too long. When the next will have.
    fn cut_stalled(&mut self, since: Instant, now: Instant) -> Option<Instant> {
        let (start, first) = (self.ring.start(), self.ring.first_end());
        let blocking = self.standing.values_mut().filter(|standing| standing.holds(start) && standing.at < first);
        let mut next = None;
        for standing in blocking {
            let patience = standing.moved.max(since) + STALL;
            if patience <= now {
                standing.cut = Some(Cut::TooSlow);
            } else {
                next = Some(next.map_or(patience, |next: Instant| next.min(patience)));
            }
        }
        next
    }
}

impl Readers {
    /// Whether nobody reads.
    pub(super) fn are_none(&self) -> bool {
        self.lock().standing.is_empty()
    }

    /// Where those stand who wait for bytes that may be far ahead, and up to where they want to read.
    pub(super) fn waiting(&self) -> Vec<(u64, u64)> {
        self.lock().standing.values().filter(|standing| standing.waits).map(|standing| (standing.at, standing.end)).collect()
    }

    /// Returns when somebody began to wait for bytes that may be far ahead.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// The window begins at `offset`.
    pub(super) fn begin_window(&self, offset: u64) {
        self.lock().ring.begin(offset);
    }

    /// Empties the window, because what went by was wrong: who has had some of it gets no more.
    pub(super) fn start_over(&self) {
        let mut inner = self.lock();
        inner.ring.begin(0);
        inner
            .standing
            .values_mut()
            .filter(|standing| standing.at > standing.start)
            .for_each(|standing| standing.cut = Some(Cut::Doubtful));
    }

    /// Bytes of the window from `offset` on.
    pub(super) fn passing(&self, offset: u64) -> Option<Bytes> {
        self.lock().ring.get(offset)
    }

    /// The offset after the last byte that came into the window.
    pub(super) fn window_end(&self) -> u64 {
        self.lock().ring.end()
    }

    /// Takes off as much as goes into the window at once.
    pub(super) fn split(bytes: &mut Bytes) -> Bytes {
        bytes.split_to(bytes.len().min(PIECE))
    }

    /// Puts a piece into the window as soon as the readers have made room, cutting those that stand still. `false` where
    /// nobody reads any more. Dropping the future drops the piece.
    pub(super) async fn pass(&self, offset: u64, piece: Bytes) -> bool {
        let room = self.make_room(piece.len() as u64).await;
        if room {
            self.lock().ring.push(offset, piece);
        }
        room
    }

    async fn make_room(&self, bytes: u64) -> bool {
        // While nothing came for the readers to take, nobody stood still.
        let since = Instant::now();
        loop {
            let patience = {
                let mut inner = self.lock();
                if inner.standing.values().all(|standing| standing.cut.is_some()) {
                    inner.closed = true;
                    return false;
                }
                if inner.fits(bytes) {
                    return true;
                }
                inner.cut_stalled(since, Instant::now())
            };
            // Whoever kept the window waiting was cut.
            let Some(patience) = patience else { continue };
            tokio::select! {
                () = self.moved.notified() => {}
                () = tokio::time::sleep_until(patience) => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at: u64, end: u64, moved: Instant) -> Standing {
        Standing { start: 0, at, end, moved, waits: false, cut: None }
    }

    #[tokio::test]
    async fn what_all_have_stays_for_who_comes_late_until_its_room_is_needed() {
        let mut inner = Inner::default();
        inner.standing.insert(1, at(WINDOW, u64::MAX, Instant::now()));
        let piece = Bytes::from_static(&[0; PIECE]);
        for offset in (0..WINDOW).step_by(PIECE) {
            assert!(inner.fits(PIECE as u64));
            inner.ring.push(offset, piece.clone());
            assert_eq!(inner.ring.start(), 0);
        }
        assert!(inner.fits(1));
        assert!(inner.ring.start() > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_keeps_the_window_waiting_is_cut_and_nobody_else() {
        let start = Instant::now();
        let mut inner = Inner::default();
        inner.ring.begin(100);
        inner.ring.push(100, Bytes::from_static(&[0; 50]));
        let readers = [
            // Stands before the window, behind a gap in the file: it wants what comes after it as well.
            (1, at(20, 1000, start)),
            // Took something lately.
            (2, at(100, 1000, start + Duration::from_secs(5))),
            // Has all that there is.
            (3, at(150, 1000, start)),
            // Wants nothing of the window.
            (4, at(20, 90, start)),
        ];
        inner.standing.extend(readers);
        assert_eq!(inner.cut_stalled(start, start + STALL - Duration::from_secs(1)), Some(start + STALL));
        assert!(inner.standing.values().all(|standing| standing.cut.is_none()));
        let next = inner.cut_stalled(start, start + STALL);
        assert_eq!(next, Some(start + Duration::from_secs(5) + STALL), "the other has its ten seconds too");
        let cut: Vec<u64> = inner.standing.iter().filter(|(_, standing)| standing.cut.is_some()).map(|(id, _)| *id).collect();
        assert_eq!(cut, [1]);
        assert_eq!(inner.cut_stalled(start + STALL, start + STALL), Some(start + STALL + STALL), "no time passed since then");
    }
}
