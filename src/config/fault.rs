//! What is wrong in a configuration file: where, what, and what to do about it.

use std::fmt;
use std::path::Path;

/// One thing wrong in the file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Fault {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1. `None` where the fault is not in one line.
    pub line: Option<usize>,
    /// The key with its sections, `registry.realm`. Empty where the fault belongs to no key.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

/// Something in the file that works and is yet likely not meant, or dangerous. It keeps nothing from starting.
pub type Warning = Fault;

/// Everything wrong in a file, by line. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl Fault {
    pub(super) fn new(file: &Path, line: Option<usize>, key: &str, complaint: Complaint) -> Self {
        let Complaint { message, remedy } = complaint;
        Self { file: file.display().to_string(), line, key: key.to_owned(), message, remedy }
    }
}

impl fmt::Display for Fault {
    /// `roadstead.toml:12: cache.max_size: what is wrong; what to do`, always one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}; {}", self.message, self.remedy)
    }
}

impl fmt::Display for Faults {
    /// One line per fault, without a newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let before = if index == 0 { "" } else { "\n" };
            write!(f, "{before}{fault}")?;
        }
        Ok(())
    }
}

/// What is wrong with a value and what to do, before it is known where the value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) message: String,
    pub(super) remedy: String,
}

impl Complaint {
    pub(super) fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into() }
    }
}

/// The word among `candidates` that `word` was most likely meant to be, if it is near enough to any.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let far = 1 + word.chars().count() / 3;
    let measured = candidates.into_iter().map(|candidate| (distance(word, candidate), candidate));
    measured.filter(|(distance, _)| *distance <= far).min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// Edit distance after Levenshtein.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, a) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_found_and_a_far_one_is_not_offered() {
        let keys = ["directory", "max_size", "memory"];
        for (word, key) in [
            ("max-size", Some("max_size")),
            ("maxsize", Some("max_size")),
            ("directroy", Some("directory")),
            ("size", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, keys), key, "{word}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
