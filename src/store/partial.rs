//! A download in the making: a growing file, and which of its bytes are there.

mod extent;
mod journal;
mod note;

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::content::{Content, lock};
use super::draft::Draft;
use super::error::{Error, Kind};
use super::files::Blob;
use super::layout::{Layout, Name};
use super::parked::Claim;
use super::pool;
use super::ranges::RangeSet;
use crate::oci::{Digest, RegistryName, Span};
use extent::Extent;
use journal::{Journal, Subject};
use note::Note;

/// Downloads of no more bytes are not kept: they are soon fetched again.
const WORTH_KEEPING: u64 = 1 << 20;
/// How much of what was there before is compared at once.
const COMPARE: u64 = 64 << 10;

/// Content that is being fetched. Readers may read what is present from [`Partial::file`] at any time, also after the
/// download ended.
///
/// What has a known length above 1 MiB outlives the process: while it is written, a note says which bytes are there, those of
/// the last MiB at most left out. Dropping the last handle before its end leaves it behind as if the process had been killed,
/// on the blocking pool, to be taken up by [`Store::take_up`](super::Store::take_up). All else is then deleted.
#[derive(Debug)]
pub struct Partial {
    subject: Subject,
    content: Arc<Content>,
    file: Arc<File>,
    /// `None` once it ended. Held for reading while bytes are written, so that none are after the end.
    draft: RwLock<Option<Draft>>,
    extent: Mutex<Extent>,
    /// Taken before `extent`.
    journal: Mutex<Journal>,
    /// The disk may have lost bytes that it took.
    broken: AtomicBool,
    /// The file system was asked for all the room.
    allocated: AtomicBool,
}

impl Partial {
    /// Blocks.
    pub(super) fn begin(
        content: &Arc<Content>,
        registry: RegistryName,
        digest: Digest,
        length: Option<u64>,
    ) -> Result<Self, Error> {
        let worth = length.is_some_and(|length| length > WORTH_KEEPING);
        let name = if worth { content.claim(&registry, &digest) } else { None };
        if !worth {
            content.forget_parked(&registry, &digest);
        }
        let draft = Draft::new(content.clone(), length.unwrap_or(0), name)?;
        Ok(Self::new(Subject { registry, digest, length }, draft, Extent::default(), Journal::default()))
    }

    /// Blocks.
    pub(super) fn take_up(content: &Arc<Content>, registry: RegistryName, digest: Digest) -> Option<Self> {
        let name = Layout::kept_name(&registry, &digest);
        let claim = content.parked().claim(&name);
        let entry = match claim {
            Claim::InUse => return None,
            Claim::Free => {
                content.parked().free(&name);
                return None;
            }
            Claim::Parked(entry) => entry,
        };
        let Some((note, file)) = content.read_kept(&name).filter(|(note, _)| note.registry == registry && note.digest == digest)
        else {
            content.discard_kept(&name, entry.reserved);
            return None;
        };
        let draft = Draft::taken_up(content.clone(), file, entry.reserved, name);
        // A draft whose note claims nothing that is there goes when it is dropped.
        let size = content.disk.metadata(draft.file()).ok()?.len();
        let (present, durable) = note.believed(&content.boot, size);
        let subject = Subject { registry, digest, length: Some(note.length) };
        (!present.is_empty()).then(|| Self::new(subject, draft, Extent::of(present), Journal::of(durable)))
    }

    fn new(subject: Subject, draft: Draft, extent: Extent, journal: Journal) -> Self {
        let (content, file) = (draft.content().clone(), draft.file().clone());
        let (extent, journal) = (Mutex::new(extent), Mutex::new(journal));
        let (broken, allocated) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { subject, content, file, draft: RwLock::new(Some(draft)), extent, journal, broken, allocated }
    }

    /// The file that holds what is present, at the offsets where it belongs.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// The length of the content, where it is known.
    pub fn length(&self) -> Option<u64> {
        self.subject.length
    }

