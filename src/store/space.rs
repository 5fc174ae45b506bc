//! How much of the file system is free.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
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
    last: Mutex<Option<(Instant, FileSystem)>>,
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
        Self { measure, last: Mutex::new(None) }
    }

    /// A file system that no test fills.
    #[cfg(test)]
    pub(super) fn roomy() -> Self {
        Self::measured_by(Box::new(|| Ok(FileSystem { total: 1 << 40, free: 1 << 40 })))
    }

    /// Measures now. Blocks.
    pub(super) fn measure(&self) -> io::Result<FileSystem> {
        (self.measure)()
    }

    /// How many bytes must be freed so that a tenth is still free after `bytes` more are taken; 0 where none. Blocks.
    pub(super) fn shortfall(&self, bytes: u64) -> io::Result<u64> {
        let now = self.current()?;
        Ok((now.total / KEEP_FREE).saturating_add(bytes).saturating_sub(now.free))
    }

    /// `bytes` were reserved since the measurement.
    pub(super) fn took(&self, bytes: u64) {
        self.adjust(|free| free.saturating_sub(bytes));
    }

    /// `bytes` were given back since the measurement.
    pub(super) fn gave(&self, bytes: u64) {
        self.adjust(|free| free.saturating_add(bytes));
    }

    fn current(&self) -> io::Result<FileSystem> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match *last {
            Some((at, sizes)) if at.elapsed() < FRESH => Ok(sizes),
            _ => {
                let sizes = self.measure()?;
                *last = Some((Instant::now(), sizes));
                Ok(sizes)
            }
        }
    }

    fn adjust(&self, change: impl FnOnce(u64) -> u64) {
        if let Some((_, sizes)) = self.last.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
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
        space.took(200);
        assert_eq!(space.shortfall(50).unwrap(), 50);
        space.gave(150);
        assert_eq!(space.shortfall(50).unwrap(), 0);
        assert_eq!(space.shortfall(u64::MAX).unwrap(), u64::MAX - 250);
    }

    #[test]
    fn the_real_file_system_has_a_size() {
        let sizes = Space::of(std::env::temp_dir()).measure().unwrap();
        assert!(sizes.total > 0 && sizes.free <= sizes.total);
    }
}
