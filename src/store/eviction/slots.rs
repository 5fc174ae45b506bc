//! The entries of the eviction table: compact, found by digest, each in one of three queues.

use std::collections::HashMap;
use std::ops::{Index, IndexMut};

use crate::oci::Digest;

const NONE: u32 = u32::MAX;

/// Where an entry waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// New content that has yet to show that it is used again.
    Small,
    /// Content that was used again, or was there when the process started.
    Main,
    /// Content that stays.
    Pinned,
}

/// A digest in 40 bytes instead of 65: there may be a million.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Sha256([u8; 32]),
    Sha512(Box<[u8; 64]>),
}

/// One stored blob.
#[derive(Debug)]
pub(super) struct Slot {
    name: Name,
    pub(super) size: u64,
    /// Last use, in seconds since 1970.
    pub(super) used: u32,
    newer: u32,
    older: u32,
    pub(super) queue: Queue,
    /// Uses since it was last looked at for eviction, counted up to 3.
    pub(super) uses: u8,
    /// Whether its last use is yet to be written down.
    pub(super) dirty: bool,
    live: bool,
}

#[derive(Debug)]
struct List {
    newest: u32,
    oldest: u32,
    bytes: u64,
}

/// All entries. About 100 bytes each.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// By the first byte too: a map that grows moves all that is in it, and many small ones do so one by one.
    by_name: Vec<HashMap<Prefix, u32>>,
    len: usize,
    queues: [List; 3],
}

/// The first half of a SHA-256. Two contents that agree in it are told apart, and just not kept side by side.
type Prefix = [u8; 16];

fn prefix(digest: &Digest) -> Prefix {
    digest.bytes().first_chunk().copied().expect("a hash has at least 32 bytes")
}

fn first(digest: &Digest) -> usize {
    usize::from(digest.bytes()[0])
}

impl From<&Digest> for Name {
    fn from(digest: &Digest) -> Self {
        match digest {
            Digest::Sha256(hash) => Self::Sha256(*hash),
            Digest::Sha512(hash) => Self::Sha512(Box::new(*hash)),
        }
    }
}

impl Slot {
    pub(super) fn digest(&self) -> Digest {
        match &self.name {
            Name::Sha256(hash) => Digest::Sha256(*hash),
            Name::Sha512(hash) => Digest::Sha512(**hash),
        }
    }
}

impl Default for Slots {
    fn default() -> Self {
        let list = || List { newest: NONE, oldest: NONE, bytes: 0 };
        Self { slots: Vec::new(), free: Vec::new(), by_name: vec![HashMap::new(); 256], len: 0, queues: [list(), list(), list()] }
    }
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bytes(&self, queue: Queue) -> u64 {
        self.queues[queue as usize].bytes
    }

    pub(super) fn oldest(&self, queue: Queue) -> Option<u32> {
        Some(self.queues[queue as usize].oldest).filter(|&id| id != NONE)
    }

    pub(super) fn find(&self, digest: &Digest) -> Option<u32> {
        self.occupant(digest).filter(|&id| self[id].name == Name::from(digest))
    }

    /// The entry in whose place this digest would stand: its own or, by a freak, another's.
    pub(super) fn occupant(&self, digest: &Digest) -> Option<u32> {
        self.by_name[first(digest)].get(&prefix(digest)).copied()
    }

    /// Adds an entry at the new end of a queue, or at its old end. The digest must have no occupant.
    pub(super) fn insert(&mut self, digest: &Digest, size: u64, used: u32, queue: Queue, newest: bool) -> u32 {
        let name = Name::from(digest);
        let slot = Slot { name, size, used, newer: NONE, older: NONE, queue, uses: 0, dirty: false, live: true };
        let id = match self.free.pop() {
            Some(id) => {
                self[id] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 blobs are held")
            }
        };
        self.len += 1;
        self.by_name[first(digest)].insert(prefix(digest), id);
        if newest {
            self.link_newest(id)
        } else {
            self.link_oldest(id)
        }
        id
    }

    /// Takes an entry out. Its digest and size.
    pub(super) fn remove(&mut self, id: u32) -> (Digest, u64) {
        self.unlink(id);
        let slot = &mut self[id];
        (slot.live, slot.dirty) = (false, false);
        let (digest, size) = (slot.digest(), slot.size);
        slot.name = Name::Sha256([0; 32]);
        self.len -= 1;
        self.by_name[first(&digest)].remove(&prefix(&digest));
        self.free.push(id);
        (digest, size)
    }

    /// Moves an entry to the new end of a queue.
    pub(super) fn renew(&mut self, id: u32, queue: Queue) {
        self.unlink(id);
        self[id].queue = queue;
        self.link_newest(id);
    }

    /// The entry with this number, where it is still one.
    pub(super) fn live(&mut self, id: u32) -> Option<&mut Slot> {
        self.slots.get_mut(id as usize).filter(|slot| slot.live)
    }

    fn link_newest(&mut self, id: u32) {
        let queue = self[id].queue as usize;
        let before = self.queues[queue].newest;
        (self[id].newer, self[id].older) = (NONE, before);
        if before == NONE {
            self.queues[queue].oldest = id
        } else {
            self[before].newer = id
        }
        self.queues[queue].newest = id;
        self.queues[queue].bytes += self[id].size;
    }

    fn link_oldest(&mut self, id: u32) {
        let queue = self[id].queue as usize;
        let before = self.queues[queue].oldest;
        (self[id].newer, self[id].older) = (before, NONE);
        if before == NONE {
            self.queues[queue].newest = id
        } else {
            self[before].older = id
        }
        self.queues[queue].oldest = id;
        self.queues[queue].bytes += self[id].size;
    }

    fn unlink(&mut self, id: u32) {
        let (newer, older, queue) = (self[id].newer, self[id].older, self[id].queue as usize);
        if newer == NONE {
            self.queues[queue].newest = older
        } else {
            self[newer].older = older
        }
        if older == NONE {
            self.queues[queue].oldest = newer
        } else {
            self[older].newer = newer
        }
        self.queues[queue].bytes -= self[id].size;
    }
}

impl Index<u32> for Slots {
    type Output = Slot;

    fn index(&self, id: u32) -> &Slot {
        &self.slots[id as usize]
    }
}

impl IndexMut<u32> for Slots {
    fn index_mut(&mut self, id: u32) -> &mut Slot {
        &mut self.slots[id as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_stays_small() {
        assert!(size_of::<Slot>() <= 64, "{}", size_of::<Slot>());
        assert!(size_of::<(Prefix, u32)>() <= 20);
    }
}
