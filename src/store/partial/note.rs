//! What is written down beside a download that outlives the process. Pure.

use serde::{Deserialize, Serialize};

use crate::oci::{Algorithm, Digest, RegistryName, Span};
use crate::store::ranges::RangeSet;

/// Every note takes just this many bytes of its file.
///
/// It is written over the one before, by one call at offset 0. A process that is killed has either made that call or not: a page
/// is copied in one go. When the machine stops half-way, disks write a page whole or hardly ever not, and then the checksum
/// tells: the download starts anew. A new file moved over the old would be safe from that too, for three more calls and a
/// busy folder every time.
pub(super) const SIZE: usize = 4096;

const FORMAT: u32 = 1;
/// Of more runs than this, the shortest are left out: they are fetched again.
const MOST_RUNS: usize = 64;

/// Whose a file is, and which of its bytes are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct Note {
    format: u32,
    /// Which start of the machine it was written in.
    pub(in crate::store) boot: String,
    pub(in crate::store) registry: RegistryName,
    pub(in crate::store) digest: Digest,
    /// Of the whole content.
    pub(in crate::store) length: u64,
    /// There as long as the machine runs.
    written: Vec<(u64, u64)>,
    /// There whatever happens.
    durable: Vec<(u64, u64)>,
}

impl Note {
    pub(super) fn new(boot: &str, registry: &RegistryName, digest: &Digest, length: u64) -> Self {
        let (boot, registry, digest) = (boot.to_owned(), registry.clone(), *digest);
        Self { format: FORMAT, boot, registry, digest, length, written: Vec::new(), durable: Vec::new() }
    }

    /// A page that says which bytes are there: a checksum, the rest as JSON, and blanks.
    pub(super) fn encode(mut self, written: &RangeSet, durable: &RangeSet) -> Vec<u8> {
        let mut most = MOST_RUNS;
        loop {
            self.written = written.longest(most);
            self.durable = durable.longest(most);
            let json = serde_json::to_vec(&self).expect("strings and numbers always serialise");
            let mut page = format!("{}\n", checksum(&json)).into_bytes();
            page.extend(json);
            if page.len() <= SIZE {
                page.resize(SIZE, b' ');
                return page;
            }
            most /= 2;
        }
    }

    /// `None` where any of it is not as it was written, or in another form.
    pub(in crate::store) fn decode(page: &[u8]) -> Option<Self> {
        let (sum, json) = std::str::from_utf8(page).ok()?.split_once('\n')?;
        let json = json.trim_end_matches(' ');
        let note = (sum == checksum(json.as_bytes())).then(|| serde_json::from_str::<Self>(json).ok()).flatten()?;
        (note.format == FORMAT).then_some(note)
    }

    /// Which bytes to believe in a file of `size` bytes after a start of the machine, and which of them are durable.
    pub(super) fn believed(&self, boot: &str, size: u64) -> (RangeSet, RangeSet) {
        let end = size.min(self.length);
        let durable = set(&self.durable).clipped(end);
        let mut present = if self.boot == boot { set(&self.written).clipped(end) } else { RangeSet::default() };
        present.extend(&durable);
        (present, durable)
    }
}

fn set(runs: &[(u64, u64)]) -> RangeSet {
    let mut set = RangeSet::default();
    runs.iter().filter(|(start, end)| start < end).for_each(|&(start, end)| set.insert(Span::new(start, end)));
    set
}

fn checksum(json: &[u8]) -> String {
    Digest::of(Algorithm::Sha256, json).to_hex()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(runs: &[(u64, u64)]) -> RangeSet {
        set(runs)
    }

    fn note() -> Note {
        Note::new("this", &"localhost:5000".parse().unwrap(), &Digest::of(Algorithm::Sha512, b"x"), 1000)
    }

    #[test]
    fn a_note_says_after_each_kind_of_restart_what_is_there() {
        let page = note().encode(&runs(&[(0, 500), (600, 2000)]), &runs(&[(0, 100)]));
        let note = Note::decode(&page).unwrap();
        assert_eq!((page.len(), note.length, note.registry.as_str()), (SIZE, 1000, "localhost:5000"));
        assert_eq!(note.believed("this", 1000), (runs(&[(0, 500), (600, 1000)]), runs(&[(0, 100)])));
        assert_eq!(note.believed("this", 50), (runs(&[(0, 50)]), runs(&[(0, 50)])), "a file that is too short");
        assert_eq!(note.believed("other", 1000), (runs(&[(0, 100)]), runs(&[(0, 100)])));
    }

    #[test]
    fn nothing_of_a_torn_note_is_believed() {
        let page = note().encode(&runs(&[(0, 500)]), &RangeSet::default());
        for at in [0, 70, 90, 200] {
            let mut torn = page.clone();
            torn[at] ^= 1;
            assert_eq!(Note::decode(&torn), None, "byte {at}");
        }
        assert_eq!(Note::decode(&page[..150]), None);
        assert_eq!(Note::decode(&[0; SIZE]), None);
    }

    #[test]
    fn another_format_is_not_believed() {
        let page = Note { format: 2, ..note() }.encode(&runs(&[(0, 500)]), &RangeSet::default());
        assert_eq!(Note::decode(&page), None);
    }

    #[test]
    fn of_too_many_runs_the_longest_are_kept() {
        let mut many = runs(&[(u64::MAX - 9, u64::MAX)]);
        (0..1000).for_each(|i| many.insert(Span::new(i * 1_000_000_000_000, i * 1_000_000_000_000 + 1)));
        let note = Note::decode(&note().encode(&many, &many)).unwrap();
        assert!(note.written.len() > 10 && note.written.contains(&(u64::MAX - 9, u64::MAX)));
    }
}
