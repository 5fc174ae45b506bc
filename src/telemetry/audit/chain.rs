//! The chain as it is written: which lines wait for their link, and what the next one says.

use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::link::{Hash, Link};

/// A link comes after so many records at the latest.
const MOST_RECORDS: usize = 256;
/// A record waits no longer than this for its link.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A chain and the lines since its last link.
#[derive(Clone, Debug, Default)]
pub(super) struct Chain {
    /// Of the next link.
    number: u64,
    /// Of the last link.
    head: Hash,
    /// Over the lines since then.
    hasher: Sha256,
    records: usize,
    adopted: u64,
    lost: u64,
    /// When the first of these lines came.
    since: Option<Instant>,
}

impl Chain {
    /// The chain that goes on after `link`.
    pub(super) fn after(link: &Link) -> Self {
        Self { number: link.number + 1, head: link.hash, ..Self::default() }
    }

    /// Takes in whole lines that an earlier run has left without a link.
    pub(super) fn adopt(&mut self, lines: &[u8]) {
        self.hasher.update(lines);
        self.adopted += lines.iter().filter(|byte| **byte == b'\n').count() as u64;
    }

    /// Takes in the lines of so many records, each with its newline.
    pub(super) fn add(&mut self, lines: &[u8], records: usize, now: Instant) {
        self.hasher.update(lines);
        self.records += records;
        self.since.get_or_insert(now);
    }

    /// Notes that so many records were lost.
    pub(super) fn lose(&mut self, records: u64, now: Instant) {
        self.lost += records;
        if records > 0 {
            self.since.get_or_insert(now);
        }
    }

    /// How many more records there may be before the next link.
    pub(super) fn room(&self) -> usize {
        MOST_RECORDS.saturating_sub(self.records)
    }

    /// Whether there is anything for a link to say.
    pub(super) fn is_open(&self) -> bool {
        self.records > 0 || self.adopted + self.lost > 0
    }

    /// When the next link is to be written; never while there is nothing to say.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + LONGEST_WAIT)
    }

    /// Ends the batch: writes its link, with a newline, to `lines`.
    pub(super) fn close(&mut self, lines: &mut Vec<u8>) -> Link {
        let (records, adopted) = (self.records as u64 + self.adopted, self.adopted);
        let open = Link { number: self.number, records, adopted, lost: self.lost, previous: self.head, hash: Hash::default() };
        let link = Link::seal(open, &self.hasher);
        lines.extend_from_slice(link.line().as_bytes());
        lines.push(b'\n');
        *self = Self::after(&link);
        link
    }
}
