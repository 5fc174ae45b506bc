//! The audit log as a file: opened where it left off, begun anew by size or when somebody moved it away.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::chain::Chain;
use super::error::{AuditError, Problem};
use super::link::Link;
use super::output::Output;

/// The last link is looked for in so many bytes at the end, and then in more.
const WINDOW: u64 = 1 << 20;

/// A log's current file, held by a lock.
pub(super) struct LogFile {
    path: PathBuf,
    rotate: Option<u64>,
    keep: usize,
    file: File,
    size: u64,
}

impl LogFile {
    /// Opens the log at `path`, making it with mode 0600 where it is missing, and finds where its chain stands. A last line
    /// that was cut short is ended.
    pub(super) fn open(path: &Path, rotate: Option<u64>, keep: usize) -> Result<(Self, Chain), AuditError> {
        let opened = open(path, true).and_then(|file| Ok((read(&file)?, file)));
        let ((link, tail), file) = opened.map_err(|problem| AuditError::new(path, problem))?;
        let mut chain = match link {
            Some(link) => Chain::after(&link),
            None => chain_before(&numbered(path, 1))?,
        };
        chain.adopt(&tail);
        let size = file.metadata().map_err(|error| AuditError::new(path, error))?.len();
        Ok((Self { path: path.to_owned(), rotate, keep, file, size }, chain))
    }

    /// Whether nothing is in the file yet.
    pub(super) fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Turns to the file that is now under the name; there must be none, or an empty one.
    fn begin(&mut self) -> io::Result<()> {
        let file = open(&self.path, true).map_err(io::Error::other)?;
        if file.metadata()?.len() > 0 {
            return Err(io::Error::other("the file that took its place is not empty"));
        }
        (self.file, self.size) = (file, 0);
        Ok(())
    }
}

impl Output for LogFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let written = self.file.write(lines)?;
        self.size += written as u64;
        Ok(written)
    }

    fn is_full(&self) -> bool {
        self.rotate.is_some_and(|most| self.size >= most)
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut free = 1;
        while free < self.keep && numbered(&self.path, free).try_exists()? {
            free += 1;
        }
        for number in (1..free).rev() {
            std::fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1))?;
        }
        match std::fs::rename(&self.path, numbered(&self.path, 1)) {
            // Somebody moved it away, or an earlier attempt did.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.begin()
    }

    fn reopen(&mut self) -> io::Result<bool> {
        let own = self.file.metadata()?;
        match std::fs::metadata(&self.path) {
            Ok(there) if (there.dev(), there.ino()) == (own.dev(), own.ino()) => Ok(false),
            _ => self.begin().map(|()| true),
        }
    }
}

/// `FILE.1`, the one before the current, and so on.
pub(super) fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn open(path: &Path, create: bool) -> Result<File, Problem> {
    let file = OpenOptions::new().read(true).append(true).create(create).mode(0o600).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(Problem::NotAFile);
    }
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Problem::InUse),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// The last link in a log's file, and the lines after it, all ended.
fn read(mut file: &File) -> Result<(Option<Link>, Vec<u8>), Problem> {
    let mut beginning = Vec::new();
    file.take(64).read_to_end(&mut beginning)?;
    if !Link::is_begun(&beginning) {
        return Err(Problem::Foreign);
    }
    let mut size = file.metadata()?.len();
    let mut last = [b'\n'];
    if size > 0 {
        file.read_exact_at(&mut last, size - 1)?;
    }
    if last != [b'\n'] {
        file.write_all(b"\n")?;
        size += 1;
    }
    let mut window = WINDOW;
    loop {
        let start = size.saturating_sub(window);
        let mut lines = vec![0; usize::try_from(size - start).map_err(io::Error::other)?];
        file.read_exact_at(&mut lines, start)?;
        if let Some((link, end)) = last_link(&lines) {
            return Ok((Some(link), lines.split_off(end)));
        }
        if start == 0 {
            return Ok((None, lines));
        }
        window *= 4;
    }
}

/// The last link among these lines, and where the line after it begins.
fn last_link(lines: &[u8]) -> Option<(Link, usize)> {
    let mut end = lines.len();
    while let Some(line) = lines[..end].strip_suffix(b"\n") {
        let start = line.iter().rposition(|byte| *byte == b'\n').map_or(0, |before| before + 1);
        if let Some(link) = Link::parse(&line[start..]) {
            return Some((link, end));
        }
        end = start;
    }
    None
}

/// The chain that a log without a link goes on with: that of the file before it, whose last lines get their link now. A new
/// one where there is no such file.
fn chain_before(path: &Path) -> Result<Chain, AuditError> {
    let at = |problem: Problem| AuditError::new(path, problem);
    let file = match open(path, false) {
        Err(Problem::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(Chain::default()),
        file => file.map_err(at)?,
    };
    let (Some(link), tail) = read(&file).map_err(at)? else { return Ok(Chain::default()) };
    let mut chain = Chain::after(&link);
    chain.adopt(&tail);
    if chain.is_open() {
        let mut line = Vec::new();
        chain.close(&mut line);
        (&file).write_all(&line).map_err(|error| at(error.into()))?;
    }
    Ok(chain)
}
