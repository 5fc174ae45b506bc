//! Downloads that wait for somebody to take them up again: which there are, and which go first.
//!
//! A name is either in use by one download (or by whoever deletes its files), or parked, or free. So no file is ever
//! written by two. What is parked keeps its room reserved, and gives it up before any content goes.

use std::collections::HashMap;
use std::sync::MutexGuard;
use std::time::{Duration, SystemTime};

use super::content::{Content, lock};
use super::layout::{Layout, Leftover, Name};
use super::trouble::DELETING;
use crate::oci::{Digest, RegistryName};

/// More are not kept.
const MOST: usize = 256;
/// What nobody took up for so long is not kept.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Which names are taken. Pure.
#[derive(Debug, Default)]
pub(super) struct Parked {
    /// `None` where one is in use.
    entries: HashMap<Name, Option<Entry>>,
    /// Those in use whose files could not be deleted.
    undeleted: Vec<Name>,
}

/// A parked download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The room it keeps.
    pub(super) reserved: u64,
    pub(super) since: SystemTime,
}

/// What a name that is now in use was before.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    Free,
    Parked(Entry),
    /// By another; it still is.
    InUse,
}

impl Parked {
    pub(super) fn claim(&mut self, name: &Name) -> Claim {
        match self.entries.insert(name.clone(), None) {
            None => Claim::Free,
            Some(Some(entry)) => Claim::Parked(entry),
            Some(None) => Claim::InUse,
        }
    }

    /// A name in use is parked.
    pub(super) fn park(&mut self, name: Name, entry: Entry) {
        self.entries.insert(name, Some(entry));
    }

    /// A name in use is free.
    pub(super) fn free(&mut self, name: &Name) {
        self.entries.remove(name);
    }

    pub(super) fn holds(&self, name: &Name) -> bool {
        self.entries.get(name).is_some_and(Option::is_some)
    }

    /// The room that all of them keep.
    pub(super) fn reserved(&self) -> u64 {
        self.all().map(|(_, entry)| entry.reserved).sum()
    }

    /// The one that waits for longest, now in use.
    fn claim_oldest(&mut self) -> Option<(Name, Entry)> {
        let (name, entry) = self.all().min_by_key(|(name, entry)| (entry.since, (*name).clone()))?;
        let name = name.clone();
        self.entries.insert(name.clone(), None);
        Some((name, entry))
    }

    /// As [`Parked::claim_oldest`], where that is too old or there are too many.
    fn claim_surplus(&mut self, now: SystemTime) -> Option<(Name, Entry)> {
        let too_old = |entry: Entry| now.duration_since(entry.since).is_ok_and(|age| age > MAX_AGE);
        let too_many = self.all().count() > MOST;
        if too_many || self.all().any(|(_, entry)| too_old(entry)) { self.claim_oldest() } else { None }
    }

    fn all(&self) -> impl Iterator<Item = (&Name, Entry)> {
        self.entries.iter().filter_map(|(name, entry)| Some((name, (*entry)?)))
    }
}

