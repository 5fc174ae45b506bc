//! An attempt's other side: what comes is hashed and written, or passed on where it cannot be.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::attempt::Attempt;
use super::feed::Item;
use super::phase::Event;
use super::{Error, Kind};
use crate::oci::{Digest, Hasher, Span};
use crate::store::{self, Partial};

/// Items between the network and the disk. Each is at most what one read from the connection brings.
pub(super) const QUEUE: usize = 16;
/// A disk that takes longer than this for so little has failed.
pub(super) const SLOW_DISK: Duration = Duration::from_secs(10);
/// What is hashed from the file at once.
const PIECE: u64 = 1 << 20;

/// Takes what the main transfer hands on.
pub(super) struct Sink<'a> {
    attempt: &'a Attempt<'a>,
    /// `None` where nothing is kept, or not any more.
    partial: Option<Arc<Partial>>,
    hasher: Hasher,
}

/// What became of some items.
struct Kept {
    hasher: Hasher,
    /// How many were hashed and are in the file.
    taken: usize,
    /// Why it was not all.
    failed: Option<String>,
}

impl<'a> Sink<'a> {
    /// `partial` is where bytes are kept, where they are.
    pub(super) fn new(attempt: &'a Attempt<'a>, partial: Option<Arc<Partial>>) -> Self {
        Self { attempt, partial, hasher: attempt.hasher() }
    }

    /// Takes everything. The digest of it all.
    ///
    /// # Errors
    /// What is in the file cannot be read any more; or bytes only pass by and nobody is left, or has room, for them.
    pub(super) async fn run(mut self, mut items: mpsc::Receiver<Item>) -> Result<Digest, Error> {
        let mut batch = Vec::with_capacity(QUEUE);
        while items.recv_many(&mut batch, QUEUE).await > 0 {
            let batch = std::mem::take(&mut batch);
            let left = match self.partial.clone() {
                Some(partial) => self.keep(partial, batch).await?,
                None => batch,
            };
            for item in left {
                self.pass(item).await?;
            }
        }
        Ok(self.hasher.finish())
    }

    /// Hashes and writes, in order. What could not be written.
    async fn keep(&mut self, partial: Arc<Partial>, mut batch: Vec<Item>) -> Result<Vec<Item>, Error> {
        let (hasher, work) = (self.hasher.clone(), batch.clone());
        let kept = store::blocking(move || keep(&partial, hasher, &work));
        let (taken, failed) = match tokio::time::timeout(SLOW_DISK, kept).await {
            Ok(Kept { hasher, taken, failed }) => {
                self.hasher = hasher;
                (taken, failed)
            }
            Err(_) => (0, Some(format!("the disk took longer than {} s to write", SLOW_DISK.as_secs()))),
        };
        self.attempt.download().happened(Event::More);
        self.attempt.make_durable();
        let left = batch.split_off(taken);
        if let (Some(failed), Some(first)) = (failed, left.first()) {
            self.attempt.stop_keeping(first.offset(), &failed)?;
            self.partial = None;
        }
        Ok(left)
    }

    async fn pass(&mut self, item: Item) -> Result<(), Error> {
        match item {
            Item::Present(span) => self.hash_present(span).await,
            Item::Bytes(at, bytes) => {
                self.hasher.update(&bytes);
                if self.attempt.pass(at, bytes).await {
                    return Ok(());
                }
                Err(Error::new(Kind::Overloaded, "it cannot be stored, and nobody is left who wants it"))
            }
        }
    }

    async fn hash_present(&mut self, span: Span) -> Result<(), Error> {
        let (file, mut hasher) = (self.attempt.file()?, self.hasher.clone());
        let hashed = store::blocking(move || hash(&file, span, &mut hasher).map(|()| hasher)).await;
        self.hasher = hashed.map_err(|error| unreadable(&error))?;
        Ok(())
    }
}

impl Item {
    fn offset(&self) -> u64 {
        match self {
            Self::Bytes(at, _) => *at,
            Self::Present(span) => span.start,
        }
    }
}

fn keep(partial: &Partial, hasher: Hasher, items: &[Item]) -> Kept {
    let mut kept = Kept { hasher, taken: 0, failed: None };
    for item in items {
        let done = match item {
            Item::Present(span) => hash(partial.file(), *span, &mut kept.hasher).map_err(|error| error.to_string()),
            Item::Bytes(at, bytes) => {
                partial.write_at(*at, bytes).map_err(|error| error.to_string()).map(|()| kept.hasher.update(bytes))
            }
        };
        if let Err(failed) = done {
            kept.failed = Some(failed);
            break;
        }
        kept.taken += 1;
    }
    kept
}

/// Takes a span of a file into `hasher`: all of it or, on an error, nothing.
fn hash(file: &std::fs::File, span: Span, hasher: &mut Hasher) -> std::io::Result<()> {
    let mut taken = hasher.clone();
    let mut buffer = vec![0; usize::try_from(span.len().min(PIECE)).unwrap_or_default()];
    let mut at = span.start;
    while at < span.end {
        let length = usize::try_from((span.end - at).min(PIECE)).unwrap_or_default();
        file.read_exact_at(&mut buffer[..length], at)?;
        taken.update(&buffer[..length]);
        at += length as u64;
    }
    *hasher = taken;
    Ok(())
}

fn unreadable(error: &std::io::Error) -> Error {
    tracing::warn!(%error, "what was received cannot be read back");
    Error::new(Kind::Internal, "the proxy's cache failed; its log has the reason")
}
