//! The audit log: one JSON line for each request and each refused connection, chained by hashes so that a change shows.
//!
//! A request ends by leaving its line in a queue; a thread writes what is there, and after each batch a link: a line with
//! the hash of the batch and of the link before it. docs/audit.md says what the lines look like.
//!
//! What was handed over is written within a fraction of a second, and linked within one more; `kill -9` loses what was not.
//! The system decides when it reaches the disk.

mod chain;
mod error;
mod file;
mod link;
mod output;
mod queue;
mod record;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::line::in_room;
use super::metrics::AuditMetrics;
use super::outcome::End;
use super::stdout::Stdout;
use super::{Health, Outcome, RefusedConnection};
use crate::config::{self, AuditOutput, WhenFull};
use chain::Chain;
pub use error::{AuditError, Problem};
use file::LogFile;
pub use link::{Hash, NotAHash};
use output::Output;
use queue::Queue;
use record::EventId;
pub use verify::{Broken, Tail, Verified, VerifyError, rotated, verify};
use writer::Writer;

/// A request waits so long for a place where nothing may go unrecorded.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Stands in for the name of a file.
const STDOUT: &str = "on standard output";
/// How long the program's end may wait for an output that does not keep up.
const LONGEST_FLUSH: Duration = Duration::from_secs(1);

/// An audit log that is written to. Dropping it ends its thread, once all is written.
#[derive(Debug)]
pub(super) struct AuditLog {
    queue: Arc<Queue>,
    when_full: WhenFull,
    metrics: AuditMetrics,
    /// Names this run of the program in the names of its records.
    run: u32,
    made: AtomicU64,
}

/// The right to leave one record; given back when it is dropped, or when the record is written.
#[derive(Debug, Default)]
pub struct Place(Option<OwnedSemaphorePermit>);

/// The audit log takes no more records, and nothing may be answered without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log takes no records now, and nothing is answered without one")]
pub struct Full;

impl AuditLog {
    /// Opens the log, writes its first line, and starts the thread.
    pub(super) fn start(config: &config::Audit, metrics: AuditMetrics, health: Health) -> Result<Self, AuditError> {
        let path = match &config.output {
            AuditOutput::Stdout => Path::new(STDOUT),
            AuditOutput::File { path, .. } => path,
        };
        let (output, chain, begins) = open(&config.output)?;
        let queue = Queue::new();
        let blocks = config.when_full == WhenFull::Block;
        let writer = Writer::new(queue.clone(), output, chain, metrics.clone(), health).blocking(blocks);
        Self::new(queue, config.when_full, metrics).write_by(writer, begins).map_err(|error| AuditError::new(path, error))
    }

    fn new(queue: Arc<Queue>, when_full: WhenFull, metrics: AuditMetrics) -> Self {
        Self { queue, when_full, metrics, run: rand::random(), made: AtomicU64::new(0) }
    }

    /// Has `writer` write what comes, and first a link where it `begins` something.
    fn write_by(self, mut writer: Writer, begins: bool) -> io::Result<Self> {
        if begins {
            writer.begin()?;
        }
        std::thread::Builder::new().name("audit-log".to_owned()).spawn(move || writer.run())?;
        Ok(self)
    }

    /// A place for the record of a request that is about to be answered. Where records may be dropped there is always one.
    /// Dropping the future takes none.
    pub(super) async fn admit(&self) -> Result<Place, Full> {
        if self.when_full == WhenFull::Drop {
            return Ok(Place::default());
        }
        let places = &self.queue.places;
        if let Ok(place) = places.clone().try_acquire_owned() {
            return Ok(Place(Some(place)));
        }
        match tokio::time::timeout(LONGEST_WAIT, places.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(Place(Some(place))),
            _ => Err(Full),
        }
    }

    /// Records a request. Never waits: without a place of its own and none free, the record is dropped and counted.
    pub(super) fn request(&self, outcome: &Outcome, end: &End, place: Place) {
        if self.takes(place) {
            self.leave(|room| record::of_request(room, outcome, end, self.next_id()));
        }
    }

    /// Records a refused connection. Never waits.
    pub(super) fn connection(&self, refused: &RefusedConnection) {
        if self.takes(Place::default()) {
            self.leave(|room| record::of_connection(room, refused, self.next_id()));
        }
    }

    fn leave(&self, record: impl FnOnce(&mut Vec<u8>)) {
        in_room(record, |line| self.queue.push(line));
    }

    fn next_id(&self) -> EventId {
        EventId { run: self.run, number: self.made.fetch_add(1, Ordering::Relaxed) }
    }

    /// Whether there is a place, which the writer then gives back.
    fn takes(&self, place: Place) -> bool {
        if let Some(place) = place.0 {
            place.forget();
            return true;
        }
        match self.queue.places.try_acquire() {
            Ok(place) => {
                place.forget();
                true
            }
            Err(_) => {
                self.queue.lose();
                self.metrics.lost();
                false
            }
        }
    }

    /// Has the file opened anew, where another or none is now under its name.
    pub(super) fn reopen(&self) {
        self.queue.reopen();
    }

    /// Waits until all records so far are written and chained and the output is closed, 1 s at most. What comes later is not
    /// recorded any more. Blocks.
    pub(super) fn finish(&self) {
        let (done, written) = sync_channel(1);
        self.queue.close(Some(done));
        if written.recv_timeout(LONGEST_FLUSH).is_err() {
            tracing::warn!("the last records of the audit log may be missing: its output does not keep up");
        }
    }
}

/// Whether there is a folder for the log. Blocks on the disk.
///
/// # Errors
/// There is none, so that the log could not be opened.
pub fn check(config: &config::Audit) -> Result<(), AuditError> {
    let AuditOutput::File { path, .. } = &config.output else { return Ok(()) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match std::fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(AuditError::new(path, io::Error::from(io::ErrorKind::NotADirectory))),
        Err(error) => Err(AuditError::new(path, error)),
    }
}

/// Opens the output; where its chain stands; and whether its first line is to be written.
fn open(output: &AuditOutput) -> Result<(Box<dyn Output>, Chain, bool), AuditError> {
    match output {
        AuditOutput::Stdout => {
            let stdout = Stdout::open().map_err(|error| AuditError::new(Path::new(STDOUT), error))?;
            Ok((Box::new(stdout), Chain::default(), true))
        }
        AuditOutput::File { path, rotate, keep } => {
            let (file, chain) = LogFile::open(path, *rotate, *keep)?;
            let begins = file.is_empty() || chain.is_open();
            Ok((Box::new(file), chain, begins))
        }
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.queue.close(None);
    }
}
