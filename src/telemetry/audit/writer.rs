//! The thread that chains records and writes them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::chain::Chain;
use super::link::Link;
use super::output::Output;
use super::queue::{Queue, Waiting};
use crate::telemetry::Health;
use crate::telemetry::metrics::AuditMetrics;

/// An output that failed is tried again after so long.
const RETRY: Duration = Duration::from_secs(1);
/// The name of the audit log among the parts whose health is told.
const PART: &str = "audit";
/// The same for the change to a new file.
const NEW_FILE: &str = "audit_file";
/// A buffer that grew larger in a burst is not kept, in bytes.
const MOST_KEPT: usize = 1 << 20;

/// What writes an audit log.
pub(super) struct Writer {
    queue: Arc<Queue>,
    output: Box<dyn Output>,
    chain: Chain,
    /// Lines that are not all written.
    lines: Vec<u8>,
    /// The last link among these lines.
    link: Option<Link>,
    /// Whether requests are to wait while the output fails.
    blocks: bool,
    metrics: AuditMetrics,
    health: Health,
}

impl Writer {
    pub(super) fn new(queue: Arc<Queue>, output: Box<dyn Output>, chain: Chain, metrics: AuditMetrics, health: Health) -> Self {
        Self { queue, output, chain, lines: Vec::new(), link: None, blocks: false, metrics, health }
    }

    /// Has requests wait while the output fails.
    pub(super) fn blocking(mut self, blocks: bool) -> Self {
        self.blocks = blocks;
        self
    }

    /// Writes a link now: the first line of a new file, or that for the lines which an earlier run has left without one.
    ///
    /// # Errors
    /// What the output says.
    pub(super) fn begin(&mut self) -> std::io::Result<()> {
        self.link();
        let mut done = 0;
        self.write_from(&mut done)?;
        self.written();
        Ok(())
    }

    /// Writes what comes until the queue is closed, and closes the output.
    pub(super) fn run(mut self) {
        let mut taken = Waiting::default();
        while !taken.closed {
            taken = self.queue.take(taken, self.chain.due());
            self.add(&taken);
            if taken.reopen || taken.closed || self.output.is_full() || self.is_due() {
                self.end_batch();
            }
            if !self.write() {
                tracing::warn!("the last records of the audit log are lost: its output fails");
                return;
            }
            self.queue.places.add_permits(taken.ends.len());
            self.renew();
            if taken.reopen {
                self.reopen();
            }
        }
        drop(self.output);
        for done in taken.done {
            // Who asked may have stopped waiting.
            let _ = done.send(());
        }
    }

    /// Puts what was taken behind the lines, with a link after each full batch.
    fn add(&mut self, taken: &Waiting) {
        let now = Instant::now();
        self.chain.lose(taken.lost, now);
        let (mut start, mut ends) = (0, &taken.ends[..]);
        while !ends.is_empty() {
            let (batch, later) = ends.split_at(self.chain.room().min(ends.len()));
            let end = batch.last().copied().unwrap_or(start);
            let lines = &taken.lines[start..end];
            self.lines.extend_from_slice(lines);
            self.chain.add(lines, batch.len(), now);
            if self.chain.room() == 0 {
                self.link();
            }
            (start, ends) = (end, later);
        }
    }

    fn is_due(&self) -> bool {
        self.chain.due().is_some_and(|due| due <= Instant::now())
    }

    fn end_batch(&mut self) {
        if self.chain.is_open() {
            self.link();
        }
    }

    fn link(&mut self) {
        self.link = Some(self.chain.close(&mut self.lines));
    }

    /// Writes all lines, however often that takes. False: nothing more will come, and the output still fails.
    fn write(&mut self) -> bool {
        let (mut done, mut withheld) = (0, 0);
        while let Err(error) = self.write_from(&mut done) {
            withheld += self.fail(&error);
            if self.queue.rest(RETRY) && self.write_from(&mut done).is_err() {
                return false;
            }
        }
        if withheld > 0 {
            tracing::info!("the audit log is written again, and requests are answered again");
            self.queue.places.add_permits(withheld);
        }
        self.written();
        true
    }

    /// Tells that the output fails. Where requests are to wait meanwhile, takes all free places and says how many.
    fn fail(&self, error: &std::io::Error) -> usize {
        let trouble = format!("its output fails: {error}");
        self.health.troubled(PART, trouble.clone());
        if !self.blocks {
            return 0;
        }
        self.health.not_ready(PART, trouble);
        self.queue.places.forget_permits(usize::MAX)
    }

    /// Writes the lines from `done` on, which moves with what is written.
    fn write_from(&mut self, done: &mut usize) -> std::io::Result<()> {
        while *done < self.lines.len() {
            match self.output.write(&self.lines[*done..]) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(written) => *done += written,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn written(&mut self) {
        self.lines.clear();
        self.lines.shrink_to(MOST_KEPT);
        if let Some(link) = self.link.take() {
            self.metrics.chained(link.number, &link.hash);
        }
        self.health.well(PART);
    }

    /// Begins a new file where the old one is large enough, which it can be only after a link.
    fn renew(&mut self) {
        if !self.chain.is_open() && self.output.is_full() {
            match self.output.rotate() {
                Ok(()) => self.open_file(),
                Err(error) => self.health.troubled(NEW_FILE, format!("none can be begun: {error}; writing to the old one")),
            }
        }
    }

    fn reopen(&mut self) {
        match self.output.reopen() {
            Ok(true) => self.open_file(),
            Ok(false) => {}
            Err(error) => self.health.troubled(NEW_FILE, format!("it cannot be opened anew: {error}; writing to the old one")),
        }
    }

    /// The first line of a new file says where the chain stands.
    fn open_file(&mut self) {
        self.health.well(NEW_FILE);
        self.link();
        // What it could not write is tried again with the next records.
        let _ = self.write();
    }
}
