//! Which content goes when there is no room: a pure table, which decides and touches no file.
//!
//! The order is that of S3-FIFO (Yang et al., SOSP 2023): new content waits in a small queue, a tenth of the cap, and
//! leaves from there unless it was used again; what was, and what comes back soon after it left, goes to the main queue,
//! where each use buys another round. One pull of a large image thus does not drive out what all nodes need. Beyond
//! S3-FIFO, what has no use left in the main queue and is a day older than the new content goes before it: else an image
//! larger than the small queue would drive out its own first layers, beside content that nobody asks for any more.
//!
//! Invariants:
//! - after a reservation, stored + reserved + lingering bytes are at most the cap; content that turns up on the disk is
//!   taken in even where nothing unpinned is left to evict for it;
//! - pinned content is never evicted, nor anything for a reservation that could not be had in any case;
//! - what is evicted or removed is no longer in the table, and the caller deletes its file;
//! - the same calls evict the same content.

mod ghosts;
mod slots;
mod unsaved;

use std::collections::HashSet;

use ghosts::Ghosts;
use slots::{Queue, Slots};
use unsaved::Unsaved;

use crate::oci::Digest;

/// The share of the cap that new content gets, as a divisor.
const SMALL_SHARE: u64 = 10;
/// In seconds, see [`Table::is_stale`].
const STALE: u32 = 24 * 60 * 60;
/// How many uses count, at most, towards staying.
pub(super) const MAX_USES: u8 = 3;
/// How much content is evicted at most under one hold of the lock that the table is behind: about a tenth of a millisecond.
pub(super) const STEP: usize = 64;
/// How many entries may buy another round in such a step before others go in any case: where all of a million were used, nobody
/// waits until the table has looked at all of them.
const PATIENCE: usize = 512;

/// Content that the caller must delete: it is out of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Victim {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// What is written down of one blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// Seconds since 1970.
    pub(super) used: u32,
}

/// A reservation cannot be had even if everything unpinned were evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

/// All stored content by digest, with its size and use.
#[derive(Debug)]
pub(super) struct Table {
    cap: u64,
    reserved: u64,
    lingering: u64,
    slots: Slots,
    ghosts: Ghosts,
    pins: HashSet<Digest>,
    unsaved: Unsaved,
    /// What left the table since the sweep began.
    gone: Option<HashSet<Digest>>,
}

impl Table {
    /// An empty table. `pins` may name content that comes later.
    pub(super) fn new(cap: u64, pins: HashSet<Digest>) -> Self {
        let slots = Slots::default();
        Self { cap, reserved: 0, lingering: 0, slots, ghosts: Ghosts::default(), pins, unsaved: Unsaved::default(), gone: None }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of all content in the table.
    pub(super) fn bytes(&self) -> u64 {
        self.evictable() + self.slots.bytes(Queue::Pinned)
    }

    pub(super) fn cap(&self) -> u64 {
        self.cap
    }

    pub(super) fn size(&self, digest: &Digest) -> Option<u64> {
        self.slots.find(digest).map(|id| self.slots[id].size)
    }

    /// Counts a use. Whether the content is in the table.
    pub(super) fn touch(&mut self, digest: &Digest, now: u32) -> bool {
        let Some(id) = self.slots.find(digest) else { return false };
        let slot = &mut self.slots[id];
        slot.uses = (slot.uses + 1).min(MAX_USES);
        slot.used = now;
        if !std::mem::replace(&mut slot.dirty, true) {
            self.unsaved.add(digest, id);
        }
        true
    }

    /// Keeps `bytes` for content to come.
    pub(super) fn reserve(&mut self, bytes: u64) -> Result<Vec<Victim>, NoRoom> {
        self.reserve_in_steps(bytes, usize::MAX).map(|(victims, _)| victims)
    }

    /// The same, evicting `most` at most. Whether that was enough: only then anything is kept, and else it is to be called again.
    pub(super) fn reserve_in_steps(&mut self, bytes: u64, most: usize) -> Result<(Vec<Victim>, bool), NoRoom> {
        let fixed = self.reserved + self.lingering + self.slots.bytes(Queue::Pinned);
        if fixed.checked_add(bytes).is_none_or(|least| least > self.cap) {
            return Err(NoRoom);
        }
        let victims = self.make_room(bytes, most);
        let is_enough = self.used().saturating_add(bytes) <= self.cap;
        self.reserved += if is_enough { bytes } else { 0 };
        Ok((victims, is_enough))
    }

    /// How much is lacking for `bytes` more, before anything is evicted. `None` where they could not be had even if all
    /// unpinned content went, and `movable` bytes of what is reserved.
    pub(super) fn shortage(&self, bytes: u64, movable: u64) -> Option<u64> {
        let fixed = (self.reserved + self.lingering + self.slots.bytes(Queue::Pinned)).saturating_sub(movable);
        fixed.checked_add(bytes).filter(|least| *least <= self.cap)?;
        Some(self.used().saturating_add(bytes).saturating_sub(self.cap))
    }

    /// Gives back what was reserved.
    pub(super) fn release(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.reserved);
        self.reserved = self.reserved.saturating_sub(bytes);
    }

