//! Whether a broken transfer is taken up again, and when. Pure.

use std::time::Duration;

/// So many breaks in a row without a single new byte end a download.
const MOST_WITHOUT_PROGRESS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Counts the breaks of one download.
#[derive(Debug, Default)]
pub(super) struct Resumes {
    without_progress: u32,
}

impl Resumes {
    /// New bytes came.
    pub(super) fn progressed(&mut self) {
        self.without_progress = 0;
    }

    /// The transfer broke. How long to wait before going on, or `None` to give up.
    pub(super) fn broke(&mut self) -> Option<Duration> {
        self.without_progress += 1;
        if self.without_progress > MOST_WITHOUT_PROGRESS {
            return None;
        }
        Some(FIRST_WAIT * 2_u32.pow(self.without_progress - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_up_after_five_breaks_without_a_byte() {
        let mut resumes = Resumes::default();
        let waits: Vec<_> = (0..6).map(|_| resumes.broke().map(|wait| wait.as_millis())).collect();
        assert_eq!(waits, [Some(100), Some(200), Some(400), Some(800), Some(1600), None]);
    }

    #[test]
    fn a_byte_starts_the_count_anew() {
        let mut resumes = Resumes::default();
        for _ in 0..100 {
            assert!(resumes.broke().is_some());
            resumes.progressed();
        }
    }
}
