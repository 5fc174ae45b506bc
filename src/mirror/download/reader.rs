//! One client's way through a growing file.

use std::fs::File;
use std::sync::Arc;

use tokio::sync::watch;

use super::{Download, Error, Kind, Phase, hold};
use crate::oci::Span;

/// Reads a span of a download, or all of it, as its bytes come.
#[derive(Debug)]
pub(crate) struct Reader {
    download: Arc<Download>,
    progress: watch::Receiver<Phase>,
    at: u64,
    /// `None`: to the end, wherever that turns out to be.
    end: Option<u64>,
}

enum Step {
    Give(u64),
    End,
    Wait,
}

impl Reader {
    /// Reads `span`, or the whole where it is `None`.
    pub(crate) fn new(download: Arc<Download>, span: Option<Span>) -> Self {
        let progress = download.progress.subscribe();
        Self { progress, at: span.map_or(0, |span| span.start), end: span.map(|span| span.end), download }
    }

    /// The next bytes, as a place in the file: all that are there and may be shown. `None` at the end. May be dropped and
    /// called again at any time.
    ///
    /// # Errors
    /// The download failed: the answer cannot be completed.
    pub(crate) async fn next(&mut self) -> Option<Result<(Arc<File>, Span), Error>> {
        loop {
            let phase = self.progress.borrow_and_update().clone();
            match self.step(&phase) {
                Err(error) => return Some(Err(error)),
                Ok(Step::End) => return None,
                Ok(Step::Give(until)) => return Some(self.give(until)),
                Ok(Step::Wait) => {}
            }
            if self.progress.changed().await.is_err() {
                return Some(Err(Error::stopped()));
            }
        }
    }

    fn step(&self, phase: &Phase) -> Result<Step, Error> {
        if self.end == Some(self.at) {
            return Ok(Step::End);
        }
        let ready = match phase {
            Phase::Asking => return Ok(Step::Wait),
            Phase::Failed(error) => return Err(error.clone()),
            Phase::NoRoom => return Err(Error::new(Kind::Internal, "there is no room for this blob")),
            Phase::Verified { length } if self.at >= *length => return Ok(Step::End),
            Phase::Verified { length } => *length,
            Phase::Filling => self.released(),
        };
        let ready = self.end.map_or(ready, |end| end.min(ready));
        Ok(if ready > self.at { Step::Give(ready) } else { Step::Wait })
    }

    fn released(&self) -> u64 {
        let Some(source) = self.download.source.get() else { return 0 };
        let present = source.partial.as_ref().map_or(0, |partial| partial.present_until(self.at));
        hold::released(present, source.length)
    }

    fn give(&mut self, until: u64) -> Result<(Arc<File>, Span), Error> {
        let source = self.download.source.get().ok_or_else(Error::stopped)?;
        let span = Span::new(self.at, until);
        self.at = until;
        Ok((source.file.clone(), span))
    }
}