    /// Writes bytes where they belong and marks them present. Blocks: call it on the blocking pool. Writers of different
    /// ranges may work at once. Room beyond the reserved length is reserved as it is needed.
    ///
    /// # Errors
    /// `NoRoom` and `Full` where there is no room for more, `Io` where the disk fails, `Incomplete` after the end. What was
    /// present before still is.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let end = offset.checked_add(bytes.len() as u64);
        let end = end.ok_or_else(|| self.unfit(&format!("has no byte after offset {offset}")))?;
        let draft = self.draft.read().unwrap_or_else(PoisonError::into_inner);
        let draft = draft.as_ref().ok_or_else(|| self.ended())?;
        draft.grow(end)?;
        self.write_over(draft, Span::new(offset, end), bytes)?;
        let received = {
            let mut extent = lock(&self.extent);
            extent.arrived(Span::new(offset, end));
            extent.received
        };
        draft.name().into_iter().for_each(|name| self.note_down(name, received));
        Ok(())
    }

    /// Takes the room for what is yet to come from the file system, where the length is known: then it is there, and in one
    /// piece. It may take a millisecond, so the first bytes are better written before. Does nothing when called again. Blocks.
    ///
    /// # Errors
    /// `Full` and `Io` where the disk has no room or fails, and then nothing of the room is kept; `Incomplete` after the end. What
    /// is present still is.
    pub fn allocate(&self) -> Result<(), Error> {
        let wanted = self.subject.length.filter(|length| !self.covers(Span::new(0, *length)));
        let Some(length) = wanted.filter(|_| !self.allocated.swap(true, Ordering::Relaxed)) else { return Ok(()) };
        let draft = self.draft.read().unwrap_or_else(PoisonError::into_inner);
        let taken = draft.as_ref().ok_or_else(|| self.ended())?.allocate(length);
        drop(draft);
        taken.inspect_err(|_| self.shrink())
    }

    /// Gives back what the file has of the disk behind what is written. Others write until then, and nothing of theirs may go.
    fn shrink(&self) {
        let draft = self.draft.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(error)) = draft.as_ref().map(Draft::shrink) {
            tracing::warn!(%error, "a download that found no room for its rest keeps what it has of the disk until it ends");
        }
    }

    /// Whether enough bytes came since [`Partial::sync`] to call it again.
    pub fn is_sync_due(&self) -> bool {
        let received = lock(&self.extent).received;
        // A disk that hangs may have whoever holds it, and this is asked where nobody may wait for a disk.
        let journal = self.journal.try_lock();
        self.subject.length.is_some() && journal.is_ok_and(|journal| journal.is_sync_due(received))
    }

    /// Makes durable what is there, beside the writers: a crash of the machine loses what came later. Dropping the future does
    /// not stop it.
    pub async fn sync(self: Arc<Self>) {
        pool::blocking(move || self.sync_now()).await;
    }

    /// The end of the present bytes that hold `offset`, or `offset` itself where that is missing.
    pub fn present_until(&self, offset: u64) -> u64 {
        lock(&self.extent).present.present_until(offset)
    }

    /// The first run of missing bytes in `span`.
    pub fn first_gap(&self, span: Span) -> Option<Span> {
        lock(&self.extent).present.first_gap(span)
    }

    /// Whether all of `span` is present.
    pub fn covers(&self, span: Span) -> bool {
        lock(&self.extent).present.covers(span)
    }

    /// From now on nothing counts as present. The bytes stay where they are, for those who were told of them, until others
    /// are written over them, which [`Partial::changed`] then tells. May be called again. Blocks: a write that is under way is
    /// waited for.
    pub fn start_over(&self) {
        let draft = self.draft.write().unwrap_or_else(PoisonError::into_inner);
        let mut journal = lock(&self.journal);
        lock(&self.extent).start_over();
        journal.start_over();
        if let Some(name) = draft.as_ref().and_then(Draft::name) {
            self.write_note(&mut journal, name);
        }
    }

    /// Whether any byte of `span` that was present when the download started over was overwritten by a different one since.
    /// Ask after reading: it is said before the byte is written. Where there are very many such bytes, those between them
    /// count too.
    pub fn changed(&self, span: Span) -> bool {
        lock(&self.extent).changed(span)
    }

    /// Makes the bytes, whose digest the caller has verified, durable as stored content. Where the same content came by
    /// another way meanwhile, that is what is returned. A write that is under way is waited for.
    ///
    /// Dropping the future does not stop it.
    ///
    /// # Errors
    /// `Incomplete` where bytes are missing or it ended before, `Full` and `Io` where the disk fails. The download is over in each case.
    pub async fn commit(self: Arc<Self>) -> Result<Blob, Error> {
        pool::blocking(move || self.commit_now()).await
    }

    /// Ends the download and keeps nothing of it. Dropping the future does not stop it.
    pub async fn discard(self: Arc<Self>) {
        pool::blocking(move || drop(self.end())).await;
    }

    /// Ends the download for now: it waits to be taken up, by this process or a later one, with all bytes that are present. What
    /// has no known length, is small or empty, or cannot be made durable, is discarded instead. Dropping the future does not stop it.
    pub async fn park(self: Arc<Self>) {
        pool::blocking(move || {
            let Some(draft) = self.end() else { return };
            let journal = std::mem::take(&mut *lock(&self.journal));
            // A file that the disk has lost bytes of goes with its draft.
            if !self.broken.load(Ordering::Relaxed) {
                journal::keep(draft, &self.subject, self.there(), journal, true);
            }
        })
        .await;
    }

    /// Waits for the writes that are under way.
    fn end(&self) -> Option<Draft> {
        self.draft.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The file is made durable, moved to its place, and that made durable, before its note goes. Killed before the move, the
    /// process leaves a download that can be taken up; after it, content and a note without a file.
    fn commit_now(&self) -> Result<Blob, Error> {
        let draft = self.end().ok_or_else(|| self.ended())?;
        let size = {
            let extent = lock(&self.extent);
            let whole = Span::new(0, extent.present.end());
            if !extent.present.covers(whole) {
                return Err(self.unfit("has gaps"));
            }
            whole.end
        };
        if self.broken.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Io, format!("the disk may have lost bytes of {}", self.subject.digest)));
        }
        let was_kept = draft.name().is_some();
        draft.cut(size)?;
        let blob = self.content.place(draft, &self.subject.digest, size)?;
        if !was_kept {
            self.content.forget_parked(&self.subject.registry, &self.subject.digest);
        }
        Ok(blob)
    }

    /// Writes bytes, but compares those that lie where others were before.
    fn write_over(&self, draft: &Draft, span: Span, bytes: &[u8]) -> Result<(), Error> {
        let before = lock(&self.extent).before.clone();
        let part = |from: u64, to: u64| &bytes[(from - span.start) as usize..(to - span.start) as usize];
        let mut at = span.start;
        while at < span.end {
            let until = before.present_until(at).min(span.end).min(at + COMPARE);
            let next = if until > at {
                self.replace(draft, at, part(at, until))?;
                until
            } else {
                let gap = before.first_gap(Span::new(at, span.end)).map_or(span.end, |gap| gap.end);
                draft.write(at, part(at, gap))?;
                gap
            };
            at = next;
        }
        Ok(())
    }

    fn replace(&self, draft: &Draft, offset: u64, new: &[u8]) -> Result<(), Error> {
        let mut old = vec![0; new.len()];
        draft.read(offset, &mut old)?;
        if old == new {
            return Ok(());
        }
        lock(&self.extent).replaced(offset, &old, new);
        draft.write(offset, new)
    }

    /// Writes down from time to time what is there.
    fn note_down(&self, name: &Name, received: u64) {
        // Otherwise another writer is at it.
        if let Ok(mut journal) = self.journal.try_lock()
            && journal.is_note_due(received)
        {
            self.write_note(&mut journal, name);
        }
    }

    fn write_note(&self, journal: &mut Journal, name: &Name) {
        let (present, received) = self.there();
        // What the disk may have lost is not to be taken up by who does not know of it.
        let present = if self.broken.load(Ordering::Relaxed) { RangeSet::default() } else { present };
        // It was told of, and costs nobody anything but these bytes after a restart: all are verified in the end.
        let _ = journal.write(&self.content, name, &self.subject, &present, received);
    }

    fn sync_now(&self) {
        let draft = self.draft.read().unwrap_or_else(PoisonError::into_inner);
        let (present, received) = self.there();
        lock(&self.journal).syncing(received);
        let Some((draft, name)) = draft.as_ref().and_then(|draft| Some((draft, draft.name()?))) else { return };
        let synced = draft.sync_data();
        // The disk says once that it lost something, and would let it be committed the next time.
        if synced.is_err() {
            self.broken.store(true, Ordering::Relaxed);
        }
        let mut journal = lock(&self.journal);
        journal.synced(if synced.is_ok() { present } else { RangeSet::default() });
        self.write_note(&mut journal, name);
    }

    /// Which bytes are there, and how many came. A copy: whoever asks what is present must not wait for the disk.
    fn there(&self) -> (RangeSet, u64) {
        let extent = lock(&self.extent);
        (extent.present.clone(), extent.received)
    }

    fn ended(&self) -> Error {
        self.unfit("has ended already")
    }

    fn unfit(&self, why: &str) -> Error {
        let Subject { registry, digest, .. } = &self.subject;
        Error::new(Kind::Incomplete, format!("the download of {digest} from {registry} {why}"))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let draft = self.draft.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(draft) = draft else { return };
        let subject = self.subject.clone();
        let there = self.there();
        let journal = std::mem::take(self.journal.get_mut().unwrap_or_else(PoisonError::into_inner));
        let broken = *self.broken.get_mut();
        let end = move || if broken { drop(draft) } else { journal::keep(draft, &subject, there, journal, false) };
        pool::in_any_case(end);
    }
}

impl Content {
    /// The note of a name, where it holds, and its file. Blocks.
    pub(super) fn read_note(&self, name: &Name) -> Option<(Note, File)> {
        let file = self.disk.open(&self.layout.note(name)).ok()?;
        let mut page = vec![0; note::SIZE];
        self.disk.read_at(&file, &mut page, 0).ok()?;
        Some((Note::decode(&page)?, file))
    }

    /// The note of a parked download and the file that it is about.
    fn read_kept(&self, name: &Name) -> Option<(Note, File)> {
        let (note, _) = self.read_note(name)?;
        let path = self.layout.kept(name);
        let file = self.disk.open_to_write(&path, false);
        Some((note, file.map_err(|error| self.failed("open", "cannot open", &path, error)).ok()?))
    }
}

#[cfg(test)]
mod tests;
