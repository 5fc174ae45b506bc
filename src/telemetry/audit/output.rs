//! Where the lines go: standard output, or a file (`file`).

use std::io::{self, Write};

use crate::telemetry::stdout::Stdout;

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

impl Output for Stdout {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        Write::write(self, lines)
    }
}