    /// Adds content whose file is there, or counts a use where it is known. What it drives out never includes itself; beyond
    /// [`STEP`] that goes with the next reservation.
    pub(super) fn admit(&mut self, digest: &Digest, size: u64, now: u32) -> Vec<Victim> {
        if self.touch(digest, now) {
            return Vec::new();
        }
        let mut victims: Vec<Victim> = self.displace(digest).into_iter().collect();
        victims.extend(self.make_room(size, STEP));
        let queue = if self.ghosts.take(digest) { Queue::Main } else { Queue::Small };
        self.slots.insert(digest, size, now, self.queue(digest, queue), true);
        victims
    }

    /// Puts back content whose file could not be deleted.
    pub(super) fn restore(&mut self, victim: Victim, now: u32) {
        if self.slots.occupant(&victim.digest).is_none() {
            self.slots.insert(&victim.digest, victim.size, now, self.queue(&victim.digest, Queue::Main), true);
        }
    }

    /// Takes content out because it is to be deleted or is no longer there. Its size, where it was known.
    pub(super) fn remove(&mut self, digest: &Digest) -> Option<u64> {
        self.note_gone(digest);
        self.slots.find(digest).map(|id| self.slots.remove(id).1)
    }

    /// Evicts at most `most` of what is too much; there may be, once evicted content turns out to linger.
    pub(super) fn trim(&mut self, most: usize) -> Vec<Victim> {
        self.make_room(0, most)
    }

    /// Whether the cap holds.
    pub(super) fn fits(&self) -> bool {
        self.used() <= self.cap
    }

    /// Evicts at least `bytes` because the file system lacks them, or `most` of what that takes; nothing where there is not that
    /// much to evict.
    pub(super) fn free(&mut self, bytes: u64, most: usize) -> Vec<Victim> {
        let (mut victims, mut freed, mut patience) = (Vec::new(), 0, PATIENCE);
        while freed < bytes && bytes - freed <= self.evictable() && victims.len() < most {
            let Some(victim) = self.evict(&mut patience) else { break };
            freed += victim.size;
            victims.push(victim);
        }
        victims
    }

    /// Keeps content from eviction, now or once it is there.
    pub(super) fn pin(&mut self, digest: &Digest) {
        self.pins.insert(*digest);
        if let Some(id) = self.slots.find(digest) {
            self.slots.renew(id, Queue::Pinned);
        }
    }

    /// Lets content be evicted again. What its pin kept too much of goes with the next reservation.
    pub(super) fn unpin(&mut self, digest: &Digest) {
        self.pins.remove(digest);
        if let Some(id) = self.slots.find(digest).filter(|&id| self.slots[id].queue == Queue::Pinned) {
            self.slots.renew(id, Queue::Main);
        }
    }

    pub(super) fn is_pinned(&self, digest: &Digest) -> bool {
        self.pins.contains(digest)
    }

    /// `bytes` of evicted content are still held open by readers, and so still on the disk.
    pub(super) fn linger(&mut self, bytes: u64) {
        self.lingering += bytes;
    }

