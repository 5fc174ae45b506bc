//! When it is written down which bytes of a download are there.

use std::fs::File;

use super::note::{Note, SIZE};
use crate::oci::{Digest, RegistryName};
use crate::store::content::Content;
use crate::store::draft::Draft;
use crate::store::error::Error;
use crate::store::layout::Name;
use crate::store::ranges::RangeSet;

/// After so many new bytes a note says that they are there.
const NOTE_EVERY: u64 = 1 << 20;
/// After so many new bytes they are made durable. Fewer would have the disk do more, more would be lost with the machine.
const SYNC_EVERY: u64 = 64 << 20;

/// What a download is of.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) registry: RegistryName,
    pub(super) digest: Digest,
    pub(super) length: Option<u64>,
}

/// The notes of one download.
#[derive(Debug, Default)]
pub(super) struct Journal {
    note: Option<File>,
    /// Durable bytes, of those that are present.
    durable: RangeSet,
    /// How many bytes had been received at the last note.
    noted: u64,
    /// And when it was last begun to make them durable.
    synced: u64,
}

impl Journal {
    pub(super) fn of(durable: RangeSet) -> Self {
        Self { durable, ..Self::default() }
    }

    /// Whether a note is due when `received` bytes have come. Another writer may have noted more than the caller knows of.
    pub(super) fn is_note_due(&self, received: u64) -> bool {
        received.saturating_sub(self.noted) >= NOTE_EVERY
    }

    /// Whether they are to be made durable.
    pub(super) fn is_sync_due(&self, received: u64) -> bool {
        received.saturating_sub(self.synced) >= SYNC_EVERY
    }

    /// The `received` bytes that have come are being made durable.
    pub(super) fn syncing(&mut self, received: u64) {
        self.synced = received;
    }

    /// All of `durable` is.
    pub(super) fn synced(&mut self, durable: RangeSet) {
        self.durable = durable;
    }

    /// The download started over.
    pub(super) fn start_over(&mut self) {
        self.durable = RangeSet::default();
    }

    /// Writes down that `there` is, of the `received` bytes that have come.
    pub(super) fn write(
        &mut self,
        content: &Content,
        name: &Name,
        subject: &Subject,
        there: &RangeSet,
        received: u64,
    ) -> Result<(), Error> {
        self.noted = received;
        let Some(length) = subject.length else { return Ok(()) };
        let note = Note::new(&content.boot, &subject.registry, &subject.digest, length);
        let page = note.encode(there, &self.durable);
        debug_assert_eq!(page.len(), SIZE);
        let path = content.layout.note(name);
        let file = match self.note.take() {
            Some(file) => file,
            None => {
                content.disk.open_to_write(&path, true).map_err(|error| content.failed("note", "cannot create", &path, error))?
            }
        };
        let written = content.disk.write_at(&file, &page, 0);
        self.note = Some(file);
        written.map_err(|error| content.failed("note", "cannot write", &path, error))
    }
}

/// Ends a download for now: what is worth it waits to be taken up, durable where `sync` says so. All else goes.
/// `there` is what is in its file, and how many bytes came.
pub(super) fn keep(draft: Draft, subject: &Subject, there: (RangeSet, u64), mut journal: Journal, sync: bool) {
    let (content, (present, received)) = (draft.content().clone(), there);
    let Some(name) = draft.name().cloned().filter(|_| !present.is_empty()) else { return };
    if sync {
        if draft.sync_data().is_err() {
            return;
        }
        journal.durable = present.clone();
    }
    if journal.write(&content, &name, subject, &present, received).is_ok() {
        draft.park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_late_with_fewer_bytes_has_nothing_to_write_down() {
        let journal = Journal { noted: 2 * NOTE_EVERY, synced: 2 * SYNC_EVERY, ..Journal::default() };
        assert!(!journal.is_note_due(NOTE_EVERY) && journal.is_note_due(3 * NOTE_EVERY));
        assert!(!journal.is_sync_due(SYNC_EVERY) && journal.is_sync_due(3 * SYNC_EVERY));
    }
}
