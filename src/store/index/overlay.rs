//! Writes that are not durable yet, so that reads see them at once. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::database::Batch;
use super::{Key, Table};

/// What may wait for a disk that does not take it, in bytes. Records beyond are not written: losing one costs a question
/// to an upstream.
const MOST_WAITING: usize = 64 << 20;
/// What a waiting record takes besides key and value, roughly.
const OVERHEAD: usize = 100;

/// The newest value per key, in two layers: what waits, and what is just being committed.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    waiting: Batch,
    flight: Option<Arc<Batch>>,
    bytes: usize,
    writes: u64,
}

impl Overlay {
    /// Puts or removes a record. `false` where it is dropped because too much waits already; removals, and new values for
    /// records that wait, are always taken, so that nothing older comes back.
    pub(super) fn write(&mut self, key: Key, value: Option<Bytes>) -> bool {
        if self.bytes >= MOST_WAITING && value.is_some() && self.get(&key).is_none() {
            return false;
        }
        self.writes += 1;
        self.bytes += weight(&key, value.as_ref());
        let bytes = &mut self.bytes;
        let old_weight = |old: Option<Bytes>, key: &Key| weight(key, old.as_ref());
        match self.waiting.entry(key) {
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let old = entry.insert(value);
                *bytes -= old_weight(old, entry.key());
            }
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(value);
            }
        }
        true
    }

    /// What a key was last written to: `Some(None)` where it was removed, `None` where nothing waits.
    pub(super) fn get(&self, key: &Key) -> Option<Option<Bytes>> {
        let flight = || self.flight.as_ref().and_then(|flight| flight.get(key));
        self.waiting.get(key).or_else(flight).cloned()
    }

    /// All that waits in a table under a prefix.
    pub(super) fn scan(&self, table: Table, prefix: &[u8]) -> BTreeMap<Box<[u8]>, Option<Bytes>> {
        let mut found = BTreeMap::new();
        for layer in self.flight.as_deref().into_iter().chain([&self.waiting]) {
            let from = Key { table, bytes: prefix.into() };
            let within = layer.range(from..).take_while(|(key, _)| key.table == table && key.bytes.starts_with(prefix));
            found.extend(within.map(|(key, value)| (key.bytes.clone(), value.clone())));
        }
        found
    }

    /// What is written to may be another file from now on: for who reads, that is as good as a write.
    pub(super) fn begin_anew(&mut self) {
        self.writes += 1;
    }

    /// How many writes were taken so far.
    pub(super) fn writes(&self) -> u64 {
        self.writes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Begins the commit of all that waits.
    pub(super) fn take_off(&mut self) -> Arc<Batch> {
        debug_assert!(self.flight.is_none(), "one commit at a time");
        let batch = Arc::new(std::mem::take(&mut self.waiting));
        self.flight = Some(batch.clone());
        batch
    }

    /// The commit ended. What was not written waits again, below what came meanwhile.
    pub(super) fn land(&mut self, written: bool) {
        let Some(flight) = self.flight.take() else { return };
        if !written {
            let mut merged = Arc::unwrap_or_clone(flight);
            merged.append(&mut self.waiting);
            self.waiting = merged;
        }
        self.bytes = self.waiting.iter().map(|(key, value)| weight(key, value.as_ref())).sum();
    }
}

fn weight(key: &Key, value: Option<&Bytes>) -> usize {
    key.bytes.len() + value.map_or(0, Bytes::len) + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key { table: Table::Tags, bytes: name.as_bytes().into() }
    }

    fn value(text: &'static str) -> Option<Bytes> {
        Some(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn reads_see_what_waits_and_what_is_in_flight() {
        let mut overlay = Overlay::default();
        overlay.write(key("a1"), value("old"));
        overlay.write(key("a2"), value("old"));
        overlay.take_off();
        overlay.write(key("a1"), None);
        overlay.write(key("b"), value("new"));
        assert_eq!(overlay.get(&key("a1")), Some(None));
        assert_eq!(overlay.get(&key("a2")), Some(value("old")));
        assert_eq!(overlay.get(&key("c")), None);
        let found: Vec<_> = overlay.scan(Table::Tags, b"a").into_iter().collect();
        assert_eq!(found, [(b"a1".as_slice().into(), None), (b"a2".as_slice().into(), value("old"))]);
        assert!(overlay.scan(Table::Links, b"a").is_empty());
    }

    #[test]
    fn a_failed_commit_waits_again_below_newer_writes() {
        let mut overlay = Overlay::default();
        overlay.write(key("a"), value("old"));
        overlay.write(key("b"), value("old"));
        overlay.take_off();
        overlay.write(key("a"), value("new"));
        overlay.land(false);
        let batch = overlay.take_off();
        assert_eq!((batch[&key("a")].clone(), batch[&key("b")].clone()), (value("new"), value("old")));
        overlay.land(true);
        assert!(overlay.is_empty() && overlay.get(&key("b")).is_none());
        assert_eq!(overlay.bytes, 0);
    }

    #[test]
    fn only_so_much_waits() {
        let mut overlay = Overlay::default();
        let large = || Some(Bytes::from(vec![0; MOST_WAITING]));
        assert!(overlay.write(key("a"), large()));
        assert!(!overlay.write(key("b"), value("x")));
        assert!(overlay.write(key("b"), None), "a removal is taken");
        assert!(overlay.write(key("a"), value("x")), "a newer value is taken");
        assert!(overlay.write(key("c"), value("x")), "there is room again");
    }
}
