//! Is an audit log what was written? Reads its files in order and follows the chain.
//!
//! A change, removal or insertion before the last link shows, and so does a cut at the end where the caller knows a hash that
//! must be in it. Who can write to the file can also make a new chain: only a hash that was kept elsewhere tells.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::file::numbered;
use super::link::{Hash, Link};

/// No line of a log is this long, in bytes.
const MAX_LINE: u64 = 1 << 20;

/// What was found in a log that is as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Number of the first link; what was before it is in none of the files.
    pub first: u64,
    /// Number of the last link.
    pub last: u64,
    /// Its hash.
    pub head: Hash,
    /// How many lines are chained.
    pub records: u64,
    /// By how many links.
    pub links: u64,
    /// How many of the lines a crash had left unchained; the last of each such group may be cut short.
    pub adopted: u64,
    /// How many records were lost, as the log itself says.
    pub lost: u64,
    /// The lines at the end that are not chained yet.
    pub tail: Option<Tail>,
}

/// Lines at the end of a log that no link covers: the proxy is at work, or was killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tail {
    /// The file they are in.
    pub file: PathBuf,
    /// The first of them, from 1.
    pub line: u64,
    /// How many there are.
    pub lines: u64,
    /// Whether the last one is cut short.
    pub torn: bool,
}

/// The first place where a log is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {problem}", .file.display())]
pub struct Broken {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u64,
    /// What is wrong there.
    pub problem: String,
}

/// Why a log is not found to be right.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It is not what was written.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// A file cannot be read.
    #[error("{} cannot be read: {error}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The files of the log at `path` that are there, the oldest first.
///
/// # Errors
/// The folder cannot be read.
pub fn rotated(path: &Path) -> Result<Vec<PathBuf>, VerifyError> {
    let mut files = vec![path.to_owned()];
    let unreadable = |error| VerifyError::Unreadable { file: path.to_owned(), error };
    while numbered(path, files.len()).try_exists().map_err(unreadable)? {
        files.push(numbered(path, files.len()));
    }
    files.reverse();
    Ok(files)
}

/// Checks the files of one log, given in the order in which they were written. `head` is a hash that must be in the chain,
/// as the metric `roadstead_audit_chain_head` gave it once. Blocks on the disk.
///
/// # Errors
/// The first place where something was changed, removed or inserted, or the end where the head is not in the chain; or a file
/// cannot be read.
pub fn verify(files: &[PathBuf], head: Option<Hash>) -> Result<Verified, VerifyError> {
    let mut check = Check::new(head);
    for path in files {
        let unreadable = |error| VerifyError::Unreadable { file: path.clone(), error };
        let mut lines = BufReader::new(File::open(path).map_err(unreadable)?);
        check.begin(path);
        let mut line = Vec::new();
        while (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line).map_err(unreadable)? > 0 {
            check.line(&line)?;
            line.clear();
        }
    }
    Ok(check.end()?)
}

/// A place in the files.
#[derive(Clone, Debug, Default)]
struct Spot {
    file: PathBuf,
    line: u64,
}

impl Spot {
    fn broken(&self, problem: impl Into<String>) -> Broken {
        Broken { file: self.file.clone(), line: self.line, problem: problem.into() }
    }
}

/// How far a check has come.
pub(super) struct Check {
    found: Verified,
    /// The line that was read last.
    at: Spot,
    /// The hash that must be met, while it was not.
    wanted: Option<Hash>,
    /// The lines since the last link.
    open: Open,
}

/// Lines that wait for their link.
#[derive(Default)]
struct Open {
    hasher: Sha256,
    lines: u64,
    /// The first of them.
    first: Spot,
    /// The first of them that is no record.
    odd: Option<Spot>,
    /// Whether the last one has no end.
    torn: bool,
}

impl Check {
    pub(super) fn new(head: Option<Hash>) -> Self {
        Self { found: Verified::default(), at: Spot::default(), wanted: head, open: Open::default() }
    }

