//! How much of the file system is free.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A measurement holds good this long; what is taken and given back meanwhile is reckoned.
const FRESH: Duration = Duration::from_secs(1);
/// A tenth of the file system stays free.
const KEEP_FREE: u64 = 10;

/// Sizes of a file system, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileSystem {
    pub(super) total: u64,
    pub(super) free: u64,
}

type Measure = Box<dyn Fn() -> io::Result<FileSystem> + Send + Sync>;

/// Watches one file system.
pub(super) struct Space {
    measure: Measure,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    last: Option<(Instant, FileSystem)>,
    /// What was promised and does not show in a measurement yet.
    promised: u64,
}

impl std::fmt::Debug for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Space")
    }
}

impl Space {
    /// Watches the file system that holds `path`.
    pub(super) fn of(path: PathBuf) -> Self {
        Self::measured_by(Box::new(move || {
            let sizes = rustix::fs::statvfs(&path)?;
            Ok(FileSystem {
                total: sizes.f_blocks.saturating_mul(sizes.f_frsize),
                free: sizes.f_bavail.saturating_mul(sizes.f_frsize),
            })
        }))
    }

    pub(super) fn measured_by(measure: Measure) -> Self {
        Self { measure, known: Mutex::default() }
    }

    /// A file system that no test fills.
    #[cfg(test)]
    pub(super) fn roomy() -> Self {
        Self::measured_by(Box::new(|| Ok(FileSystem { total: 1 << 40, free: 1 << 40 })))
    }

    /// Has the next question measure.
    #[cfg(test)]
    pub(super) fn expire(&self) {
        self.known().last = None;
    }

    /// Measures now. Blocks.
    pub(super) fn measure(&self) -> io::Result<FileSystem> {
        (self.measure)()
    }

    /// Promises `bytes` to somebody who will take them, if a tenth is still free after that and all else that is promised: no
    /// measurement shows them before [`Space::took`]. Otherwise nothing is promised, and so many bytes must be freed before: 0
    /// where none. Blocks.
    ///
    /// # Errors
    /// The file system cannot be measured. They are promised then.
    pub(super) fn promise(&self, bytes: u64) -> io::Result<u64> {
        let mut known = self.known();
        let sizes = match known.last {
            Some((at, sizes)) if at.elapsed() < FRESH => Ok(sizes),
            _ => self.measure().inspect(|sizes| known.last = Some((Instant::now(), *sizes))),
        };
        let promised = known.promised.saturating_add(bytes);
        let short = sizes.map(|sizes| (sizes.total / KEEP_FREE).saturating_add(promised).saturating_sub(sizes.free));
        if matches!(short, Ok(0) | Err(_)) {
            known.promised = promised;
        }
        short
    }

    /// `bytes` that were promised are taken now, or will not be.
    pub(super) fn took(&self, bytes: u64) {
        let mut known = self.known();
        known.promised = known.promised.saturating_sub(bytes);
        known.adjust(|free| free.saturating_sub(bytes));
    }

    /// `bytes` were given back since the measurement.
    pub(super) fn gave(&self, bytes: u64) {
        self.known().adjust(|free| free.saturating_add(bytes));
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn adjust(&mut self, change: impl FnOnce(u64) -> u64) {
        if let Some((_, sizes)) = self.last.as_mut() {
            sizes.free = change(sizes.free);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_stays_free_whatever_happened_since_the_measurement() {
        let space = Space::measured_by(Box::new(|| Ok(FileSystem { total: 1000, free: 300 })));
        assert_eq!(space.promise(200).unwrap(), 0);
        assert_eq!(space.promise(50).unwrap(), 50);
        space.took(200);
        assert_eq!(space.promise(50).unwrap(), 50, "no more, and no less");
        space.gave(150);
        assert_eq!(space.promise(u64::MAX).unwrap(), u64::MAX - 250);
        assert_eq!(space.promise(50).unwrap(), 0);
    }

    #[test]
    fn what_is_promised_outlasts_a_measurement_that_does_not_show_it() {
        let space = Space::measured_by(Box::new(|| Ok(FileSystem { total: 1000, free: 300 })));
        assert_eq!(space.promise(150).unwrap(), 0);
        space.expire();
        assert_eq!(space.promise(100).unwrap(), 50);
        space.took(150);
        space.gave(150);
        assert_eq!(space.promise(200).unwrap(), 0);
    }

    #[test]
    fn of_those_who_ask_at_once_no_more_get_a_promise_than_there_is_room_for() {
        let space = Space::measured_by(Box::new(|| Ok(FileSystem { total: 1000, free: 400 })));
        let promised = std::sync::atomic::AtomicUsize::new(0);
        let ask = || match space.promise(10).unwrap() {
            0 => _ = promised.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
            short => assert_eq!(short, 10),
        };
        std::thread::scope(|scope| (0..4).for_each(|_| _ = scope.spawn(|| (0..10).for_each(|_| ask()))));
        assert_eq!(promised.into_inner(), 30);
    }

    #[test]
    fn what_cannot_be_measured_has_room() {
        let space = Space::measured_by(Box::new(|| Err(io::ErrorKind::Other.into())));
        assert!(space.promise(10).is_err());
        assert_eq!(space.known().promised, 10);
        space.took(10);
        assert_eq!(space.known().promised, 0);
    }

    #[test]
    fn the_real_file_system_has_a_size() {
        let sizes = Space::of(std::env::temp_dir()).measure().unwrap();
        assert!(sizes.total > 0 && sizes.free <= sizes.total);
    }
}
