//! Whether a broken transfer is taken up again, when, and what an answer to that is good for. Pure.

use std::time::Duration;

/// So many breaks in a row without progress end a download.
const MOST_WITHOUT_PROGRESS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// What counts as progress: else an upstream that sends a byte and breaks, again and again, would hold a download for ever.
const PROGRESS: u64 = 64 << 10;

/// So often it is waited for a free connection to the upstream.
const MOST_BUSY: u32 = 30;

/// Counts the breaks of one download.
#[derive(Debug, Default)]
pub(super) struct Resumes {
    without_progress: u32,
    since_break: u64,
    busy: u32,
}

impl Resumes {
    /// New bytes came. Whether that is progress.
    pub(super) fn progressed(&mut self, bytes: u64) -> bool {
        self.since_break += bytes;
        let progress = is_progress(self.since_break);
        if progress {
            self.without_progress = 0;
            self.busy = 0;
        }
        progress
    }

    /// Whether the transfer broke since there was progress.
    pub(super) fn has_broken(&self) -> bool {
        self.without_progress > 0
    }

    /// There was no free connection to ask over, which is no break. Whether to go on waiting for one.
    pub(super) fn busy(&mut self) -> bool {
        self.busy += 1;
        self.busy <= MOST_BUSY
    }

    /// The transfer broke. How long to wait before going on, or `None` to give up.
    pub(super) fn broke(&mut self) -> Option<Duration> {
        self.since_break = 0;
        self.without_progress += 1;
        if self.without_progress > MOST_WITHOUT_PROGRESS {
            return None;
        }
        Some(FIRST_WAIT * 2_u32.pow(self.without_progress - 1))
    }
}

/// Whether so many bytes are worth having asked for.
pub(super) fn is_progress(bytes: u64) -> bool {
    bytes >= PROGRESS
}

/// What an answer to the question for the rest of a blob is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// It goes on where it was asked to, or is read up to there.
    GoOn,
    /// It is another content than before, from its first byte on.
    StartOver,
    /// It is a part of another content than before, all of which may be the blob.
    OtherPart,
    /// It is not the blob.
    Unfit,
}

/// Judges an answer: `length` and `told` are what was known of the blob's length and what the answer says of it; `same` is
/// whether the content is the one that its URL sent before, where that can be told; `from` is where the answer begins.
pub(super) fn judge(length: Option<u64>, told: Option<u64>, same: Option<bool>, from: u64) -> Rest {
    match (length, told) {
        // Clients were promised a length already.
        (Some(length), Some(told)) if length != told => Rest::Unfit,
        _ if same == Some(false) && from == 0 => Rest::StartOver,
        _ if same == Some(false) => Rest::OtherPart,
        _ => Rest::GoOn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_up_after_five_breaks_without_progress() {
        let mut resumes = Resumes::default();
        let waits: Vec<_> = (0..6)
            .map(|_| {
                resumes.progressed(PROGRESS - 1);
                resumes.broke().map(|wait| wait.as_millis())
            })
            .collect();
        assert_eq!(waits, [Some(100), Some(200), Some(400), Some(800), Some(1600), None]);
    }

    #[test]
    fn progress_starts_the_count_anew() {
        let mut resumes = Resumes::default();
        for _ in 0..100 {
            assert!(resumes.broke().is_some());
            assert!(resumes.has_broken());
            assert!(!resumes.progressed(PROGRESS - 1));
            assert!(resumes.progressed(1) && !resumes.has_broken());
        }
    }

    #[test]
    fn a_busy_proxy_is_no_break_but_not_waited_for_for_ever() {
        let mut resumes = Resumes::default();
        assert_eq!((0..100).filter(|_| resumes.busy()).count(), 30);
        assert_eq!(resumes.broke(), Some(FIRST_WAIT));
        resumes.progressed(PROGRESS);
        assert!(resumes.busy());
    }

    #[test]
    fn an_answer_goes_on_starts_over_or_is_of_no_use() {
        for (length, told, same, from, expected) in [
            (Some(9), Some(9), Some(true), 5, Rest::GoOn),
            (Some(9), Some(9), None, 5, Rest::GoOn),
            (Some(9), None, None, 5, Rest::GoOn),
            (Some(9), Some(9), None, 0, Rest::GoOn),
            (Some(9), Some(9), Some(true), 0, Rest::GoOn),
            (None, Some(9), None, 5, Rest::GoOn),
            (Some(9), Some(9), Some(false), 0, Rest::StartOver),
            (Some(9), Some(9), Some(false), 5, Rest::OtherPart),
            (Some(9), Some(8), Some(true), 5, Rest::Unfit),
            (Some(9), Some(8), Some(false), 0, Rest::Unfit),
        ] {
            assert_eq!(judge(length, told, same, from), expected, "{length:?} {told:?} {same:?} {from}");
        }
    }
}