    /// The readers of `bytes` of evicted content are gone.
    pub(super) fn lingered(&mut self, bytes: u64) {
        self.lingering = self.lingering.saturating_sub(bytes);
    }

    /// From now on until [`Table::end_sweep`] it is noted what leaves, so that the sweep does not bring it back.
    pub(super) fn begin_sweep(&mut self) {
        self.gone = Some(HashSet::new());
    }

    /// Adds content that was there when the process started, as older than everything in the table: it is to be called with
    /// the content used last first. Beyond the cap, it is what goes.
    pub(super) fn load(&mut self, found: &Use) -> Option<Victim> {
        let gone = self.gone.as_ref().is_some_and(|gone| gone.contains(&found.digest));
        if gone || self.slots.occupant(&found.digest).is_some() {
            return None;
        }
        let queue = self.queue(&found.digest, Queue::Main);
        if queue == Queue::Main && self.used().saturating_add(found.size) > self.cap {
            return Some(Victim { digest: found.digest, size: found.size });
        }
        self.slots.insert(&found.digest, found.size, found.used, queue, false);
        None
    }

    /// The sweep is over.
    pub(super) fn end_sweep(&mut self) {
        self.gone = None;
    }

    /// Up to `most` uses that were not written down yet, neighbours in the index together. Fewer only where no more are left.
    pub(super) fn take_uses(&mut self, most: usize) -> Vec<Use> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(id) = self.unsaved.take()
        {
            if let Some(slot) = self.slots.live(id).filter(|slot| slot.dirty) {
                slot.dirty = false;
                taken.push(Use { digest: slot.digest(), size: slot.size, used: slot.used });
            }
        }
        taken
    }

    fn evictable(&self) -> u64 {
        self.slots.bytes(Queue::Small) + self.slots.bytes(Queue::Main)
    }

    fn used(&self) -> u64 {
        self.bytes() + self.reserved + self.lingering
    }

    fn queue(&self, digest: &Digest, unpinned: Queue) -> Queue {
        if self.pins.contains(digest) { Queue::Pinned } else { unpinned }
    }

    fn make_room(&mut self, bytes: u64, most: usize) -> Vec<Victim> {
        let (mut victims, mut patience) = (Vec::new(), PATIENCE);
        while self.used().saturating_add(bytes) > self.cap && victims.len() < most {
            let Some(victim) = self.evict(&mut patience) else { break };
            victims.push(victim);
        }
        victims
    }

    fn displace(&mut self, digest: &Digest) -> Option<Victim> {
        let id = self.slots.occupant(digest)?;
        Some(self.take(id))
    }

    /// Each round either evicts, or takes one of an entry's few uses.
    fn evict(&mut self, patience: &mut usize) -> Option<Victim> {
        loop {
            let small_is_full = self.slots.bytes(Queue::Small) > self.cap / SMALL_SHARE;
            let id = match (self.slots.oldest(Queue::Small), self.slots.oldest(Queue::Main)) {
                (Some(small), None) => small,
                (Some(small), Some(main)) if small_is_full && !self.is_stale(main, small) => small,
                (_, main) => main?,
            };
            let slot = &mut self.slots[id];
            if slot.uses == 0 || *patience == 0 {
                return Some(self.take(id));
            }
            *patience -= 1;
            slot.uses = if slot.queue == Queue::Small { 0 } else { slot.uses - 1 };
            self.slots.renew(id, Queue::Main);
        }
    }

    /// Whether the one entry was last used so long before the other that it is no better for having been used again.
    fn is_stale(&self, id: u32, than: u32) -> bool {
        self.slots[id].used.saturating_add(STALE) < self.slots[than].used
    }

    fn take(&mut self, id: u32) -> Victim {
        let was_new = self.slots[id].queue == Queue::Small;
        let (digest, size) = self.slots.remove(id);
        if was_new {
            self.ghosts.remember(&digest);
        }
        self.note_gone(&digest);
        Victim { digest, size }
    }

    fn note_gone(&mut self, digest: &Digest) {
        if let Some(gone) = &mut self.gone {
            gone.insert(*digest);
        }
    }
}

#[cfg(test)]
mod tests;
