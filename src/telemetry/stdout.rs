//! Standard output, which the access log and the audit log may share.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};

/// Pipes keep what is written at once in one piece up to this many bytes (pipe(7)).
const AT_ONCE: usize = 4096;

/// Standard output, for one of several threads that write to it. It is not locked. Whoever shares it may have made it
/// non-blocking (open(2), `O_NONBLOCK`); a full one is waited for all the same.
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
        let lines = &lines[..end.map_or(lines.len(), |end| end + 1)];
        loop {
            match self.0.write(lines) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None)?;
                }
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rustix::fs::{OFlags, fcntl_setfl};
    use rustix::pipe::{fcntl_getpipe_size, pipe};

    use super::*;

    #[test]
    fn a_full_output_that_does_not_block_is_waited_for() {
        let (reader, writer) = pipe().unwrap();
        fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
        let lines = "a line\n".repeat(fcntl_getpipe_size(&writer).unwrap());
        let (written, mut stdout) = (lines.clone(), Stdout::of(writer.into()));
        let writing = std::thread::spawn(move || stdout.write_all(written.as_bytes()));
        let mut read = String::new();
        File::from(reader).read_to_string(&mut read).unwrap();
        writing.join().unwrap().unwrap();
        assert!(read == lines);
    }
}
