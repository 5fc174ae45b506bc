//! An attempt's other side: what comes is written and hashed, or passed on where it cannot be.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::attempt::Attempt;
use super::feed::Item;
use super::phase::Event;
use super::{Error, Kind};
use crate::oci::{Digest, Hasher, Span};
use crate::store::{self, Partial};

/// Items between the network and the disk. Each is at most what one read from the connection brings.
pub(super) const QUEUE: usize = 128;
/// What they may hold in bytes, with those that are being written: enough for two batches.
pub(super) const ROOM: usize = 2 << 20;
/// A disk that takes longer than this for so little has failed.
pub(super) const SLOW_DISK: Duration = Duration::from_secs(10);
/// Bytes that come sooner than this after the last wait for others, to be written together: it is next to nothing for whoever
/// reads, and spares most of the wake-ups.
const GATHER: Duration = Duration::from_millis(2);
/// So many wait for no others.
const BATCH: u64 = 1 << 20;
/// What is hashed from the file at once.
const PIECE: u64 = 1 << 20;

/// Takes what the main transfer hands on.
pub(super) struct Sink<'a> {
    attempt: &'a Attempt<'a>,
    /// `None` where nothing is kept, or not any more.
    partial: Option<Arc<Partial>>,
    hasher: Hasher,
    /// Until then, what comes waits for more.
    due: Instant,
}

/// What became of some items.
struct Kept {
    hasher: Hasher,
    /// How many were hashed and are in the file.
    taken: usize,
    /// Why it was not all, or why the file takes no more.
    failed: Option<String>,
}

impl<'a> Sink<'a> {
    /// `partial` is where bytes are kept, where they are.
    pub(super) fn new(attempt: &'a Attempt<'a>, partial: Option<Arc<Partial>>) -> Self {
        Self { attempt, partial, hasher: attempt.hasher(), due: Instant::now() }
    }

    /// Takes everything. The digest of it all.
    ///
    /// # Errors
    /// What is in the file cannot be read any more; or bytes only pass by and nobody is left, or has room, for them.
    pub(super) async fn run(mut self, mut items: mpsc::Receiver<Item>) -> Result<Digest, Error> {
        while let Some(batch) = gather(&mut items, self.due).await {
            let weight = batch.iter().map(|item| item.weight() as usize).sum();
            let left = match self.partial.clone() {
                Some(partial) => self.keep(partial, batch).await?,
                None => batch,
            };
            for item in left {
                self.pass(item).await?;
            }
            self.attempt.make_room(weight);
        }
        Ok(self.hasher.finish())
    }

    /// Writes and hashes, in order. What could not be kept.
    async fn keep(&mut self, partial: Arc<Partial>, mut batch: Vec<Item>) -> Result<Vec<Item>, Error> {
        let (hasher, work, download) = (self.hasher.clone(), batch.clone(), self.attempt.shared_download());
        let kept = store::blocking(move || keep(&partial, hasher, &work, || download.happened(Event::More)));
        let (taken, failed) = match tokio::time::timeout(SLOW_DISK, kept).await {
            Ok(Kept { hasher, taken, failed }) => {
                self.hasher = hasher;
                (taken, failed)
            }
            Err(_) => (0, Some(format!("the disk took longer than {} s to write", SLOW_DISK.as_secs()))),
        };
        self.due = Instant::now() + GATHER;
        self.attempt.make_durable();
        let end = batch.last().map_or(0, |item| item.offset() + item.len());
        let left = batch.split_off(taken);
        if let Some(failed) = failed {
            self.attempt.stop_keeping(left.first().map_or(end, Item::offset), &failed)?;
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
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(_, bytes) => bytes.len() as u64,
            Self::Present(span) => span.len(),
        }
    }

    /// What it holds in memory, as far as that is counted.
    pub(super) fn weight(&self) -> u32 {
        match self {
            Self::Bytes(_, bytes) => u32::try_from(bytes.len().min(ROOM)).unwrap_or_default(),
            Self::Present(_) => 0,
        }
    }

    fn offset(&self) -> u64 {
        match self {
            Self::Bytes(at, _) => *at,
            Self::Present(span) => span.start,
        }
    }
}

/// The next items: all that came and, where those are few, what comes until `due`; `None` at the end, which is not waited for.
async fn gather(items: &mut mpsc::Receiver<Item>, due: Instant) -> Option<Vec<Item>> {
    let first = items.recv().await?;
    let (mut bytes, mut batch) = (first.len(), vec![first]);
    while bytes < BATCH {
        let item = match items.try_recv() {
            Ok(item) => item,
            // A timer that is due already would still take the runtime a turn to notice.
            Err(_) if Instant::now() >= due => break,
            Err(_) => match timeout_at(due, items.recv()).await {
                Ok(Some(item)) => item,
                _ => break,
            },
        };
        bytes += item.len();
        batch.push(item);
    }
    Some(batch)
}

/// Writes items, calls `written`, and then takes room for the rest and hashes what is in the file: no reader waits for that, but at
/// the end of a blob.
fn keep(partial: &Partial, hasher: Hasher, items: &[Item], written: impl FnOnce()) -> Kept {
    let (there, failed) = write(partial, items);
    written();
    let failed = failed.or_else(|| partial.allocate().err().map(|error| error.to_string()));
    let mut kept = Kept { hasher, taken: 0, failed };
    for item in &items[..there] {
        match item {
            Item::Bytes(_, bytes) => kept.hasher.update(bytes),
            Item::Present(span) => {
                if let Err(error) = hash(partial.file(), *span, &mut kept.hasher) {
                    kept.failed = Some(error.to_string());
                    break;
                }
            }
        }
        kept.taken += 1;
    }
    kept
}

/// How many items are in the file now, and why it is not all.
fn write(partial: &Partial, items: &[Item]) -> (usize, Option<String>) {
    for (there, item) in items.iter().enumerate() {
        if let Item::Bytes(at, bytes) = item
            && let Err(error) = partial.write_at(*at, bytes)
        {
            return (there, Some(error.to_string()));
        }
    }
    (items.len(), None)
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::time::sleep;

    use super::*;

    /// Sends `sizes`, a millisecond after each other, and returns what is gathered of them when `due` is so far off.
    async fn gathered(due: Duration, sizes: &'static [usize]) -> Vec<Vec<u64>> {
        let (sender, mut items) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            for (index, size) in sizes.iter().enumerate() {
                sender.send(Item::Bytes(index as u64, Bytes::from(vec![0; *size]))).await.unwrap();
                sleep(Duration::from_millis(1)).await;
            }
        });
        let mut batches = Vec::new();
        while let Some(batch) = gather(&mut items, Instant::now() + due).await {
            batches.push(batch.iter().map(Item::len).collect());
        }
        batches
    }

    #[tokio::test(start_paused = true)]
    async fn few_bytes_wait_for_others_until_they_are_due() {
        const MIB: usize = BATCH as usize;
        assert_eq!(gathered(Duration::ZERO, &[1, 2, 3]).await, [[1], [2], [3]]);
        assert_eq!(gathered(Duration::from_micros(2500), &[1, 2, 3, 4]).await, [vec![1, 2, 3], vec![4]]);
        assert_eq!(gathered(Duration::from_secs(9), &[MIB, 1, MIB - 1]).await, [vec![MIB as u64], vec![1, MIB as u64 - 1]]);
        let started = Instant::now();
        assert_eq!(gathered(Duration::from_secs(9), &[1, 2]).await, [[1, 2]]);
        assert!(started.elapsed() < Duration::from_secs(1), "the last bytes wait for nobody");
    }
}