impl Content {
    pub(super) fn parked(&self) -> MutexGuard<'_, Parked> {
        lock(&self.parked)
    }

    /// Takes a name into use for a new download. What was parked under it goes. `None` where it is in use, or the disk does
    /// not let its files be deleted.
    pub(super) fn claim(&self, registry: &RegistryName, digest: &Digest) -> Option<Name> {
        let name = Layout::kept_name(registry, digest);
        let claim = self.parked().claim(&name);
        let reserved = match claim {
            Claim::InUse => return None,
            Claim::Free => 0,
            Claim::Parked(entry) => entry.reserved,
        };
        self.release(reserved);
        self.delete_kept(&name).then_some(name)
    }

    /// Deletes what is parked for content that is stored now, or is wanted no more.
    pub(super) fn forget_parked(&self, registry: &RegistryName, digest: &Digest) {
        let name = Layout::kept_name(registry, digest);
        let claim = self.parked().claim(&name);
        match claim {
            Claim::InUse => {}
            Claim::Free => self.parked().free(&name),
            Claim::Parked(entry) => {
                self.discard_kept(&name, entry.reserved);
            }
        }
    }

    /// Deletes the files of a name in use, frees it, and gives its room back. Whether they are gone.
    pub(super) fn discard_kept(&self, name: &Name, reserved: u64) -> bool {
        let deleted = self.delete_kept(name);
        if deleted {
            self.parked().free(name);
        }
        self.release(reserved);
        deleted
    }

    /// Deletes the files that could not be deleted before.
    pub(super) fn delete_kept_again(&self) {
        let undeleted = std::mem::take(&mut self.parked().undeleted);
        for name in undeleted {
            self.discard_kept(&name, 0);
        }
    }

    /// Parks what is in use.
    pub(super) fn park(&self, name: Name, reserved: u64) {
        self.parked().park(name, Entry { reserved, since: SystemTime::now() });
        self.drop_surplus(SystemTime::now());
    }

    /// Deletes what waits for too long, and what is too much.
    pub(super) fn drop_surplus(&self, now: SystemTime) {
        loop {
            let surplus = self.parked().claim_surplus(now);
            let Some((name, entry)) = surplus else { return };
            self.discard_kept(&name, entry.reserved);
        }
    }

    /// Deletes parked downloads, those that wait for longest first, until `enough` says so. How much room they kept.
    pub(super) fn drop_parked(&self, mut enough: impl FnMut(u64) -> bool) -> u64 {
        let mut freed = 0;
        while !enough(freed) {
            let oldest = self.parked().claim_oldest();
            let Some((name, entry)) = oldest else { break };
            freed += if self.discard_kept(&name, entry.reserved) { entry.reserved } else { 0 };
        }
        freed
    }

    /// Deletes the files of a name that is neither in use nor parked.
    pub(super) fn delete_unparked(&self, name: &Name) {
        let mut parked = self.parked();
        if !parked.entries.contains_key(name) {
            parked.claim(name);
            drop(parked);
            self.discard_kept(name, 0);
        }
    }

    /// Finds what earlier runs of the process left to be taken up. What has no room any more is left for the sweep.
    pub(super) fn find_parked(&self) {
        let now = SystemTime::now();
        let mut found: Vec<(Name, Entry)> = self.kept_names().into_iter().filter_map(|name| self.find_kept(name)).collect();
        found.retain(|(_, entry)| now.duration_since(entry.since).unwrap_or_default() <= MAX_AGE);
        found.sort_unstable_by_key(|(_, entry)| std::cmp::Reverse(entry.since));
        for (name, entry) in found.into_iter().take(MOST) {
            if self.table().shortage(entry.reserved, 0) == Some(0) && self.table().reserve(entry.reserved).is_ok() {
                self.parked().park(name, entry);
            }
        }
    }

    fn kept_names(&self) -> Vec<Name> {
        let leftovers = self.layout.leftovers().unwrap_or_else(|error| {
            self.failed("sweep", "cannot list what is unfinished in", self.layout.root(), error);
            Vec::new()
        });
        let name = |leftover| if let Leftover::Kept(name) = leftover { Some(name) } else { None };
        let mut names: Vec<Name> = leftovers.into_iter().filter_map(name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn find_kept(&self, name: Name) -> Option<(Name, Entry)> {
        let (note, file) = self.read_note(&name)?;
        let written = self.disk.metadata(&file).and_then(|metadata| metadata.modified()).ok()?;
        let is_its_own = Layout::kept_name(&note.registry, &note.digest) == name;
        let entry = Entry { reserved: note.length, since: written };
        (is_its_own && self.disk.open(&self.layout.kept(&name)).is_ok()).then_some((name, entry))
    }

    /// The note first: a file without one is of no use to anybody, whatever happens next. Where the disk does not let it, the
    /// name stays in use until [`Content::delete_kept_again`]: nobody takes up what was to go. Whether both are gone.
    fn delete_kept(&self, name: &Name) -> bool {
        for path in [self.layout.note(name), self.layout.kept(name)] {
            if let Err(error) = self.disk.remove(&path) {
                self.failed("delete", "cannot delete", &path, error);
                self.parked().undeleted.push(name.clone());
                return false;
            }
        }
        self.worked(DELETING);
        true
    }
}

#[cfg(test)]
mod tests;
