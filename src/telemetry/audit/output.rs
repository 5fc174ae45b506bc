//! Where the lines go: standard output, or a file (`file`).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

/// Pipes keep what is written at once in one piece up to this many bytes (pipe(7)).
const AT_ONCE: usize = 4096;

/// Where the audit log's lines go.
pub(super) trait Output: Send {
    /// Writes the beginning of `lines`, and says how many bytes of it.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize>;

    /// Whether it is time for a new file. What is no file never is.
    fn is_full(&self) -> bool {
        false
    }

    /// Begins a new file. After an error the old one is still written to.
    fn rotate(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Opens the file anew, where another or none is now under its name. Says whether it did. After an error the old one is
    /// still written to.
    fn reopen(&mut self) -> io::Result<bool> {
        Ok(false)
    }
}

/// Standard output. It is not locked: the access log is written to it by another thread.
pub(super) struct Stdout(File);

impl Stdout {
    /// # Errors
    /// Standard output is closed.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self::of(io::stdout().as_fd().try_clone_to_owned()?.into()))
    }

    pub(super) fn of(file: File) -> Self {
        Self(file)
    }
}

impl Output for Stdout {
    /// Whole lines, so that those of the access log do not come between.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let ends = |byte: &u8| *byte == b'\n';
        let end = lines[..lines.len().min(AT_ONCE)].iter().rposition(ends).or_else(|| lines.iter().position(ends));
        self.0.write(&lines[..end.map_or(lines.len(), |end| end + 1)])
    }
}
