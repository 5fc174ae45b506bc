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

    /// How many bytes must be freed so that a tenth is still free after `bytes` more are taken, and all that is promised; 0 where
    /// none. Blocks.
    pub(super) fn shortfall(&self, bytes: u64) -> io::Result<u64> {
        let mut known = self.known();
        let sizes = match known.last {
            Some((at, sizes)) if at.elapsed() < FRESH => sizes,
            _ => {
                let sizes = self.measure()?;
                known.last = Some((Instant::now(), sizes));
                sizes
            }
        };
        let wanted = (sizes.total / KEEP_FREE).saturating_add(known.promised).saturating_add(bytes);
        Ok(wanted.saturating_sub(sizes.free))
    }

    /// `bytes` will be taken: no measurement shows them before [`Space::took`].
    pub(super) fn promise(&self, bytes: u64) {
        let promised = &mut self.known().promised;
        *promised = promised.saturating_add(bytes);
    }

    /// `bytes` that were promised are taken now, or given back: who has them may take them from the file system at any time.
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
        assert_eq!(space.shortfall(200).unwrap(), 0);
        space.promise(200);
        assert_eq!(space.shortfall(50).unwrap(), 50);
        space.took(200);
        assert_eq!(space.shortfall(50).unwrap(), 50, "no more, and no less");
        space.gave(150);
        assert_eq!(space.shortfall(50).unwrap(), 0);
        assert_eq!(space.shortfall(u64::MAX).unwrap(), u64::MAX - 250);
    }

    #[test]
    fn what_is_promised_outlasts_a_measurement_that_does_not_show_it() {
        let space = Space::measured_by(Box::new(|| Ok(FileSystem { total: 1000, free: 300 })));
        space.promise(150);
        assert_eq!(space.shortfall(0).unwrap(), 0);
        space.expire();
        assert_eq!(space.shortfall(100).unwrap(), 50);
        space.took(150);
        space.gave(150);
        assert_eq!(space.shortfall(200).unwrap(), 0);
    }

    #[test]
    fn the_real_file_system_has_a_size() {
        let sizes = Space::of(std::env::temp_dir()).measure().unwrap();
        assert!(sizes.total > 0 && sizes.free <= sizes.total);
    }
}
