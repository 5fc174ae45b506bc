//! Standard output, which the access log and the audit log may share.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

/// Pipes keep what is written at once in one piece up to this many bytes (pipe(7)).
const AT_ONCE: usize = 4096;

/// Standard output, for one of several threads that write to it. It is not locked.
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

impl Write for Stdout {
    /// Whole lines, so that those of other threads do not come between.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let ends = |byte: &u8| *byte == b'\n';
        let end = lines[..lines.len().min(AT_ONCE)].iter().rposition(ends).or_else(|| lines.iter().position(ends));
        self.0.write(&lines[..end.map_or(lines.len(), |end| end + 1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