    pub(super) fn begin(&mut self, file: &Path) {
        self.at = Spot { file: file.to_owned(), line: 0 };
    }

    /// The next line, with its newline where it has one.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), Broken> {
        self.at.line += 1;
        if self.at.line == 1 && !Link::is_begun(line) {
            return Err(self.at.broken("a log begins with a link of the chain, and this file does not: its beginning is missing"));
        }
        match line.strip_suffix(b"\n").and_then(Link::parse) {
            Some(link) => self.close(&link),
            None => {
                self.add(line);
                Ok(())
            }
        }
    }

    fn add(&mut self, line: &[u8]) {
        let open = &mut self.open;
        if open.lines == 0 {
            open.first = self.at.clone();
        }
        open.lines += 1;
        open.hasher.update(line);
        open.torn = !line.ends_with(b"\n");
        // A link that was not ended by its newline, and then was written on, is none that was cut short.
        let odd = if open.torn { holds_link(line) } else { !is_record(line) };
        if odd {
            open.odd.get_or_insert_with(|| self.at.clone());
        }
    }

    fn close(&mut self, link: &Link) -> Result<(), Broken> {
        let open = std::mem::take(&mut self.open);
        let found = &mut self.found;
        if let Some(problem) = problem(link, &open, (found.links > 0).then_some(found)) {
            // What no writer of ours wrote is nearer to the cause than the batch's beginning.
            let spot = open.odd.as_ref().or((open.lines > 0).then_some(&open.first)).unwrap_or(&self.at);
            return Err(spot.broken(format!(
                "{problem} (link {} on line {} of {})",
                link.number,
                self.at.line,
                self.at.file.display()
            )));
        }
        if found.links == 0 {
            found.first = link.number;
            // What the first file goes on from is as good as in it.
            self.wanted = self.wanted.filter(|wanted| *wanted != link.previous);
        }
        (found.last, found.head) = (link.number, link.hash);
        found.links += 1;
        found.records += link.records;
        found.adopted += link.adopted;
        found.lost += link.lost;
        self.wanted = self.wanted.filter(|wanted| *wanted != link.hash);
        Ok(())
    }

    pub(super) fn end(mut self) -> Result<Verified, Broken> {
        if let Some(odd) = &self.open.odd {
            return Err(odd.broken("this line is neither a record nor a link of the chain"));
        }
        if self.found.links == 0 {
            return Err(self.at.broken("there is no link of the chain in it"));
        }
        if let Some(head) = self.wanted {
            return Err(self.at.broken(format!("the log ends without the link {head}: lines are missing, or it is another log")));
        }
        let Open { lines, first, torn, .. } = self.open;
        self.found.tail = (lines > 0).then_some(Tail { file: first.file, line: first.line, lines, torn });
        Ok(self.found)
    }
}

/// What is wrong with `link` after these lines and the links before it, if anything is.
fn problem(link: &Link, open: &Open, before: Option<&Verified>) -> Option<String> {
    if let Some(before) = before {
        let expected = before.last + 1;
        if link.number != expected {
            return Some(format!("link {expected} of the chain is to come here: lines were removed, repeated or moved"));
        }
        if link.previous != before.head {
            return Some("this link goes on from another one than that before it".to_owned());
        }
    }
    if link.records != open.lines {
        return Some(format!("from here on there were {} lines before their link, and there are {}", link.records, open.lines));
    }
    (link.hash_over(&open.hasher) != link.hash).then(|| "from here on something was changed before the next link".to_owned())
}

fn is_record(line: &[u8]) -> bool {
    line.starts_with(b"{\"schema\":") && serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok()
}

/// Whether a line without an end begins with a whole link.
fn holds_link(line: &[u8]) -> bool {
    let ends = line.windows(2).enumerate().filter(|(_, pair)| pair == b"}}").map(|(at, _)| at + 2);
    ends.filter(|end| *end < line.len()).any(|end| Link::parse(&line[..end]).is_some())
}
