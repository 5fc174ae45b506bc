//! The access log: one line per request, written by a thread of its own so that a slow output holds up no request.

mod buffer;
mod line;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::line::in_room;
use super::outcome::End;
use super::stdout::Stdout;
use super::{Metrics, Outcome};
use buffer::Buffer;

/// How long the program's end may wait for an output that does not keep up.
const LONGEST_FLUSH: Duration = Duration::from_secs(1);

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl LogFormat {
    /// Text on a terminal, JSON elsewhere.
    pub fn for_output(output: &impl IsTerminal) -> Self {
        if output.is_terminal() { Self::Text } else { Self::Json }
    }
}

/// Where access log lines go. Dropping it ends its thread, once all is written.
#[derive(Debug)]
pub struct AccessLog(Output);

#[derive(Debug)]
enum Output {
    Off,
    Memory(Arc<Mutex<Vec<String>>>),
    Thread(Arc<Buffer>, LogFormat),
}

impl AccessLog {
    /// No log.
    pub fn off() -> Self {
        Self(Output::Off)
    }

    /// A log that is kept in memory as JSON lines, for tests.
    pub fn memory() -> (Self, Arc<Mutex<Vec<String>>>) {
        let lines = Arc::new(Mutex::new(Vec::new()));
        (Self(Output::Memory(lines.clone())), lines)
    }

    /// A log on standard output. An output that fails ends the log, not the program.
    pub fn stdout() -> Self {
        let format = LogFormat::for_output(&io::stdout());
        match Stdout::open() {
            Ok(output) => Self::to(output, format),
            Err(error) => {
                tracing::warn!(%error, "no standard output for the access log; going on without it");
                Self::off()
            }
        }
    }

    /// A log on `output`, which a thread writes whole lines to. Lines that come close together are written together; one that
    /// comes alone is written at once.
    pub fn to(output: impl Write + Send + 'static, format: LogFormat) -> Self {
        let buffer = Arc::new(Buffer::default());
        let lines = buffer.clone();
        match std::thread::Builder::new().name("access-log".to_owned()).spawn(move || write_out(&lines, output)) {
            Ok(_) => Self(Output::Thread(buffer, format)),
            Err(error) => {
                tracing::warn!(%error, "no thread for the access log; going on without it");
                Self::off()
            }
        }
    }

    /// Waits until every line so far is written, 1 s at most. Blocks; for the end of the program.
    pub(super) fn flush(&self) {
        if let Output::Thread(buffer, _) = &self.0 {
            let (done, written) = sync_channel(1);
            buffer.flush(done);
            if written.recv_timeout(LONGEST_FLUSH).is_err() {
                tracing::warn!("the last lines of the access log may be missing: its output does not keep up");
            }
        }
    }

    pub(super) fn write(&self, outcome: &Outcome, end: &End, metrics: &Metrics) {
        match &self.0 {
            Output::Off => {}
            Output::Memory(lines) => {
                let line =
                    in_room(|room| line::json(room, outcome, end), |line| String::from_utf8_lossy(line.trim_ascii_end()).into());
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
            Output::Thread(buffer, format) => {
                let write = match format {
                    LogFormat::Text => line::text,
                    LogFormat::Json => line::json,
                };
                if !in_room(|room| write(room, outcome, end), |line| buffer.push(line)) {
                    metrics.log_line_dropped();
                }
            }
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        if let Output::Thread(buffer, _) = &self.0 {
            buffer.close();
        }
    }
}

fn write_out(buffer: &Buffer, mut output: impl Write) {
    let mut lines = Vec::new();
    while let Some(done) = buffer.take(&mut lines) {
        if output.write_all(&lines).and_then(|()| output.flush()).is_err() {
            tracing::warn!("standard output is gone; the access log ends here");
            return buffer.fail();
        }
        for done in done {
            // Who asked may have stopped waiting.
            let _ = done.send(());
        }
    }
}
