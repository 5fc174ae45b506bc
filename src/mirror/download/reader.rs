//! One client's way through a growing file, or through a window of bytes that go by.

use tokio::sync::watch;

use super::readers::{Cut, Seat};
use super::{Error, Kind, Phase, Source, hold, plan};
use crate::mirror::Piece;
use crate::oci::Span;

/// Reads a span of a download, or all of it, as its bytes come.
#[derive(Debug)]
pub(in crate::mirror) struct Reader {
    seat: Seat,
    progress: watch::Receiver<Phase>,
    start: u64,
    at: u64,
    /// `None`: to the end, wherever that turns out to be.
    end: Option<u64>,
    /// The length that was told of the whole.
    promised: Option<u64>,
    /// Which attempt the bytes up to `at` are known to belong to.
    attempt: u64,
}

enum Step {
    Give(Piece),
    End,
    Wait,
}

impl Reader {
    /// Reads all, from the place that was kept for that. Where `promised` turns out to be another length than the blob's, it
    /// does not end well.
    pub(in crate::mirror) fn whole(seat: Seat, promised: Option<u64>) -> Self {
        Self { promised, ..Self::new(seat, 0, None) }
    }

    /// Reads `span`, which lies inside the blob.
    pub(in crate::mirror) fn span(seat: &Seat, span: Span) -> Self {
        Self::new(seat.beside(span.start, span.end), span.start, Some(span.end))
    }

    fn new(seat: Seat, start: u64, end: Option<u64>) -> Self {
        let (progress, attempt) = (seat.download.progress.subscribe(), seat.download.attempt());
        Self { seat, progress, start, at: start, end, promised: None, attempt }
    }

    /// The next bytes: all that are there and may be shown. `None` at the end. May be dropped and called again at any time.
    ///
    /// # Errors
    /// The download failed, or this reader has had wrong bytes or was too slow: the answer cannot be completed.
    pub(in crate::mirror) async fn next(&mut self) -> Option<Result<Piece, Error>> {
        loop {
            let phase = self.progress.borrow_and_update().clone();
            match self.step(&phase) {
                Err(error) => return Some(Err(error)),
                Ok(Step::End) => return None,
                Ok(Step::Give(piece)) => return Some(Ok(piece)),
                Ok(Step::Wait) => {}
            }
            if self.at > self.seat.download.front() + plan::NEAR {
                self.seat.wants();
            }
            if self.progress.changed().await.is_err() {
                return Some(Err(Error::stopped()));
            }
        }
    }

    fn step(&mut self, phase: &Phase) -> Result<Step, Error> {
        if self.end == Some(self.at) {
            return Ok(Step::End);
        }
        if let Some(cut) = self.seat.cut() {
            return Err(cut.into_error());
        }
        let length = match phase {
            Phase::Asking => return Ok(Step::Wait),
            Phase::Failed(error) => return Err(error.clone()),
            Phase::Verified { length } if self.promised.is_some_and(|promised| promised != *length) => {
                return Err(Error::new(Kind::BadGateway, "the manifest says another length than the blob has"));
            }
            Phase::Verified { length } if self.at >= *length => return Ok(Step::End),
            Phase::Verified { length } => Some(*length),
            Phase::Keeping | Phase::Passing => None,
        };
        let download = self.seat.download.clone();
        let Some(source) = download.source.get() else { return Ok(Step::Wait) };
        if !self.has_right_bytes(source, length.is_some())? {
            return Ok(Step::Wait);
        }
        match self.give(source, length) {
            Some(piece) => Ok(Step::Give(piece)),
            None if length.is_none() => Ok(Step::Wait),
            // All is there, and it has gone by.
            None => Err(Cut::TooSlow.into_error()),
        }
    }

    /// Whether what this reader has had is what the download has now. Where the download started over, that is known only
    /// once it has come this far again; `over` says that no more will come.
    fn has_right_bytes(&mut self, source: &Source, over: bool) -> Result<bool, Error> {
        let attempt = self.seat.download.attempt();
        let had = Span::new(self.start, self.at);
        if self.attempt == attempt || had.is_empty() {
            self.attempt = attempt;
            return Ok(true);
        }
        // Without a file nobody knows what it had; its seat was cut.
        let Some(partial) = &source.partial else { return Ok(true) };
        if partial.changed(had) {
            return Err(Cut::Doubtful.into_error());
        }
        if partial.covers(had) {
            self.attempt = attempt;
            return Ok(true);
        }
        // What was not written anew by now never will be.
        if over || !self.seat.download.is_kept() {
            return Err(Cut::Doubtful.into_error());
        }
        Ok(false)
    }

    /// What there is at `at`, as far as it may be shown. `verified` is the length of a blob that is all there and right.
    fn give(&mut self, source: &Source, verified: Option<u64>) -> Option<Piece> {
        let kept = source.kept_until(self.at);
        let download = &self.seat.download;
        // Without a window there is nothing to ask the readers for, whose lock all of them share.
        let windowed = !download.is_kept();
        let passing = if windowed && kept <= self.at { download.readers.passing(self.at) } else { None };
        let present = match &passing {
            Some(bytes) => self.at + bytes.len() as u64,
            None => kept,
        };
        let come = if windowed { download.readers.window_end() } else { 0 };
        // What was promised is an end too, which clients take for the blob's.
        let length = source.length.or(self.promised);
        let limit = verified.unwrap_or_else(|| hold::released(present.max(come), length));
        let until = present.min(limit).min(self.end.unwrap_or(u64::MAX));
        if until <= self.at {
            return None;
        }
        let span = Span::new(self.at, until);
        let piece = match (passing, &source.file) {
            (Some(bytes), _) => Piece::Bytes(bytes.slice(..usize::try_from(span.len()).unwrap_or(bytes.len()))),
            (None, Some(file)) => Piece::File(file.clone(), span),
            (None, None) => return None,
        };
        self.at = until;
        self.seat.moved(until);
        Some(piece)
    }
}
